#include "data/mask_polygon.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FINE = 5, FINE_LEFT = 2, FINE_RIGHT = 3, MAX_PIXELS_OFF = 100000000, MAX_CROSSINGS = 1 << 26 };

/* --- walking the outline ------------------------------------------------------------------------------------- */

typedef struct fine_point {
    int x, y;
} fine_point;

static int round_to_grid(double pixels) {
    if (pixels < -MAX_PIXELS_OFF) pixels = -MAX_PIXELS_OFF;
    if (pixels > MAX_PIXELS_OFF) pixels = MAX_PIXELS_OFF;
    double fine = FINE * pixels; /* alone: fused with the sum, it would be rounded once less */
    return (int)(fine + 0.5);
}

/* The outline crosses column c at fine row v; rows are rounded up to the next pixel centre. */
static void cross_column(mask_crossings *sink, int c, int v) {
    int y = v <= FINE_LEFT ? 0 : (v + FINE - 1 - FINE_LEFT) / FINE;
    if (y > sink->height) y = sink->height;
    sink->cross(sink, c, y);
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* The first and the last column whose centre line lies between the fine columns u_low <= u_high. */
static int first_column(int u_low) {
    return u_low <= FINE_LEFT ? 0 : (u_low - FINE_LEFT + FINE - 1) / FINE;
}
static int last_column(int u_high, int width) {
    return u_high < FINE_RIGHT ? -1 : smaller((u_high - FINE_RIGHT) / FINE, width - 1);
}

/* start + slope * t on the grid, rounded twice as written. */
static int step_along(int start, double slope, int t) {
    double rise = slope * t;
    return (int)(start + rise + 0.5);
}

/* Edge at most as high as wide, a.x <= b.x: one grid point per fine column. */
static void walk_flat_edge(mask_crossings *sink, fine_point a, fine_point b) {
    double slope = (double)(b.y - a.y) / (b.x - a.x);
    int last = last_column(b.x, sink->width);
    for (int c = first_column(a.x); c <= last; c++) {
        int t = FINE * c + FINE_LEFT - a.x;
        int before = step_along(a.y, slope, t), after = step_along(a.y, slope, t + 1);
        cross_column(sink, c, smaller(before, after));
    }
}

/* Edge higher than wide, a.y <= b.y: one grid point per fine row; the step across a column's centre line is
 * looked up by division and then corrected for rounding. */
static void walk_steep_edge(mask_crossings *sink, fine_point a, fine_point b) {
    int rows = b.y - a.y;
    double slope = (double)(b.x - a.x) / rows;
    int start = step_along(a.x, slope, 0), end = step_along(a.x, slope, rows);
    bool rising = end > start;
    int last = last_column(rising ? end : start, sink->width);
    for (int c = first_column(rising ? start : end); c <= last; c++) {
        int u = FINE * c + FINE_LEFT; /* after the step x > u when rising, x <= u when falling */
        double guess = (u + 0.5 - a.x) / slope;
        int t = guess < 1 ? 1 : guess > rows ? rows : (int)guess;
        while (t > 1 && (step_along(a.x, slope, t - 1) > u) == rising) t--;
        while (t < rows && (step_along(a.x, slope, t) > u) != rising) t++;
        cross_column(sink, c, a.y + t - 1);
    }
}

static void walk_edge(mask_crossings *sink, fine_point a, fine_point b) {
    int dx = abs(b.x - a.x), dy = abs(b.y - a.y);
    if (dx == 0) return; /* crosses no column */
    bool flip = dx >= dy ? a.x > b.x : a.y > b.y;
    fine_point from = flip ? b : a, to = flip ? a : b;
    if (dx >= dy)
        walk_flat_edge(sink, from, to);
    else
        walk_steep_edge(sink, from, to);
}

/* --- run-length masks ---------------------------------------------------------------------------------------- */

typedef struct number_list {
    uint64_t *values;
    size_t count, capacity;
    bool failed;
} number_list;

static void list_append(number_list *list, uint64_t value) {
    if (list->failed) return;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 256;
        uint64_t *values =
            capacity <= MAX_CROSSINGS ? realloc(list->values, capacity * sizeof *values) : NULL;
        if (!values) {
            list->failed = true;
            return;
        }
        list->values = values;
        list->capacity = capacity;
    }
    list->values[list->count++] = value;
}

enum { RADIX_BITS = 8, RADIX = 1 << RADIX_BITS };

