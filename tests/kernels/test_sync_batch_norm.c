/* ranks: 1 2 4 */
/* Ranks that hold different numbers of pixels, one of them none, must do what one rank with all pixels does. */
#include "autograd/tensor_compare.h"
#include "base/philox.h"
#include "base/thread_pool.h"
#include "comm/comm.h"
#include "sync_batch_norm/sync_batch_norm.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { PIXELS = 3001, CHANNELS = 37 };

static comm *world;

/* First pixel of a rank: with 4 ranks 0, 500, 1501, 3001, so the last one holds none. */
static int64_t first_pixel(int rank, int size) {
    if (size == 1) return rank ? PIXELS : 0;
    if (size == 2) return (const int64_t[]){0, 700, PIXELS}[rank];
    return (const int64_t[]){0, 500, 1501, PIXELS, PIXELS}[rank];
}

/* One call on pixels [first, end), with the memory of all its tensors. */
typedef struct run {
    int64_t first, pixels;
    float weight[CHANNELS], bias[CHANNELS], mean[CHANNELS], var[CHANNELS], saved[3 * CHANNELS];
    float d_weight[CHANNELS], d_bias[CHANNELS];
    float *x, *y, *d_y, *d_x;
} run;

static float random_number(uint64_t what, int64_t index) {
    philox_key key = {.seed = 11, .purpose = PHILOX_TEST, .item = what};
    return philox_normal(&key, (uint64_t)index);
}

static run *run_new(int64_t first, int64_t end, float offset) {
    run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->first = first;
    r->pixels = end - first;
    size_t count = (size_t)(r->pixels * CHANNELS);
    float **maps[] = {&r->x, &r->y, &r->d_y, &r->d_x};
    for (size_t i = 0; i < 4; i++) {
        *maps[i] = calloc(count + 1, sizeof(float));
        assert_non_null(*maps[i]);
    }
    for (size_t i = 0; i < count; i++) {
        r->x[i] = offset + random_number(0, first * CHANNELS + (int64_t)i);
        r->d_y[i] = random_number(1, first * CHANNELS + (int64_t)i);
    }
    for (int c = 0; c < CHANNELS; c++) {
        r->weight[c] = 1 + 0.3f * random_number(2, c);
        r->bias[c] = random_number(3, c);
        r->mean[c] = random_number(4, c);
        r->var[c] = 1 + fabsf(random_number(5, c));
    }
    return r;
}

static void run_free(run *r) {
    free(r->x);
    free(r->y);
    free(r->d_y);
    free(r->d_x);
    free(r);
}

static void with_scratch(op_call *call, const op_kernel *kernel, bool backward) {
    size_t bytes = kernel->scratch_bytes(call, backward);
    call->scratch = aligned_alloc(64, (bytes + 64) / 64 * 64);
    assert_non_null(call->scratch);
    if (backward)
        kernel->backward(call);
    else
        kernel->forward(call);
    free(call->scratch);
}

/* Forward, with the new running statistics in the place of the old ones, and backward. */
static void run_kernel(run *r, const op_kernel *kernel, comm *c, const sync_batch_norm_params *params) {
    const int64_t shape[4] = {1, r->pixels, 1, CHANNELS}, channels = CHANNELS, statistics[2] = {3, CHANNELS};
    tensor x = tensor_make("x", DTYPE_F32, 4, shape, r->x),
           d_x = tensor_make("d_x", DTYPE_F32, 4, shape, r->d_x);
    tensor y = tensor_make("y", DTYPE_F32, 4, shape, r->y),
           d_y = tensor_make("d_y", DTYPE_F32, 4, shape, r->d_y);
    tensor weight = tensor_make("weight", DTYPE_F32, 1, &channels, r->weight);
    tensor bias = tensor_make("bias", DTYPE_F32, 1, &channels, r->bias);
    tensor mean = tensor_make("mean", DTYPE_F32, 1, &channels, r->mean), new_mean = mean;
    tensor var = tensor_make("var", DTYPE_F32, 1, &channels, r->var), new_var = var;
    tensor saved = tensor_make("saved", DTYPE_F32, 2, statistics, r->saved);
    tensor d_weight = tensor_make("d_weight", DTYPE_F32, 1, &channels, r->d_weight);
    tensor d_bias = tensor_make("d_bias", DTYPE_F32, 1, &channels, r->d_bias);
    op_call call = {.op = &sync_batch_norm_op,
                    .params = params,
                    .in = {&x, &weight, &bias, &mean, &var},
                    .out = {&y, &new_mean, &new_var, &saved},
                    .d_in = {&d_x, &d_weight, &d_bias},
                    .d_out = {&d_y},
                    .comm = c};
    assert_int_equal(op_infer(&call), STATUS_OK);
    with_scratch(&call, kernel, false);
    with_scratch(&call, kernel, true);
}

