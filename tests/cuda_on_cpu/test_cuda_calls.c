/* What the cases of the ops do not show of CUDA kernels: that image_pack's pixels are the CPU kernel's to the last bit, that
 * max_pool2d takes a NaN where the CPU does, that sync_batch_norm on two ranks is that of the whole batch, and its sums over
 * many tiles; that conv2d with few live pixels gives the gradients of all, or NaN. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "autograd/tensor_compare.h"
#include "base/philox.h"
#include "comm/comm_backend.h"
#include "conv2d/conv2d.h"
#include "cuda/cuda_kernels.h"
#include "image_pack/image_pack.h"
#include "max_pool2d/max_pool2d.h"
#include "sync_batch_norm/sync_batch_norm.h"

static void run_pass(op_call *call, const op_kernel *kernel, bool backward) {
    size_t bytes = kernel->scratch_bytes ? kernel->scratch_bytes(call, backward) : 0;
    call->scratch = aligned_alloc(64, (bytes + 64) / 64 * 64);
    assert_non_null(call->scratch);
    memset(call->scratch, 0xFF, bytes);
    backward ? kernel->backward(call) : kernel->forward(call);
    free(call->scratch);
}

/* ---- image_pack ----------------------------------------------------------------------------------------- */

enum { CANVAS = 40, IMAGES = 3, MOST_SIDE = 70, BYTES = IMAGES * (MOST_SIDE * MOST_SIDE * 3 + 64) };

/* The next one of low..high-1. */
static int number(uint64_t *drawn, int low, int high) {
    static const philox_key key = {.seed = 3, .purpose = PHILOX_TEST};
    return low + (int)philox_below(&key, (*drawn)++, (uint32_t)(high - low));
}

static void fill_batch(image_pack_record *records, uint8_t *bytes, uint64_t *drawn) {
    int32_t offset = 0;
    for (int i = 0; i < BYTES; i++) bytes[i] = (uint8_t)number(drawn, 0, 256);
    for (int n = 0; n < IMAGES; n++) {
        image_pack_record r = {.offset = offset,
                               .height = number(drawn, 1, MOST_SIDE + 1),
                               .width = number(drawn, 1, MOST_SIDE + 1),
                               .resized_height = number(drawn, 1, CANVAS + 1),
                               .resized_width = number(drawn, 1, CANVAS + 1),
                               .flip = n & 1};
        records[n] = r;
        offset += (r.height * r.width * 3 + 63) / IMAGE_PACK_ALIGNMENT;
    }
}

static void packs_to_the_last_bit(void **state) {
    (void)state;
    static uint8_t bytes[BYTES];
    static float y[2][IMAGES * CANVAS * CANVAS * 3];
    const op_kernel *kernels[] = {image_pack_op.cpu, cuda_kernels_find("image_pack")[0]};
    uint64_t drawn = 0;
    for (int round = 0; round < 8; round++) {
        image_pack_record records[IMAGES];
        image_pack_params params = {.antialias = round % 2 == 0,
                                    .mean = {123.675, 116.28, 103.53},
                                    .std = {58.395, 57.12, 57.375},
                                    .order = {2, 0, 1},
                                    .canvas_height = CANVAS,
                                    .canvas_width = CANVAS};
        fill_batch(records, bytes, &drawn);
        tensor image = tensor_make("image", DTYPE_U8, 1, (int64_t[]){BYTES}, bytes), out = {0};
        tensor table =
            tensor_make("table", DTYPE_I32, 2, (int64_t[]){IMAGES, IMAGE_PACK_RECORD_INTS}, records);
        op_call call = {.op = &image_pack_op, .params = &params, .in = {&image, &table}, .out = {&out}};
        assert_int_equal(op_infer(&call), STATUS_OK);
        assert_int_equal(image_pack_op.validate(&call), STATUS_OK);
        for (int k = 0; k < 2; k++) {
            out.data = y[k];
            memset(y[k], 0xFF, sizeof y[k]);
            run_pass(&call, kernels[k], false);
        }
        assert_memory_equal(y[0], y[1], sizeof y[0]);
    }
}

