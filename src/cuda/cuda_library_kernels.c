#include "cuda/cuda_library_kernels.h"

#include "base/check.h"
#include "base/round_up.h"
#include "conv2d/conv2d.h"
#include "conv2d_transpose/conv2d_transpose.h"
#include "conv_around.h"
#include "cuda/cuda_kernels.h"
#include "cuda/library_math.h"
#include "cudnn/conv_calls.h"
#include "linear/linear.h"

#include <string.h>

/* The three ops number these alike; conv2d alone has a residual. */
enum {
    X = CONV2D_X,
    WEIGHT = CONV2D_WEIGHT,
    BIAS = CONV2D_BIAS,
    RESIDUAL = CONV2D_RESIDUAL,
    ALIGNMENT = 256
};

/* Pieces of scratch by their first byte. `receive` has its sums in the workspace before anyone else needs it. */
typedef struct scratch_plan {
    size_t bias, d_weight, d_x, gradient; /* behind the workspace at 0 */
    size_t bytes;
} scratch_plan;

/* A convolution with its operands. */
typedef struct job {
    conv_desc desc;
    void *operands[CONV_OPERANDS];
} job;

static bool is_transpose(const op_call *call) {
    return conv_op_of(call) == CONV_OP_TRANSPOSE;
}

static bool has_relu(const op_call *call) {
    if (conv_op_of(call) == CONV_OP_LINEAR) return ((const linear_params *)call->params)->relu;
    if (is_transpose(call)) return ((const conv2d_transpose_params *)call->params)->relu;
    return ((const conv2d_params *)call->params)->relu;
}

static const op_kernel *own_kernel(const op_call *call) {
    return cuda_kernels_find(call->op->name)[0];
}

static dtype storage_of(const op_call *call) {
    return call->in[X]->type;
}

static int64_t channels_of(const tensor *y) {
    return y->shape[y->rank - 1];
}

