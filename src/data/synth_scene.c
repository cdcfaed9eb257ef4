#include "data/synth_scene.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/philox.h"
#include "data/mask_polygon.h"

const char *const synth_class_names[SYNTH_CLASS_COUNT] = {"disk", "box", "triangle", "ring"};

static const double class_colours[SYNTH_CLASS_COUNT][3] = {
    {205, 55, 50}, {45, 85, 205}, {50, 165, 70}, {225, 190, 45}};

enum {
    ITEM_BACKGROUND = 1000, /* Philox items: objects are 0, 1, ... */
    ITEM_GRAIN,
    EMPTY_EVERY = 16,
    CROWD_EVERY = 10,
    TRIES = 30,
    CELLS = 7 /* of the background's blobs, along each side */
};

/* A stream of numbers for one thing of one picture. */
typedef struct draws {
    philox_key key;
    uint64_t next;
} draws;

static draws draws_of(uint64_t seed, uint32_t image, uint64_t item) {
    return (draws){.key = {.seed = seed, .purpose = PHILOX_SYNTH, .step = image, .item = item}};
}

static double draw_between(draws *d, double low, double high) {
    return low + (high - low) * (double)philox_uniform(&d->key, d->next++);
}

static int draw_below(draws *d, uint32_t n) {
    return (int)philox_below(&d->key, d->next++, n);
}

static uint8_t to_byte(double v) {
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v + 0.5);
}

/* --- background ---------------------------------------------------------------------------------------------- */

/* Grayish blobs: random values on a coarse grid, interpolated, with a grain on top. */
static void paint_background(synth_scene *s, uint64_t seed, uint32_t image) {
    draws d = draws_of(seed, image, ITEM_BACKGROUND), grain = draws_of(seed, image, ITEM_GRAIN);
    double grid[CELLS + 1][CELLS + 1], tint[3], level = draw_between(&d, 80, 150);
    for (int c = 0; c < 3; c++) tint[c] = draw_between(&d, -14, 14);
    for (int i = 0; i <= CELLS; i++)
        for (int j = 0; j <= CELLS; j++) grid[i][j] = draw_between(&d, -45, 45);
    for (int y = 0; y < s->height; y++)
        for (int x = 0; x < s->width; x++) {
            double gy = (double)y * CELLS / s->height, gx = (double)x * CELLS / s->width;
            int i = (int)gy, j = (int)gx;
            double fy = gy - i, fx = gx - j;
            double blob = (1 - fy) * ((1 - fx) * grid[i][j] + fx * grid[i][j + 1]) +
                          fy * ((1 - fx) * grid[i + 1][j] + fx * grid[i + 1][j + 1]);
            double v = level + blob + draw_between(&grain, -9, 9);
            for (int c = 0; c < 3; c++)
                s->pixels[((size_t)y * (size_t)s->width + (size_t)x) * 3 + (size_t)c] = to_byte(v + tint[c]);
        }
}

/* --- outlines ------------------------------------------------------------------------------------------------ */

typedef struct outline_part {
    int points;
    double xy[SYNTH_MAX_POINTS * 2];
} outline_part;

static void add_point(outline_part *p, double x, double y) {
    if (p->points == SYNTH_MAX_POINTS) return;
    p->xy[2 * p->points] = x;
    p->xy[2 * p->points + 1] = y;
    p->points++;
}

/* Regular polygon; a disk has many corners. */
static outline_part regular_part(double cx, double cy, double radius, double stretch, double angle,
                                 int corners) {
    outline_part p = {0};
    for (int i = 0; i < corners; i++) {
        double a = angle + 2 * M_PI * i / corners, ux = radius * cos(a), uy = radius * stretch * sin(a);
        add_point(&p, cx + ux, cy + uy);
    }
    return p;
}

/* The part of a convex polygon where sign * (coordinate - limit) <= 0 along an axis (0 x, 1 y). */
static outline_part clip_part(const outline_part *from, int axis, double limit, int sign) {
    outline_part p = {0};
    for (int i = 0; i < from->points; i++) {
        const double *a = from->xy + 2 * i, *b = from->xy + 2 * ((i + 1) % from->points);
        double da = sign * (a[axis] - limit), db = sign * (b[axis] - limit);
        if (da <= 0) add_point(&p, a[0], a[1]);
        if ((da < 0 && db > 0) || (da > 0 && db < 0)) {
            double t = da / (da - db);
            add_point(&p, a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]));
        }
    }
    return p;
}