/* ---- max_pool2d ----------------------------------------------------------------------------------------- */

enum { POOL_SIDE = 7, POOLED = 4, POOL_CHANNELS = 8 };

static void pools_nan(void **state) {
    (void)state;
    static const max_pool2d_params stem = {3, 2, 1};
    static float x[POOL_SIDE * POOL_SIDE * POOL_CHANNELS], d_y[POOLED * POOLED * POOL_CHANNELS];
    static struct {
        float y[POOLED * POOLED * POOL_CHANNELS], d_x[POOL_SIDE * POOL_SIDE * POOL_CHANNELS];
    } result[2];
    const op_kernel *kernels[] = {&max_pool2d_reference_f32, cuda_kernels_find("max_pool2d")[0]};
    philox_key key = {.seed = 9, .purpose = PHILOX_TEST};
    for (int i = 0; i < POOL_SIDE * POOL_SIDE * POOL_CHANNELS; i++)
        x[i] = i % 5 ? philox_normal(&key, (uint64_t)i) : NAN;
    for (int i = 0; i < POOLED * POOLED * POOL_CHANNELS; i++) d_y[i] = (float)(i + 1);
    for (int k = 0; k < 2; k++) {
        const int64_t in[4] = {1, POOL_SIDE, POOL_SIDE, POOL_CHANNELS},
                      out[4] = {1, POOLED, POOLED, POOL_CHANNELS};
        tensor map = tensor_make("x", DTYPE_F32, 4, in, x), y = {0},
               d_map = tensor_make("d_x", DTYPE_F32, 4, in, result[k].d_x),
               d_out = tensor_make("d_y", DTYPE_F32, 4, out, d_y);
        op_call call = {.op = &max_pool2d_op,
                        .params = &stem,
                        .in = {&map},
                        .out = {&y},
                        .d_in = {&d_map},
                        .d_out = {&d_out}};
        assert_int_equal(op_infer(&call), STATUS_OK);
        y.data = result[k].y;
        run_pass(&call, kernels[k], false);
        run_pass(&call, kernels[k], true);
    }
    for (int i = 0; i < POOLED * POOLED * POOL_CHANNELS; i++)
        assert_true(isnan(result[0].y[i]) ? isnan(result[1].y[i]) : result[0].y[i] == result[1].y[i]);
    for (int i = 0; i < POOL_SIDE * POOL_SIDE * POOL_CHANNELS; i++)
        assert_true(result[0].d_x[i] == result[1].d_x[i]);
}

/* ---- sync_batch_norm ------------------------------------------------------------------------------------ */

enum { ROWS = 5, PIXELS = 6, CHANNELS = 8, VALUES = ROWS * PIXELS * CHANNELS, SUMS = 2 * CHANNELS + 1 };

/* Two ranks, one after the other: each pass runs twice, first to note the rank's sums, then to get those of both. */
static struct {
    double sums[2][SUMS];
    int rank;
    bool give;
} ranks;

static void sum_two(comm *c, double *values, size_t count) {
    (void)c;
    assert_int_equal(count, SUMS);
    for (size_t i = 0; i < count; i++) {
        if (ranks.give)
            values[i] = ranks.sums[0][i] + ranks.sums[1][i];
        else
            ranks.sums[ranks.rank][i] = values[i];
    }
}

/* Images [first, end) of the batch, and what comes of them. */
typedef struct part {
    int64_t first, end;
    float x[VALUES], d_y[VALUES], y[VALUES], d_x[VALUES];
    float weight[CHANNELS], bias[CHANNELS], mean[CHANNELS], var[CHANNELS], saved[3 * CHANNELS];
    float d_weight[CHANNELS], d_bias[CHANNELS];
} part;

