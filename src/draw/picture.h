/* Pictures of what a model sees, should find and finds: instances over an image (filled masks with an outline, boxes, name
 * plates), several pictures in a grid. Drawn by cairo into memory; no display is needed.
 *
 * A program built without cairo has all of these functions, but none makes a picture: each returns NO_DEVICE, with a remedy.
 * Who can do without pictures asks picture_built_in first.
 *
 * Names and captions are UTF-8; bytes that are not are shown as replacement characters, texts too long for their place end in
 * an ellipsis. */
#ifndef DRAW_PICTURE_H
#define DRAW_PICTURE_H

#include <stdbool.h>
#include <stdint.h>
#include "data/detection.h"
#include "data/mask_rle.h"

/* Whether this program can draw. */
bool picture_built_in(void);

/* OK or NO_DEVICE. */
status picture_check_built_in(void);

/* The version of cairo, "not built in" without it. */
const char *picture_backend(void);

/* One object of an image. Everything is borrowed. */
typedef struct picture_instance {
    float box
        [4]; /* x1 y1 x2 y2 in pixels of the image; where it is not finite, no box and no plate are drawn */
    const mask_rle *mask; /* of the whole image; NULL or height 0: there is none */
    const char *name;     /* on the plate; NULL: no plate */
    double score;         /* 0..1, on the plate; negative: none */
    int32_t label;        /* class 0..K-1: the colour */
    bool crowd;           /* a region of many: hatched, and said on the plate */
} picture_instance;

typedef struct picture picture;

/* A scale at which plates can be read: a short side below 480 pixels is enlarged by a whole number, a long side above 1920
 * is reduced. */
double picture_scale_for(int height, int width);

/* A picture of rgb u8 [height,width,3], `scale` times as large (each pixel a square where the scale is whole). DATA: larger
 * than can be drawn (32767 pixels a side, 2^28 in all); OS; NO_DEVICE. */
status picture_new(picture **out, const uint8_t *rgb, int height, int width, double scale);
void picture_free(picture *p);

/* Draws instances, the most important first: large ones below small ones, plates (of the first 300) above all, kept inside the
 * picture and apart where there is room. OS. */
status picture_draw(picture *p, const picture_instance *items, int count);

/* Dashes around the first `height` rows and `width` columns of the image's pixels: what lies beyond is padding. */
void picture_mark_area(picture *p, int height, int width);

/* A new picture of `count` >= 1 others, row by row, `columns` in each, with a caption (may be NULL) above each. Codes of
 * picture_new. */
status picture_grid(picture **out, picture *const *cells, const char *const *captions, int count,
                    int columns);

/* PNG, whole under its own name. Codes of image_write_png. */
status picture_write(const picture *p, const char *path);

int picture_height(const picture *p);
int picture_width(const picture *p);

/* --- all in one ------------------------------------------------------------------------------------------ */

/* An image as the functions below take it. */
typedef struct picture_image {
    const uint8_t *rgb; /* u8 [height,width,3] */
    int height, width;
    const char *caption; /* its file name; NULL: none */
} picture_image;

/* Names by label; NULL or "", and labels from `count` on: "class N" (counted from 1, as in results files). */
typedef struct picture_classes {
    const char *const *names;
    int count;
    const int32_t *
        colours; /* [count] the class number that gives the colour, as ground truth has it; NULL: the label */
} picture_classes;

/* One image with its detections of at least `least_score`. */
status picture_draw_detections(const char *path, const picture_image *image, const detection_list *found,
                               const picture_classes *classes, double least_score);

/* Two pictures side by side: ground truth (see draw/truth.h) | detections of at least `least_score`. */
status picture_ground_truth_beside(const char *path, const picture_image *image,
                                   const picture_instance *truth, int truth_count,
                                   const detection_list *found, const picture_classes *classes,
                                   double least_score);

#endif
