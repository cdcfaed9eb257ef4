/* Reference of box_encode; also the one that ships: it touches a few hundred kilobytes a step. */
#include "box_encode/box_encode.h"

#include "box_math.h"

static void forward(const op_call *call) {
    const box_encode_params *p = call->params;
    const REAL *boxes = call->in[BOX_ENCODE_BOXES]->data, *reference = call->in[BOX_ENCODE_REFERENCE]->data;
    REAL *y = call->out[0]->data;
    int64_t rows = tensor_valid_rows(call->in[BOX_ENCODE_BOXES]);
    for (int64_t n = 0; n < rows; n++)
        box_encode_one(y + 4 * n, boxes + 4 * n, reference + 4 * n, p->weights);
}

const op_kernel REAL_NAME(box_encode_reference) = {.name = REAL_KERNEL_NAME, .forward = forward};
