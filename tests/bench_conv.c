/* Times conv2d on the shapes of Mask R-CNN R50-FPN at 800x1333: GFLOP/s forward, and of both gradients
 * together. bench_conv [threads [text in the name]] */
#include "base/thread_pool.h"
#include "kernels/conv_run.h"

#include <stdio.h>
#include <time.h>

typedef struct shape {
    const char *name;
    conv_run_size size;
    bool frozen; /* forward only */
    double live; /* share of the output pixels that have a gradient; 0: all */
} shape;

#define CONV(h, w, c, k, r, stride, pad, relu, bias, residual)                                               \
    { 1, h, w, c, k, r, r, {stride, pad, 1, relu}, bias, residual }

static const shape shapes[] = {
    {"stem 7x7/2", CONV(800, 1344, 3, 64, 7, 2, 3, true, true, false), true, 0},
    {"res2 1x1 64-64", CONV(200, 336, 64, 64, 1, 1, 0, true, true, false), true, 0},
    {"res2 3x3 64-64", CONV(200, 336, 64, 64, 3, 1, 1, true, true, false), true, 0},
    {"res2 1x1 64-256", CONV(200, 336, 64, 256, 1, 1, 0, true, true, true), true, 0},
    {"res2 1x1 256-64", CONV(200, 336, 256, 64, 1, 1, 0, true, true, false), true, 0},
    {"res3 1x1/2 256-128", CONV(200, 336, 256, 128, 1, 2, 0, true, true, false), false, 0},
    {"res3 3x3 128", CONV(100, 168, 128, 128, 3, 1, 1, true, true, false), false, 0},
    {"res3 1x1 128-512", CONV(100, 168, 128, 512, 1, 1, 0, true, true, true), false, 0},
    {"res3 1x1 512-128", CONV(100, 168, 512, 128, 1, 1, 0, true, true, false), false, 0},
    {"res4 1x1/2 512-1024", CONV(100, 168, 512, 1024, 1, 2, 0, false, true, false), false, 0},
    {"res4 3x3 256", CONV(50, 84, 256, 256, 3, 1, 1, true, true, false), false, 0},
    {"res4 1x1 256-1024", CONV(50, 84, 256, 1024, 1, 1, 0, true, true, true), false, 0},
    {"res4 1x1 1024-256", CONV(50, 84, 1024, 256, 1, 1, 0, true, true, false), false, 0},
    {"res5 3x3/2 512", CONV(50, 84, 512, 512, 3, 2, 1, true, true, false), false, 0},
    {"res5 3x3 512", CONV(25, 42, 512, 512, 3, 1, 1, true, true, false), false, 0},
    {"res5 1x1 512-2048", CONV(25, 42, 512, 2048, 1, 1, 0, true, true, true), false, 0},
    {"res5 1x1 2048-512", CONV(25, 42, 2048, 512, 1, 1, 0, true, true, false), false, 0},
    {"FPN lateral P2", CONV(200, 336, 256, 256, 1, 1, 0, false, true, false), false, 0},
    {"FPN 3x3 P2", CONV(200, 336, 256, 256, 3, 1, 1, false, true, false), false, 0},
    {"FPN 3x3 P3", CONV(100, 168, 256, 256, 3, 1, 1, false, true, false), false, 0},
    {"FPN 3x3 P4", CONV(50, 84, 256, 256, 3, 1, 1, false, true, false), false, 0},
    {"FPN 3x3 P5", CONV(25, 42, 256, 256, 3, 1, 1, false, true, false), false, 0},
    {"RPN 3x3 P2", CONV(200, 336, 256, 256, 3, 1, 1, true, true, false), false, 0.002},
    {"RPN 3x3 P6", CONV(13, 21, 256, 256, 3, 1, 1, true, true, false), false, 0.1},
    {"RPN 1x1 3 P2", CONV(200, 336, 256, 3, 1, 1, 0, false, true, false), false, 0.002},
    {"RPN 1x1 12 P2", CONV(200, 336, 256, 12, 1, 1, 0, false, true, false), false, 0.002},
    {"mask 3x3", {128, 14, 14, 256, 256, 3, 3, {1, 1, 1, true, false}, true, false}, false, 0},
    {"mask 2x2/2 (deconv)", {128, 28, 28, 256, 256, 2, 2, {2, 0, 1, true, false}, true, false}, false, 0},
    {"mask 1x1 81", {128, 28, 28, 256, 81, 1, 1, {1, 0, 1, false, false}, true, false}, false, 0},
    {"fc6", {512, 1, 1, 12544, 1024, 1, 1, {1, 0, 1, true, false}, true, false}, false, 0},
    {"fc7", {512, 1, 1, 1024, 1024, 1, 1, {1, 0, 1, true, false}, true, false}, false, 0},
    {"small P2 3x3", CONV(64, 108, 256, 256, 3, 1, 1, false, true, false), false, 0},
    {"small P5 3x3", CONV(8, 14, 256, 256, 3, 1, 1, false, true, false), false, 0},
};

