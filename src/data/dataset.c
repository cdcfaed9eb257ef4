#include "data/dataset.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/check.h"
#include "base/log.h"
#include "data/file_set.h"

/* How an image's file was found. */
typedef enum file_place { FILE_MISSING, FILE_AS_NAMED, FILE_BY_BASE_NAME } file_place;

typedef struct dataset_part {
    coco_index *index;
    char *image_dir;
    uint32_t first; /* of its images in the dataset */
} dataset_part;

struct dataset {
    dataset_part *parts;
    int part_count;
    uint32_t image_count, missing_count;
    uint8_t *places; /* [image_count] file_place */
};

/* Components of a file name below a folder: slashes for backslashes, no empty ones, no "."; false when it
 * leads out of the folder or does not fit. `root` is the folder, for names that are absolute but inside it. */
static bool confine(char out[PATH_MAX], const char *file_name, const char *root) {
    char name[PATH_MAX];
    size_t length = strlen(file_name), root_length = strlen(root), used = 0;
    if (length >= sizeof name) return false;
    for (size_t i = 0; i <= length; i++) name[i] = file_name[i] == '\\' ? '/' : file_name[i];
    char *at = name;
    if (*at == '/') {
        while (root_length > 0 && root[root_length - 1] == '/') root_length--;
        if (strncmp(name, root, root_length) || name[root_length] != '/') return false;
        at += root_length;
    }
    for (char *rest = at, *part; (part = strsep(&rest, "/"));) {
        if (!*part || !strcmp(part, ".")) continue;
        if (!strcmp(part, "..")) {
            if (used == 0) return false;
            while (used > 0 && out[--used] != '/') {
            }
            continue;
        }
        if (used) out[used++] = '/';
        size_t size = strlen(part);
        memcpy(out + used, part, size);
        used += size;
    }
    out[used] = '\0';
    return used > 0;
}

static const char *base_name(const char *file_name) {
    const char *base = file_name;
    for (const char *at = file_name; *at; at++)
        if ((*at == '/' || *at == '\\') && at[1]) base = at + 1;
    return base;
}

/* The name below the part's folder under a way of finding it; false when it cannot be found so. */
static bool name_in_folder(char out[PATH_MAX], const char *file_name, const char *root, file_place place) {
    return confine(out, place == FILE_BY_BASE_NAME ? base_name(file_name) : file_name, root);
}

status dataset_split_spec(char **annotations, char **image_dir, const char *spec) {
    for (const char *colon = spec + strlen(spec); colon-- > spec;) {
        if (*colon != ':') continue;
        size_t length = (size_t)(colon - spec);
        char *file = strndup(spec, length);
        if (!file) return error_set(STATUS_OS, "free memory", "no memory for the dataset name %s", spec);
        struct stat info;
        bool is_json = length >= 5 && !strcasecmp(file + length - 5, ".json");
        if (colon[1] && (is_json || (stat(file, &info) == 0 && S_ISREG(info.st_mode)))) {
            *annotations = file;
            *image_dir = strdup(colon + 1);
            if (*image_dir) return STATUS_OK;
            free(file);
            return error_set(STATUS_OS, "free memory", "no memory for the dataset name %s", spec);
        }
        free(file);
    }
    return error_set(STATUS_CONFIG,
                     "write it as ANNOTATIONS.json:IMAGE_DIR, or register the name in the config",
                     "not a dataset: \"%s\"", spec);
}

static status unknown_name(const char *spec, const dataset_registration *known, int known_count) {
    char names[512] = "";
    size_t at = 0;
    for (int i = 0; i < known_count && at + 1 < sizeof names; i++) {
        int length = snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", known[i].name);
        at = at + (size_t)length < sizeof names ? at + (size_t)length : sizeof names - 1;
    }
    status s = error_set(STATUS_CONFIG, NULL, "unknown dataset \"%s\"", spec);
    error_set_remedy("write it as ANNOTATIONS.json:IMAGE_DIR, or use a registered name (%s)",
                     known_count ? names : "none is registered");
    return s;
}

/* Finds the two paths of a specification. */
static status resolve_spec(char **annotations, char **image_dir, const char *spec,
                           const dataset_registration *known, int known_count) {
    for (int i = 0; i < known_count; i++) {
        if (strcmp(spec, known[i].name)) continue;
        *annotations = strdup(known[i].annotations);
        *image_dir = strdup(known[i].image_dir);
        if (*annotations && *image_dir) return STATUS_OK;
        free(*annotations);
        free(*image_dir);
        return error_set(STATUS_OS, "free memory", "no memory for the dataset %s", spec);
    }
    if (!strchr(spec, ':')) return unknown_name(spec, known, known_count);
    return dataset_split_spec(annotations, image_dir, spec);
}

