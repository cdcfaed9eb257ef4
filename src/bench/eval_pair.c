#include "bench/eval_pair.h"

#include "base/file_util.h"
#include "base/json_write.h"
#include "base/philox.h"
#include "bench/json_output.h"
#include "data/mask_polygon.h"
#include "eval/coco_results.h"

#include <math.h>

enum { CATEGORIES = 80, MOST_OBJECTS = 15, MOST_FALSE = 30, LEAST_POINTS = 6, MOST_POINTS = 30 };

static const double two_pi = 6.283185307179586;

/* One image's draws, one after another. */
typedef struct dice {
    philox_key key;
    uint64_t next;
} dice;

static double draw(dice *d) {
    return (double)philox_uniform(&d->key, d->next++);
}

static int draw_below(dice *d, int n) {
    return (int)philox_below(&d->key, d->next++, (uint32_t)n);
}

/* An object or a detection: a star about its centre. */
typedef struct shape {
    double x, y, width, height, xy[2 * MOST_POINTS];
    int points, category; /* 0..CATEGORIES-1 */
} shape;

static double limited(double value, double most) {
    return value < 0 ? 0 : value > most ? most : value;
}

static void draw_outline(shape *s, dice *d, int height, int width) {
    s->points = LEAST_POINTS + draw_below(d, MOST_POINTS - LEAST_POINTS + 1);
    for (int k = 0; k < s->points; k++) {
        double turn = two_pi * k / s->points, radius = 0.35 + 0.15 * draw(d);
        double x = s->x + radius * s->width * cos(turn), y = s->y + radius * s->height * sin(turn);
        s->xy[2 * k] = floor(100 * limited(x, width)) / 100;
        s->xy[2 * k + 1] = floor(100 * limited(y, height)) / 100;
    }
}

static shape draw_shape(dice *d, int height, int width) {
    double side = exp2(3 + 5.5 * draw(d));
    shape s = {.x = draw(d) * width,
               .y = draw(d) * height,
               .width = fmin(side * (0.6 + draw(d)), width),
               .height = fmin(side * (0.6 + draw(d)), height),
               .category = draw_below(d, CATEGORIES)};
    draw_outline(&s, d, height, width);
    return s;
}

/* What a detector makes of an object: moved and scaled a little, its class not always right. */
static shape draw_found(const shape *object, dice *d, int height, int width) {
    shape s = *object;
    s.x += (draw(d) - 0.5) * 0.2 * s.width;
    s.y += (draw(d) - 0.5) * 0.2 * s.height;
    s.width *= 0.9 + 0.2 * draw(d);
    s.height *= 0.9 + 0.2 * draw(d);
    if (draw(d) < 0.15) s.category = draw_below(d, CATEGORIES);
    draw_outline(&s, d, height, width);
    return s;
}

/* ---- ground truth ----------------------------------------------------------------------------------------- */

static void write_box(json_writer *w, mask_box box) {
    json_write_key(w, "bbox");
    json_write_begin_array(w);
    json_write_i64(w, box.x);
    json_write_i64(w, box.y);
    json_write_i64(w, box.width);
    json_write_i64(w, box.height);
    json_write_end_array(w);
}

static void write_object(json_writer *w, const shape *s, const mask_rle *mask, int image, int id) {
    json_write_begin_object(w);
    json_output_f64(w, "id", id);
    json_output_f64(w, "image_id", image);
    json_output_f64(w, "category_id", s->category + 1);
    json_output_f64(w, "iscrowd", 0);
    json_output_f64(w, "area", (double)mask_rle_area(mask));
    write_box(w, mask_rle_bounding_box(mask));
    json_write_key(w, "segmentation");
    json_write_begin_array(w);
    json_write_begin_array(w);
    for (int k = 0; k < 2 * s->points; k++) json_write_f64(w, s->xy[k]);
    json_write_end_array(w);
    json_write_end_array(w);
    json_write_end_object(w);
}

typedef struct pair {
    json_writer images, objects, results; /* values of their lists */
    detection_list found;
    mask_rle mask;
    int object_count;
} pair;

/* ---- detections ------------------------------------------------------------------------------------------- */

static status add_detection(pair *p, const shape *s, double score, int height, int width) {
    detection_list *list = &p->found;
    RETURN_IF_ERROR(detection_list_reserve(list, list->count + 1, 0));
    detection *item = &list->items[list->count];
    RETURN_IF_ERROR(mask_rle_from_polygon(&item->mask, s->xy, s->points, height, width));
    mask_box box = mask_rle_bounding_box(&item->mask);
    if (box.width == 0 || box.height == 0) return STATUS_OK;
    item->label = s->category;
    item->score = (float)score;
    item->box[0] = (float)box.x;
    item->box[1] = (float)box.y;
    item->box[2] = (float)(box.x + box.width);
    item->box[3] = (float)(box.y + box.height);
    list->count++;
    return STATUS_OK;
}