static size_t put_piece(scratch_plan *plan, size_t bytes) {
    size_t at = plan->bytes;
    plan->bytes = round_up(at + bytes, ALIGNMENT);
    return at;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* Workspace of a part, with and without what is fused to it. */
static size_t part_workspace(const op_call *call, conv_part part) {
    conv_desc d;
    if (!conv_call_describe(&d, call, part, storage_of(call))) return 0;
    conv_desc plain = conv_desc_plain(&d);
    return larger(conv_desc_workspace(&d), conv_desc_workspace(&plain));
}

static scratch_plan plan_scratch(const op_call *call, bool backward) {
    scratch_plan plan = {0};
    const tensor *x = call->in[X], *y = call->out[0];
    size_t element = dtype_size(storage_of(call)), workspace = 0;
    if (!backward) {
        put_piece(&plan, part_workspace(call, CONV_OF_OUTPUT));
        plan.bias = put_piece(&plan, (size_t)channels_of(y) * sizeof(float));
        return plan;
    }
    workspace = conv_around_receive_scratch(call, x, tensor_row_size(y) / larger(1, (size_t)channels_of(y)),
                                            channels_of(y), BIAS);
    if (call->d_in[WEIGHT]) workspace = larger(workspace, part_workspace(call, CONV_OF_D_WEIGHT));
    if (call->d_in[X]) workspace = larger(workspace, part_workspace(call, CONV_OF_D_X));
    put_piece(&plan, workspace);
    if (call->d_in[WEIGHT])
        plan.d_weight = put_piece(&plan, (size_t)tensor_count(call->in[WEIGHT]) * element);
    if (call->d_in[X] && call->accumulate[X]) plan.d_x = put_piece(&plan, (size_t)tensor_count(x) * element);
    if (y->type != storage_of(call)) plan.gradient = put_piece(&plan, (size_t)tensor_count(y) * element);
    return plan;
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    const op_kernel *own = own_kernel(call);
    size_t own_bytes = own->scratch_bytes ? own->scratch_bytes(call, backward) : 0;
    return larger(plan_scratch(call, backward).bytes, own_bytes);
}

static void *scratch_at(const op_call *call, size_t offset) {
    return (char *)call->scratch + offset;
}

static bool can_run(const op_call *call, const job *j) {
    return library_has(&j->desc, j->operands, call->scratch);
}

static void run(const op_call *call, const job *j) {
    library_run(&j->desc, j->operands, call->scratch, call->stream);
}

/* ---- forward -------------------------------------------------------------------------------------------- */

/* The bias in the type that the library reads; it stays where it is when that is its own and it is aligned. */
static void *bias_for(const op_call *call, const job *j, const scratch_plan *plan) {
    const tensor *bias = call->in[BIAS];
    if (j->desc.output == DTYPE_F32 && (uintptr_t)bias->data % 16 == 0) return bias->data;
    return scratch_at(call, plan->bias);
}

static bool describe_forward(job *j, const op_call *call, const scratch_plan *plan) {
    *j = (job){0};
    if (!conv_call_describe(&j->desc, call, CONV_OF_OUTPUT, storage_of(call))) return false;
    j->operands[CONV_X] = is_transpose(call) ? call->out[0]->data : call->in[X]->data;
    j->operands[CONV_Y] = is_transpose(call) ? call->in[X]->data : call->out[0]->data;
    j->operands[CONV_W] = call->in[WEIGHT]->data;
    if (j->desc.bias) j->operands[CONV_BIAS] = bias_for(call, j, plan);
    if (j->desc.addend) j->operands[CONV_ADDEND] = call->in[RESIDUAL]->data;
    return true;
}

static void forward(const op_call *call) {
    scratch_plan plan = plan_scratch(call, false);
    job j;
    if (!describe_forward(&j, call, &plan)) {
        own_kernel(call)->forward(call);
        return;
    }
    const tensor *bias = call->in[BIAS];
    if (!is_transpose(call) && can_run(call, &j)) {
        if (j.desc.bias && j.operands[CONV_BIAS] != bias->data)
            conv_around_convert(call, j.operands[CONV_BIAS], j.desc.output, bias->data, bias->type,
                                tensor_count(bias));
        run(call, &j);
        return;
    }
    j.desc = conv_desc_plain(&j.desc);
    if (!can_run(call, &j)) {
        own_kernel(call)->forward(call);
        return;
    }
    run(call, &j);
    const tensor *residual = conv_op_of(call) == CONV_OP_CONV ? call->in[RESIDUAL] : NULL;
    conv_around_finish(call, call->out[0], bias, residual, has_relu(call));
}

/* ---- backward ------------------------------------------------------------------------------------------- */

/* Which side of the convolution an operand of the op is on. */
static void put_sides(job *j, const op_call *call, void *x_side, void *y_side) {
    j->operands[is_transpose(call) ? CONV_Y : CONV_X] = x_side;
    j->operands[is_transpose(call) ? CONV_X : CONV_Y] = y_side;
}

/* The gradient of x straight into its place; where the library cannot add to it there, into scratch. */
static bool describe_d_x(job *j, const op_call *call, const scratch_plan *plan, void *g) {
    *j = (job){0};
    if (!conv_call_describe(&j->desc, call, CONV_OF_D_X, storage_of(call))) return false;
    put_sides(j, call, call->d_in[X]->data, g);
    j->operands[CONV_W] = call->in[WEIGHT]->data;
    j->operands[CONV_ADDEND] = j->desc.addend ? call->d_in[X]->data : NULL;
    if (can_run(call, j)) return true;
    if (!j->desc.addend) return false;
    j->desc = conv_desc_plain(&j->desc);
    put_sides(j, call, scratch_at(call, plan->d_x), g);
    return can_run(call, j);
}

/* The same for the weight's gradient, which may also have to change its type. */
static bool describe_d_weight(job *j, const op_call *call, const scratch_plan *plan, void *g) {
    const tensor *d_weight = call->d_in[WEIGHT];
    *j = (job){0};
    if (!conv_call_describe(&j->desc, call, CONV_OF_D_WEIGHT, storage_of(call))) return false;
    put_sides(j, call, call->in[X]->data, g);
    bool adds = call->accumulate[WEIGHT] && !j->desc.addend;
    j->operands[CONV_W] = d_weight->data;
    j->operands[CONV_ADDEND] = j->desc.addend ? d_weight->data : NULL;
    if (!adds && d_weight->type == j->desc.output && can_run(call, j)) return true;
    j->desc = conv_desc_plain(&j->desc);
    j->desc.output = j->desc.storage;
    j->operands[CONV_W] = scratch_at(call, plan->d_weight);
    return can_run(call, j);
}

static void finish_d_x(const op_call *call, const job *j) {
    const tensor *d_x = call->d_in[X];
    void *written = j->operands[conv_desc_output(&j->desc)];
    if (written == d_x->data) return;
    conv_around_add(call, d_x->data, d_x->type, written, j->desc.output, tensor_count(d_x), true);
}

static void finish_d_weight(const op_call *call, const job *j) {
    const tensor *d_weight = call->d_in[WEIGHT];
    if (j->operands[CONV_W] == d_weight->data) return;
    conv_around_add(call, d_weight->data, d_weight->type, j->operands[CONV_W], j->desc.output,
                    tensor_count(d_weight), call->accumulate[WEIGHT]);
}

/* The masked gradient to the bias, the residual and, in the type of x, to where it is returned. */
static void receive(const op_call *call, void *g) {
    const tensor *y = call->out[0], *d_y = call->d_out[0];
    int64_t channels = channels_of(y);
    conv_around_receive(call, call->in[X], tensor_row_size(y) / channels, channels, d_y,
                        has_relu(call) ? y : NULL, BIAS);
    const tensor *d_residual = conv_op_of(call) == CONV_OP_CONV ? call->d_in[RESIDUAL] : NULL;
    if (d_residual && d_residual->data != d_y->data)
        conv_around_add(call, d_residual->data, d_residual->type, d_y->data, d_y->type, tensor_count(d_y),
                        call->accumulate[RESIDUAL]);
    if (call->d_in[WEIGHT]) {
        conv_around_clear_tail(call, &(tensor){.data = d_y->data,
                                               .type = d_y->type,
                                               .rank = y->rank,
                                               .shape = {y->shape[0], y->shape[1], y->shape[2], y->shape[3]},
                                               .rows = y->rows});
        conv_around_clear_tail(call, call->in[X]);
    }
    if (g != d_y->data)
        conv_around_convert(call, g, storage_of(call), d_y->data, d_y->type, tensor_count(d_y));
}

static void backward(const op_call *call) {
    scratch_plan plan = plan_scratch(call, true);
    const tensor *d_y = call->d_out[0];
    bool wants_weight = call->d_in[WEIGHT] != NULL, wants_x = call->d_in[X] != NULL;
    void *g = d_y->type == storage_of(call) ? d_y->data : scratch_at(call, plan.gradient);
    job d_weight, d_x;
    if ((wants_weight && !describe_d_weight(&d_weight, call, &plan, g)) ||
        (wants_x && !describe_d_x(&d_x, call, &plan, g)) || tensor_count(d_y) == 0) {
        own_kernel(call)->backward(call);
        return;
    }
    receive(call, g);
    if (wants_weight) {
        run(call, &d_weight);
        finish_d_weight(call, &d_weight);
    }
    if (wants_x) {
        run(call, &d_x);
        finish_d_x(call, &d_x);
    }
}

/* ---- the kernels ---------------------------------------------------------------------------------------- */

/* Runs once with what memory holds now, and times what it meets. */
static void prepare(const op_call *call, bool is_backward) {
    library_tune(true);
    if (is_backward)
        backward(call);
    else
        forward(call);
    library_tune(false);
}

static const op_kernel conv_kernel = {.name = "cuda_cudnn",
                                      .forward = forward,
                                      .backward = backward,
                                      .scratch_bytes = scratch_bytes,
                                      .prepare = prepare},
                       product_kernel = {.name = "cuda_cublaslt",
                                         .forward = forward,
                                         .backward = backward,
                                         .scratch_bytes = scratch_bytes,
                                         .prepare = prepare};

const op_kernel *cuda_library_kernel(const char *op_name) {
    if (strcmp(op_name, "linear") == 0) return &product_kernel;
    if (strcmp(op_name, "conv2d") == 0 || strcmp(op_name, "conv2d_transpose") == 0) return &conv_kernel;
    return NULL;
}

void cuda_library_close(void) {
    library_close();
}