static status same_categories(const dataset_part *a, const dataset_part *b) {
    static const char remedy[] =
        "datasets that are trained together must have the same category ids and names";
    uint32_t count = coco_index_category_count(a->index), other = coco_index_category_count(b->index);
    if (count != other)
        return error_set(STATUS_DATA, remedy, "%s has %" PRIu32 " categories, %s has %" PRIu32,
                         coco_index_path(a->index), count, coco_index_path(b->index), other);
    for (uint32_t k = 0; k < count; k++) {
        int64_t id = coco_index_category(a->index, k)->id, other_id = coco_index_category(b->index, k)->id;
        const char *name = coco_index_category_name(a->index, k),
                   *other_name = coco_index_category_name(b->index, k);
        if (id != other_id || strcmp(name, other_name))
            return error_set(STATUS_DATA, remedy,
                             "category %" PRId64 " \"%s\" of %s stands against %" PRId64 " \"%s\" of %s", id,
                             name, coco_index_path(a->index), other_id, other_name,
                             coco_index_path(b->index));
    }
    return STATUS_OK;
}

/* Looks for the image files of one part. */
static status find_files(dataset *d, const dataset_part *part) {
    file_set files;
    RETURN_IF_ERROR(file_set_init(&files, part->image_dir));
    uint32_t count = coco_index_image_count(part->index), missing = 0;
    status s = STATUS_OK;
    for (uint32_t i = 0; i < count && s == STATUS_OK; i++) {
        uint8_t *place = &d->places[part->first + i];
        *place = FILE_MISSING;
        for (int way = FILE_AS_NAMED; way <= FILE_BY_BASE_NAME && !*place && s == STATUS_OK; way++) {
            char name[PATH_MAX];
            bool found = false;
            if (name_in_folder(name, coco_index_file_name(part->index, i), part->image_dir, way))
                s = file_set_contains(&files, name, &found);
            if (found) *place = (uint8_t)way;
        }
        missing += *place == FILE_MISSING;
    }
    file_set_release(&files);
    RETURN_IF_ERROR(s);
    if (count > 0 && missing == count)
        return error_set(STATUS_NO_INPUT, "check the folder; a dataset is written ANNOTATIONS.json:IMAGE_DIR",
                         "none of the %" PRIu32 " images of %s is in %s (the first is \"%s\")", count,
                         coco_index_path(part->index), part->image_dir, coco_index_file_name(part->index, 0));
    d->missing_count += missing;
    return STATUS_OK;
}

static status open_parts(dataset *d, const char *const *specs, const dataset_registration *known,
                         int known_count, const coco_options *options, int count) {
    uint64_t images = 0;
    for (int i = 0; i < count; i++) {
        dataset_part *part = &d->parts[i];
        char *annotations;
        RETURN_IF_ERROR(resolve_spec(&annotations, &part->image_dir, specs[i], known, known_count));
        d->part_count = i + 1;
        status s = coco_index_open(&part->index, annotations, options);
        free(annotations);
        RETURN_IF_ERROR(s);
        if (i > 0) RETURN_IF_ERROR(same_categories(&d->parts[0], part));
        part->first = (uint32_t)images;
        images += coco_index_image_count(part->index);
        if (images > INT32_MAX)
            return error_set(STATUS_DATA, "use fewer datasets", "more than 2^31 images in all");
    }
    d->image_count = (uint32_t)images;
    d->places = calloc((size_t)images + 1, 1);
    if (!d->places) return error_set(STATUS_OS, "free memory", "no memory for %" PRIu64 " images", images);
    for (int i = 0; i < count; i++) RETURN_IF_ERROR(find_files(d, &d->parts[i]));
    return STATUS_OK;
}

status dataset_open(dataset **out, const char *const *specs, int spec_count,
                    const dataset_registration *known, int known_count, const coco_options *options) {
    CHECK(spec_count >= 1, "%d datasets", spec_count);
    dataset *d = calloc(1, sizeof *d);
    if (!d || !(d->parts = calloc((size_t)spec_count, sizeof *d->parts))) {
        free(d);
        return error_set(STATUS_OS, "free memory", "no memory for %d datasets", spec_count);
    }
    status s = open_parts(d, specs, known, known_count, options, spec_count);
    if (s != STATUS_OK) {
        dataset_free(d);
        return s;
    }
    *out = d;
    return STATUS_OK;
}

