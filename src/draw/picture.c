#include "draw/picture.h"

#include <cairo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/image_write.h"
#include "draw/mask_paint.h"
#include "draw/palette.h"
#include "draw/plate.h"

enum {
    SHORT_SIDE = 480,
    LONG_SIDE = 1920,
    MOST_SIDE = 32767,
    MOST_PIXELS = 1 << 28,
    CAPTION_PIXELS = 15,
    GAP = 8,
    MANY = 12,        /* more plates than this are smaller */
    MOST_PLATES = 300 /* nobody could read more, and each keeps clear of all others */
};

struct picture {
    cairo_surface_t *surface; /* RGB24 */
    int height, width;
    double scale_x, scale_y; /* pixels of the picture per pixel of the image */
};

bool picture_built_in(void) {
    return true;
}

status picture_check_built_in(void) {
    return STATUS_OK;
}

const char *picture_backend(void) {
    return cairo_version_string();
}

double picture_scale_for(int height, int width) {
    CHECK(height >= 1 && width >= 1, "a picture of an image of %d x %d pixels", width, height);
    int small = height < width ? height : width, large = height < width ? width : height;
    if (large > LONG_SIDE) return (double)LONG_SIDE / large;
    int scale = (SHORT_SIDE + small - 1) / small, most = LONG_SIDE / large;
    return scale < most ? scale : most;
}

static status no_memory(void) {
    return error_set(STATUS_OS, "free some memory", "out of memory for a picture");
}

/* A context's failure sticks to it, so it is looked at once, at the end. */
static status finish(cairo_t *cr) {
    cairo_status_t outcome = cairo_status(cr);
    cairo_destroy(cr);
    if (outcome == CAIRO_STATUS_SUCCESS) return STATUS_OK;
    if (outcome == CAIRO_STATUS_NO_MEMORY) return no_memory();
    return error_set(STATUS_OS, "check the installation of fonts (fc-match sans-serif)",
                     "a picture cannot be drawn: %s", cairo_status_to_string(outcome));
}

static status new_blank(picture **out, double height, double width) {
    *out = NULL;
    if (!(height <= MOST_SIDE && width <= MOST_SIDE && height * width <= MOST_PIXELS))
        return error_set(STATUS_DATA, "draw fewer or smaller images",
                         "a picture of %.0f x %.0f pixels is too large to be drawn", width, height);
    picture *p = calloc(1, sizeof *p);
    if (!p) return no_memory();
    p->height = height < 1 ? 1 : (int)height;
    p->width = width < 1 ? 1 : (int)width;
    p->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, p->width, p->height);
    if (cairo_surface_status(p->surface) == CAIRO_STATUS_SUCCESS) {
        *out = p;
        return STATUS_OK;
    }
    picture_free(p);
    return no_memory();
}

void picture_free(picture *p) {
    if (!p) return;
    cairo_surface_destroy(p->surface);
    free(p);
}

/* rgb as a surface of its own size; NULL without memory. */
static cairo_surface_t *surface_of(const uint8_t *rgb, int height, int width) {
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
    if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS) return surface;
    int stride = cairo_image_surface_get_stride(surface);
    unsigned char *bytes = cairo_image_surface_get_data(surface);
    cairo_surface_flush(surface);
    for (int y = 0; y < height; y++) {
        uint32_t *to = (uint32_t *)(void *)(bytes + (size_t)y * (size_t)stride);
        for (int x = 0; x < width; x++, rgb += 3)
            to[x] = (uint32_t)rgb[0] << 16 | (uint32_t)rgb[1] << 8 | rgb[2];
    }
    cairo_surface_mark_dirty(surface);
    return surface;
}

status picture_new(picture **out, const uint8_t *rgb, int height, int width, double scale) {
    *out = NULL;
    CHECK(height >= 1 && width >= 1 && scale > 0,
          "a picture of an image of %d x %d pixels, %g times as large", width, height, scale);
    if (height > MOST_SIDE || width > MOST_SIDE)
        return error_set(STATUS_DATA, "draw a smaller image",
                         "an image of %d x %d pixels is too large to be drawn", width, height);
    picture *p;
    RETURN_IF_ERROR(new_blank(&p, round(height * scale), round(width * scale)));
    p->scale_x = (double)p->width / width;
    p->scale_y = (double)p->height / height;
    cairo_surface_t *image = surface_of(rgb, height, width);
    cairo_t *cr = cairo_create(p->surface);
    cairo_scale(cr, p->scale_x, p->scale_y);
    cairo_set_source_surface(cr, image, 0, 0);
    cairo_pattern_set_extend(cairo_get_source(cr), CAIRO_EXTEND_PAD);
    bool whole = p->scale_x == floor(p->scale_x) && p->scale_y == floor(p->scale_y);
    cairo_pattern_set_filter(cairo_get_source(cr), whole ? CAIRO_FILTER_NEAREST : CAIRO_FILTER_GOOD);
    cairo_paint(cr);
    status s = finish(cr);
    cairo_surface_destroy(image);
    if (s == STATUS_OK)
        *out = p;
    else
        picture_free(p);
    return s;
}

