#include "autograd/grad_check.h"

#include "autograd/op_trial.h"
#include "autograd/tensor_compare.h"
#include "base/check.h"
#include "base/thread_pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Between two runs of the double reference; they may sum in another order. */
static const double f64_atol = 1e-11, f64_rtol = 1e-9;
static const double difference_limit = 1e-6, scale_floor = 1e-3;
enum { MAX_DIFFERENCES = 160 }; /* elements of one input that finite differences look at */

typedef struct checker {
    const op_def *op;
    const op_case *test_case;
    dtype storage; /* of the narrow trial's half inputs */
    FILE *report;
    const op_kernel *const *kernels;     /* to check, NULL behind the last */
    bool whole;                          /* check the double reference, too */
    void (*vary)(int round);             /* 0, 1, 2: what must not change a bit */
    op_trial *wide, *narrow;             /* f64; f32 or 16 bits */
    tensor expected_out[OP_MAX_OUTPUTS]; /* of the double reference */
    tensor expected_d_in[OP_MAX_INPUTS]; /* of the request that is being checked */
    int failures;
    double slack;                         /* the tolerances are multiplied by this; 0: 1 */
    double worst_share, worst_difference; /* of the tolerances */
} checker;

static void report_line(checker *c, const char *kernel, const char *what, const char *detail) {
    c->failures++;
    fprintf(c->report, "%s, case %s, %s, kernel %s: %s: %s\n", c->op->name, c->test_case->name,
            dtype_name(c->storage), kernel, what, detail);
}

static void report_difference(checker *c, const char *kernel, const char *what, const char *name,
                              const tensor_difference *d) {
    char text[256];
    snprintf(text, sizeof text,
             "%s[%lld] is %.9g, expected %.9g (%.3g x the tolerance; %lld elements are wrong)", name,
             (long long)d->index, d->actual, d->expected, d->share, (long long)d->bad);
    report_line(c, kernel, what, text);
}

static tensor copy_tensor(const tensor *t) {
    tensor copy = *t;
    size_t bytes = tensor_bytes(t);
    copy.data = malloc(bytes ? bytes : 1);
    CHECK(copy.data, "no memory for %zu bytes", bytes);
    memcpy(copy.data, t->data, bytes);
    return copy;
}

static void drop_tensors(tensor *tensors, int count) {
    for (int i = 0; i < count; i++) {
        free(tensors[i].data);
        tensors[i].data = NULL;
    }
}

static bool is_integer(dtype type) {
    return type == DTYPE_I32 || type == DTYPE_U8;
}

/* Distance of two neighbouring 16-bit floats, relative; 0 for wider types. */
static double unit_of(dtype type) {
    return type == DTYPE_BF16 ? 0x1p-7 : type == DTYPE_F16 ? 0x1p-10 : 0;
}

static void compare(checker *c, const op_kernel *kernel, const char *what, const tensor *actual,
                    const tensor *expected) {
    bool wide = actual->type == DTYPE_F64, exact = is_integer(actual->type);
    double atol = exact ? 0 : wide ? f64_atol : c->op->atol, rtol = exact ? 0 : wide ? f64_rtol : c->op->rtol;
    if (c->slack > 0 && !wide) atol *= c->slack, rtol *= c->slack;
    atol += unit_of(actual->type) / 8; /* a 16-bit sum of a few terms; results of cases are of size 1 */
    rtol += unit_of(actual->type);
    tensor_difference d = tensor_compare(actual, expected, tensor_valid_rows(actual), atol, rtol);
    if (!wide && d.share > c->worst_share) c->worst_share = d.share;
    if (d.bad > 0) report_difference(c, kernel->name, what, actual->name, &d);
}

static void check_damage(checker *c, const op_trial *t, const op_kernel *kernel, const char *what) {
    const char *damage = op_trial_damage(t);
    if (damage) report_line(c, kernel->name, what, damage);
}

