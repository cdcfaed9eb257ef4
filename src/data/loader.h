/* The training data loader: worker processes read, decode and pack samples into shared memory ahead of the
 * training step; the samples of each iteration are delivered in an order and with bytes that depend on (seed,
 * iteration) only, whatever the number of workers, also when workers die.
 *
 * Create it BEFORE MPI_Init, before a device is opened and before any thread is started: it forks (see
 * worker_nursery.h). The dataset must be open by then and outlive it. With 0 workers everything happens
 * inside loader_next on the calling thread.
 *
 * A bad image (missing, damaged, of another size than its annotations say) is replaced (unless keep_bad is set)
 * by another one that is a function of (seed, epoch, image id, attempt); each is named once as a warning and counted. When more than
 * two different images and more than `bad_share` of the different images tried so far are bad, loader_next
 * returns STATUS_DATA naming them. A sample on which three workers died is STATUS_DATA naming its file. A
 * worker that makes no sample for `stall_seconds` is killed and replaced. Not thread-safe. */
#ifndef DATA_LOADER_H
#define DATA_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "base/status.h"
#include "data/dataset.h"
#include "data/gt_masks.h"
#include "data/loader_sample.h"
#include "data/sampler.h"

enum { LOADER_MAX_WORKERS = 256 };

typedef struct loader_options {
    sampler_options sampler;  /* seed, global batch, shuffling, sizes... */
    int32_t rank, world;      /* world divides the global batch */
    int32_t workers;          /* DATALOADER.NUM_WORKERS of this rank; 0: none */
    int32_t prefetch_batches; /* made ahead of the one in use; >= 1, 0 means 2 */
    bool masks;               /* MODEL.MASK_ON */
    bool bitmap_masks; /* polygons, too, become bitmaps of the original image, as torchvision has them */
    double bad_share;  /* 0.01: stop above 1 % */
    bool
        keep_bad; /* deliver a bad image as itself, without pixels and objects, instead of another one, and say nothing */
    double stall_seconds; /* 0 means 60 */
} loader_options;

/* One sample. All memory belongs to the loader and stays as it is until loader_release_batch. */
typedef struct loader_sample {
    int64_t image_id;
    uint32_t image; /* of the dataset */
    int32_t part;   /* of the dataset: which of the concatenated ones */
    uint32_t epoch;
    const char *file_name;
    int32_t height, width;
    const uint8_t *pixels; /* u8 [height,width,3] RGB, upright, original size; NULL: a bad image (keep_bad) */
    const char *cause;     /* why it is bad; NULL for a good one */
    int32_t resized_height, resized_width;
    bool flip;     /* after resizing, horizontally */
    bool replaced; /* stands for a bad image */
    int32_t objects;
    const float *boxes;            /* f32 [objects,4] x1 y1 x2 y2, in the resized and flipped image */
    const int32_t *labels;         /* i32 [objects] 0..K-1 */
    const int64_t *annotation_ids; /* [objects] */
    const gt_mask_record *masks;   /* [objects]; in pixels of the original, unflipped image */
    const uint8_t *mask_blob;      /* u8 [mask_blob_bytes], aligned to 64 */
    size_t mask_blob_bytes;
    sample_seconds seconds; /* what making it took, in its worker */
} loader_sample;

typedef struct loader_batch {
    int64_t iteration;
    const loader_sample *samples; /* [count], this rank's share in the global batch's order */
    int32_t count;
    double wait_seconds; /* how long loader_next had to wait */
} loader_batch;

typedef struct loader_stats {
    int64_t skipped_images; /* replacements so far, delivered by this loader */
    uint32_t bad_images;    /* different bad images among them */
    uint32_t tried_images;  /* different images tried, bad ones included */
    int64_t restarted_workers;
} loader_stats;

typedef struct loader loader;

/* STATUS_CONFIG (values that cannot work, batch not divisible by ranks), STATUS_DATA (no image left),
 * STATUS_OS (memory, processes). */
status loader_new(loader **out, const dataset *data, const loader_options *options);
void loader_free(loader *l); /* ends and awaits every process of it */

/* The next loader_next gives this iteration's batch (>= 0; without it: 0). No batch may be in use. */
status loader_start_at(loader *l, int64_t iteration);

/* Waits for the batch of the next iteration. One batch is in use at a time. */
status loader_next(loader *l, loader_batch *out);
/* Gives the batch's memory back, so that it is filled for a later iteration. */
void loader_release_batch(loader *l);

const sampler *loader_sampler(const loader *l);

/* The most that any sample of this loader needs, each over all its images. */
typedef struct loader_limits {
    size_t pixel_bytes, mask_bytes;
    int32_t objects;
} loader_limits;
loader_limits loader_get_limits(const loader *l);

loader_stats loader_get_stats(const loader *l);

/* Process id of worker w, 0..workers-1; 0 when it is not running (for tests and messages). */
pid_t loader_worker_pid(const loader *l, int w);
pid_t loader_nursery_pid(const loader *l); /* of the process that forks them; 0 without workers */

#endif
