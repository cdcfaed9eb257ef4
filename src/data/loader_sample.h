/* One training sample in a slot of memory: what a loader worker makes of (image, epoch). The header lies at
 * the slot's start, the arrays behind it at its offsets; everything is plain data without pointers, so any
 * process that maps the slot can read it. */
#ifndef DATA_LOADER_SAMPLE_H
#define DATA_LOADER_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "data/dataset.h"
#include "data/gt_masks.h"
#include "data/mask_rle.h"
#include "data/sampler.h"

/* How long the parts of a sample took. */
typedef struct sample_seconds {
    float read, decode, annotations; /* the file; its pixels; boxes and masks */
} sample_seconds;

typedef struct sample_header {
    int32_t outcome;       /* status; the arrays are only there for STATUS_OK */
    int32_t height, width; /* of the pixels */
    sampler_view view;
    int32_t objects;
    uint64_t pixels; /* offset of u8 [height,width,3] RGB, upright */
    uint64_t boxes;  /* f32 [objects,4] x1 y1 x2 y2 in the resized, flipped image */
    uint64_t ids;    /* i64 [objects] annotation ids */
    uint64_t labels; /* i32 [objects] 0..K-1 */
    uint64_t masks;  /* gt_mask_record [objects] */
    uint64_t blob;   /* u8 [blob_bytes] payloads of the masks, in pixels of the original image */
    uint64_t blob_bytes;
    sample_seconds seconds;
    char cause[448]; /* of a failure */
} sample_header;

typedef struct sample_request {
    uint32_t image; /* of the dataset */
    sampler_view view;
} sample_request;

typedef struct sample_builder {
    const dataset *data;
    bool masks;        /* pack masks; false: boxes only */
    bool bitmap_masks; /* polygons become bitmaps of the original image, too */
    float *xy;         /* scratch, [room] */
    size_t xy_room;
    int32_t *points; /* scratch, [points_room] */
    size_t points_room;
    mask_rle mask; /* scratch */
} sample_builder;

void sample_builder_init(sample_builder *b, const dataset *data, bool masks, bool bitmap_masks);
void sample_builder_release(sample_builder *b);

/* What any sample of an image needs at most; known from the index alone. */
typedef struct sample_limits {
    size_t bytes;       /* of its slot */
    size_t pixel_bytes; /* of its pixels */
    size_t mask_bytes;  /* of its packed masks */
    int32_t objects;
} sample_limits;

sample_limits sample_limits_of(const sample_builder *b, uint32_t image);

/* Reads and decodes the image and packs its objects. Boxes go detectron2's way: scaled by resized/original,
 * flipped, clipped to the resized image, dropped when a side is not above 1e-5; an object whose bitmap is
 * empty is dropped. An image whose upright size is not the JSON's is bad, unless the size as stored is: then
 * its annotations were made ignoring EXIF, and the pixels are delivered as stored. The outcome is in the
 * header: STATUS_OK; STATUS_OS (memory); anything else means that the image cannot be used, and `cause` says
 * why. */
void sample_build(uint8_t *slot, size_t slot_bytes, sample_builder *b, const sample_request *request);

#endif