/* By digits, lowest first: outlines have hundreds of crossings, and comparing took half the time of drawing them. */
static void list_sort(number_list *list) {
    uint64_t seen = 0;
    bool sorted = true;
    for (size_t i = 0; i < list->count; i++) {
        seen |= list->values[i];
        sorted = sorted && (i == 0 || list->values[i - 1] <= list->values[i]);
    }
    if (sorted) return;
    uint64_t *from = list->values, *to = malloc(list->capacity * sizeof *to);
    if (!to) {
        list->failed = true;
        return;
    }
    for (int shift = 0; shift < 64 && seen >> shift; shift += RADIX_BITS) {
        size_t start[RADIX + 1] = {0};
        if (!(seen >> shift & (RADIX - 1))) continue;
        for (size_t i = 0; i < list->count; i++) start[(from[i] >> shift & (RADIX - 1)) + 1]++;
        for (int k = 0; k < RADIX; k++) start[k + 1] += start[k];
        for (size_t i = 0; i < list->count; i++) to[start[from[i] >> shift & (RADIX - 1)]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    list->values = from;
    free(to);
}

typedef struct list_sink {
    mask_crossings sink;
    number_list positions;
} list_sink;

/* Positions count pixels down the columns: an outline's sorted positions are where its runs begin and end. */
static void collect(mask_crossings *sink, int column, int row) {
    list_append(&((list_sink *)(void *)sink)->positions,
                (uint32_t)column * (uint32_t)sink->height + (uint32_t)row);
}

/* One part's crossings, sorted, are begin, end, begin, end... of its runs. A run is kept as begin << 32 |
 * end. */
static void add_runs(number_list *runs, list_sink *part) {
    list_sort(&part->positions);
    for (size_t i = 0; i + 1 < part->positions.count; i += 2) {
        uint64_t from = part->positions.values[i], to = part->positions.values[i + 1];
        if (from < to) list_append(runs, from << 32 | to);
    }
    part->positions.count = 0;
}

static void walk_doubles(mask_crossings *sink, const double *xy, int points) {
    if (points < 1) return;
    fine_point first = {round_to_grid(xy[0]), round_to_grid(xy[1])}, from = first;
    for (int i = 1; i < points; i++) {
        fine_point to = {round_to_grid(xy[2 * i]), round_to_grid(xy[2 * i + 1])};
        walk_edge(sink, from, to);
        from = to;
    }
    walk_edge(sink, from, first);
}

/* Sorted runs, overlapping or touching, to a mask. */
static status runs_to_mask(mask_rle *out, number_list *runs, int height, int width) {
    list_sort(runs);
    RETURN_IF_ERROR(mask_rle_reserve(out, runs->count * 2 + 1));
    uint32_t end = 0, pixels = (uint32_t)height * (uint32_t)width;
    out->height = height;
    out->width = width;
    out->count = 0;
    for (size_t i = 0; i < runs->count;) {
        uint32_t from = (uint32_t)(runs->values[i] >> 32), to = (uint32_t)runs->values[i];
        for (i++; i < runs->count && (uint32_t)(runs->values[i] >> 32) <= to; i++)
            if ((uint32_t)runs->values[i] > to) to = (uint32_t)runs->values[i];
        out->counts[out->count++] = from - end;
        out->counts[out->count++] = to - from;
        end = to;
    }
    if (end < pixels || out->count == 0) out->counts[out->count++] = pixels - end;
    return STATUS_OK;
}

status mask_rle_from_polygons(mask_rle *out, const double *xy, const int32_t *part_points, int parts,
                              int height, int width) {
    static const char fix_annotation[] = "correct or remove this segmentation in the annotation file";
    RETURN_IF_ERROR(mask_check_size(height, width));
    number_list runs = {0};
    list_sink part = {.sink = {.cross = collect, .height = height, .width = width}};
    status s = STATUS_OK;
    for (int i = 0; i < parts && s == STATUS_OK; i++) {
        for (int k = 0; k < 2 * part_points[i]; k++)
            if (!isfinite(xy[k]))
                s = error_set(STATUS_DATA, fix_annotation, "a polygon's coordinate is not finite");
        if (s != STATUS_OK) break;
        walk_doubles(&part.sink, xy, part_points[i]);
        add_runs(&runs, &part);
        xy += 2 * (size_t)part_points[i];
        if (part.positions.failed || runs.failed)
            s = error_set(STATUS_DATA, fix_annotation,
                          "a polygon crosses the columns of its image more than %d times", MAX_CROSSINGS);
    }
    if (s == STATUS_OK) s = runs_to_mask(out, &runs, height, width);
    if (s == STATUS_OK && runs.failed)
        s = error_set(STATUS_OS, "free memory", "no memory for a polygon's runs");
    free(part.positions.values);
    free(runs.values);
    return s;
}

status mask_rle_from_polygon(mask_rle *out, const double *xy, int points, int height, int width) {
    int32_t part_points = points;
    return mask_rle_from_polygons(out, xy, &part_points, 1, height, width);
}

/* --- small bitmaps ------------------------------------------------------------------------------------------- */

typedef struct parity_sink {
    mask_crossings sink;
    uint8_t *parity; /* [height*width + 1], down the columns */
} parity_sink;

static void toggle(mask_crossings *sink, int column, int row) {
    ((parity_sink *)(void *)sink)->parity[(size_t)column * (size_t)sink->height + (size_t)row] ^= 1;
}

size_t mask_polygon_scratch_bytes(int height, int width) {
    return (size_t)height * (size_t)width + 1;
}

/* Original pixels to the frame of the box, then from the box's corner to the grid of the bitmap; in this
 * order, because rounding to the fine grid shows every other one. */
typedef struct placing {
    mask_affine frame;
    double low_x, ratio_x, low_y, ratio_y;
} placing;

static fine_point place_point(const float *xy, const placing *p) {
    double x = xy[0] * p->frame.scale_x, y = xy[1] * p->frame.scale_y;
    x += p->frame.shift_x;
    y += p->frame.shift_y;
    return (fine_point){round_to_grid((x - p->low_x) * p->ratio_x),
                        round_to_grid((y - p->low_y) * p->ratio_y)};
}

static void walk_floats(mask_crossings *sink, const float *xy, int points, const placing *place) {
    if (points < 1) return;
    fine_point first = place_point(xy, place), from = first;
    for (int k = 1; k < points; k++) {
        fine_point to = place_point(xy + 2 * (size_t)k, place);
        walk_edge(sink, from, to);
        from = to;
    }
    walk_edge(sink, from, first);
}

void mask_polygon_walk(mask_crossings *sink, const float *xy, int points, const mask_affine *place) {
    placing p = {.frame = *place, .ratio_x = 1, .ratio_y = 1};
    walk_floats(sink, xy, points, &p);
}

static void add_parity(uint8_t *bitmap, const uint8_t *parity, int height, int width) {
    uint8_t inside = 0;
    for (int x = 0; x < width; x++)
        for (int y = 0; y < height; y++) {
            inside ^= *parity++;
            bitmap[(size_t)y * (size_t)width + (size_t)x] |= inside;
        }
}

static void rasterize(uint8_t *bitmap, uint8_t *scratch, const gt_mask_view *polygon, const placing *place,
                      int height, int width) {
    size_t pixels = (size_t)height * (size_t)width;
    parity_sink parity = {.sink = {.cross = toggle, .height = height, .width = width}, .parity = scratch};
    memset(bitmap, 0, pixels);
    const uint8_t *cursor = polygon->data;
    for (int i = 0; i < polygon->parts; i++) {
        gt_mask_part part = gt_mask_next_part(&cursor);
        if (part.points < 1) continue;
        memset(scratch, 0, mask_polygon_scratch_bytes(height, width));
        walk_floats(&parity.sink, part.xy, part.points, place);
        add_parity(bitmap, scratch, height, width);
    }
}

void mask_polygon_rasterize(uint8_t *bitmap, uint8_t *scratch, const gt_mask_view *polygon,
                            const mask_affine *place, int height, int width) {
    placing p = {.frame = *place, .ratio_x = 1, .ratio_y = 1};
    rasterize(bitmap, scratch, polygon, &p, height, width);
}

/* Side and ratio are rounded to float, as NumPy does with a float32 box. */
static double box_ratio(float low, float high, int size) {
    float side = high - low;
    return side < 0.1f ? size / 0.1 : (double)((float)size / side);
}

void mask_polygon_rasterize_in_box(uint8_t *bitmap, uint8_t *scratch, const gt_mask_view *polygon,
                                   const mask_affine *to_box_frame, const float box[4], int size) {
    static const mask_affine same = {1, 0, 1, 0};
    placing p = {.frame = to_box_frame ? *to_box_frame : same,
                 .low_x = (double)box[0],
                 .ratio_x = box_ratio(box[0], box[2], size),
                 .low_y = (double)box[1],
                 .ratio_y = box_ratio(box[1], box[3], size)};
    rasterize(bitmap, scratch, polygon, &p, size, size);
}
