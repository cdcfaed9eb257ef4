/* Reference of image_pack in plain loops: every output pixel by itself. y is f32 in both builds; the
 * arithmetic is in REAL. */
#include "image_pack/image_pack.h"
#include "image_pack/resample_axis.h"

enum { MOST_TAPS = 2 * IMAGE_PACK_MAX_SIDE + 1 };

static uint8_t source(const uint8_t *image, int width, int y, int x, int channel) {
    return image[((int64_t)y * width + x) * 3 + channel];
}

static REAL plain_pixel(const uint8_t *image, const image_pack_record *r, int y, int x, int channel) {
    bilinear_tap v = bilinear_tap_of(y, r->height, r->resized_height),
                 h = bilinear_tap_of(x, r->width, r->resized_width);
    REAL wy = (REAL)v.upper_weight, wx = (REAL)h.upper_weight;
    REAL upper = (1 - wx) * source(image, r->width, v.lower, h.lower, channel) +
                 wx * source(image, r->width, v.lower, h.upper, channel);
    REAL lower = (1 - wx) * source(image, r->width, v.upper, h.lower, channel) +
                 wx * source(image, r->width, v.upper, h.upper, channel);
    return (1 - wy) * upper + wy * lower;
}

static REAL pillow_pixel(const uint8_t *image, const image_pack_record *r, int y, int x, int channel) {
    static _Thread_local int32_t down[MOST_TAPS], across[MOST_TAPS];
    triangle_tap v = triangle_tap_of(down, y, r->height, r->resized_height);
    triangle_tap h = triangle_tap_of(across, x, r->width, r->resized_width);
    int32_t sum = TRIANGLE_HALF;
    for (int j = 0; j < v.count; j++) {
        int32_t row_sum = TRIANGLE_HALF;
        for (int i = 0; i < h.count; i++)
            row_sum += source(image, r->width, v.first + j, h.first + i, channel) * across[i];
        sum += triangle_round(row_sum) * down[j];
    }
    return triangle_round(sum);
}

static void forward(const op_call *call) {
    const image_pack_params *p = call->params;
    bool batch = call->in[IMAGE_PACK_TABLE];
    int canvas_height = batch ? p->canvas_height : p->height,
        canvas_width = batch ? p->canvas_width : p->width;
    float *y = tensor_f32(call->out[0]);
    for (int64_t n = 0; n < image_pack_count(call); n++) {
        image_pack_record r = image_pack_record_of(call, n);
        const uint8_t *image =
            tensor_u8(call->in[IMAGE_PACK_IMAGE]) + (int64_t)r.offset * IMAGE_PACK_ALIGNMENT;
        for (int row = 0; row < canvas_height; row++)
            for (int column = 0; column < canvas_width; column++)
                for (int c = 0; c < 3; c++, y++) {
                    *y = 0;
                    if (row >= r.resized_height || column >= r.resized_width) continue;
                    int x = r.flip ? r.resized_width - 1 - column : column, channel = (int)p->order[c];
                    REAL v = p->antialias ? pillow_pixel(image, &r, row, x, channel)
                                          : plain_pixel(image, &r, row, x, channel);
                    *y = (float)((v - (REAL)p->mean[c]) / (REAL)p->std[c]);
                }
    }
}

const op_kernel REAL_NAME(image_pack_reference) = {.name = REAL_KERNEL_NAME, .forward = forward};
