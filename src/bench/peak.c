#include "bench/peak.h"

#include "base/clock.h"
#include "base/thread_pool.h"
#include "bench/op_timer.h"
#include "linear/linear.h"

enum {
    CPU_SIDE = 1024, /* for a few threads; twice that for more, so that each has enough to do */
    FEW_THREADS = 8,
    GPU_SIDE = 8192,
    TRIAD_FLOATS = 1 << 25,
    TRIAD_TILE = 1 << 16,
    COPY_BYTES = 1 << 29,
    RUNS = 8
};

/* A product or all triads so slow (a machine of long ago, a build with sanitizers) are not repeated for more accuracy. */
static const double slow_seconds = 0.2;

static status best_product(double *gflops, op_timer *r, const op_kernel *const *kernels, int64_t side) {
    *gflops = 0;
    for (; *kernels; kernels++) {
        double seconds;
        RETURN_IF_ERROR(op_timer_seconds(&seconds, r, *kernels, false));
        double rate = 2e-9 * (double)side * (double)side * (double)side / seconds;
        if (rate > *gflops) *gflops = rate;
    }
    return STATUS_OK;
}

status peak_gemm(double *gflops, device *dev, dtype storage, bool tf32) {
    bool is_cpu = device_get_kind(dev) == DEVICE_CPU;
    const op_kernel *on_gpu[] = {is_cpu ? NULL : device_find_kernel(dev, "linear"), NULL};
    const op_kernel *const on_cpu[] = {&linear_direct, &linear_blas, NULL};
    int64_t cpu_side = thread_pool_size() > FEW_THREADS ? 2 * CPU_SIDE : CPU_SIDE,
            side = is_cpu ? cpu_side : GPU_SIDE;
    const linear_params params = {.relu = false};
    op_case product = {
        .name = "square",
        .params = &params,
        .in = {
            [LINEAR_X] = OP_IN(NORMAL, 0, 1, side, side), [LINEAR_WEIGHT] = OP_IN(NORMAL, 0, 1, side, side)}};
    op_timer *r;
    RETURN_IF_ERROR(
        op_timer_new(&r, dev, &linear_op, &product,
                     &(op_timer_options){.storage = storage, .tf32 = tf32, .enough = slow_seconds}));
    status s = best_product(gflops, r, is_cpu ? on_cpu : on_gpu, side);
    op_timer_free(r);
    return s;
}

static void triad_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    float *a = (float *)context + tile * TRIAD_TILE;
    const float *b = a + TRIAD_FLOATS, *c = b + TRIAD_FLOATS;
    for (int64_t i = 0; i < TRIAD_TILE; i++) a[i] = b[i] + 1.5f * c[i];
}

static double triad_seconds(float *memory) {
    double start = clock_seconds();
    parallel_for(TRIAD_FLOATS / TRIAD_TILE, triad_tile, memory);
    return clock_seconds() - start;
}

static status best_triad(double *gb_per_s, device *dev) {
    size_t bytes = 3 * sizeof(float) * (size_t)TRIAD_FLOATS;
    void *memory;
    RETURN_IF_ERROR(device_alloc(dev, &memory, bytes, "the triad"));
    device_fill(dev, NULL, memory, 0, bytes);
    double spent = 0;
    for (int i = 0; i < RUNS && (i < 2 || spent < slow_seconds); i++) {
        double seconds = triad_seconds(memory), rate = 1e-9 * (double)bytes / seconds;
        spent += seconds;
        if (rate > *gb_per_s) *gb_per_s = rate;
    }
    device_free(dev, memory, bytes);
    return STATUS_OK;
}

static void time_copies(double *gb_per_s, device *dev, char *memory, device_event *const events[2]) {
    for (int i = 0; i < RUNS; i++) {
        device_event_record(dev, events[0], NULL);
        device_copy(dev, NULL, memory, memory + COPY_BYTES, COPY_BYTES);
        device_event_record(dev, events[1], NULL);
        device_event_synchronize(dev, events[1]);
        double rate = 2e-6 * COPY_BYTES / device_event_milliseconds(dev, events[0], events[1]);
        if (rate > *gb_per_s) *gb_per_s = rate;
    }
}

static status best_copy(double *gb_per_s, device *dev) {
    void *memory;
    device_event *events[2] = {NULL, NULL};
    RETURN_IF_ERROR(device_alloc(dev, &memory, 2 * (size_t)COPY_BYTES, "a copy"));
    status s = device_event_new_timed(dev, &events[0]);
    if (s == STATUS_OK) s = device_event_new_timed(dev, &events[1]);
    if (s == STATUS_OK) time_copies(gb_per_s, dev, memory, events);
    for (int i = 0; i < 2; i++)
        if (events[i]) device_event_free(dev, events[i]);
    device_free(dev, memory, 2 * (size_t)COPY_BYTES);
    return s;
}

status peak_memory(double *gb_per_s, device *dev) {
    *gb_per_s = 0;
    return device_get_kind(dev) == DEVICE_CPU ? best_triad(gb_per_s, dev) : best_copy(gb_per_s, dev);
}