static double seconds(void) {
    struct timespec t;
    clock_gettime(thread_pool_size() == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best of some runs within about a third of a second. */
static double time_of(conv_run *run, bool backward, const float *d_y) {
    size_t bytes = conv2d_op.cpu->scratch_bytes(&run->call, backward);
    run->call.scratch = aligned_alloc(64, (bytes + 64) / 64 * 64);
    double best = 1e9, spent = 0;
    for (int i = 0; i < 50 && (i < 3 || spent < 0.3); i++) {
        if (backward) memcpy(run->d_y.data, d_y, tensor_bytes(&run->d_y));
        double start = seconds();
        (backward ? conv2d_op.cpu->backward : conv2d_op.cpu->forward)(&run->call);
        double took = seconds() - start;
        spent += took;
        if (took < best) best = took;
    }
    free(run->call.scratch);
    return best;
}

static void make_sparse(conv_run *run, double live) {
    int64_t k = run->y.shape[3], pixels = tensor_count(&run->y) / k, every = (int64_t)(1 / live);
    for (int64_t i = 0; i < pixels; i++)
        if (i % every) memset(tensor_f32(&run->d_y) + i * k, 0, (size_t)k * sizeof(float));
}

static void bench(const shape *s) {
    conv_run run;
    conv_run_init(&run, &s->size);
    double flop = 2.0 * (double)tensor_count(&run.y) * (double)tensor_row_size(&run.in[CONV2D_WEIGHT]);
    size_t scratch = conv2d_op.cpu->scratch_bytes(&run.call, false);
    double forward = time_of(&run, false, NULL);
    printf("%-22s %7.2f GFLOP  forward %8.2f ms %6.1f GFLOP/s", s->name, flop * 1e-9, forward * 1e3,
           flop * 1e-9 / forward);
    if (!s->frozen) {
        if (s->live > 0) make_sparse(&run, s->live);
        float *d_y = malloc(tensor_bytes(&run.d_y));
        CHECK(d_y, "out of memory");
        memcpy(d_y, run.d_y.data, tensor_bytes(&run.d_y));
        tensor *d_x = run.call.d_in[CONV2D_X];
        run.call.d_in[CONV2D_X] = NULL;
        double weight = time_of(&run, true, d_y);
        scratch = conv2d_op.cpu->scratch_bytes(&run.call, true);
        run.call.d_in[CONV2D_X] = d_x;
        run.call.d_in[CONV2D_WEIGHT] = NULL;
        double data = time_of(&run, true, d_y);
        printf("  d_weight %8.2f ms %6.1f  d_x %8.2f ms %6.1f", weight * 1e3, flop * 1e-9 / weight,
               data * 1e3, flop * 1e-9 / data);
        free(d_y);
    }
    printf("  scratch %.1f MB\n", (double)scratch * 1e-6);
    fflush(stdout);
    conv_run_release(&run);
}

int main(int argc, char **argv) {
    thread_pool_start(argc > 1 ? atoi(argv[1]) : 1);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (argc <= 2 || strstr(shapes[i].name, argv[2])) bench(&shapes[i]);
    thread_pool_stop();
    return 0;
}