static void check_forward(checker *c, op_trial *t, const op_kernel *kernel) {
    op_trial_forward(t, kernel);
    for (int i = 0; i < c->op->n_outputs; i++) compare(c, kernel, "forward", &t->out[i], &c->expected_out[i]);
    check_damage(c, t, kernel, "forward");
}

static void check_gradients(checker *c, op_trial *t, const op_kernel *kernel, const op_trial_request *request,
                            const char *what) {
    op_trial_backward(t, kernel, request);
    for (int i = 0; i < c->op->n_inputs; i++) {
        if (!t->call.d_in[i]) continue;
        tensor expected = copy_tensor(&c->expected_d_in[i]), actual = *t->call.d_in[i];
        int64_t count = tensor_valid_rows(&expected) * tensor_row_size(&expected);
        for (int64_t e = 0; e < count && t->call.accumulate[i]; e++)
            tensor_set(&expected, e, tensor_get(&expected, e) + op_trial_base(t, i, e));
        char name[64];
        snprintf(name, sizeof name, "d_%s", t->in[i].name);
        actual.name = name;
        compare(c, kernel, what, &actual, &expected);
        free(expected.data);
    }
    check_damage(c, t, kernel, what);
}

/* All ways to ask `kernel` for gradients when those of the outputs `arrived` are there. */
static void check_backward(checker *c, op_trial *t, const op_kernel *kernel, unsigned arrived) {
    if (!kernel->backward) {
        report_line(c, kernel->name, "backward", "the op is differentiable, but this kernel has no backward");
        return;
    }
    const op_def *op = c->op;
    op_trial_request all = {.wanted = op->differentiable, .arrived = arrived};
    check_gradients(c, t, kernel, &all, "backward");
    all.accumulate = true;
    check_gradients(c, t, kernel, &all, "backward, accumulating");
    for (int i = 0; i < op->n_inputs; i++) {
        if (!t->call.in[i] || !(op->differentiable >> i & 1u)) continue;
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            op_trial_request one = {.wanted = 1u << i, .arrived = arrived, .accumulate = accumulate};
            check_gradients(c, t, kernel, &one, "backward for one input");
        }
    }
    if (op->shares_gradient < 0 || !t->call.in[op->shares_gradient] || !(arrived & 1u)) return;
    op_trial_request shared = {.wanted = op->differentiable, .arrived = arrived, .share_gradient = true};
    check_gradients(c, t, kernel, &shared, "backward, sharing the gradient's memory");
}

/* A kernel's results of three rounds, bit for bit. */
static void check_rounds(checker *c, const op_kernel *kernel) {
    op_trial *t = c->narrow;
    const op_def *op = c->op;
    tensor out[OP_MAX_OUTPUTS] = {0}, d_in[OP_MAX_INPUTS] = {0};
    op_trial_request all = {.wanted = op->differentiable, .arrived = op_trial_gradient_outputs(t)};
    for (int round = 0; round < 3; round++) {
        c->vary(round);
        op_trial_forward(t, kernel);
        for (int i = 0; i < op->n_outputs; i++) {
            if (round == 0)
                out[i] = copy_tensor(&t->out[i]);
            else if (memcmp(out[i].data, t->out[i].data, tensor_bytes(&out[i])) != 0)
                report_line(c, kernel->name, "forward in another order gives other bits", out[i].name);
        }
        if (!op->differentiable || !kernel->backward) continue;
        op_trial_backward(t, kernel, &all);
        for (int i = 0; i < op->n_inputs; i++) {
            if (!t->call.d_in[i]) continue;
            if (round == 0)
                d_in[i] = copy_tensor(&t->d_in[i]);
            else if (memcmp(d_in[i].data, t->d_in[i].data, tensor_bytes(&d_in[i])) != 0)
                report_line(c, kernel->name, "backward in another order gives other bits for d_",
                            d_in[i].name);
        }
    }
    c->vary(0);
    drop_tensors(out, OP_MAX_OUTPUTS);
    drop_tensors(d_in, OP_MAX_INPUTS);
}