/* --- instances ----------------------------------------------------------------------------------------------- */

/* Width of lines: 2 pixels, more in large pictures. */
static int line_of(const picture *p) {
    int small = p->height < p->width ? p->height : p->width;
    return small < 800 ? 2 : small < 1400 ? 3 : 4;
}

static bool has_box(const picture_instance *item) {
    for (int i = 0; i < 4; i++)
        if (!isfinite(item->box[i])) return false;
    return true;
}

/* The box in the picture's pixels, inside it. */
static void box_in_picture(double box[4], const picture *p, const picture_instance *item) {
    for (int i = 0; i < 4; i++) {
        double at = item->box[i] * (i % 2 ? p->scale_y : p->scale_x);
        box[i] = fmax(0, fmin(at, i % 2 ? p->height : p->width));
    }
}

static int larger_first(const void *a, const void *b, void *context) {
    const picture_instance *items = context;
    int ia = *(const int *)a, ib = *(const int *)b;
    const float *pa = items[ia].box, *pb = items[ib].box;
    double area_a = (double)(pa[2] - pa[0]) * (double)(pa[3] - pa[1]);
    double area_b = (double)(pb[2] - pb[0]) * (double)(pb[3] - pb[1]);
    if (!has_box(&items[ia])) area_a = INFINITY;
    if (!has_box(&items[ib])) area_b = INFINITY;
    return area_a != area_b ? (area_a < area_b) - (area_a > area_b) : (ia < ib) - (ia > ib);
}

static status paint_masks(picture *p, const picture_instance *items, const int *order, int count) {
    cairo_surface_flush(p->surface);
    mask_canvas canvas = {.pixels = (uint32_t *)(void *)cairo_image_surface_get_data(p->surface),
                          .height = p->height,
                          .width = p->width,
                          .stride = cairo_image_surface_get_stride(p->surface) / 4};
    status s = STATUS_OK;
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        const picture_instance *item = &items[order[i]];
        if (!item->mask || item->mask->height < 1) continue;
        mask_style style = {.line = line_of(p), .hatched = item->crowd};
        class_colour(style.colour, item->label);
        s = mask_paint(&canvas, item->mask, &style);
    }
    mask_canvas_release(&canvas);
    cairo_surface_mark_dirty(p->surface);
    return s;
}

/* A line of full strength; it lies inside the picture also where the box touches its edge. */
static void draw_box(cairo_t *cr, const picture *p, const picture_instance *item) {
    double box[4], line = line_of(p), half = line / 2;
    uint8_t colour[3];
    box_in_picture(box, p, item);
    class_colour(colour, item->label);
    for (int i = 0; i < 4; i++) {
        double last = (i % 2 ? p->height : p->width) - half;
        box[i] = fmax(half, fmin(round(box[i] - half) + half, last));
    }
    cairo_set_source_rgb(cr, colour[0] / 255.0, colour[1] / 255.0, colour[2] / 255.0);
    cairo_set_line_width(cr, line);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_MITER);
    cairo_rectangle(cr, box[0], box[1], box[2] - box[0], box[3] - box[1]);
    cairo_stroke(cr);
}

static void write_plate(plate *out, cairo_t *cr, const picture *p, const picture_instance *item,
                        double pixels) {
    char tail[48] = "";
    double height, ascent;
    if (item->score >= 0) snprintf(tail, sizeof tail, " %.2f", fmin(item->score, 99));
    if (item->crowd) snprintf(tail + strlen(tail), sizeof tail - strlen(tail), " (crowd)");
    double most = fmax(p->width * 0.45, fmin(p->width, 160));
    out->font_pixels = pixels;
    text_set_font(cr, item->name, pixels);
    text_fit(out->text, cr, item->name, tail, most - 8);
    text_set_font(cr, out->text, pixels); /* as it will be drawn */
    text_line(&height, &ascent, cr);
    out->height = (int)height + 2;
    out->width = (int)ceil(text_width(cr, out->text)) + 6;
    class_colour(out->colour, item->label);
}

/* Placed from the most important to the least, drawn the other way round. */
static status draw_plates(cairo_t *cr, const picture *p, const picture_instance *items, int count) {
    plate *plates = calloc((size_t)(count < MOST_PLATES ? count : MOST_PLATES) + 1, sizeof *plates);
    if (!plates) return no_memory();
    double pixels = (count > MANY ? 5 : 7) + 4 * line_of(p);
    int placed = 0;
    for (int i = 0; i < count && placed < MOST_PLATES; i++) {
        double box[4];
        if (!items[i].name || !has_box(&items[i])) continue;
        box_in_picture(box, p, &items[i]);
        write_plate(&plates[placed], cr, p, &items[i], pixels);
        plate_place(&plates[placed], box, plates, placed, p->width, p->height);
        placed++;
    }
    while (placed-- > 0) plate_draw(cr, &plates[placed]);
    free(plates);
    return STATUS_OK;
}

