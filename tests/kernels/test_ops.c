/* Runs the checks of autograd/grad_check.h on the ops named by the arguments, or on all of them. CTest has
 * one test op_<name> for each line of kernels/ops.def. */
#include "autograd/grad_check.h"

#include "base/thread_pool.h"

int main(int argc, char **argv) {
    op_registry_check();
    int failures = 0;
    for (int i = 1; i < argc; i++) {
        const op_def *op = op_find(argv[i]);
        if (!op) {
            fprintf(stderr, "no op is called %s\n", argv[i]);
            return 1;
        }
        failures += grad_check_op(op, stdout);
    }
    for (int i = 0; i < op_count() && argc == 1; i++) failures += grad_check_op(op_at(i), stdout);
    thread_pool_stop();
    return failures > 0;
}
