#include "polygon_raster.h"

#include <math.h>
#include <stdbool.h>

enum { FINE = 5, LIMIT = 1 << 21 };

typedef struct point {
    int64_t x, y; /* fine grid */
} point;

static int64_t to_fine(double at) {
    at = at < -LIMIT ? -LIMIT : at > LIMIT ? LIMIT : at;
    return (int64_t)(FINE * at + 0.5); /* towards zero, as pycocotools */
}

static double along(float at, polygon_axis a) {
    double scaled = (double)at * a.scale;
    return ((a.mirror > 0 ? a.mirror - scaled : scaled) - a.origin) * a.zoom;
}

static point fine_point(const float *xy, polygon_axis x, polygon_axis y) {
    return (point){to_fine(along(xy[0], x)), to_fine(along(xy[1], y))};
}

/* Kept columns that are image column `column`: [*first, *end). */
static void columns_of(const polygon_window *w, int64_t column, int64_t *first, int64_t *end) {
    bool falling = w->n_columns > 1 && w->columns[0] > w->columns[w->n_columns - 1];
    int64_t low = 0, high = w->n_columns;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (falling ? w->columns[middle] > column : w->columns[middle] < column)
            low = middle + 1;
        else
            high = middle;
    }
    *first = *end = low;
    while (*end < w->n_columns && w->columns[*end] == column) ++*end;
}

/* First kept row whose image row is >= row. */
static int64_t row_from(const polygon_window *w, int64_t row) {
    int64_t low = 0, high = w->n_rows;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (w->rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The walk went from a to b: if it passed a column's middle, the column changes there (bit 1). */
static void step(const polygon_window *w, point a, point b) {
    if (a.x == b.x) return;
    int64_t fine_x = b.x < a.x ? b.x : b.x - 1, fine_y = b.y < a.y ? b.y : a.y;
    if (fine_x % FINE != FINE / 2) return; /* negative ones never are */
    int64_t column = fine_x / FINE;
    if (column >= w->width) return;
    double y = ((double)fine_y + 0.5) / FINE - 0.5;
    int64_t row = y < 0 ? 0 : y > (double)w->height ? w->height : (int64_t)ceil(y);
    int64_t first, end, kept_row = row_from(w, row);
    if (kept_row == w->n_rows) return;
    columns_of(w, column, &first, &end);
    for (; first < end; first++) w->cells[first * w->n_rows + kept_row] ^= 2;
}

/* All points of an edge on the fine grid, from a to b; `last` is the point before them and becomes the last
 * of them. */
static void walk_edge(const polygon_window *w, point a, point b, point *last) {
    int64_t dx = a.x < b.x ? b.x - a.x : a.x - b.x, dy = a.y < b.y ? b.y - a.y : a.y - b.y,
            length = dx > dy ? dx : dy;
    bool backwards = dx >= dy ? a.x > b.x : a.y > b.y;
    point from = backwards ? b : a, to = backwards ? a : b;
    double slope = length == 0 ? 0 : (double)(dx >= dy ? to.y - from.y : to.x - from.x) / (double)length;
    for (int64_t i = 0; i <= length; i++) {
        int64_t t = backwards ? length - i : i;
        point p;
        if (dx >= dy) {
            p.x = t + from.x;
            p.y = (int64_t)((double)from.y + slope * (double)t + 0.5);
        } else {
            p.y = t + from.y;
            p.x = (int64_t)((double)from.x + slope * (double)t + 0.5);
        }
        step(w, *last, p);
        *last = p;
    }
}

void polygon_raster_add(const polygon_window *w, const float *xy, int64_t points, polygon_axis x,
                        polygon_axis y) {
    if (points == 0) return;
    point first = fine_point(xy, x, y), a = first, last = first;
    for (int64_t i = 0; i < points; i++) {
        point b = i + 1 < points ? fine_point(xy + 2 * (i + 1), x, y) : first;
        walk_edge(w, a, b, &last);
        a = b;
    }
    for (int64_t column = 0; column < w->n_columns; column++) {
        uint8_t *cells = w->cells + column * w->n_rows, inside = 0;
        for (int64_t row = 0; row < w->n_rows; row++) {
            inside ^= cells[row] >> 1;
            cells[row] = (uint8_t)((cells[row] & 1) | inside);
        }
    }
}
