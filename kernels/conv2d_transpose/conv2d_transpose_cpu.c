/* Reference of conv2d_transpose in plain loops; built for float and for double. */
#include "conv2d_transpose/conv2d_transpose.h"

typedef struct job {
    int64_t n, h, w, c, ho, wo, k, r, s;
    const REAL *x, *weight;
    REAL *y, *d_x, *d_weight; /* backward: y is the masked d_y; gradients NULL where not wanted */
} job;

static job make_job(const op_call *call, REAL *y) {
    const tensor *x = call->in[CONV2D_TRANSPOSE_X], *weight = call->in[CONV2D_TRANSPOSE_WEIGHT];
    return (job){.n = tensor_valid_rows(x),
                 .h = x->shape[1],
                 .w = x->shape[2],
                 .c = x->shape[3],
                 .ho = call->out[0]->shape[1],
                 .wo = call->out[0]->shape[2],
                 .k = weight->shape[3],
                 .r = weight->shape[1],
                 .s = weight->shape[2],
                 .x = x->data,
                 .weight = weight->data,
                 .y = y};
}

/* One input pixel through one tap: forward adds into y, backward reads y as d_y. */
static void scatter(const job *j, const REAL *x, const REAL *weight, REAL *y) {
    for (int64_t c = 0; c < j->c; c++)
        for (int64_t k = 0; k < j->k; k++) y[k] += x[c] * weight[c * j->r * j->s * j->k + k];
}

static void gather(const job *j, int64_t x, int64_t weight, const REAL *g) {
    for (int64_t c = 0; c < j->c; c++) {
        for (int64_t k = 0; k < j->k; k++) {
            int64_t at = weight + c * j->r * j->s * j->k + k;
            if (j->d_x) j->d_x[x + c] += g[k] * j->weight[at];
            if (j->d_weight) j->d_weight[at] += g[k] * j->x[x + c];
        }
    }
}

static void for_each_term(const job *j, const conv2d_transpose_params *p, bool forward) {
    for (int64_t pixel = 0; pixel < j->n * j->h * j->w; pixel++) {
        int64_t n = pixel / (j->h * j->w), h = pixel / j->w % j->h, w = pixel % j->w;
        for (int64_t tap = 0; tap < j->r * j->s; tap++) {
            int64_t row = h * p->stride - p->pad + tap / j->s, column = w * p->stride - p->pad + tap % j->s;
            if (row < 0 || row >= j->ho || column < 0 || column >= j->wo) continue;
            REAL *y = j->y + ((n * j->ho + row) * j->wo + column) * j->k;
            if (forward)
                scatter(j, j->x + pixel * j->c, j->weight + tap * j->k, y);
            else
                gather(j, pixel * j->c, tap * j->k, y);
        }
    }
}

static void forward(const op_call *call) {
    const conv2d_transpose_params *p = call->params;
    job j = make_job(call, call->out[0]->data);
    const REAL *bias = call->in[CONV2D_TRANSPOSE_BIAS] ? call->in[CONV2D_TRANSPOSE_BIAS]->data : NULL;
    int64_t count = j.n * j.ho * j.wo * j.k;
    for (int64_t i = 0; i < count; i++) j.y[i] = bias ? bias[i % j.k] : 0;
    for_each_term(&j, p, true);
    for (int64_t i = 0; i < count && p->relu; i++)
        if (j.y[i] < 0) j.y[i] = 0;
}

/* The gradient's memory, cleared unless it is added to; NULL when it is not wanted. */
static REAL *start_gradient(const op_call *call, int input, int64_t count) {
    if (!call->d_in[input]) return NULL;
    REAL *d = call->d_in[input]->data;
    for (int64_t i = 0; i < count && !call->accumulate[input]; i++) d[i] = 0;
    return d;
}

static void backward(const op_call *call) {
    const conv2d_transpose_params *p = call->params;
    job j = make_job(call, call->d_out[0]->data);
    const REAL *y = call->out[0]->data;
    int64_t count = j.n * j.ho * j.wo * j.k;
    for (int64_t i = 0; i < count && p->relu; i++)
        if (!(y[i] > 0)) j.y[i] = 0;
    j.d_x = start_gradient(call, CONV2D_TRANSPOSE_X, j.n * j.h * j.w * j.c);
    j.d_weight = start_gradient(call, CONV2D_TRANSPOSE_WEIGHT, j.c * j.r * j.s * j.k);
    for_each_term(&j, p, false);
    REAL *d_bias = start_gradient(call, CONV2D_TRANSPOSE_BIAS, j.k);
    for (int64_t i = 0; i < count && d_bias; i++) d_bias[i % j.k] += j.y[i];
}

const op_kernel REAL_NAME(conv2d_transpose_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
