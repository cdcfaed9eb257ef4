/* Polygons to bitmaps with pycocotools' rule (rleFrPoly), without run lengths and without allocation: each
 * edge is walked on a grid five times as fine, and where it passes the middle of a pixel column, the column
 * changes between background and object at the row that the walk has reached. */
#ifndef KERNELS_POLYGON_RASTER_H
#define KERNELS_POLYGON_RASTER_H

#include <stdint.h>

/* From a polygon's coordinate to the raster's: (x * scale - origin) * zoom, or with `mirror` (mirror - x *
 * scale - origin) * zoom; in this order, since half pixels decide. */
typedef struct polygon_axis {
    double scale, mirror, origin, zoom; /* mirror 0: not mirrored */
} polygon_axis;

/* Where the raster goes: an image of width x height pixels, of which only a window of columns and rows is
 * kept, possibly resized: kept column i is image column columns[i], kept row i is image row rows[i].
 * `columns` rise or fall, `rows` rise; both may repeat. cells: [n_columns, n_rows], column by column; bit 0
 * of each is the union of what was rasterised so far. */
typedef struct polygon_window {
    int64_t width, height;
    const int32_t *columns, *rows;
    int64_t n_columns, n_rows;
    uint8_t *cells;
} polygon_window;

/* Adds one closed polygon xy [points,2] to the union. Coordinates beyond 2^21 pixels are cut there. */
void polygon_raster_add(const polygon_window *window, const float *xy, int64_t points, polygon_axis x,
                        polygon_axis y);

#endif