static void run_part(part *p, comm *c, bool backward) {
    static const sync_batch_norm_params params = {.eps = 1e-5, .momentum = 0.1, .relu = true};
    const int64_t shape[4] = {p->end - p->first, PIXELS, 1, CHANNELS}, channels = CHANNELS;
    int64_t at = p->first * PIXELS * CHANNELS;
    tensor x = tensor_make("x", DTYPE_F32, 4, shape, p->x + at), y = {0}, new_mean = {0}, new_var = {0},
           saved = {0}, d_y = tensor_make("d_y", DTYPE_F32, 4, shape, p->d_y + at),
           d_x = tensor_make("d_x", DTYPE_F32, 4, shape, p->d_x + at),
           weight = tensor_make("weight", DTYPE_F32, 1, &channels, p->weight),
           bias = tensor_make("bias", DTYPE_F32, 1, &channels, p->bias),
           old_mean = tensor_make("mean", DTYPE_F32, 1, &channels, p->mean),
           old_var = tensor_make("var", DTYPE_F32, 1, &channels, p->var),
           d_weight = tensor_make("d_weight", DTYPE_F32, 1, &channels, p->d_weight),
           d_bias = tensor_make("d_bias", DTYPE_F32, 1, &channels, p->d_bias);
    float new_statistics[2][CHANNELS];
    op_call call = {.op = &sync_batch_norm_op,
                    .params = &params,
                    .in = {&x, &weight, &bias, &old_mean, &old_var},
                    .out = {&y, &new_mean, &new_var, &saved},
                    .d_in = {&d_x, &d_weight, &d_bias},
                    .d_out = {&d_y},
                    .comm = c};
    assert_int_equal(op_infer(&call), STATUS_OK);
    y.data = p->y + at;
    new_mean.data = new_statistics[0];
    new_var.data = new_statistics[1];
    saved.data = p->saved;
    run_pass(&call, cuda_kernels_find("sync_batch_norm")[0], backward);
}

static void run_both(part parts[2], comm *c, bool backward) {
    for (int give = 0; give < 2; give++) {
        for (int rank = 0; rank < 2; rank++) {
            ranks.give = give;
            ranks.rank = rank;
            run_part(&parts[rank], c, backward);
        }
    }
}

static void check_near(const float *actual, const float *expected, int64_t first, int64_t end) {
    for (int64_t i = first; i < end; i++)
        if (!(tensor_compare_share(actual[i], expected[i], 1e-5, 1e-5) <= 1))
            fail_msg("[%lld] is %.9g, not %.9g", (long long)i, (double)actual[i], (double)expected[i]);
}

static void normalises_over_two_ranks(void **state) {
    (void)state;
    static part all = {.end = ROWS}, parts[2];
    philox_key key = {.seed = 7, .purpose = PHILOX_TEST};
    for (int i = 0; i < VALUES; i++) {
        all.x[i] = 3 + philox_normal(&key, (uint64_t)i);
        all.d_y[i] = philox_normal(&key, (uint64_t)(VALUES + i));
    }
    for (int c = 0; c < CHANNELS; c++) all.weight[c] = all.var[c] = 1 + 0.1f * (float)c;
    for (int rank = 0; rank < 2; rank++) {
        parts[rank] = all;
        parts[rank].first = rank ? 2 : 0;
        parts[rank].end = rank ? ROWS : 2;
    }
    const comm_ops ops = {.name = "two ranks in turns", .sum_f64 = sum_two};
    comm c = {.ops = &ops};
    run_part(&all, NULL, false);
    run_part(&all, NULL, true);
    run_both(parts, &c, false);
    run_both(parts, &c, true);
    for (int rank = 0; rank < 2; rank++) {
        int64_t first = parts[rank].first * PIXELS * CHANNELS, end = parts[rank].end * PIXELS * CHANNELS;
        check_near(parts[rank].y, all.y, first, end);
        check_near(parts[rank].d_x, all.d_x, first, end);
        check_near(parts[rank].saved, all.saved, 0, 3 * CHANNELS);
    }
    for (int k = 0; k < CHANNELS; k++) { /* parameters' gradients are each rank's own */
        parts[0].d_weight[k] += parts[1].d_weight[k];
        parts[0].d_bias[k] += parts[1].d_bias[k];
    }
    check_near(parts[0].d_weight, all.d_weight, 0, CHANNELS);
    check_near(parts[0].d_bias, all.d_bias, 0, CHANNELS);
}

