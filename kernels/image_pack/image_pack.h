/* image_pack: y = ((order(flip(resize(image)))) - mean) / std, and zeros behind it
 *
 *   image  u8  [h,w,3], or with `table` [bytes]: several images, one after another
 *   table  i32 [N,8] optional: one image_pack_record per image
 *   y      f32 [height,width,3], or with `table` [N,canvas_height,canvas_width,3]
 *
 * Resizing an axis of `in` pixels to `out`, one of:
 *
 *   plain      pixel i is taken at s = max((i + 0.5) * in/out - 0.5, 0), between the pixels floor(s) and
 *              min(floor(s) + 1, in - 1), without rounding: torchvision's and Detectron's bilinear resizing
 *   antialias  as Pillow resizes 8-bit images with BILINEAR: a triangle filter of half width max(in/out, 1)
 *              around (i + 0.5) * in/out, weights in 22-bit fixed point, along x and then along y, each time
 *              rounded to 8 bits: detectron2's resizing, bit for bit. (Pillow 13 takes y first where
 *              the height shrinks more than the width: by rounding alone when the shape is kept.)
 *
 * `flip` mirrors left and right after resizing. order[c] is the channel of the image (0 R, 1 G, 2 B) that
 * becomes channel c; mean and std are in that order and on the scale 0..255. Padding is 0 after normalising.
 *
 * The table is data: sizes may change in every step, shapes do not. No gradient. */
#ifndef KERNELS_IMAGE_PACK_IMAGE_PACK_H
#define KERNELS_IMAGE_PACK_IMAGE_PACK_H

#include "autograd/op.h"

struct tape;

typedef struct image_pack_params {
    int height, width; /* of y; without `table` only */
    bool flip;         /* without `table` only */
    bool antialias;
    double mean[3], std[3], order[3];
    int canvas_height, canvas_width; /* of y; with `table` only */
} image_pack_params;

enum { IMAGE_PACK_IMAGE, IMAGE_PACK_TABLE };

/* An image starts at a multiple of this in `image`, so that 32 bits reach far. */
enum { IMAGE_PACK_ALIGNMENT = 64, IMAGE_PACK_RECORD_INTS = 8, IMAGE_PACK_MAX_SIDE = 65536 };

/* One row of `table`. resized_* is at most the canvas; sides are 1..IMAGE_PACK_MAX_SIDE. */
typedef struct image_pack_record {
    int32_t offset; /* of the image's first byte, in units of IMAGE_PACK_ALIGNMENT bytes */
    int32_t height, width;
    int32_t resized_height, resized_width;
    int32_t flip; /* 0 or 1 */
    int32_t reserved[2];
} image_pack_record;

extern const op_def image_pack_op;
extern const op_kernel image_pack_reference_f32, image_pack_reference_f64, image_pack_tiled;

/* table may be NULL. */
tensor *image_pack(struct tape *t, tensor *image, tensor *table, const image_pack_params *params);

/* What a call does to one image: a record, or the params alone. */
image_pack_record image_pack_record_of(const op_call *call, int64_t n);
int64_t image_pack_count(const op_call *call);

#endif