/* ------------------------------------------------------------------------------------------- finite
 * differences */

/* sum of d_out * out with element `index` of input i moved by `step`, minus the same moved by -step, over the
 * distance. The difference is taken before the sum, so large outputs that do not move add no rounding. */
static double central_difference(checker *c, int input, int64_t index, double step, unsigned arrived) {
    op_trial *t = c->wide;
    double *element = (double *)t->saved_in[input] + index, kept = *element;
    tensor before[OP_MAX_OUTPUTS] = {0};
    *element = kept - step;
    double low = *element;
    op_trial_forward(t, c->op->reference_f64);
    for (int i = 0; i < c->op->n_outputs; i++)
        if (arrived >> i & 1u) before[i] = copy_tensor(&t->out[i]);
    *element = kept + step;
    double high = *element, sum = 0;
    op_trial_forward(t, c->op->reference_f64);
    for (int i = 0; i < c->op->n_outputs; i++) {
        if (!(arrived >> i & 1u)) continue;
        int64_t count = tensor_valid_rows(&t->out[i]) * tensor_row_size(&t->out[i]);
        for (int64_t e = 0; e < count; e++)
            sum += op_trial_d_out(t, i, e) * (tensor_get(&t->out[i], e) - tensor_get(&before[i], e));
    }
    *element = kept;
    drop_tensors(before, OP_MAX_OUTPUTS);
    return sum / (high - low);
}

static void check_differences(checker *c, unsigned arrived) {
    static const double steps[] = {1e-4, 1e-3, 1e-5, 1e-6, 1e-2, 1e-7};
    op_trial *t = c->wide;
    for (int i = 0; i < c->op->n_inputs; i++) {
        const tensor *d = &c->expected_d_in[i];
        if (!d->data) continue;
        int64_t count = tensor_valid_rows(d) * tensor_row_size(d);
        double scale = scale_floor;
        for (int64_t e = 0; e < count; e++) scale = fmax(scale, fabs(tensor_get(d, e)));
        int64_t stride = count > MAX_DIFFERENCES ? count / MAX_DIFFERENCES | 1 : 1;
        tensor_difference worst = {.share = -1};
        for (int64_t e = 0; e < count; e += stride) {
            tensor_difference best = {
                .index = e, .share = INFINITY, .expected = NAN, .actual = tensor_get(d, e)};
            double size = fmax(1, fabs(((const double *)t->saved_in[i])[e]));
            for (size_t s = 0; s < sizeof steps / sizeof *steps && !(best.share <= 1); s++) {
                double slope = central_difference(c, i, e, steps[s] * size, arrived);
                double share =
                    tensor_compare_share(best.actual, slope, difference_limit * scale, difference_limit);
                if (share < best.share) best.share = share, best.expected = slope;
            }
            best.bad = worst.bad + !(best.share <= 1);
            if (best.share > worst.share) worst = best;
            worst.bad = best.bad;
        }
        if (worst.share > c->worst_difference) c->worst_difference = worst.share;
        char name[64];
        snprintf(name, sizeof name, "d_%s", t->in[i].name);
        if (worst.bad > 0) report_difference(c, "reference_f64", "finite differences", name, &worst);
    }
}

/* --------------------------------------------------------------------------------------------------- the
 * whole case */

static void list_kernels(const op_def *op, const op_kernel *kernels[OP_MAX_VARIANTS + 3]) {
    int n = 0;
    kernels[n++] = op->reference_f32;
    if (op->cpu != op->reference_f32) kernels[n++] = op->cpu;
    for (int i = 0; i < OP_MAX_VARIANTS && op->variants[i]; i++) kernels[n++] = op->variants[i];
    kernels[n] = NULL;
}

