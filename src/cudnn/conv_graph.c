#include "cudnn/conv_graph.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

typedef cudnnBackendDescriptor_t descriptor;

/* ---- the description ------------------------------------------------------------------------------------ */

int64_t conv_desc_output_size(const conv_desc *d, int axis) {
    int64_t size = axis == 1 ? d->h : d->w, taps = axis == 1 ? d->r : d->s;
    return (size + 2 * d->pad - d->dilation * (taps - 1) - 1) / d->stride + 1;
}

const char *conv_desc_key(char key[CONV_KEY_SIZE], const conv_desc *d) {
    static const char *const directions[] = {"forward", "dgrad", "wgrad"};
    snprintf(key, CONV_KEY_SIZE,
             "%s n%lld h%lld w%lld c%lld k%lld r%lld s%lld stride%d pad%d dil%d %s>%s%s%s%s%s%s",
             directions[d->direction], (long long)d->n, (long long)d->h, (long long)d->w, (long long)d->c,
             (long long)d->k, (long long)d->r, (long long)d->s, d->stride, d->pad, d->dilation,
             dtype_name(d->storage), dtype_name(d->output), d->storage == DTYPE_F32 && d->tf32 ? " tf32" : "",
             d->bias ? " bias" : "", d->addend ? " add" : "", d->relu ? " relu" : "", d->mask ? " mask" : "");
    return key;
}

bool conv_desc_equal(const conv_desc *a, const conv_desc *b) {
    return a->direction == b->direction && a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c &&
           a->k == b->k && a->r == b->r && a->s == b->s && a->stride == b->stride && a->pad == b->pad &&
           a->dilation == b->dilation && a->storage == b->storage && a->output == b->output &&
           a->tf32 == b->tf32 && a->bias == b->bias && a->addend == b->addend && a->relu == b->relu &&
           a->mask == b->mask;
}

int conv_desc_output(const conv_desc *d) {
    return d->direction == CONV_FORWARD ? CONV_Y : d->direction == CONV_DGRAD ? CONV_X : CONV_W;
}

bool conv_desc_has(const conv_desc *d, int operand) {
    if (operand == CONV_BIAS) return d->bias;
    if (operand == CONV_ADDEND) return d->addend;
    if (operand == CONV_MASK) return d->mask;
    return true;
}

dtype conv_desc_type(const conv_desc *d, int operand) {
    return operand == conv_desc_output(d) || operand == CONV_BIAS ? d->output : d->storage;
}

/* N, C, H, W as cuDNN counts them, whatever the layout. */
static void operand_dims(int64_t dims[4], const conv_desc *d, int operand) {
    if (operand == CONV_ADDEND || operand == CONV_MASK) operand = conv_desc_output(d);
    int64_t x[4] = {d->n, d->c, d->h, d->w}, w[4] = {d->k, d->c, d->r, d->s}, bias[4] = {1, d->k, 1, 1},
            y[4] = {d->n, d->k, conv_desc_output_size(d, 1), conv_desc_output_size(d, 2)};
    const int64_t *from = operand == CONV_X ? x : operand == CONV_W ? w : operand == CONV_Y ? y : bias;
    memcpy(dims, from, 4 * sizeof *dims);
}

int64_t conv_desc_count(const conv_desc *d, int operand) {
    int64_t dims[4];
    operand_dims(dims, d, operand);
    return dims[0] * dims[1] * dims[2] * dims[3];
}

double conv_desc_flops(const conv_desc *d) {
    return 2.0 * (double)conv_desc_count(d, CONV_Y) * (double)(d->r * d->s * d->c);
}

/* ---- the graph ------------------------------------------------------------------------------------------ */

/* Building stops at the first failure; the functions below do nothing after it. */
typedef struct builder {
    conv_graph *g;
    const conv_desc *d;
    cudnnStatus_t failed;
    const char *failed_at;
    int64_t next_virtual; /* unique id of the next tensor that is in no memory */
    descriptor ops[4];
    int n_ops;
} builder;

static void note(builder *b, cudnnStatus_t result, const char *what) {
    if (result == CUDNN_STATUS_SUCCESS || b->failed) return;
    b->failed = result;
    b->failed_at = what;
}

static descriptor create(builder *b, cudnnBackendDescriptorType_t type, const char *what) {
    descriptor made = NULL;
    if (b->failed) return NULL;
    CHECK(b->g->n_parts < CONV_GRAPH_PARTS, "a graph of more than %d parts", CONV_GRAPH_PARTS);
    note(b, b->g->api->descriptor_create(type, &made), what);
    if (made) b->g->parts[b->g->n_parts++] = made;
    return made;
}

static void set(builder *b, descriptor to, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values) {
    if (!b->failed) note(b, b->g->api->descriptor_set(to, name, type, count, values), "an attribute");
}

static void set_part(builder *b, descriptor to, cudnnBackendAttributeName_t name, descriptor part) {
    set(b, to, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part);
}

static void finalize(builder *b, descriptor of, const char *what) {
    if (!b->failed) note(b, b->g->api->descriptor_finalize(of), what);
}

static cudnnDataType_t cudnn_type(dtype type) {
    return type == DTYPE_BF16 ? CUDNN_DATA_BFLOAT16 : type == DTYPE_F16 ? CUDNN_DATA_HALF : CUDNN_DATA_FLOAT;
}

