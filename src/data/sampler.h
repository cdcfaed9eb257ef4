/* Which images make the global batch of an iteration, and how each is resized and flipped: pure functions of
 * (seed, iteration), so ranks, workers and a resume change nothing.
 *
 * The stream is endless: epoch after epoch, each a Philox-keyed shuffle (Fisher-Yates, PHILOX_SHUFFLE, step =
 * epoch) of the chosen images. With aspect-ratio grouping every image goes into one of two buckets, width >=
 * height or not, in the order of the stream; a bucket that holds a global batch becomes the next iteration's
 * batch; what is left over in a bucket stays for the next epoch. (As detectron2 groups; but per global batch,
 * so that the number of ranks has no part in it.) */
#ifndef DATA_SAMPLER_H
#define DATA_SAMPLER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "data/dataset.h"
#include "data/resize_rule.h"

typedef struct sampler_options {
    uint64_t seed;
    int32_t global_batch;   /* images per iteration, all ranks together */
    bool shuffle;           /* false: file order in every epoch */
    bool aspect_grouping;   /* DATALOADER.ASPECT_RATIO_GROUPING */
    bool filter_empty;      /* DATALOADER.FILTER_EMPTY_ANNOTATIONS: drop images without usable annotation */
    float flip_probability; /* horizontal flip */
    const int32_t *short_edges; /* INPUT.MIN_SIZE_TRAIN; range: [lowest, highest]; copied */
    int32_t short_edge_count;   /* >= 1; 2 for a range; <= SAMPLER_MAX_SHORT_EDGES */
    bool short_edge_range;      /* INPUT.MIN_SIZE_TRAIN_SAMPLING "range" */
    int32_t max_size;           /* INPUT.MAX_SIZE_TRAIN; <= 0: none */
    resize_rule rule;
} sampler_options;

enum { SAMPLER_MAX_SHORT_EDGES = 64 };

/* One place in a global batch. */
typedef struct sampler_item {
    uint32_t image; /* of the dataset */
    uint32_t epoch;
} sampler_item;

/* What happens to an image in an epoch. */
typedef struct sampler_view {
    int32_t resized_height, resized_width;
    bool flip;
} sampler_view;

typedef struct sampler sampler;

/* The dataset must outlive the sampler. STATUS_CONFIG for values that cannot work (named by their keys),
 * STATUS_DATA when no image is left, STATUS_OS. */
status sampler_new(sampler **out, const dataset *data, const sampler_options *options);
void sampler_free(sampler *s);

/* items [global_batch] of an iteration >= 0. Going on from the last iteration asked for is immediate; another
 * one further on costs about 20 ns per image skipped (12 epochs of COCO: 30 ms), an earlier one starts from
 * 0. */
void sampler_batch(sampler_item *items, sampler *s, int64_t iteration);

/* Flip (PHILOX_FLIP) and resized size (PHILOX_SCALE) of an image whose upright size is height x width. */
sampler_view sampler_view_of(const sampler *s, uint32_t image, uint32_t epoch, int32_t height, int32_t width);

/* The stand-in number `attempt` (0, 1, ..) for an image that cannot be read (PHILOX_REPLACEMENT): another
 * chosen image, with grouping one of the same orientation if there is one. It may itself be unreadable. */
uint32_t sampler_replacement(const sampler *s, uint32_t image, uint32_t epoch, uint32_t attempt);

/* Images that take part, and those that were dropped for want of usable annotations. */
uint32_t sampler_image_count(const sampler *s);
uint32_t sampler_filtered_count(const sampler *s);
uint32_t sampler_image(const sampler *s, uint32_t index);

/* Largest resized height and width (each over all images and short edges), to plan memory. */
void sampler_largest(const sampler *s, int32_t *height, int32_t *width);

#endif
