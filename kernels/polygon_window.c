#include "polygon_window.h"

enum { OBJECT = 1, CHANGE = 2 }; /* bits of a cell: drawn; inside and outside change places from here on */

typedef struct window_sink {
    mask_crossings sink;
    const polygon_window *window;
} window_sink;

/* First place in values[0..n) that is >= wanted (rising) or <= wanted (falling). */
static int64_t first_place(const int32_t *values, int64_t n, int32_t wanted, bool falling) {
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (falling ? values[middle] > wanted : values[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void change(mask_crossings *sink, int column, int row) {
    const polygon_window *w = ((window_sink *)(void *)sink)->window;
    bool falling = w->n_columns > 1 && w->columns[0] > w->columns[w->n_columns - 1];
    int64_t kept_row = first_place(w->rows, w->n_rows, row, false);
    if (kept_row == w->n_rows) return;
    for (int64_t i = first_place(w->columns, w->n_columns, column, falling);
         i < w->n_columns && w->columns[i] == column; i++)
        w->cells[i * w->n_rows + kept_row] ^= CHANGE;
}

/* Fills each column from change to change and clears the marks. */
static void fill(const polygon_window *w) {
    for (int64_t column = 0; column < w->n_columns; column++) {
        uint8_t *cells = w->cells + column * w->n_rows, inside = 0;
        for (int64_t row = 0; row < w->n_rows; row++) {
            inside ^= cells[row] / CHANGE;
            cells[row] = (uint8_t)((cells[row] & OBJECT) | inside);
        }
    }
}

void polygon_window_draw(const polygon_window *window, const gt_mask_view *polygon,
                         const mask_affine *place) {
    window_sink sink = {.sink = {.cross = change, .height = window->height, .width = window->width},
                        .window = window};
    const uint8_t *cursor = polygon->data;
    for (int32_t i = 0; i < polygon->parts; i++) {
        gt_mask_part part = gt_mask_next_part(&cursor);
        mask_polygon_walk(&sink.sink, part.xy, part.points, place);
        fill(window);
    }
}
