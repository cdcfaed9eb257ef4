/* anchors.h on CUDA: boxes of consecutive anchors, with its bits. */
#ifndef KERNELS_ANCHOR_PLACES_CUH
#define KERNELS_ANCHOR_PLACES_CUH

#include "cuda_common.cuh"

extern "C" {
#include "anchors.h"
}

/* Where an anchor stands; moves on one by one. */
struct anchor_place {
    int level, y, x, a;
};

__device__ inline anchor_place anchor_place_of(const anchor_grid &grid, int index) {
    anchor_place place = {grid.levels - 1, 0, 0, 0};
    while (index < (int)grid.level[place.level].first) place.level--;
    unsigned in_level = (unsigned)(index - (int)grid.level[place.level].first);
    unsigned per_cell = (unsigned)grid.per_cell, width = (unsigned)grid.level[place.level].width;
    unsigned cell = in_level / per_cell;
    place.a = (int)(in_level - cell * per_cell);
    place.y = (int)(cell / width);
    place.x = (int)(cell - (unsigned)place.y * width);
    return place;
}

/* The last anchor of the grid has no next one. */
__device__ inline void anchor_place_next(anchor_place *place, const anchor_grid &grid) {
    if (++place->a < grid.per_cell) return;
    place->a = 0;
    if (++place->x < grid.level[place->level].width) return;
    place->x = 0;
    if (++place->y < grid.level[place->level].height) return;
    place->y = 0;
    place->level++;
}

__device__ inline float4 anchor_box_of(const anchor_grid &grid, const anchor_place &place) {
    const anchor_level &level = grid.level[place.level];
    const float *base = level.base[place.a];
    float dx = __fadd_rn(level.first_x, __fmul_rn((float)place.x, level.stride_x));
    float dy = __fadd_rn(level.first_y, __fmul_rn((float)place.y, level.stride_y));
    return make_float4(__fadd_rn(dx, base[0]), __fadd_rn(dy, base[1]), __fadd_rn(dx, base[2]),
                       __fadd_rn(dy, base[3]));
}

#endif