/* Per channel: sums of 12 tiles. */
static void sums_many_tiles(void **state) {
    (void)state;
    enum { MANY = 12000, WIDE = 32 };
    static const sync_batch_norm_params params = {.eps = 1e-5, .momentum = 0.1};
    static float x[MANY * WIDE], d_y[MANY * WIDE], ones[WIDE], sums[2][2][WIDE];
    static struct {
        float y[MANY * WIDE], d_x[MANY * WIDE], mean[WIDE], var[WIDE], saved[3 * WIDE];
    } result[2];
    const op_kernel *kernels[] = {&sync_batch_norm_tiled, cuda_kernels_find("sync_batch_norm")[0]};
    const int64_t shape[4] = {1, MANY, 1, WIDE}, channels = WIDE;
    philox_key key = {.seed = 8, .purpose = PHILOX_TEST};
    philox_normals(x, &key, 0, MANY * WIDE);
    philox_normals(d_y, &key, MANY * WIDE, MANY * WIDE);
    for (int c = 0; c < WIDE; c++) ones[c] = 1;
    for (int k = 0; k < 2; k++) {
        tensor map = tensor_make("x", DTYPE_F32, 4, shape, x), y = {0}, mean = {0}, var = {0}, saved = {0},
               vector = tensor_make("vector", DTYPE_F32, 1, &channels, ones),
               d_out = tensor_make("d_y", DTYPE_F32, 4, shape, d_y),
               d_map = tensor_make("d_x", DTYPE_F32, 4, shape, result[k].d_x),
               d_weight = tensor_make("d_weight", DTYPE_F32, 1, &channels, sums[k][0]),
               d_bias = tensor_make("d_bias", DTYPE_F32, 1, &channels, sums[k][1]);
        op_call call = {.op = &sync_batch_norm_op,
                        .params = &params,
                        .in = {&map, &vector, &vector, &vector, &vector},
                        .out = {&y, &mean, &var, &saved},
                        .d_in = {&d_map, &d_weight, &d_bias},
                        .d_out = {&d_out}};
        assert_int_equal(op_infer(&call), STATUS_OK);
        y.data = result[k].y;
        mean.data = result[k].mean;
        var.data = result[k].var;
        saved.data = result[k].saved;
        run_pass(&call, kernels[k], false);
        run_pass(&call, kernels[k], true);
    }
    check_near(result[1].y, result[0].y, 0, MANY * WIDE);
    check_near(result[1].d_x, result[0].d_x, 0, MANY * WIDE);
    check_near(result[1].mean, result[0].mean, 0, WIDE);
    check_near(result[1].var, result[0].var, 0, WIDE);
    check_near(sums[1][0], sums[0][0], 0, WIDE);
    check_near(sums[1][1], sums[0][1], 0, WIDE);
}

/* ---- conv2d with few live pixels ------------------------------------------------------------------------ */

enum {
    SPARSE_IMAGES = 2,
    SPARSE_SIDE = 13,
    SPARSE_PIXELS = SPARSE_IMAGES * SPARSE_SIDE * SPARSE_SIDE,
    SPARSE_IN = 8,
    SPARSE_OUT = 12,
    SPARSE_LIVE = 5
};

typedef struct sparse_gradients {
    float d_x[SPARSE_PIXELS * SPARSE_IN], d_weight[SPARSE_OUT * 9 * SPARSE_IN], d_bias[SPARSE_OUT];
} sparse_gradients;

