#include "data/synth.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/check.h"
#include "base/file_util.h"
#include "base/json_write.h"
#include "data/image_write.h"
#include "data/synth_scene.h"

enum { JPEG_QUALITY = 92, PNG_EVERY = 4 };

/* Category ids with a gap, as in COCO. */
static const int category_ids[SYNTH_CLASS_COUNT] = {1, 2, 3, 7};

typedef struct synth_writer {
    const char *folder;
    json_writer images, annotations;
    int64_t annotation_count;
    mask_rle mask; /* scratch */
} synth_writer;

/* --- the folder ---------------------------------------------------------------------------------------------- */

static bool is_our_picture(const char *name) {
    size_t digits = strspn(name, "0123456789");
    return digits == 6 && (strcmp(name + 6, ".jpg") == 0 || strcmp(name + 6, ".png") == 0);
}

/* Removes pictures of an earlier dataset. */
static status clear_pictures(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return error_from_output(errno, "read", folder);
    status s = STATUS_OK;
    for (struct dirent *entry; s == STATUS_OK && (entry = readdir(dir));)
        if (is_our_picture(entry->d_name) && unlinkat(dirfd(dir), entry->d_name, 0) != 0)
            s = error_from_output(errno, "remove the pictures in", folder);
    closedir(dir);
    return s;
}

static bool is_empty(const char *folder) {
    DIR *dir = opendir(folder);
    if (!dir) return true;
    int names = 0;
    while (readdir(dir)) names++;
    closedir(dir);
    return names <= 2; /* . and .. */
}

static status prepare_folder(const char *folder, int images, uint64_t seed) {
    char path[PATH_MAX];
    RETURN_IF_ERROR(path_join(path, folder, "synth.json"));
    if (access(path, F_OK) != 0 && !is_empty(folder))
        return error_set(STATUS_CANT_CREATE, "choose a folder that is new or empty",
                         "%s holds files that are not a synthetic dataset", folder);
    RETURN_IF_ERROR(make_directories(folder));
    json_writer w;
    json_write_init(&w);
    json_write_begin_object(&w);
    json_write_key(&w, "images");
    json_write_i64(&w, images);
    json_write_key(&w, "seed");
    json_write_i64(&w, (int64_t)seed);
    json_write_end_object(&w);
    json_write_newline(&w);
    status s = json_write_finish(&w);
    if (s == STATUS_OK) s = write_file_atomic(path, w.text, w.size);
    json_write_release(&w);
    RETURN_IF_ERROR(s);
    RETURN_IF_ERROR(path_join(path, folder, "annotations.json"));
    if (unlink(path) != 0 && errno != ENOENT) return error_from_output(errno, "remove", path);
    RETURN_IF_ERROR(path_join(path, folder, "images"));
    RETURN_IF_ERROR(make_directories(path));
    return clear_pictures(path);
}

/* --- annotations --------------------------------------------------------------------------------------------- */

static void write_polygons(json_writer *w, const synth_outline *outline) {
    const double *xy = outline->xy;
    json_write_begin_array(w);
    for (int i = 0; i < outline->parts; i++) {
        json_write_begin_array(w);
        for (int k = 0; k < 2 * outline->part_points[i]; k++) json_write_f64(w, *xy++);
        json_write_end_array(w);
    }
    json_write_end_array(w);
}

static status write_rle(json_writer *w, const mask_rle *mask, bool compressed) {
    json_write_begin_object(w);
    json_write_key(w, "size");
    json_write_begin_array(w);
    json_write_i64(w, mask->height);
    json_write_i64(w, mask->width);
    json_write_end_array(w);
    json_write_key(w, "counts");
    if (compressed) {
        char *text;
        RETURN_IF_ERROR(mask_rle_to_string(&text, mask));
        json_write_string(w, text);
        free(text);
    } else {
        json_write_begin_array(w);
        for (size_t i = 0; i < mask->count; i++) json_write_i64(w, mask->counts[i]);
        json_write_end_array(w);
    }
    json_write_end_object(w);
    return STATUS_OK;
}

static void write_box(json_writer *w, mask_box box) {
    const int values[4] = {box.x, box.y, box.width, box.height};
    json_write_begin_array(w);
    for (int i = 0; i < 4; i++) json_write_i64(w, values[i]);
    json_write_end_array(w);
}

