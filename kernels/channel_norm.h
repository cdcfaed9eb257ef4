/* Passes over channel-last maps that the norms share (float only). A map x is [slabs, pixels, channels]; the
 * pixels of a slab are normalised together: a slab is an image for group_norm, the batch for the batch norms.
 * Every pass cuts the map into tiles by shape and runs near memory speed; sums are taken in double, in the
 * order of the tiles.
 *
 * Normalising is y = (x - center) * scale + shift, with `center` the statistics' mean rounded to float: x -
 * center is nearly exact, so a mean of many deviations costs no accuracy; what rounding took off the mean is
 * put into `shift`. */
#ifndef KERNELS_CHANNEL_NORM_H
#define KERNELS_CHANNEL_NORM_H

#include "autograd/op.h"

typedef struct channel_map {
    int64_t slabs, pixels, channels;
    int64_t tile_pixels, tiles; /* pixels of one tile; tiles of one slab */
} channel_map;

/* Coefficients of one slab: rows of `channels` floats each. */
enum { CHANNEL_CENTER, CHANNEL_SCALE, CHANNEL_SHIFT, CHANNEL_SLOPE, CHANNEL_ROWS };

/* Memory of a pass, inside a kernel's scratch. */
typedef struct channel_scratch {
    double *sums;    /* [slabs, 2, channels], and one more number at the end */
    double *partial; /* [slabs, tiles, 2, channels] */
    float *coefs;    /* [slabs, CHANNEL_ROWS, channels] */
} channel_scratch;

channel_map channel_map_make(int64_t slabs, int64_t pixels, int64_t channels);
size_t channel_scratch_bytes(const channel_map *m);
channel_scratch channel_scratch_at(const channel_map *m, void *scratch);

/* sums[s] = {sum of x, sum of x^2} for each slab and channel. */
void channel_moments(const channel_map *m, const channel_scratch *scratch, const float *x);

/* y = (x - center) * scale + shift, then ReLU if `relu`. */
void channel_affine(const channel_map *m, const float *coefs, float *y, const float *x, bool relu);

/* The gradient maps of a norm; y is NULL where there is no ReLU (else g counts only where y > 0). */
typedef struct channel_gradient {
    float *d_x;
    const float *g, *y, *x;
    bool accumulate;
} channel_gradient;

/* sums[s] = {sum of g, sum of g * (x - center)}. */
void channel_gradient_sums(const channel_map *m, const channel_scratch *scratch,
                           const channel_gradient *gradient);

/* d_x = scale * g + slope * (x - center) + shift; x NULL: d_x = scale * g. */
void channel_gradient_apply(const channel_map *m, const float *coefs, const channel_gradient *gradient);

#endif
