/* Runs the CUDA kernels of the ops named by the arguments, or of all that have some, on the CPU: every case against the double
 * reference (autograd/grad_check.h), with the threads and blocks in three orders, or, after `--one-order`,
 * in one (ThreadSanitizer sees races in any). `--missing` lists the ops that have no CUDA
 * kernel (exit 77 if there are any). CTest has one test cuda_on_cpu_<op> for each op that has a .cu file. */
#include "autograd/grad_check.h"
#include "base/thread_pool.h"
#include "cuda/cuda_kernels.h"

#include <string.h>

void cuda_on_cpu_set_order(int order); /* cuda_on_cpu.h is C++ */

static int print_missing(void) {
    int missing = 0;
    for (int i = 0; i < op_count(); i++) missing += !cuda_kernels_find(op_at(i)->name);
    printf("%d of %d ops have CUDA kernels\n", op_count() - missing, op_count());
    for (int i = 0; i < op_count(); i++)
        if (!cuda_kernels_find(op_at(i)->name)) printf("no CUDA kernel: %s\n", op_at(i)->name);
    return missing ? 77 : 0;
}

static grad_check_options options = {.vary = cuda_on_cpu_set_order};

static int run_op(const char *name, bool must_have) {
    const op_def *op = op_find(name);
    const op_kernel *const *kernels = cuda_kernels_find(name);
    if (op && kernels) return grad_check_kernels(op, kernels, &options, stdout);
    if (must_have) printf("%s: %s\n", name, op ? "the op has no CUDA kernel" : "no op is called that");
    return must_have;
}

int main(int argc, char **argv) {
    op_registry_check();
    if (argc == 2 && strcmp(argv[1], "--missing") == 0) return print_missing();
    if (argc > 1 && strcmp(argv[1], "--one-order") == 0) {
        options.vary = NULL;
        argc--, argv++;
    }
    int failures = 0;
    for (int i = 1; i < argc; i++) failures += run_op(argv[i], true);
    for (int i = 0; i < op_count() && argc == 1; i++) failures += run_op(op_at(i)->name, false);
    thread_pool_stop();
    return failures > 0;
}
