/* The kernels that stand on cuDNN and cublasLt, with stand-ins for both (fake_libraries.h): every case of their ops against the
 * double reference, with fused plans and without, counts of valid rows, timed choices, kept plans, no libraries at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/grad_check.h"
#include "autograd/op_trial.h"
#include "autograd/tensor_compare.h"
#include "conv2d/conv2d.h"
#include "conv2d_transpose/conv2d_transpose.h"
#include "cuda/cuda_kernels.h"
#include "cuda/cuda_library_kernels.h"
#include "cuda/library_math.h"
#include "fake_libraries.h"
#include "linear/linear.h"

static const op_def *const ops[] = {&conv2d_op, &conv2d_transpose_op, &linear_op};
enum { OPS = 3 };

static char folder[] = "/tmp/test_library_kernels_XXXXXX";

static int start(void **state) {
    (void)state;
    cudnn_api_replace(&fake_cudnn);
    lt_api_replace(&fake_lt);
    fake_refuses_fusions = 0;
    fake_gpu_is_there = 1;
    fake_gpu_is_described = 1;
    fake_seen = (fake_counts){0};
    return 0;
}

static int stop(void **state) {
    (void)state;
    cuda_library_close();
    fake_libraries_free();
    assert_int_equal(fake_seen.live, 0);
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s/*", folder); /* no kept plans for the next test */
    return system(line);
}

/* The first `rows` rows of both are alike. In 16 bits sums are rounded more than once on the way. */
static void assert_same_rows(const tensor *actual, const tensor *expected, int64_t rows, dtype storage) {
    double limit = dtype_is_half(actual->type) ? 0x1p-5 : dtype_is_half(storage) ? 0x1p-6 : 2e-5;
    tensor_difference d = tensor_compare(actual, expected, rows, limit, limit);
    if (d.bad > 0)
        fail_msg("%s[%lld]: %g, expected %g", actual->name, (long long)d.index, d.actual, d.expected);
}

/* Valid rows and the gradients of parameters are those of the ops' own kernels, whatever lies behind the count. */
static void compare_kernels(const op_def *op, const op_case *test_case, dtype storage) {
    op_trial *ours, *own;
    const op_kernel *library = cuda_library_kernel(op->name), *plain = cuda_kernels_find(op->name)[0];
    /* a y beside zero may be rounded to the other side of the ReLU; gradients are compared with the same y */
    op_kernel backward = *library;
    backward.forward = plain->forward;
    assert_int_equal(op_trial_new(&ours, op, test_case, storage), STATUS_OK);
    assert_int_equal(op_trial_new(&own, op, test_case, storage), STATUS_OK);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        op_trial_request all = {.wanted = op->differentiable,
                                .arrived = op_trial_gradient_outputs(ours),
                                .accumulate = accumulate};
        op_trial_forward(ours, library);
        op_trial_forward(own, plain);
        assert_same_rows(&ours->out[0], &own->out[0], tensor_valid_rows(&own->out[0]), storage);
        op_trial_backward(ours, &backward, &all);
        op_trial_backward(own, plain, &all);
        for (int i = 0; i < op->n_inputs; i++)
            if (own->call.d_in[i])
                assert_same_rows(ours->call.d_in[i], own->call.d_in[i], tensor_valid_rows(&own->in[i]),
                                 storage);
    }
    op_trial_free(ours);
    op_trial_free(own);
}

/* All cases where every row is valid: rows behind a count are written here, which grad_check takes for damage. F32 against the
 * double reference; 16 bits against the op's own kernel. */
static void check_cases(void) {
    for (int i = 0; i < OPS; i++) {
        op_case cases[64];
        op_def op = *ops[i];
        op.n_cases = 0;
        op.half_inputs = 0;
        for (int c = 0; c < ops[i]->n_cases; c++)
            if (ops[i]->cases[c].valid_rows == 0) cases[op.n_cases++] = ops[i]->cases[c];
        op.cases = cases;
        const op_kernel *kernels[] = {cuda_library_kernel(op.name), NULL};
        assert_non_null(kernels[0]);
        assert_int_equal(grad_check_kernels(&op, kernels, &(grad_check_options){0}, stdout), 0);
        for (int c = 0; c < op.n_cases; c++) {
            compare_kernels(ops[i], &cases[c], DTYPE_BF16);
            compare_kernels(ops[i], &cases[c], DTYPE_F16);
        }
    }
}

static void test_all_cases_of_the_ops(void **state) {
    (void)state;
    check_cases();
    assert_true(fake_seen.convolutions > 100 && fake_seen.products > 100);
}

static void test_all_cases_where_nothing_can_be_fused(void **state) {
    (void)state;
    fake_refuses_fusions = 1;
    check_cases();
    assert_true(fake_seen.convolutions > 100);
}

/* Then the ops' own kernels run. */
static void test_without_libraries(void **state) {
    (void)state;
    fake_gpu_is_there = 0;
    for (int i = 0; i < OPS; i++) compare_kernels(ops[i], &ops[i]->cases[0], DTYPE_F32);
    assert_int_equal(fake_seen.convolutions + fake_seen.products, 0);
}

static void test_rows_behind_a_count_do_not_matter(void **state) {
    (void)state;
    static const dtype types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    int checked = 0;
    for (int i = 0; i < OPS; i++)
        for (int c = 0; c < ops[i]->n_cases; c++)
            for (int t = 0; t < 3 && ops[i]->cases[c].valid_rows != 0; t++, checked++)
                compare_kernels(ops[i], &ops[i]->cases[c], types[t]);
    assert_true(checked >= 18);
}