static void check_gradients_from(checker *c, unsigned arrived) {
    op_trial *t = c->wide;
    op_trial_request all = {.wanted = c->op->differentiable, .arrived = arrived};
    op_trial_backward(t, c->op->reference_f64, &all);
    for (int i = 0; i < c->op->n_inputs; i++)
        if (t->call.d_in[i]) c->expected_d_in[i] = copy_tensor(&t->d_in[i]);
    if (c->whole && !c->test_case->kinks) check_differences(c, arrived);
    if (c->whole) check_backward(c, c->wide, c->op->reference_f64, arrived);
    for (int k = 0; c->kernels[k]; k++) check_backward(c, c->narrow, c->kernels[k], arrived);
    drop_tensors(c->expected_d_in, OP_MAX_INPUTS);
}

static void check_all(checker *c) {
    const op_def *op = c->op;
    op_trial_forward(c->wide, op->reference_f64);
    for (int i = 0; i < op->n_outputs; i++) c->expected_out[i] = copy_tensor(&c->wide->out[i]);
    check_damage(c, c->wide, op->reference_f64, "forward");
    for (int k = 0; c->kernels[k]; k++) check_forward(c, c->narrow, c->kernels[k]);
    unsigned arrived = op_trial_gradient_outputs(c->wide);
    if (op->differentiable && arrived) {
        check_gradients_from(c, arrived);
        for (int i = 0; i < op->n_outputs; i++)
            if (arrived >> i & 1u && arrived != 1u << i) check_gradients_from(c, 1u << i);
    }
    for (int k = 0; c->vary && c->kernels[k]; k++) check_rounds(c, c->kernels[k]);
    drop_tensors(c->expected_out, OP_MAX_OUTPUTS);
}

static void check_case(checker *c, const op_case *test_case) {
    c->test_case = test_case;
    thread_pool_start(1);
    status s = op_trial_new(&c->narrow, c->op, test_case, c->storage);
    if (s == STATUS_OK) s = op_trial_new_wide(&c->wide, c->narrow);
    if (s == STATUS_OK)
        check_all(c);
    else
        report_line(c, "none", "the case is refused", error_cause());
    op_trial_free(c->wide);
    op_trial_free(c->narrow);
    c->wide = c->narrow = NULL;
}

static void vary_threads(int round) {
    thread_pool_start(round + 1);
}

int grad_check_case(const op_def *op, const op_case *test_case, FILE *report) {
    const op_kernel *kernels[OP_MAX_VARIANTS + 3];
    list_kernels(op, kernels);
    checker c = {.op = op, .report = report, .kernels = kernels, .whole = true, .vary = vary_threads};
    check_case(&c, test_case);
    return c.failures;
}

int grad_check_op(const op_def *op, FILE *report) {
    const op_kernel *kernels[OP_MAX_VARIANTS + 3];
    list_kernels(op, kernels);
    checker c = {.op = op, .report = report, .kernels = kernels, .whole = true, .vary = vary_threads};
    for (int i = 0; i < op->n_cases; i++) check_case(&c, &op->cases[i]);
    fprintf(report,
            "%s: %d cases, %d failures, %.3g of the tolerance used, %.3g of that for finite differences\n",
            op->name, op->n_cases, c.failures, c.worst_share, c.worst_difference);
    return c.failures;
}

int grad_check_kernels(const op_def *op, const op_kernel *const *kernels, const grad_check_options *options,
                       FILE *report) {
    static const dtype storages[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
    int failures = 0;
    for (int k = 0; k < (op_has_half(op) ? 3 : 1); k++) {
        checker c = {.op = op,
                     .storage = storages[k],
                     .report = report,
                     .kernels = kernels,
                     .vary = options->vary,
                     .slack = options->slack > 0 ? options->slack : 1};
        for (int i = 0; i < op->n_cases; i++) check_case(&c, &op->cases[i]);
        fprintf(report, "%s: %s, %d cases, %d failures, %.3g of the tolerance used\n", op->name,
                dtype_name(c.storage), op->n_cases, c.failures, c.worst_share);
        failures += c.failures;
    }
    return failures;
}