static descriptor add_tensor(builder *b, int operand, dtype type, int64_t uid, bool is_virtual) {
    int64_t dims[4], alignment = 16;
    operand_dims(dims, b->d, operand);
    int64_t strides[4] = {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]};
    cudnnDataType_t data_type = cudnn_type(type);
    descriptor t = create(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "a tensor");
    set(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &data_type);
    set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    set(b, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    finalize(b, t, "a tensor");
    return t;
}

static descriptor add_operand(builder *b, int operand) {
    return add_tensor(b, operand, conv_desc_type(b->d, operand), CONV_FIRST_UID + operand, false);
}

/* A float intermediate of the output's shape. */
static descriptor add_virtual(builder *b) {
    return add_tensor(b, conv_desc_output(b->d), DTYPE_F32, b->next_virtual++, true);
}

static descriptor add_convolution(builder *b) {
    const conv_desc *d = b->d;
    int64_t axes = 2, pad[2] = {d->pad, d->pad}, stride[2] = {d->stride, d->stride},
            dilation[2] = {d->dilation, d->dilation};
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    descriptor c = create(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "the convolution");
    set(b, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &axes);
    set(b, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(b, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(b, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    finalize(b, c, "the convolution");
    return c;
}

/* The attributes of the three directions, which cuDNN names apart. */
static const struct direction_attributes {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
} direction_attributes[] = {
    [CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CONV_DGRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CONV_WGRAD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

/* The convolution into `out`, which stands for the operand that is written. */
static void add_conv_op(builder *b, descriptor out) {
    const struct direction_attributes *a = &direction_attributes[b->d->direction];
    int written = conv_desc_output(b->d);
    descriptor convolution = add_convolution(b), operands[3];
    for (int i = CONV_X; i <= CONV_Y; i++) operands[i] = i == written ? out : add_operand(b, i);
    float one = 1.0f, zero = 0.0f;
    descriptor op = create(b, a->type, "the convolution's operation");
    set_part(b, op, a->x, operands[CONV_X]);
    set_part(b, op, a->w, operands[CONV_W]);
    set_part(b, op, a->y, operands[CONV_Y]);
    set_part(b, op, a->convolution, convolution);
    set(b, op, a->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    set(b, op, a->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    finalize(b, op, "the convolution's operation");
    b->ops[b->n_ops++] = op;
}

static descriptor begin_pointwise(builder *b, cudnnPointwiseMode_t mode) {
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    descriptor p = create(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR, "a pointwise operation");
    set(b, p, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set(b, p, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    finalize(b, p, "a pointwise operation");
    descriptor op = create(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, "a pointwise operation");
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, p);
    b->ops[b->n_ops++] = op;
    return op;
}

/* out = in + other */
static void add_sum(builder *b, descriptor in, descriptor other, descriptor out) {
    descriptor op = begin_pointwise(b, CUDNN_POINTWISE_ADD);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, in);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out);
    finalize(b, op, "the sum");
}

static void add_relu(builder *b, descriptor in, descriptor out) {
    descriptor op = begin_pointwise(b, CUDNN_POINTWISE_RELU_FWD);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, in);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out);
    finalize(b, op, "the ReLU");
}

/* The ReLU's gradient from its saved output. */
static void add_mask(builder *b, descriptor in, descriptor saved, descriptor out) {
    descriptor op = begin_pointwise(b, CUDNN_POINTWISE_RELU_BWD);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, saved);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC, in);
    set_part(b, op, CUDNN_ATTR_OPERATION_POINTWISE_DXDESC, out);
    finalize(b, op, "the ReLU's gradient");
}

/* The convolution and its chain of pointwise operations: each writes an intermediate, the last one the output. */
static void add_ops(builder *b) {
    const conv_desc *d = b->d;
    int left = d->bias + d->addend + d->relu + d->mask;
    descriptor output = add_operand(b, conv_desc_output(d));
    descriptor value = left ? add_virtual(b) : output;
    add_conv_op(b, value);
    for (int operand = CONV_BIAS; operand <= CONV_ADDEND; operand++) {
        if (!conv_desc_has(d, operand)) continue;
        descriptor next = --left ? add_virtual(b) : output;
        add_sum(b, value, add_operand(b, operand), next);
        value = next;
    }
    if (d->relu) add_relu(b, value, output);
    if (d->mask) add_mask(b, value, add_operand(b, CONV_MASK), output);
}

status conv_graph_init(conv_graph *g, const cudnn_api *api, cudnnHandle_t handle, const conv_desc *d) {
    CHECK(!(d->relu && d->mask) && (d->direction == CONV_FORWARD || !(d->bias || d->relu)) &&
              (d->direction == CONV_DGRAD || !d->mask) && (d->direction != CONV_WGRAD || !d->addend),
          "a fusion that this direction has not");
    *g = (conv_graph){.api = api};
    builder b = {.g = g, .d = d, .next_virtual = CONV_FIRST_UID + CONV_OPERANDS};
    add_ops(&b);
    g->graph = create(&b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "the operation graph");
    set(&b, g->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, b.n_ops, b.ops);
    if (handle) set(&b, g->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    finalize(&b, g->graph, "the operation graph");
    if (!b.failed) return STATUS_OK;
    char key[CONV_KEY_SIZE], message[256] = "";
    api->get_last_error(message, sizeof message);
    return error_set(STATUS_NO_DEVICE, "the program's own kernel computes it", "cuDNN refuses %s: %s: %s",
                     conv_desc_key(key, d), b.failed_at, message);
}

void conv_graph_release(conv_graph *g) {
    for (int i = g->n_parts - 1; i >= 0; i--) g->api->descriptor_destroy(g->parts[i]);
    *g = (conv_graph){0};
}