static const op_case *find_case(const op_def *op, const char *name) {
    for (int c = 0; c < op->n_cases; c++)
        if (strcmp(op->cases[c].name, name) == 0) return &op->cases[c];
    fail_msg("%s has no case %s", op->name, name);
    return NULL;
}

static void forward_and_compare(const op_def *op, const char *name) {
    op_trial *ours, *own;
    assert_int_equal(op_trial_new(&ours, op, find_case(op, name), DTYPE_BF16), STATUS_OK);
    assert_int_equal(op_trial_new(&own, op, find_case(op, name), DTYPE_BF16), STATUS_OK);
    op_trial_forward(ours, cuda_library_kernel(op->name));
    op_trial_forward(own, cuda_kernels_find(op->name)[0]);
    assert_same_rows(&ours->out[0], &own->out[0], own->out[0].shape[0], DTYPE_BF16);
    op_trial_free(ours);
    op_trial_free(own);
}

/* prepare() times plans and algorithms, and the choice outlives the process: then nothing is timed or searched. */
static void test_choices_are_timed_and_kept(void **state) {
    (void)state;
    op_trial *t;
    const op_kernel *library = cuda_library_kernel("conv2d");
    assert_int_equal(op_trial_new(&t, &conv2d_op, find_case(&conv2d_op, "residual_relu"), DTYPE_BF16),
                     STATUS_OK);
    op_trial_forward(t, library);
    assert_int_equal(fake_seen.convolutions, 1);
    library->prepare(&t->call, false);
    assert_true(fake_seen.convolutions > 8); /* several plans, several times each */
    op_trial_free(t);
    forward_and_compare(&conv2d_op, "residual_relu");

    cuda_library_close(); /* the next process */
    long before = fake_seen.convolutions;
    forward_and_compare(&conv2d_op, "residual_relu");
    assert_int_equal(fake_seen.plans_restored, 1);
    assert_int_equal(fake_seen.convolutions, before + 1);
}

static void test_products_are_timed_and_kept(void **state) {
    (void)state;
    op_trial *t;
    assert_int_equal(op_trial_new(&t, &linear_op, find_case(&linear_op, "relu"), DTYPE_BF16), STATUS_OK);
    op_trial_forward(t, cuda_library_kernel("linear"));
    cuda_library_kernel("linear")->prepare(&t->call, false);
    assert_true(fake_seen.products > 8);
    op_trial_free(t);
    cuda_library_close();
    long before = fake_seen.products;
    forward_and_compare(&linear_op, "relu");
    assert_int_equal(fake_seen.products, before + 1);
}

/* A kept plan that the library does not take is searched anew. */
static void test_a_refused_plan_is_searched_again(void **state) {
    (void)state;
    test_choices_are_timed_and_kept(NULL);
    cuda_library_close();
    fake_libraries_free(); /* the stand-in knows the graph of the kept plan no more */
    long restored = fake_seen.plans_restored;
    forward_and_compare(&conv2d_op, "residual_relu");
    assert_int_equal(fake_seen.plans_restored, restored);
}

/* cublasLt wants a workspace at a multiple of 256 bytes. */
static void test_alignment_is_asked_for(void **state) {
    (void)state;
    static _Alignas(256) char memory[1024];
    conv_desc d = {.n = 1, .h = 1, .w = 1, .c = 8, .k = 8, .r = 1, .s = 1, .stride = 1, .dilation = 1};
    d.storage = d.output = DTYPE_F32;
    void *operands[CONV_OPERANDS] = {memory + 16, memory + 32, memory + 48};
    assert_true(library_has(&d, operands, memory + 256));
    assert_false(library_has(&d, operands, memory + 128));
    operands[CONV_W] = memory + 8;
    assert_false(library_has(&d, operands, memory));
}

/* Then plans are made as ever, but not kept. */
static void test_a_gpu_that_is_not_described(void **state) {
    (void)state;
    fake_gpu_is_described = 0;
    for (int i = 0; i < 2; i++) {
        forward_and_compare(&conv2d_op, "residual_relu");
        assert_int_equal(fake_seen.convolutions, i + 1);
        cuda_library_close();
    }
    assert_int_equal(fake_seen.plans_restored, 0);
}

int main(void) {
    if (!mkdtemp(folder)) return 1;
    setenv("MASKRCNN_PLANS", folder, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_cases_of_the_ops, start, stop),
        cmocka_unit_test_setup_teardown(test_all_cases_where_nothing_can_be_fused, start, stop),
        cmocka_unit_test_setup_teardown(test_without_libraries, start, stop),
        cmocka_unit_test_setup_teardown(test_rows_behind_a_count_do_not_matter, start, stop),
        cmocka_unit_test_setup_teardown(test_choices_are_timed_and_kept, start, stop),
        cmocka_unit_test_setup_teardown(test_products_are_timed_and_kept, start, stop),
        cmocka_unit_test_setup_teardown(test_a_refused_plan_is_searched_again, start, stop),
        cmocka_unit_test_setup_teardown(test_a_gpu_that_is_not_described, start, stop),
        cmocka_unit_test_setup_teardown(test_alignment_is_asked_for, start, stop),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    return system(line) != 0 || failed;
}
