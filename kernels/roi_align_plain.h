/* RoIAlign of one region in plain loops, for the references of roi_align and roi_align_fpn. */
#ifndef KERNELS_ROI_ALIGN_PLAIN_H
#define KERNELS_ROI_ALIGN_PLAIN_H

#include "roi_bins.h"

/* `x` is the region's image [height,width,channels]. Calls visit(context, offset of the pixel in x, weight,
 * p, q) for each neighbour of each sample of each bin (p, q). */
typedef void (*roi_visit)(void *context, int64_t offset, REAL weight, int p, int q);

typedef struct roi_map {
    int64_t height, width, channels;
    REAL scale;
} roi_map;

static inline void roi_align_visit(const REAL roi[5], const roi_map *map, const roi_sampling *s,
                                   roi_visit visit, void *context) {
    roi_bins bins = roi_bins_make(roi, map->scale, s);
    int64_t samples = bins.samples[0] * bins.samples[1];
    REAL count = samples > 1 ? (REAL)samples : 1;
    for (int64_t sample = 0; sample < samples * s->output_size * s->output_size; sample++) {
        int p = (int)(sample / samples / s->output_size), q = (int)(sample / samples % s->output_size);
        int64_t low[2], high[2];
        REAL w[2];
        REAL y = roi_sample_at(&bins, 0, p, sample % samples / bins.samples[1]);
        REAL x = roi_sample_at(&bins, 1, q, sample % bins.samples[1]);
        if (!roi_neighbours(y, map->height, &low[0], &high[0], &w[0])) continue;
        if (!roi_neighbours(x, map->width, &low[1], &high[1], &w[1])) continue;
        visit(context, (low[0] * map->width + low[1]) * map->channels, (1 - w[0]) * (1 - w[1]) / count, p, q);
        visit(context, (low[0] * map->width + high[1]) * map->channels, (1 - w[0]) * w[1] / count, p, q);
        visit(context, (high[0] * map->width + low[1]) * map->channels, w[0] * (1 - w[1]) / count, p, q);
        visit(context, (high[0] * map->width + high[1]) * map->channels, w[0] * w[1] / count, p, q);
    }
}

typedef struct roi_plain {
    const REAL *x; /* forward: the image */
    REAL *d_x;     /* backward: its gradient, added to */
    REAL *y;       /* [P,P,channels]: the region's output, or its gradient */
    int64_t channels;
    int output_size;
} roi_plain;

static inline void roi_plain_read(void *context, int64_t offset, REAL weight, int p, int q) {
    const roi_plain *r = context;
    REAL *y = r->y + ((int64_t)p * r->output_size + q) * r->channels;
    for (int64_t c = 0; c < r->channels; c++) y[c] += weight * r->x[offset + c];
}

static inline void roi_plain_add(void *context, int64_t offset, REAL weight, int p, int q) {
    const roi_plain *r = context;
    const REAL *d_y = r->y + ((int64_t)p * r->output_size + q) * r->channels;
    for (int64_t c = 0; c < r->channels; c++) r->d_x[offset + c] += weight * d_y[c];
}

#endif
