/* Every op's kernels on the GPU, by all cases of the op, against the double reference on the host (autograd/grad_check.h): F32, BF16
 * and F16, three runs that must agree bit for bit.
 *
 *   test_gpu_ops [--tf32] [--slack X] [op...]   --tf32: products of F32 may be rounded to TF32; --slack: tolerances times X
 *
 * The last line of an op says how much of its tolerance was used. Exits with 77 where there is no GPU. */
#include "autograd/grad_check.h"
#include "autograd/op_trial.h"
#include "base/thread_pool.h"
#include "device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static device *gpu;

static void run_again(int round) {
    (void)round;
}

static int check_op(const op_def *op, double slack) {
    const op_kernel *kernels[] = {device_find_kernel(gpu, op->name), NULL};
    grad_check_options options = {.vary = run_again, .slack = slack};
    if (!kernels[0]) {
        printf("%s: no kernel on %s\n", op->name, device_get_name(gpu));
        return 1;
    }
    printf("%s: kernel %s\n", op->name, kernels[0]->name);
    int failures = grad_check_kernels(op, kernels, &options, stdout);
    fflush(stdout);
    return failures;
}

int main(int argc, char **argv) {
    double slack = 1;
    int first = 1, failures = 0;
    for (; first < argc && strncmp(argv[first], "--", 2) == 0; first++) {
        if (strcmp(argv[first], "--slack") == 0 && first + 1 < argc) {
            slack = strtod(argv[++first], NULL);
        } else if (strcmp(argv[first], "--tf32") == 0) {
            op_trial_allow_tf32(true);
        } else {
            printf("usage: test_gpu_ops [--tf32] [--slack X] [op...]\n");
            return 64;
        }
    }
    if (device_open(&gpu, "cuda") != STATUS_OK) {
        printf("skipped: %s\n", error_cause());
        return 77;
    }
    op_trial_use_device(gpu);
    for (int i = first; i < argc; i++) {
        const op_def *op = op_find(argv[i]);
        if (!op) printf("%s: no op is called that\n", argv[i]);
        failures += op ? check_op(op, slack) : 1;
    }
    for (int i = 0; i < op_count() && argc == first; i++) failures += check_op(op_at(i), slack);
    printf("%d failures on %s\n", failures, device_get_name(gpu));
    thread_pool_stop();
    device_close(gpu);
    return failures > 0;
}