static void outline_add(synth_outline *o, const outline_part *from, int height, int width) {
    outline_part p = clip_part(from, 0, 0, -1);
    p = clip_part(&p, 0, width, 1);
    p = clip_part(&p, 1, 0, -1);
    p = clip_part(&p, 1, height, 1);
    if (p.points < 3) return;
    int at = 0;
    for (int i = 0; i < o->parts; i++) at += 2 * o->part_points[i];
    for (int k = 0; k < 2 * p.points; k++) o->xy[at + k] = round(p.xy[k] * 100) / 100;
    o->part_points[o->parts++] = p.points;
}

static status rasterize(uint8_t *bitmap, const synth_outline *o, int height, int width) {
    mask_rle mask = {0};
    status s = mask_rle_from_polygons(&mask, o->xy, o->part_points, o->parts, height, width);
    if (s == STATUS_OK) mask_rle_decode(bitmap, &mask);
    mask_rle_release(&mask);
    return s;
}

/* --- objects ------------------------------------------------------------------------------------------------- */

/* A disk, box or triangle, some in two pieces; a ring is a disk without its middle. */
static status make_shape(synth_object *object, uint8_t *scratch, draws *d, int height, int width) {
    int side = height < width ? height : width;
    double radius = side * draw_between(d, 0.11, 0.29), angle = draw_between(d, 0, 2 * M_PI);
    double cx = draw_between(d, 0.12, 0.88) * width, cy = draw_between(d, 0.12, 0.88) * height;
    static const int corners[SYNTH_CLASS_COUNT] = {36, 4, 3, 36};
    double stretch = object->class == SYNTH_DISK ? draw_between(d, 0.75, 1.25) : 1;
    if (object->class == SYNTH_BOX || object->class == SYNTH_TRIANGLE) radius *= 1.2;
    outline_part shape = regular_part(cx, cy, radius, stretch, angle, corners[object->class]);
    bool ring = object->class == SYNTH_RING, split = !ring && draw_below(d, 8) == 0;
    object->outline = (synth_outline){0};
    object->exact = !ring;
    if (split) {
        double gap = fmax(2, 0.08 * radius);
        outline_part left = clip_part(&shape, 0, cx - gap, 1), right = clip_part(&shape, 0, cx + gap, -1);
        outline_add(&object->outline, &left, height, width);
        outline_add(&object->outline, &right, height, width);
    } else {
        outline_add(&object->outline, &shape, height, width);
    }
    RETURN_IF_ERROR(rasterize(object->visible, &object->outline, height, width));
    if (!ring) return STATUS_OK;
    outline_part middle = regular_part(cx, cy, 0.5 * radius, stretch, angle, corners[SYNTH_RING]);
    synth_outline hole = {0};
    outline_add(&hole, &middle, height, width);
    RETURN_IF_ERROR(rasterize(scratch, &hole, height, width));
    for (size_t i = 0; i < (size_t)height * (size_t)width; i++) object->visible[i] &= !scratch[i];
    return STATUS_OK;
}

/* Many small shapes of one class, close together. */
static status make_crowd(synth_object *object, uint8_t *scratch, draws *d, int height, int width) {
    int side = height < width ? height : width, count = 7 + draw_below(d, 6);
    double cx = draw_between(d, 0.25, 0.75) * width, cy = draw_between(d, 0.25, 0.75) * height;
    size_t pixels = (size_t)height * (size_t)width;
    object->exact = false;
    memset(object->visible, 0, pixels);
    for (int i = 0; i < count; i++) {
        double x = cx + side * draw_between(d, -0.2, 0.2), y = cy + side * draw_between(d, -0.2, 0.2);
        outline_part small = regular_part(x, y, side * draw_between(d, 0.03, 0.05), 1, 0, 12);
        synth_outline outline = {0};
        outline_add(&outline, &small, height, width);
        RETURN_IF_ERROR(rasterize(scratch, &outline, height, width));
        for (size_t k = 0; k < pixels; k++) object->visible[k] |= scratch[k];
    }
    return STATUS_OK;
}

