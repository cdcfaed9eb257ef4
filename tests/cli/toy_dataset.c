#include "cli/toy_dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <jpeglib.h>
#include <png.h>

enum { TOY_MOST_SIDE = 128, TOY_CORNERS = 8 };

typedef struct toy_picture {
    int width, height;
    uint8_t pixels[TOY_MOST_SIDE * TOY_MOST_SIDE * 3];
} toy_picture;

typedef struct toy_object {
    int category; /* 0 rectangle, 1 diamond, 2 octagon */
    int x, y, width, height;
} toy_object;

/* A number in 0..below-1 from (image, what). */
static int pick(int image, int what, int below) {
    uint64_t h = (uint64_t)(image * 1009 + what + 1) * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 31)) * 0xBF58476D1CE4E5B9u;
    return (int)((h >> 33) % (uint64_t)below);
}

/* Corners of an object's outline; their number. */
static int outline(double corners[2 * TOY_CORNERS], const toy_object *o) {
    static const double shapes[3][2 * TOY_CORNERS] = {
        {0, 0, 1, 0, 1, 1, 0, 1},
        {.5, 0, 1, .5, .5, 1, 0, .5},
        {.3, 0, .7, 0, 1, .3, 1, .7, .7, 1, .3, 1, 0, .7, 0, .3},
    };
    int count = o->category == 2 ? 8 : 4;
    for (int i = 0; i < count; i++) {
        corners[2 * i] = o->x + shapes[o->category][2 * i] * o->width;
        corners[2 * i + 1] = o->y + shapes[o->category][2 * i + 1] * o->height;
    }
    return count;
}

/* The outlines are convex and run clockwise on the screen. */
static bool is_inside(const double *corners, int count, double x, double y) {
    for (int i = 0; i < count; i++) {
        const double *a = corners + 2 * i, *b = corners + 2 * ((i + 1) % count);
        if ((b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) < 0) return false;
    }
    return true;
}

static void paint(toy_picture *p, const toy_object *o) {
    static const uint8_t colours[3][3] = {{220, 40, 40}, {40, 200, 60}, {50, 70, 230}};
    double corners[2 * TOY_CORNERS];
    int count = outline(corners, o);
    for (int y = o->y; y < o->y + o->height; y++)
        for (int x = o->x; x < o->x + o->width; x++)
            if (is_inside(corners, count, x + .5, y + .5))
                memcpy(p->pixels + 3 * (y * p->width + x), colours[o->category], 3);
}

static void write_png(const toy_picture *p, const char *path) {
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = (png_uint_32)p->width,
                       .height = (png_uint_32)p->height,
                       .format = PNG_FORMAT_RGB};
    assert_true(png_image_write_to_file(&image, path, 0, p->pixels, 0, NULL));
}

static void write_jpeg(toy_picture *p, const char *path) {
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_stdio_dest(&c, file);
    c.image_width = (JDIMENSION)p->width;
    c.image_height = (JDIMENSION)p->height;
    c.input_components = 3;
    c.in_color_space = JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, 92, TRUE);
    jpeg_start_compress(&c, TRUE);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = p->pixels + 3 * c.next_scanline * c.image_width;
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    assert_int_equal(fclose(file), 0);
}

static void write_annotation(FILE *json, const toy_object *o, const toy_options *options, int id,
                             int image_id, const toy_picture *p) {
    static const int category_ids[3] = {1, 2, 5};
    fprintf(json,
            "%s{\"id\": %d, \"image_id\": %d, \"category_id\": %d, \"iscrowd\": %d, \"area\": %d, \"bbox\": "
            "[%d, %d, %d, %d]",
            id > 1 ? ",\n" : "", id, image_id, category_ids[o->category], options->kind == TOY_CROWDS,
            o->width * o->height, o->x, o->y, o->width, o->height);
    if (options->kind == TOY_CROWDS) {
        fprintf(json, ", \"segmentation\": {\"size\": [%d, %d], \"counts\": [0, %d]}", p->height, p->width,
                p->height * p->width);
    } else if (options->kind == TOY_POLYGONS) {
        double corners[2 * TOY_CORNERS];
        int count = outline(corners, o);
        for (int i = 0; i < 2 * count; i++)
            fprintf(json, "%s%.2f", i ? ", " : ", \"segmentation\": [[", corners[i]);
        fprintf(json, "]]");
    }
    fprintf(json, "}");
}

static toy_object place_object(int image, int number, const toy_picture *p) {
    toy_object o = {.category = pick(image, 10 * number + 3, 3)};
    o.width = 14 + pick(image, 10 * number + 4, p->width / 2);
    o.height = 14 + pick(image, 10 * number + 5, p->height / 2);
    o.x = pick(image, 10 * number + 6, p->width - o.width + 1);
    o.y = pick(image, 10 * number + 7, p->height - o.height + 1);
    return o;
}

static void choose_size(toy_picture *p, int image, bool mixed) {
    p->width = mixed ? 48 + pick(image, 0, 60) : 64;
    p->height = mixed ? 48 + pick(image, 1, 60) : 64;
    for (int i = 0; i < p->width * p->height * 3; i++)
        p->pixels[i] = (uint8_t)(90 + pick(image, 1000 + i, 50));
}

int toy_dataset_write(const char *folder, const char *name, const toy_options *options) {
    static toy_picture picture;
    char path[4096];
    int annotations = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0777), 0);
    snprintf(path, sizeof path, "%s/%s.json", folder, name);
    FILE *json = fopen(path, "w");
    assert_non_null(json);
    fprintf(json,
            "{\"categories\": [{\"id\": 1, \"name\": \"rectangle\"}, {\"id\": 2, \"name\": \"diamond\"}, "
            "{\"id\": 5, \"name\": \"octagon\"}],\n\"images\": [");
    for (int i = 0; i < options->images; i++) {
        choose_size(&picture, i, options->mixed_sizes);
        fprintf(json, "%s{\"id\": %d, \"file_name\": \"%04d.%s\", \"width\": %d, \"height\": %d}",
                i ? ",\n" : "", 101 + i, i + 1, options->jpeg ? "jpg" : "png", picture.width, picture.height);
    }
    fprintf(json, "],\n\"annotations\": [");
    for (int i = 0; i < options->images; i++) {
        choose_size(&picture, i, options->mixed_sizes);
        bool is_empty = options->empty_from > 0 && i >= options->empty_from;
        int objects = is_empty ? 0 : 1 + pick(i, 2, 3);
        for (int k = 0; k < objects; k++) {
            toy_object o = place_object(i, k, &picture);
            paint(&picture, &o);
            write_annotation(json, &o, options, ++annotations, 101 + i, &picture);
        }
        snprintf(path, sizeof path, "%s/%s/%04d.%s", folder, name, i + 1, options->jpeg ? "jpg" : "png");
        if (options->jpeg)
            write_jpeg(&picture, path);
        else
            write_png(&picture, path);
    }
    fprintf(json, "]}\n");
    assert_int_equal(fclose(json), 0);
    return annotations;
}
