/* Masks painted into pixels, straight from their runs. */
#ifndef DRAW_MASK_PAINT_H
#define DRAW_MASK_PAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "data/mask_rle.h"

/* Pixels 0x00RRGGBB and scratch, kept from mask to mask. Scratch is as large as the largest mask's bounds so far. */
typedef struct mask_canvas {
    uint32_t *pixels; /* [height, stride], borrowed */
    int height, width;
    int stride; /* pixels from row to row */
    uint8_t *rows, *inside, *core;
    size_t rows_capacity, capacity;
} mask_canvas;

void mask_canvas_release(mask_canvas *c);

typedef struct mask_style {
    uint8_t colour[3];
    int line;     /* width of the outline, inside the mask */
    bool hatched; /* stripes instead of an even fill */
} mask_style;

/* The mask is stretched over the whole canvas: a pixel belongs to it where the mask has the pixel under its centre. Fill at
 * 40 %, outline at full strength, closed along the picture's edge. OS. */
status mask_paint(mask_canvas *c, const mask_rle *mask, const mask_style *style);

#endif