static void check_near(const char *what, const float *actual, const float *expected, int64_t count,
                       double tolerance) {
    for (int64_t i = 0; i < count; i++)
        if (!(tensor_compare_share(actual[i], expected[i], tolerance, tolerance) <= 1))
            fail_msg("rank %d of %d, %s[%lld]: %.9g instead of %.9g", comm_rank(world), comm_size(world),
                     what, (long long)i, (double)actual[i], (double)expected[i]);
}

static void compare_with_one_rank(const op_kernel *kernel, float offset, bool relu) {
    sync_batch_norm_params params = {.eps = 1e-5, .momentum = 0.1, .relu = relu};
    int rank = comm_rank(world), size = comm_size(world);
    run *all = run_new(0, PIXELS, offset);
    run *part = run_new(first_pixel(rank, size), first_pixel(rank + 1, size), offset);
    run_kernel(all, &sync_batch_norm_reference_f32, NULL, &params);
    run_kernel(part, kernel, world, &params);
    int64_t at = part->first * CHANNELS, count = part->pixels * CHANNELS;
    check_near("y", part->y, all->y + at, count, 1e-5);
    check_near("new_running_mean", part->mean, all->mean, CHANNELS, 1e-6);
    check_near("new_running_var", part->var, all->var, CHANNELS, 1e-6);
    check_near("d_x", part->d_x, all->d_x + at, count, 1e-5);
    comm_allreduce_sum_f32(world, part->d_weight, CHANNELS);
    comm_allreduce_sum_f32(world, part->d_bias, CHANNELS);
    check_near("d_weight", part->d_weight, all->d_weight, CHANNELS, 5e-5);
    check_near("d_bias", part->d_bias, all->d_bias, CHANNELS, 5e-5);
    run_free(all);
    run_free(part);
}

static void ranks_equal_one_rank(void **state) {
    (void)state;
    const op_kernel *kernels[] = {&sync_batch_norm_reference_f32, &sync_batch_norm_tiled};
    for (size_t k = 0; k < 2; k++) {
        compare_with_one_rank(kernels[k], 0.5f, false);
        compare_with_one_rank(kernels[k], 0.5f, true);
        compare_with_one_rank(kernels[k], 100.0f, false);
    }
}

/* Running statistics are checkpointed by one rank: all must hold the same bits. */
static void statistics_have_equal_bits_on_all_ranks(void **state) {
    (void)state;
    sync_batch_norm_params params = {.eps = 1e-5, .momentum = 0.1};
    int rank = comm_rank(world), size = comm_size(world);
    run *part = run_new(first_pixel(rank, size), first_pixel(rank + 1, size), 3);
    run_kernel(part, &sync_batch_norm_tiled, world, &params);
    float mean[CHANNELS], var[CHANNELS];
    memcpy(mean, part->mean, sizeof mean);
    memcpy(var, part->var, sizeof var);
    comm_broadcast(world, mean, sizeof mean, 0);
    comm_broadcast(world, var, sizeof var, 0);
    assert_memory_equal(mean, part->mean, sizeof mean);
    assert_memory_equal(var, part->var, sizeof var);
    run_free(part);
}

static void local_statistics_ignore_the_other_ranks(void **state) {
    (void)state;
    sync_batch_norm_params params = {.eps = 1e-5, .momentum = 0.1, .local = true};
    int rank = comm_rank(world), size = comm_size(world);
    run *alone = run_new(first_pixel(rank, size), first_pixel(rank + 1, size), 1);
    run *beside = run_new(first_pixel(rank, size), first_pixel(rank + 1, size), 1);
    run_kernel(alone, &sync_batch_norm_tiled, NULL, &params);
    run_kernel(beside, &sync_batch_norm_tiled, world, &params);
    size_t bytes = (size_t)(alone->pixels * CHANNELS) * sizeof(float);
    assert_memory_equal(alone->mean, beside->mean, sizeof alone->mean);
    assert_memory_equal(alone->var, beside->var, sizeof alone->var);
    assert_memory_equal(alone->y, beside->y, bytes);
    assert_memory_equal(alone->d_x, beside->d_x, bytes);
    run_free(alone);
    run_free(beside);
}

int main(void) {
    setenv("CMOCKA_TEST_ABORT", "1",
           1); /* a failure on one rank must end the others, not leave them waiting */
    rank_env env;
    device *cpu;
    if (rank_env_read(&env) != STATUS_OK || device_open(&cpu, "cpu") != STATUS_OK) return 1;
    if (comm_open(&world, &env, cpu) != STATUS_OK) {
        rank_env_report_error(&env);
        return 1;
    }
    thread_pool_start(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_equal_one_rank),
        cmocka_unit_test(statistics_have_equal_bits_on_all_ranks),
        cmocka_unit_test(local_statistics_ignore_the_other_ranks),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    comm_close(world);
    device_close(cpu);
    return failed;
}
