/* class_logits in plain loops; built for float and for double. */
#include "class_logits/class_logits.h"

static int64_t places_of(const tensor *x) {
    return x->shape[1] * x->shape[2];
}

static void forward(const op_call *call) {
    const tensor *x = call->in[CLASS_LOGITS_X];
    const REAL *from = x->data, *weight = call->in[CLASS_LOGITS_WEIGHT]->data,
               *bias = call->in[CLASS_LOGITS_BIAS]->data;
    REAL *y = call->out[0]->data;
    int64_t places = places_of(x), channels = x->shape[3];
    for (int64_t i = 0; i < tensor_valid_rows(x) * places; i++) {
        int64_t label = tensor_i32(call->in[CLASS_LOGITS_LABELS])[i / places];
        y[i] = bias[label];
        for (int64_t c = 0; c < channels; c++) y[i] += from[i * channels + c] * weight[label * channels + c];
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
    const tensor *x = call->in[CLASS_LOGITS_X];
    const REAL *from = x->data, *weight = call->in[CLASS_LOGITS_WEIGHT]->data, *d_y = call->d_out[0]->data;
    int64_t places = places_of(x), channels = x->shape[3], count = tensor_valid_rows(x) * places,
            classes = call->in[CLASS_LOGITS_WEIGHT]->shape[0];
    REAL *d_x = start_gradient(call, CLASS_LOGITS_X, count * channels),
         *d_weight = start_gradient(call, CLASS_LOGITS_WEIGHT, classes * channels),
         *d_bias = start_gradient(call, CLASS_LOGITS_BIAS, classes);
    for (int64_t i = 0; i < count; i++) {
        int64_t label = tensor_i32(call->in[CLASS_LOGITS_LABELS])[i / places];
        if (d_bias) d_bias[label] += d_y[i];
        for (int64_t c = 0; c < channels; c++) {
            if (d_x) d_x[i * channels + c] += d_y[i] * weight[label * channels + c];
            if (d_weight) d_weight[label * channels + c] += d_y[i] * from[i * channels + c];
        }
    }
}

const op_kernel REAL_NAME(class_logits_reference) = {
    .name = REAL_KERNEL_NAME, .forward = forward, .backward = backward};