static status add_object(pair *p, dice *d, int image, int height, int width) {
    shape s = draw_shape(d, height, width);
    RETURN_IF_ERROR(mask_rle_from_polygon(&p->mask, s.xy, s.points, height, width));
    if (mask_rle_area(&p->mask) == 0) return STATUS_OK;
    write_object(&p->objects, &s, &p->mask, image, ++p->object_count);
    for (int n = draw_below(d, 4); n > 0; n--) {
        shape found = draw_found(&s, d, height, width);
        RETURN_IF_ERROR(add_detection(p, &found, sqrt(draw(d)), height, width));
    }
    return STATUS_OK;
}

static status add_image(pair *p, int image) {
    static const int sizes[][2] = {{480, 640}, {427, 640}, {640, 480}, {375, 500}, {360, 640}};
    dice d = {.key = {.seed = 5, .purpose = PHILOX_SYNTH, .step = (uint32_t)image}};
    const int *size = sizes[draw_below(&d, 5)];
    json_write_begin_object(&p->images);
    json_output_f64(&p->images, "id", image);
    json_output_f64(&p->images, "height", size[0]);
    json_output_f64(&p->images, "width", size[1]);
    json_write_end_object(&p->images);
    p->found.count = 0;
    p->found.height = size[0];
    p->found.width = size[1];
    for (int n = draw_below(&d, MOST_OBJECTS); n > 0; n--)
        RETURN_IF_ERROR(add_object(p, &d, image, size[0], size[1]));
    for (int n = draw_below(&d, MOST_FALSE); n > 0; n--) {
        shape found = draw_shape(&d, size[0], size[1]);
        RETURN_IF_ERROR(add_detection(p, &found, 0.5 * pow(draw(&d), 2), size[0], size[1]));
    }
    return coco_results_format(&p->results, image, NULL, &p->found, NULL);
}

/* ---- files ------------------------------------------------------------------------------------------------ */

static void append_categories(json_writer *w) {
    char name[32];
    for (int k = 1; k <= CATEGORIES; k++) {
        snprintf(name, sizeof name, "class %d", k);
        json_write_begin_object(w);
        json_output_f64(w, "id", k);
        json_output_text(w, "name", name);
        json_write_end_object(w);
    }
}

static status write_annotations(const char *path, const pair *p) {
    json_writer categories;
    json_write_init(&categories);
    json_write_begin_array(&categories);
    append_categories(&categories);
    json_write_end_array(&categories);
    status s = json_write_finish(&categories);
    FILE *to = s == STATUS_OK ? fopen(path, "we") : NULL;
    if (s == STATUS_OK && !to)
        s = error_set(STATUS_CANT_CREATE, "check TMPDIR", "%s cannot be written", path);
    if (to) {
        fprintf(to, "{\"images\": %s, \"annotations\": %s, \"categories\": %s}\n", p->images.text,
                p->objects.text, categories.text);
        bool failed = ferror(to);
        if (fclose(to) != 0 || failed) s = error_set(STATUS_IO, "make room", "%s cannot be written", path);
    }
    json_write_release(&categories);
    return s;
}

static status write_results(const char *path, const pair *p) {
    results_writer *w;
    RETURN_IF_ERROR(results_writer_open(&w, path));
    status s = results_writer_add_lines(w, p->results.text, p->results.size);
    if (s == STATUS_OK) return results_writer_finish(&w);
    results_writer_cancel(&w);
    return s;
}

static status make_pair(pair *p, int images) {
    json_write_begin_array(&p->images);
    json_write_begin_array(&p->objects);
    for (int i = 1; i <= images; i++) RETURN_IF_ERROR(add_image(p, i));
    json_write_end_array(&p->images);
    json_write_end_array(&p->objects);
    RETURN_IF_ERROR(json_write_finish(&p->images));
    RETURN_IF_ERROR(json_write_finish(&p->objects));
    return json_write_finish(&p->results);
}

status eval_pair_write(const char *annotations, const char *results, int images) {
    pair p = {0};
    json_write_init(&p.images);
    json_write_init(&p.objects);
    json_write_init(&p.results);
    status s = make_pair(&p, images);
    if (s == STATUS_OK) s = write_annotations(annotations, &p);
    if (s == STATUS_OK) s = write_results(results, &p);
    json_write_release(&p.images);
    json_write_release(&p.objects);
    json_write_release(&p.results);
    detection_list_release(&p.found);
    mask_rle_release(&p.mask);
    return s;
}
