/* What the ops of one image must know of it: a row of the i32 tensor image_info [N,8]. */
#ifndef KERNELS_IMAGE_INFO_H
#define KERNELS_IMAGE_INFO_H

#include <stdint.h>

typedef struct image_info {
    int32_t original_height, original_width; /* of the file, upright */
    int32_t height, width;   /* after the resize, without padding; boxes are in these pixels */
    int32_t flip;            /* 1: mirrored left to right */
    int32_t id_low, id_high; /* halves of the 64-bit image id */
    int32_t reserved;        /* 0 */
} image_info;

enum { IMAGE_INFO_INTS = sizeof(image_info) / sizeof(int32_t) };

static inline uint64_t image_info_id(const image_info *info) {
    return (uint32_t)info->id_low | (uint64_t)(uint32_t)info->id_high << 32;
}

#endif