/* Of a 3x3 convolution without ReLU, whose d_y is 0 but at n pixels, added to what is there. */
static void sum_sparse(sparse_gradients *to, const op_kernel *kernel, const int *pixels, int n,
                       int promised) {
    static float x[SPARSE_PIXELS * SPARSE_IN], w[SPARSE_OUT * 9 * SPARSE_IN], b[SPARSE_OUT],
        d_y[SPARSE_PIXELS * SPARSE_OUT];
    const conv2d_params params = {.stride = 1, .pad = 1, .dilation = 1, .live_pixels = promised};
    const int64_t in[4] = {SPARSE_IMAGES, SPARSE_SIDE, SPARSE_SIDE, SPARSE_IN},
                  out[4] = {SPARSE_IMAGES, SPARSE_SIDE, SPARSE_SIDE, SPARSE_OUT},
                  filters[4] = {SPARSE_OUT, 3, 3, SPARSE_IN}, biases = SPARSE_OUT;
    philox_key key = {.seed = 12, .purpose = PHILOX_TEST};
    philox_normals(x, &key, 0, SPARSE_PIXELS * SPARSE_IN);
    philox_normals(w, &key, 1 << 20, SPARSE_OUT * 9 * SPARSE_IN);
    memset(d_y, 0, sizeof d_y);
    for (int i = 0; i < n; i++)
        philox_normals(d_y + pixels[i] * SPARSE_OUT, &key, (uint64_t)(2 + i) << 20, SPARSE_OUT);
    tensor map = tensor_make("x", DTYPE_F32, 4, in, x),
           weight = tensor_make("weight", DTYPE_F32, 4, filters, w),
           bias = tensor_make("bias", DTYPE_F32, 1, &biases, b), y = {0},
           d_out = tensor_make("d_y", DTYPE_F32, 4, out, d_y),
           d_map = tensor_make("d_x", DTYPE_F32, 4, in, to->d_x),
           d_weight = tensor_make("d_weight", DTYPE_F32, 4, filters, to->d_weight),
           d_bias = tensor_make("d_bias", DTYPE_F32, 1, &biases, to->d_bias);
    op_call call = {.op = &conv2d_op,
                    .params = &params,
                    .in = {&map, &weight, &bias},
                    .out = {&y},
                    .d_in = {&d_map, &d_weight, &d_bias},
                    .d_out = {&d_out},
                    .accumulate = {true, true, true}};
    assert_int_equal(op_infer(&call), STATUS_OK);
    run_pass(&call, kernel, true);
}

/* Corners, neighbours, and both images, in more than one block of pixels. */
static const int sparse_pixels[SPARSE_LIVE] = {0, 14, 15, 168, SPARSE_PIXELS - 1};

static void leaves_out_dead_pixels(void **state) {
    (void)state;
    static sparse_gradients expected, got;
    for (int i = 0; i < SPARSE_PIXELS * SPARSE_IN; i++) expected.d_x[i] = got.d_x[i] = (float)(i % 7);
    sum_sparse(&expected, &conv2d_reference_f32, sparse_pixels, SPARSE_LIVE, SPARSE_LIVE);
    sum_sparse(&got, cuda_kernels_find("conv2d")[0], sparse_pixels, SPARSE_LIVE, SPARSE_LIVE);
    check_near(got.d_x, expected.d_x, 0, SPARSE_PIXELS * SPARSE_IN);
    check_near(got.d_weight, expected.d_weight, 0, SPARSE_OUT * 9 * SPARSE_IN);
    check_near(got.d_bias, expected.d_bias, 0, SPARSE_OUT);
}

static void more_live_pixels_give_nan(void **state) {
    (void)state;
    static sparse_gradients got;
    sum_sparse(&got, cuda_kernels_find("conv2d")[0], sparse_pixels, SPARSE_LIVE, SPARSE_LIVE - 1);
    for (int i = 0; i < SPARSE_OUT * 9 * SPARSE_IN; i++) assert_true(isnan(got.d_weight[i]));
    for (int i = 0; i < SPARSE_OUT; i++) assert_true(isnan(got.d_bias[i]));
    for (int i = 0; i < SPARSE_IN; i++) assert_true(isnan(got.d_x[(SPARSE_PIXELS - 1) * SPARSE_IN + i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_to_the_last_bit),     cmocka_unit_test(pools_nan),
        cmocka_unit_test(normalises_over_two_ranks), cmocka_unit_test(sums_many_tiles),
        cmocka_unit_test(leaves_out_dead_pixels),    cmocka_unit_test(more_live_pixels_give_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