static int64_t count_ones(const uint8_t *bitmap, size_t pixels) {
    int64_t count = 0;
    for (size_t i = 0; i < pixels; i++) count += bitmap[i];
    return count;
}

/* A place is good when the new object is large enough and leaves most of every earlier one visible. */
static bool place_is_good(const synth_scene *s, const synth_object *object) {
    size_t pixels = (size_t)s->height * (size_t)s->width;
    if (object->area < 40) return false;
    for (int i = 0; i < s->objects; i++) {
        int64_t covered = 0;
        for (size_t k = 0; k < pixels; k++) covered += object->visible[k] & s->object[i].visible[k];
        if (covered * 10 > s->object[i].area * 3) return false;
    }
    return true;
}

/* Stripes in the class's colour, drawn over what is there; what it covers is no longer visible. */
static void paint_object(synth_scene *s, const synth_object *object, draws *d) {
    double colour[3], brightness = draw_between(d, 0.85, 1.12), phase = draw_between(d, 0, 6);
    double step_x = draw_between(d, -0.35, 0.35), step_y = draw_between(d, -0.35, 0.35);
    for (int c = 0; c < 3; c++)
        colour[c] = class_colours[object->class][c] * brightness + draw_between(d, -14, 14);
    size_t at = 0;
    for (int y = 0; y < s->height; y++)
        for (int x = 0; x < s->width; x++, at++) {
            if (!object->visible[at]) continue;
            double shade = 1 + 0.1 * sin(phase + step_x * x + step_y * y);
            for (int c = 0; c < 3; c++) s->pixels[at * 3 + (size_t)c] = to_byte(colour[c] * shade);
        }
    for (int i = 0; i < s->objects; i++) {
        synth_object *earlier = &s->object[i];
        for (size_t k = 0; k < at; k++) earlier->visible[k] &= !object->visible[k];
        int64_t left = count_ones(earlier->visible, at);
        earlier->exact = earlier->exact && left == earlier->area;
        earlier->area = left;
    }
}

static status add_object(synth_scene *s, uint8_t *scratch, draws *d, bool crowd) {
    size_t pixels = (size_t)s->height * (size_t)s->width;
    synth_object *object = &s->object[s->objects];
    *object = (synth_object){.crowd = crowd, .visible = malloc(pixels)};
    if (!object->visible) return error_set(STATUS_OS, NULL, "no memory for a mask of %zu pixels", pixels);
    object->class = (synth_class)draw_below(d, SYNTH_CLASS_COUNT);
    for (int i = 0; i < TRIES; i++) {
        status s_made = crowd ? make_crowd(object, scratch, d, s->height, s->width)
                              : make_shape(object, scratch, d, s->height, s->width);
        if (s_made != STATUS_OK) {
            free(object->visible);
            return s_made;
        }
        object->area = count_ones(object->visible, pixels);
        if (!place_is_good(s, object)) continue;
        paint_object(s, object, d);
        s->objects++;
        return STATUS_OK;
    }
    free(object->visible); /* the picture is full */
    return STATUS_OK;
}

status synth_scene_draw(synth_scene *out, uint64_t seed, uint32_t image, int height, int width) {
    size_t pixels = (size_t)height * (size_t)width;
    *out = (synth_scene){.height = height, .width = width, .pixels = malloc(pixels * 3)};
    uint8_t *scratch = malloc(pixels);
    status s = STATUS_OK;
    if (!out->pixels || !scratch) {
        s = error_set(STATUS_OS, NULL, "no memory for a picture of %d x %d pixels", width, height);
    } else {
        paint_background(out, seed, image);
        draws first = draws_of(seed, image, ITEM_BACKGROUND + 2);
        int objects = image % EMPTY_EVERY == EMPTY_EVERY - 5 ? 0 : 1 + draw_below(&first, 4);
        bool crowd = image % CROWD_EVERY == 4 && objects > 0;
        for (int i = 0; i < objects + crowd && s == STATUS_OK; i++) {
            draws d = draws_of(seed, image, (uint64_t)i);
            s = add_object(out, scratch, &d, i == objects);
        }
    }
    free(scratch);
    if (s != STATUS_OK) synth_scene_release(out);
    return s;
}

void synth_scene_release(synth_scene *scene) {
    for (int i = 0; i < scene->objects; i++) free(scene->object[i].visible);
    free(scene->pixels);
    *scene = (synth_scene){0};
}
