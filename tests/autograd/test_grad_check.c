/* The checker is right only if it fails when it must: one small op, y = s * x, broken in one way at a time. */
#include "autograd/grad_check.h"

#include "base/thread_pool.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef enum fault {
    NONE,
    WRONG_VALUE,
    NOT_A_NUMBER,
    ZERO_BY_ZERO,
    INFINITE,
    NOT_WRITTEN,
    ROWS_BEHIND,
    BESIDE_OUTPUT,
    CHANGED_INPUT,
    BEHIND_SCRATCH,
    STALE_SCRATCH,
    THREADS,
    WRONG_GRADIENT,
    NO_ACCUMULATION,
    ALWAYS_ACCUMULATES,
    GRADIENT_ROWS_BEHIND,
    BESIDE_GRADIENT,
    READS_UNDECLARED_INPUT,
    READS_UNDECLARED_OUTPUT,
    SLOPE_OF_REFERENCE,
    VALUE_OF_REFERENCE
} fault;

static fault broken;

/* AddressSanitizer would stop what the checker has to find: so it does not look here. */
__attribute__((no_sanitize("address"))) static void scale_forward(const op_call *call) {
    const tensor *x = call->in[0], *s = call->in[1];
    tensor *y = call->out[0];
    int64_t n = tensor_valid_rows(x) * tensor_row_size(x), all = tensor_count(x);
    bool narrow = x->type == DTYPE_F32;
    for (int64_t i = 0; i < n; i++) tensor_set(y, i, tensor_get(s, 0) * tensor_get(x, i));
    if (broken == VALUE_OF_REFERENCE && !narrow) tensor_set(y, n - 1, 17);
    if (!narrow) return;
    float *scratch = call->scratch;
    volatile double zero = 0;
    switch (broken) {
    case WRONG_VALUE:
        tensor_set(y, n - 1, tensor_get(y, n - 1) * (1 + 2e-4));
        break;
    case NOT_A_NUMBER:
        tensor_set(y, 0, NAN);
        break;
    case ZERO_BY_ZERO:
        tensor_set(y, 0, zero / zero);
        break;
    case INFINITE:
        tensor_set(y, 0, INFINITY);
        break;
    case NOT_WRITTEN:
        memset(tensor_f32(y) + n - 1, 0xFF, 4);
        break;
    case ROWS_BEHIND:
        tensor_set(y, n, 0);
        break;
    case BESIDE_OUTPUT:
        tensor_f32(y)[all] = 0;
        break;
    case CHANGED_INPUT:
        tensor_set((tensor *)x, 0, 0);
        break;
    case BEHIND_SCRATCH:
        scratch[4] = 0;
        break;
    case STALE_SCRATCH:
        tensor_set(y, 0, tensor_get(y, 0) + 0 * scratch[0]);
        break;
    case THREADS:
        tensor_set(y, 0, tensor_get(y, 0) * (1 + 1e-6 * thread_pool_size()));
        break;
    default:
        break;
    }
}

__attribute__((no_sanitize("address"))) static void scale_backward(const op_call *call) {
    const tensor *s = call->in[1], *g = call->d_out[0];
    tensor *d = call->d_in[0];
    if (!d) return;
    int64_t n = tensor_valid_rows(d) * tensor_row_size(d), all = tensor_count(d);
    bool narrow = d->type == DTYPE_F32, add = call->accumulate[0];
    if (narrow && broken == NO_ACCUMULATION) add = false;
    if (narrow && broken == ALWAYS_ACCUMULATES) add = true;
    double slope = tensor_get(s, 0);
    if (broken == SLOPE_OF_REFERENCE) slope *= 1 + 1e-5;
    for (int64_t i = 0; i < n; i++) tensor_set(d, i, (add ? tensor_get(d, i) : 0) + slope * tensor_get(g, i));
    if (!narrow) return;
    switch (broken) {
    case WRONG_GRADIENT:
        tensor_set(d, n - 1, tensor_get(d, n - 1) + 1e-3);
        break;
    case GRADIENT_ROWS_BEHIND:
        tensor_set(d, n, 0);
        break;
    case BESIDE_GRADIENT:
        tensor_f32(d)[all] = 0;
        break;
    case READS_UNDECLARED_INPUT:
        tensor_set(d, 0, tensor_get(d, 0) + 0 * tensor_get(call->in[0], 0));
        break;
    case READS_UNDECLARED_OUTPUT:
        tensor_set(d, 0, tensor_get(d, 0) + 0 * tensor_get(call->out[0], 0));
        break;
    default:
        break;
    }
}

static size_t scale_scratch(const op_call *call, bool backward) {
    (void)call;
    return backward ? 0 : 16;
}

