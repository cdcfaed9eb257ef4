/* The inner loops of convolution and matrix products: small blocks of sums of products that stay in
 * registers. One set of functions for each instruction set; the best one this CPU can run is chosen at the
 * first call.
 *
 * A block is `rows` x (vectors * lanes) floats. Weights (the right-hand matrix) are packed into panels: for
 * each step of the sum, vectors * lanes consecutive columns. */
#ifndef KERNELS_MICRO_H
#define KERNELS_MICRO_H

#include <stdbool.h>
#include <stdint.h>

enum { MICRO_MAX_ROWS = 8, MICRO_MAX_VECTORS = 3, MICRO_MAX_LANES = 16 };
enum { MICRO_MAX_BLOCK = MICRO_MAX_ROWS * MICRO_MAX_VECTORS * MICRO_MAX_LANES };

/* A stretch of the sum: rows[m][i] meets row first + i of the panel, i < length. */
typedef struct micro_stretch {
    const float *rows[MICRO_MAX_ROWS];
    int64_t first, length;
} micro_stretch;

/* Runs of consecutive pixels: run i starts at pixel start[i] of the panel, is `length` long and takes every
 * `step`-th pixel. */
typedef struct micro_runs {
    const int64_t *start;
    int64_t count, length, step;
} micro_runs;

/* Where a block goes: row m is written at dest[m]. */
typedef struct micro_store {
    float *dest[MICRO_MAX_ROWS];
    const float *add[MICRO_MAX_ROWS]; /* added first; NULL: nothing; may be dest */
    const float *bias;                /* of these columns, or NULL */
    int rows;
    int64_t columns; /* that exist; the block's own rows are `width` apart */
    int64_t width;
    bool relu;
} micro_store;

typedef struct micro_kernels {
    const char *name;
    int lanes, rows;
    /* Index: vectors - 1. block[m][v] = sum over stretches of rows[m][i] * panel[first + i][v]. */
    void (*dot[MICRO_MAX_VECTORS])(float *block, const micro_stretch *stretches, int64_t count,
                                   const float *panel);
    /* block[m][v] = sum over all pixels of all runs of left[pixel][m] * panel[pixel][v]; left holds `rows`
     * floats for each pixel, run after run without gaps. */
    void (*outer[MICRO_MAX_VECTORS])(float *block, const float *left, const float *panel,
                                     const micro_runs *runs);
    /* Winograd's transforms for 3x3 kernels and 2x2 outputs (conv_winograd.h), channel by channel; `channels` is a
     * multiple of 16 for the first two, value [position][channel] of a result lies at out[position * stride + channel]. */
    void (*winograd_input)(float *out, int64_t stride, const float *const pixels[16], int64_t channels);
    void (*winograd_gradient)(float *out, int64_t stride, const float *const pixels[4], int64_t channels);
    /* out [4][channels] from sums[position * stride + channel]; `channels` is a multiple of lanes. */
    void (*winograd_output)(float *out, const float *sums, int64_t stride, int64_t channels);
    /* dest = relu?(block + add + bias) */
    void (*store)(const micro_store *to, const float *block);
} micro_kernels;

/* The fastest one this CPU can run. */
const micro_kernels *micro_best(void);

/* All that this CPU can run, slowest first; for tests. Returns how many (at most 3). */
int micro_available(const micro_kernels *out[3]);

/* Makes micro_best return another one; for tests and comparisons. NULL: the fastest again. */
void micro_choose(const micro_kernels *kernels);

#endif
