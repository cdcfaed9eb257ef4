/* A convolution with what is fused to it, described by a few numbers, and built as a cuDNN operation graph.
 *
 * Roles: x [N,H,W,C] is the image side, y [N,P,Q,K] the other one, w [K,R,S,C] the weight:
 *
 *   forward   y = relu?(conv(x, w) + bias[K] + addend[N,P,Q,K])
 *   dgrad     x = mask?(transposed conv(y, w) + addend[N,H,W,C]), where mask keeps x where mask[N,H,W,C] > 0 and clears
 *             it elsewhere
 *   wgrad     w = gradient of the weight from x and y
 *
 * All is NHWC, dense; sums are taken in float. The operand that is written and the bias have the type `output`, all others
 * the type `storage`; with cuDNN both are the same, because it has ready kernels for that only, and a weight's gradient takes
 * no addend. The addend may be the operand that is written. */
#ifndef CUDNN_CONV_GRAPH_H
#define CUDNN_CONV_GRAPH_H

#include "autograd/tensor.h"
#include "cudnn/cudnn_api.h"

typedef enum conv_direction { CONV_FORWARD, CONV_DGRAD, CONV_WGRAD } conv_direction;

/* Operands, which are also cuDNN's unique ids less CONV_FIRST_UID. */
enum { CONV_X, CONV_W, CONV_Y, CONV_BIAS, CONV_ADDEND, CONV_MASK, CONV_OPERANDS, CONV_FIRST_UID = 1 };

typedef struct conv_desc {
    conv_direction direction;
    int64_t n, h, w, c;        /* of x */
    int64_t k, r, s;           /* of w */
    int stride, pad, dilation; /* the same on both axes */
    dtype storage, output;
    bool tf32; /* F32 products may be rounded to TF32's 10 bits of fraction */
    bool bias, addend, relu, mask;
} conv_desc;

enum { CONV_KEY_SIZE = 160 };

/* Height (axis 1) or width (axis 2) of y. */
int64_t conv_desc_output_size(const conv_desc *d, int axis);

/* The description as one line without tabs, the same for equal descriptions only: the key of plan caches. */
const char *conv_desc_key(char key[CONV_KEY_SIZE], const conv_desc *d);

bool conv_desc_equal(const conv_desc *a, const conv_desc *b);

/* Operand that is written: CONV_Y, CONV_X or CONV_W. */
int conv_desc_output(const conv_desc *d);

/* Whether the operand takes part. */
bool conv_desc_has(const conv_desc *d, int operand);

dtype conv_desc_type(const conv_desc *d, int operand);

/* Elements, all dimensions multiplied. */
int64_t conv_desc_count(const conv_desc *d, int operand);

/* Multiplications and additions of the plain convolution. */
double conv_desc_flops(const conv_desc *d);

enum { CONV_GRAPH_PARTS = 24 };

/* The operation graph and the descriptors it is made of, which live as long. */
typedef struct conv_graph {
    const cudnn_api *api;
    cudnnBackendDescriptor_t graph;
    cudnnBackendDescriptor_t parts[CONV_GRAPH_PARTS];
    int n_parts;
} conv_graph;

/* `handle` NULL: for plans without a GPU. NO_DEVICE with cuDNN's words where it refuses the graph. Release also then. */
status conv_graph_init(conv_graph *g, const cudnn_api *api, cudnnHandle_t handle, const conv_desc *d);
void conv_graph_release(conv_graph *g);

#endif