status picture_draw(picture *p, const picture_instance *items, int count) {
    int *order = calloc((size_t)count + 1, sizeof *order);
    if (!order) return no_memory();
    for (int i = 0; i < count; i++) order[i] = i;
    qsort_r(order, (size_t)count, sizeof *order, larger_first, (void *)(uintptr_t)items);
    status s = paint_masks(p, items, order, count);
    if (s == STATUS_OK) {
        cairo_t *cr = cairo_create(p->surface);
        for (int i = 0; i < count; i++)
            if (has_box(&items[order[i]])) draw_box(cr, p, &items[order[i]]);
        s = draw_plates(cr, p, items, count);
        status drawn = finish(cr);
        if (s == STATUS_OK) s = drawn;
    }
    free(order);
    return s;
}

void picture_mark_area(picture *p, int height, int width) {
    double line = line_of(p), right = round(width * p->scale_x), bottom = round(height * p->scale_y);
    cairo_t *cr = cairo_create(p->surface);
    cairo_rectangle(cr, line / 2, line / 2, fmax(0, right - line), fmax(0, bottom - line));
    cairo_set_line_width(cr, line);
    cairo_set_source_rgb(cr, 0, 0, 0);
    cairo_stroke_preserve(cr);
    cairo_set_dash(cr, (const double[]){4 * line}, 1, 0);
    cairo_set_source_rgb(cr, 1, 1, 1);
    cairo_stroke(cr);
    cairo_destroy(cr);
}

/* --- grids and files ----------------------------------------------------------------------------------------- */

/* Places of columns and rows; as many of each as there are cells suffice. */
typedef struct grid {
    int columns, rows, caption;
    int *width, *height; /* [columns], [rows] */
} grid;

static void measure(grid *g, picture *const *cells, const char *const *captions, int count) {
    for (int i = 0; i < count; i++) {
        int *width = &g->width[i % g->columns], *height = &g->height[i / g->columns];
        if (cells[i]->width > *width) *width = cells[i]->width;
        if (cells[i]->height > *height) *height = cells[i]->height;
        if (captions && captions[i]) g->caption = CAPTION_PIXELS + GAP;
    }
}

static int sum(const int *sizes, int count, int between) {
    double total = between;
    for (int i = 0; i < count; i++) total += sizes[i] + between;
    return total > MOST_PIXELS ? MOST_PIXELS : (int)total;
}

static status fill_grid(picture *p, const grid *g, picture *const *cells, const char *const *captions,
                        int count) {
    cairo_t *cr = cairo_create(p->surface);
    cairo_set_source_rgb(cr, 0.96, 0.96, 0.96);
    cairo_paint(cr);
    for (int i = 0; i < count; i++) {
        int column = i % g->columns, row = i / g->columns;
        int x = sum(g->width, column, GAP), y = sum(g->height, row, g->caption + GAP) - g->caption;
        if (captions && captions[i]) {
            char text[PLATE_TEXT];
            text_set_font(cr, captions[i], CAPTION_PIXELS);
            text_fit(text, cr, captions[i], "", g->width[column]);
            text_set_font(cr, text, CAPTION_PIXELS);
            cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
            text_draw(cr, text, x, y + CAPTION_PIXELS);
        }
        cairo_set_source_surface(cr, cells[i]->surface, x, y + g->caption);
        cairo_paint(cr);
    }
    return finish(cr);
}

status picture_grid(picture **out, picture *const *cells, const char *const *captions, int count,
                    int columns) {
    *out = NULL;
    CHECK(count >= 1 && columns >= 1, "a grid of %d pictures in %d columns", count, columns);
    grid g = {.columns = columns < count ? columns : count};
    g.rows = (count + g.columns - 1) / g.columns;
    int *sizes = calloc((size_t)g.columns + (size_t)g.rows, sizeof *sizes);
    if (!sizes) return no_memory();
    g.width = sizes;
    g.height = sizes + g.columns;
    measure(&g, cells, captions, count);
    picture *p;
    status s =
        new_blank(&p, sum(g.height, g.rows, g.caption + GAP) - g.caption, sum(g.width, g.columns, GAP));
    if (s == STATUS_OK) {
        p->scale_x = p->scale_y = 1;
        s = fill_grid(p, &g, cells, captions, count);
        if (s == STATUS_OK)
            *out = p;
        else
            picture_free(p);
    }
    free(sizes);
    return s;
}

status picture_write(const picture *p, const char *path) {
    uint8_t *rgb = malloc((size_t)p->height * (size_t)p->width * 3), *to = rgb;
    if (!rgb) return no_memory();
    cairo_surface_flush(p->surface);
    const unsigned char *bytes = cairo_image_surface_get_data(p->surface);
    int stride = cairo_image_surface_get_stride(p->surface);
    for (int y = 0; y < p->height; y++) {
        const uint32_t *from = (const uint32_t *)(const void *)(bytes + (size_t)y * (size_t)stride);
        for (int x = 0; x < p->width; x++, to += 3) {
            to[0] = (uint8_t)(from[x] >> 16);
            to[1] = (uint8_t)(from[x] >> 8);
            to[2] = (uint8_t)from[x];
        }
    }
    status s = image_write_png(path, rgb, p->height, p->width);
    free(rgb);
    return s;
}

int picture_height(const picture *p) {
    return p->height;
}

int picture_width(const picture *p) {
    return p->width;
}
