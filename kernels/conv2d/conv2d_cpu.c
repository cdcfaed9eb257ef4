/* Reference of conv2d in plain loops; built for float and for double. */
#include "conv2d/conv2d.h"

#include "conv_shape.h"

static conv_shape shape_of(const op_call *call) {
    const conv2d_params *p = call->params;
    const tensor *x = call->in[CONV2D_X], *weight = call->in[CONV2D_WEIGHT], *y = call->out[0];
    return (conv_shape){.n = tensor_valid_rows(x),
                        .h = x->shape[1],
                        .w = x->shape[2],
                        .c = x->shape[3],
                        .ho = y->shape[1],
                        .wo = y->shape[2],
                        .k = weight->shape[0],
                        .r = weight->shape[1],
                        .s = weight->shape[2],
                        .stride = p->stride,
                        .pad = p->pad,
                        .dilation = p->dilation};
}

/* One product of an output pixel with a tap: offsets of x's pixel and the tap's weights, and of the pixel in
 * y. */
typedef struct term {
    int64_t x, weight, y;
} term;

/* Calls visit for each (output pixel, tap) whose input pixel exists. */
static void for_each_term(const conv_shape *v, void (*visit)(void *context, term at), void *context) {
    for (int64_t pixel = 0; pixel < v->n * v->ho * v->wo; pixel++) {
        int64_t n = pixel / (v->ho * v->wo), p = pixel / v->wo % v->ho, q = pixel % v->wo;
        for (int64_t tap = 0; tap < v->r * v->s; tap++) {
            int64_t h = p * v->stride - v->pad + tap / v->s * v->dilation,
                    w = q * v->stride - v->pad + tap % v->s * v->dilation;
            if (h < 0 || h >= v->h || w < 0 || w >= v->w) continue;
            visit(context,
                  (term){.x = ((n * v->h + h) * v->w + w) * v->c, .weight = tap * v->c, .y = pixel * v->k});
        }
    }
}

typedef struct job {
    conv_shape shape;
    const REAL *x, *weight;
    REAL *y, *d_x, *d_weight; /* backward: y is the masked d_y; gradients NULL where not wanted */
} job;

static void forward_term(void *context, term at) {
    const job *j = context;
    int64_t k = j->shape.k, c = j->shape.c, row = j->shape.r * j->shape.s * c;
    for (int64_t o = 0; o < k; o++) {
        REAL sum = 0;
        for (int64_t i = 0; i < c; i++) sum += j->x[at.x + i] * j->weight[o * row + at.weight + i];
        j->y[at.y + o] += sum;
    }
}

static void forward(const op_call *call) {
    const conv2d_params *p = call->params;
    job j = {.shape = shape_of(call),
             .x = call->in[CONV2D_X]->data,
             .weight = call->in[CONV2D_WEIGHT]->data,
             .y = call->out[0]->data};
    const REAL *bias = call->in[CONV2D_BIAS] ? call->in[CONV2D_BIAS]->data : NULL;
    const REAL *residual = call->in[CONV2D_RESIDUAL] ? call->in[CONV2D_RESIDUAL]->data : NULL;
    int64_t count = j.shape.n * j.shape.ho * j.shape.wo * j.shape.k;
    for (int64_t i = 0; i < count; i++)
        j.y[i] = (bias ? bias[i % j.shape.k] : 0) + (residual ? residual[i] : 0);
    for_each_term(&j.shape, forward_term, &j);
    for (int64_t i = 0; i < count && p->relu; i++)
        if (j.y[i] < 0) j.y[i] = 0;
}

static void backward_term(void *context, term at) {
    const job *j = context;
    int64_t k = j->shape.k, c = j->shape.c, row = j->shape.r * j->shape.s * c;
    for (int64_t o = 0; o < k; o++) {
        REAL g = j->y[at.y + o];
        for (int64_t i = 0; i < c; i++) {
            if (j->d_x) j->d_x[at.x + i] += g * j->weight[o * row + at.weight + i];
            if (j->d_weight) j->d_weight[o * row + at.weight + i] += g * j->x[at.x + i];
        }
    }
}

/* The gradient's memory, cleared unless it is added to; NULL when it is not wanted. */
static REAL *start_gradient(const op_call *call, int input, int64_t count) {
    if (!call->d_in[input]) return NULL;
    REAL *d = call->d_in[input]->data;
    for (int64_t i = 0; i < count && !call->accumulate[input]; i++) d[i] = 0;
    return d;
}

static void backward(const op_call *call) {
    const conv2d_params *p = call->params;
    job j = {.shape = shape_of(call),
             .x = call->in[CONV2D_X]->data,
             .weight = call->in[CONV2D_WEIGHT]->data,
             .y = call->d_out[0]->data};
    const REAL *y = call->out[0]->data;
    int64_t k = j.shape.k, count = j.shape.n * j.shape.ho * j.shape.wo * k;
    for (int64_t i = 0; i < count && p->relu; i++)
        if (!(y[i] > 0)) j.y[i] = 0;
    j.d_x = start_gradient(call, CONV2D_X, j.shape.n * j.shape.h * j.shape.w * j.shape.c);
    j.d_weight = start_gradient(call, CONV2D_WEIGHT, k * j.shape.r * j.shape.s * j.shape.c);
    for_each_term(&j.shape, backward_term, &j);
    REAL *d_bias = start_gradient(call, CONV2D_BIAS, k);
    for (int64_t i = 0; i < count && d_bias; i++) d_bias[i % k] += j.y[i];
    if (!call->d_in[CONV2D_RESIDUAL] || call->d_in[CONV2D_RESIDUAL]->data == (void *)j.y) return;
    REAL *d_residual = start_gradient(call, CONV2D_RESIDUAL, count);
    for (int64_t i = 0; i < count; i++) d_residual[i] += j.y[i];
}

const op_kernel REAL_NAME(conv2d_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