static status scale_infer(op_call *call) {
    const tensor *x = call->in[0];
    RETURN_IF_ERROR(op_expect_rank(call, 0, 2));
    op_describe_output(call, 0, x->type, 2, x->shape, x->rows);
    return STATUS_OK;
}

static const op_kernel kernel = {
    .name = "scale", .forward = scale_forward, .backward = scale_backward, .scratch_bytes = scale_scratch};

static const op_case cases[] = {
    {.name = "rows", .in = {OP_IN(NORMAL, 0, 1, 5, 3), OP_IN(CONSTANT, 2, 0, 1)}, .valid_rows = 3},
    {.name = "refused", .in = {OP_IN(NORMAL, 0, 1, 5), OP_IN(CONSTANT, 2, 0, 1)}},
};

static const op_def scale_op = {.name = "scale",
                                .n_inputs = 2,
                                .n_outputs = 1,
                                .input_names = {"x", "s"},
                                .output_names = {"y"},
                                .input_types = {DTYPE_F32, DTYPE_F32},
                                .differentiable = 1,
                                .backward_reads_inputs = 2,
                                .shares_gradient = -1,
                                .infer = scale_infer,
                                .reference_f32 = &kernel,
                                .reference_f64 = &kernel,
                                .cpu = &kernel,
                                .atol = 1e-5,
                                .rtol = 1e-5,
                                .cases = cases,
                                .n_cases = 2};

/* Failures of case `index`; the lines must contain `message`. */
static int failures_of(fault f, int index, const char *message) {
    char *text = NULL;
    size_t size = 0;
    FILE *report = open_memstream(&text, &size);
    assert_non_null(report);
    broken = f;
    int failures = grad_check_case(&scale_op, &cases[index], report);
    broken = NONE;
    fclose(report);
    if (!strstr(text, message)) fail_msg("fault %d: expected '%s' in: %s", (int)f, message, text);
    free(text);
    return failures;
}

static void right_op_passes(void **state) {
    (void)state;
    assert_int_equal(failures_of(NONE, 0, ""), 0);
}

static void broken_forward_fails(void **state) {
    (void)state;
    assert_true(failures_of(WRONG_VALUE, 0, "y[8] is") > 0);
    assert_true(failures_of(NOT_A_NUMBER, 0, "y[0] is nan") > 0);
    assert_true(failures_of(ZERO_BY_ZERO, 0, "nan") > 0);
    assert_true(failures_of(INFINITE, 0, "y[0] is inf") > 0);
    assert_true(failures_of(NOT_WRITTEN, 0, "nan") > 0);
    assert_true(failures_of(ROWS_BEHIND, 0, "y: rows behind the count was written") > 0);
    assert_true(failures_of(BESIDE_OUTPUT, 0, "y: memory beside the tensor was written") > 0);
    assert_true(failures_of(CHANGED_INPUT, 0, "x: the input was changed") > 0);
    assert_true(failures_of(BEHIND_SCRATCH, 0, "scratch: memory beside it was written") > 0);
    assert_true(failures_of(STALE_SCRATCH, 0, "nan") > 0);
    assert_true(failures_of(THREADS, 0, "other bits") > 0);
}

static void broken_backward_fails(void **state) {
    (void)state;
    assert_true(failures_of(WRONG_GRADIENT, 0, "d_x[8] is") > 0);
    assert_true(failures_of(NO_ACCUMULATION, 0, "accumulating") > 0);
    assert_true(failures_of(ALWAYS_ACCUMULATES, 0, "nan") > 0);
    assert_true(failures_of(GRADIENT_ROWS_BEHIND, 0, "d_x: rows behind the count was written") > 0);
    assert_true(failures_of(BESIDE_GRADIENT, 0, "d_x: memory beside the tensor was written") > 0);
    assert_true(failures_of(READS_UNDECLARED_INPUT, 0, "nan") > 0);
    assert_true(failures_of(READS_UNDECLARED_OUTPUT, 0, "nan") > 0);
}

static void broken_reference_fails(void **state) {
    (void)state;
    assert_true(failures_of(SLOPE_OF_REFERENCE, 0, "finite differences: d_x") > 0);
    assert_true(failures_of(VALUE_OF_REFERENCE, 0, "y[8] is") > 0);
}

static void refused_case_fails(void **state) {
    (void)state;
    assert_int_equal(failures_of(NONE, 1, "the case is refused"), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_op_passes),       cmocka_unit_test(broken_forward_fails),
        cmocka_unit_test(broken_backward_fails), cmocka_unit_test(broken_reference_fails),
        cmocka_unit_test(refused_case_fails),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    return failed;
}