void dataset_free(dataset *d) {
    if (!d) return;
    for (int i = 0; i < d->part_count; i++) {
        coco_index_free(d->parts[i].index);
        free(d->parts[i].image_dir);
    }
    free(d->parts);
    free(d->places);
    free(d);
}

int dataset_part_count(const dataset *d) {
    return d->part_count;
}

const coco_index *dataset_part_index(const dataset *d, int part) {
    return d->parts[part].index;
}

const char *dataset_part_image_dir(const dataset *d, int part) {
    return d->parts[part].image_dir;
}

uint32_t dataset_image_count(const dataset *d) {
    return d->image_count;
}

int dataset_image_part(const dataset *d, uint32_t image) {
    CHECK(image < d->image_count, "image %u of %u", image, d->image_count);
    int part = d->part_count - 1;
    while (d->parts[part].first > image) part--;
    return part;
}

const coco_image *dataset_image(const dataset *d, uint32_t image) {
    const dataset_part *part = &d->parts[dataset_image_part(d, image)];
    return coco_index_image(part->index, image - part->first);
}

const char *dataset_file_name(const dataset *d, uint32_t image) {
    const dataset_part *part = &d->parts[dataset_image_part(d, image)];
    return coco_index_file_name(part->index, image - part->first);
}

bool dataset_image_path(const dataset *d, uint32_t image, char *path, size_t size) {
    const dataset_part *part = &d->parts[dataset_image_part(d, image)];
    const char *file_name = dataset_file_name(d, image);
    char name[PATH_MAX];
    file_place place = d->places[image] == FILE_BY_BASE_NAME ? FILE_BY_BASE_NAME : FILE_AS_NAMED;
    if (!name_in_folder(name, file_name, part->image_dir, place) &&
        !name_in_folder(name, file_name, part->image_dir, FILE_BY_BASE_NAME))
        return false;
    int length = snprintf(path, size, "%s/%s", part->image_dir, name);
    return length >= 0 && (size_t)length < size;
}

bool dataset_image_missing(const dataset *d, uint32_t image) {
    CHECK(image < d->image_count, "image %u of %u", image, d->image_count);
    return d->places[image] == FILE_MISSING;
}

uint32_t dataset_missing_count(const dataset *d, uint32_t *first) {
    for (uint32_t i = 0; first && i < d->image_count; i++)
        if (d->places[i] == FILE_MISSING) {
            *first = i;
            break;
        }
    return d->missing_count;
}

uint64_t dataset_image_key(const dataset *d, uint32_t image) {
    /* An odd factor: parts whose ids are small numbers never meet. */
    return (uint64_t)dataset_image(d, image)->id +
           (uint64_t)dataset_image_part(d, image) * 0x9E3779B97F4A7C15u;
}

uint32_t dataset_category_count(const dataset *d) {
    return coco_index_category_count(d->parts[0].index);
}

const char *dataset_category_name(const dataset *d, uint32_t category) {
    return coco_index_category_name(d->parts[0].index, category);
}

int64_t dataset_category_id(const dataset *d, uint32_t category) {
    return coco_index_category(d->parts[0].index, category)->id;
}

uint32_t dataset_usable_annotations(const dataset *d, uint32_t image) {
    const coco_index *index = d->parts[dataset_image_part(d, image)].index;
    const coco_image *record = dataset_image(d, image);
    uint32_t usable = 0;
    for (uint32_t k = 0; k < record->annotation_count; k++)
        usable += coco_index_usable(index, coco_index_annotation(index, record->first_annotation + k));
    return usable;
}

status dataset_check_usable(const dataset *d) {
    for (int i = 0; i < d->part_count; i++)
        if (coco_index_check_usable(d->parts[i].index) == STATUS_OK) {
            error_clear();
            return STATUS_OK;
        }
    return coco_index_check_usable(d->parts[0].index);
}

void dataset_report(const dataset *d) {
    for (int i = 0; i < d->part_count; i++) coco_index_report(d->parts[i].index);
    uint32_t first = 0, missing = dataset_missing_count(d, &first);
    if (missing)
        log_warn("data",
                 "%" PRIu32 " of %" PRIu32
                 " image files are missing, the first is \"%s\" (not in %s); others take their place",
                 missing, d->image_count, dataset_file_name(d, first),
                 dataset_part_image_dir(d, dataset_image_part(d, first)));
}
