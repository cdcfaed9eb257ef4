/* A tape on a device that has CUDA kernels: the device table of the CPU, except that it names the kernels of the .cu files, and
 * that its compute stream is not NULL. Losses, outputs and gradients equal those of the CPU's kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "autograd/tape.h"
#include "autograd/tape_internal.h"
#include "autograd/tensor_compare.h"
#include "base/philox.h"
#include "cuda/cuda_kernels.h"
#include "device/device_backend.h"
#include "frozen_batch_norm/frozen_batch_norm.h"
#include "sigmoid/sigmoid.h"
#include "softmax_cross_entropy/softmax_cross_entropy.h"

enum { N = 6, H = 3, W = 4, C = 8, COUNT = N * H * W * C };

static device_ops cuda_table;

static const op_kernel *first_kernel(const char *op_name, int index) {
    const op_kernel *const *kernels = cuda_kernels_find(op_name);
    return kernels && index == 0 ? kernels[0] : NULL;
}

static device *open_device(bool cuda) {
    device *d;
    assert_int_equal(device_open(&d, "cpu"), STATUS_OK);
    if (!cuda) return d;
    static int stream;
    cuda_table = *d->ops;
    cuda_table.find_kernel = first_kernel;
    d->ops = &cuda_table;
    d->kind = DEVICE_CUDA;
    d->streams[DEVICE_STREAM_COMPUTE] = (device_stream *)&stream;
    return d;
}

typedef struct result {
    float y[COUNT], d_x[COUNT];
} result;

/* y = sigmoid(relu(norm(x))), its gradient given; only `rows` images are valid. */
static void run_norm_and_sigmoid(result *r, bool cuda, int32_t rows) {
    static const char *const names[] = {"x", "weight", "bias", "mean", "var"};
    static float data[5][COUNT];
    philox_key key = {.seed = 5, .purpose = PHILOX_TEST};
    for (int v = 0; v < 5; v++)
        for (int i = 0; i < COUNT; i++)
            data[v][i] = v == 4 ? 1.0f + philox_uniform(&key, (uint64_t)i)
                                : philox_normal(&key, (uint64_t)(v * COUNT + i));
    memset(r, 0, sizeof *r);
    device *d = open_device(cuda);
    tape *t = tape_new(d, NULL);
    tensor *in[5];
    in[0] = tape_variable(t, names[0], DTYPE_F32, (int64_t[]){N, H, W, C}, 4, data[0], r->d_x, 0);
    tensor *count = tape_constant(t, "rows", DTYPE_I32, 1, (int64_t[]){1}, &rows);
    in[0]->rows = count;
    for (int v = 1; v < 5; v++) in[v] = tape_constant(t, names[v], DTYPE_F32, 1, (int64_t[]){C}, data[v]);
    tensor *y = sigmoid(t, frozen_batch_norm(t, in, &(frozen_batch_norm_params){.eps = 1e-5, .relu = true}));
    tape_bind(t, y, r->y);
    tape_keep(t, y);
    tape_value *value = t->values[y->id];
    value->grad = value->value;
    value->grad.data = data[0]; /* any numbers */
    value->external_grad = value->grad_written = true;
    for (int i = 0; i < t->n_nodes; i++)
        assert_true((t->nodes[i]->call.stream != NULL) == cuda &&
                    (strncmp(t->nodes[i]->kernel->name, "cuda", 4) == 0) == cuda);
    size_t bytes = tape_plan(t);
    void *memory = aligned_alloc(OP_SCRATCH_ALIGNMENT, bytes);
    assert_non_null(memory);
    tape_attach(t, memory, bytes);
    tape_forward(t);
    tape_backward(t, NULL, NULL);
    tape_free(t);
    free(memory);
    device_close(d);
}

static void test_equals_cpu(void **state) {
    (void)state;
    static result cpu, cuda;
    for (int32_t rows = 0; rows <= N; rows += 3) {
        run_norm_and_sigmoid(&cpu, false, rows);
        run_norm_and_sigmoid(&cuda, true, rows);
        for (int i = 0; i < COUNT; i++) {
            assert_true(tensor_compare_share(cuda.y[i], cpu.y[i], 1e-6, 1e-6) <= 1);
            assert_true(tensor_compare_share(cuda.d_x[i], cpu.d_x[i], 1e-6, 1e-6) <= 1);
        }
    }
}

static void test_find(void **state) {
    (void)state;
    device *cpu = open_device(false);
    assert_null(device_find_kernel(cpu, "sigmoid"));
    device_close(cpu);
    device *cuda = open_device(true);
    assert_string_equal(device_find_kernel(cuda, "softmax_cross_entropy")->name, "cuda_warp_rows");
    assert_null(device_find_kernel(cuda, "no_such_op"));
    device_close(cuda);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equals_cpu), cmocka_unit_test(test_find)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
