/* Reference of box_decode; also the one that ships: it touches a few hundred kilobytes a step. */
#include "box_decode/box_decode.h"

#include "box_math.h"

static void forward(const op_call *call) {
    const box_decode_params *p = call->params;
    const REAL *deltas = call->in[BOX_DECODE_DELTAS]->data, *reference = call->in[BOX_DECODE_REFERENCE]->data;
    REAL *y = call->out[0]->data;
    int64_t rows = tensor_valid_rows(call->in[BOX_DECODE_DELTAS]);
    for (int64_t n = 0; n < rows; n++)
        box_decode_one(y + 4 * n, deltas + 4 * n, reference + 4 * n, p->weights, p->clip);
}

const op_kernel REAL_NAME(box_decode_reference) = {.name = REAL_KERNEL_NAME, .forward = forward};
