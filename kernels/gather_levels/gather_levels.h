/* gather_levels: rows of D values out of the RPN's maps, by anchor number.
 *
 *   index     [S]              i32: n * total + a, each at most once; its rows are counted
 *   map0..4   [N,h_l,w_l,A*D]  real, anchor-major; absent levels at the end may be NULL
 *   y         [S,D]            real, or [S] where D is 1; its rows are those of index
 *
 * a counts levels in order, then rows, columns and the A anchors of a place (see anchors.h); total is the anchors of
 * one image.
 *
 * Backward: d_map is d_y where an index points and 0 elsewhere. */
#ifndef KERNELS_GATHER_LEVELS_GATHER_LEVELS_H
#define KERNELS_GATHER_LEVELS_GATHER_LEVELS_H

#include "autograd/op.h"

struct tape;

typedef struct gather_levels_params {
    int anchors; /* A */
    int size;    /* D */
} gather_levels_params;

enum { GATHER_INDEX, GATHER_MAP, GATHER_MAPS = 5 };

extern const op_def gather_levels_op;
extern const op_kernel gather_levels_reference_f32, gather_levels_reference_f64;

/* inputs: index, then GATHER_MAPS maps. */
tensor *gather_levels(struct tape *t, tensor *const inputs[1 + GATHER_MAPS],
                      const gather_levels_params *params);

#endif