/* Crowds are uncompressed RLE, as in COCO; other masks that no polygon describes are of both kinds. */
static status write_annotation(synth_writer *s, const synth_scene *scene, const synth_object *object,
                               int64_t image_id) {
    json_writer *w = &s->annotations;
    RETURN_IF_ERROR(mask_rle_encode(&s->mask, object->visible, scene->height, scene->width));
    s->annotation_count++;
    json_write_begin_object(w);
    json_write_key(w, "id");
    json_write_i64(w, s->annotation_count);
    json_write_key(w, "image_id");
    json_write_i64(w, image_id);
    json_write_key(w, "category_id");
    json_write_i64(w, category_ids[object->class]);
    json_write_key(w, "iscrowd");
    json_write_i64(w, object->crowd);
    json_write_key(w, "area");
    json_write_i64(w, object->area);
    json_write_key(w, "bbox");
    write_box(w, mask_rle_bounding_box(&s->mask));
    json_write_key(w, "segmentation");
    if (object->exact)
        write_polygons(w, &object->outline);
    else
        RETURN_IF_ERROR(write_rle(w, &s->mask, !object->crowd && s->annotation_count % 2 == 0));
    json_write_end_object(w);
    return STATUS_OK;
}

static void picture_size(int *height, int *width, uint32_t image, const synth_options *options) {
    static const int sizes[][2] = {{128, 160}, {160, 128}, {144, 192}, {192, 144},
                                   {160, 192}, {192, 160}, {192, 192}};
    const int *size = sizes[image % (sizeof sizes / sizeof *sizes)];
    *height = options && options->height ? options->height : size[0];
    *width = options && options->width ? options->width : size[1];
}

static status write_picture(synth_writer *s, uint64_t seed, uint32_t image, const synth_options *options) {
    int height, width;
    picture_size(&height, &width, image, options);
    synth_scene scene;
    RETURN_IF_ERROR(synth_scene_draw(&scene, seed, image, height, width));
    char name[32], path[PATH_MAX];
    bool png = image % PNG_EVERY == PNG_EVERY - 1;
    snprintf(name, sizeof name, "images/%06u.%s", image + 1, png ? "png" : "jpg");
    status result = path_join(path, s->folder, name);
    if (result == STATUS_OK)
        result = png ? image_write_png(path, scene.pixels, height, width)
                     : image_write_jpeg(path, scene.pixels, height, width, JPEG_QUALITY);
    json_writer *w = &s->images;
    json_write_begin_object(w);
    json_write_key(w, "id");
    json_write_i64(w, image + 1);
    json_write_key(w, "file_name");
    json_write_string(w, strchr(name, '/') + 1);
    json_write_key(w, "height");
    json_write_i64(w, height);
    json_write_key(w, "width");
    json_write_i64(w, width);
    json_write_end_object(w);
    for (int i = 0; i < scene.objects && result == STATUS_OK; i++)
        result = write_annotation(s, &scene, &scene.object[i], image + 1);
    synth_scene_release(&scene);
    return result;
}

/* --- the file ------------------------------------------------------------------------------------------------ */

static void write_categories(FILE *file) {
    for (int i = 0; i < SYNTH_CLASS_COUNT; i++)
        fprintf(file, "%s{\"id\": %d, \"name\": \"%s\"}", i ? ", " : "", category_ids[i],
                synth_class_names[i]);
}

static status write_json(synth_writer *s) {
    char *text = NULL, path[PATH_MAX];
    size_t size = 0;
    RETURN_IF_ERROR(path_join(path, s->folder, "annotations.json"));
    FILE *file = open_memstream(&text, &size);
    if (!file) return error_set(STATUS_OS, NULL, "no memory to write %s", path);
    fputs("{\"info\": {\"description\": \"shapes made by maskrcnn synth\"},\n\"images\": ", file);
    status result = json_write_flush(&s->images, file);
    fputs(",\n\"annotations\": ", file);
    if (result == STATUS_OK) result = json_write_flush(&s->annotations, file);
    fputs(",\n\"categories\": [", file);
    write_categories(file);
    fputs("]}\n", file);
    if (fclose(file) != 0 && result == STATUS_OK)
        result = error_set(STATUS_OS, NULL, "no memory to write %s", path);
    if (result == STATUS_OK) result = write_file_atomic(path, text, size);
    free(text);
    return result;
}

status synth_dataset(const char *out_dir, int images, uint64_t seed, const synth_options *options) {
    CHECK(images >= 0 && images <= SYNTH_MAX_IMAGES, "%d images", images);
    RETURN_IF_ERROR(prepare_folder(out_dir, images, seed));
    synth_writer s = {.folder = out_dir};
    json_write_init(&s.images);
    json_write_init(&s.annotations);
    json_write_begin_array(&s.images);
    json_write_begin_array(&s.annotations);
    status result = STATUS_OK;
    for (int i = 0; i < images && result == STATUS_OK; i++)
        result = write_picture(&s, seed, (uint32_t)i, options);
    if (result == STATUS_OK) {
        json_write_end_array(&s.images);
        json_write_end_array(&s.annotations);
        result = write_json(&s);
    }
    mask_rle_release(&s.mask);
    json_write_release(&s.images);
    json_write_release(&s.annotations);
    return result;
}
