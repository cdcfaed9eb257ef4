/* Polygons as pixels of a window of an image, possibly resized to the nearest pixel: pixels are exactly those of
 * data/mask_polygon.h, but only what a RoI needs is ever made. */
#ifndef KERNELS_POLYGON_WINDOW_H
#define KERNELS_POLYGON_WINDOW_H

#include "data/mask_polygon.h"

/* Kept column i is image column columns[i], kept row i is image row rows[i]. `columns` rise or fall, `rows` rise; both may
 * repeat. cells: [n_columns, n_rows], column by column; 1 where an object was drawn. */
typedef struct polygon_window {
    int height, width; /* of the image */
    const int32_t *columns, *rows;
    int64_t n_columns, n_rows;
    uint8_t *cells;
} polygon_window;

/* Adds the union of a packed polygon's parts, moved by `place` to the image. */
void polygon_window_draw(const polygon_window *window, const gt_mask_view *polygon, const mask_affine *place);

#endif
