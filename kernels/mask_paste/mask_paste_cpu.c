/* Reference of mask_paste: looks at every pixel that may be set. */
#include "mask_paste/mask_place.h"

static REAL node(const REAL *map, int side, int y, int x) {
    return y < 1 || y > side || x < 1 || x > side ? 0 : map[(y - 1) * side + x - 1];
}

static void paste(const op_call *call, int64_t m) {
    const mask_paste_params *p = call->params;
    const tensor *probs = call->in[MASK_PASTE_PROBS];
    int side = (int)probs->shape[1];
    const REAL *map = (const REAL *)probs->data + m * side * side,
               *box = (const REAL *)call->in[MASK_PASTE_BOXES]->data + 4 * m;
    const image_info *info = (const image_info *)call->in[MASK_PASTE_INFO]->data +
                             (int64_t)((const REAL *)call->in[MASK_PASTE_ROIS]->data)[5 * m];
    mask_runs runs = {.runs = tensor_i32(call->out[MASK_PASTE_RUNS]) + m * p->capacity,
                      .capacity = p->capacity};
    int64_t height = info->original_height;
    mask_axis x_axis, y_axis;
    if (mask_axis_make(&x_axis, p, side, box[0], box[2], info->original_width) &&
        mask_axis_make(&y_axis, p, side, box[1], box[3], info->original_height))
        for (int64_t x = x_axis.first; x < x_axis.end; x++)
            for (int64_t y = y_axis.first; y < y_axis.end; y++) {
                REAL right, down;
                int i = mask_axis_at(&x_axis, x, &right), k = mask_axis_at(&y_axis, y, &down);
                if (i < 0 || i > side || k < 0 || k > side) continue;
                REAL upper = mask_between(node(map, side, k, i), node(map, side, k, i + 1), right),
                     lower = mask_between(node(map, side, k + 1, i), node(map, side, k + 1, i + 1), right);
                if (mask_is_set(p, mask_between(upper, lower, down)))
                    mask_runs_add(&runs, x * height + y, x * height + y + 1);
            }
    tensor_i32(call->out[MASK_PASTE_COUNTS])[m] = mask_runs_finish(&runs, height * info->original_width);
}

static void forward(const op_call *call) {
    for (int64_t m = 0; m < tensor_valid_rows(call->in[MASK_PASTE_PROBS]); m++) paste(call, m);
}

const op_kernel REAL_NAME(mask_paste_reference) = {.name = REAL_KERNEL_NAME, .forward = forward};
