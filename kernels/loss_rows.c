#include "loss_rows.h"

#include "base/thread_pool.h"

#include <math.h>

enum { TILE_ELEMENTS = 4096 };

status loss_rows_infer(op_call *call, double normalizer, int count_input) {
    if (!(normalizer > 0)) return op_bad_attr(call, "normalizer", "a number above 0");
    const tensor *count = call->in[count_input];
    if (count && count->rank != 0) {
        RETURN_IF_ERROR(op_expect_rank(call, count_input, 1));
        RETURN_IF_ERROR(op_expect_dim(call, count_input, 0, 1, "one number"));
    }
    op_describe_output(call, 0, op_real_type(call), 0, NULL, NULL);
    return STATUS_OK;
}

status loss_rows_expect_weights(const op_call *call, int weights_input) {
    RETURN_IF_ERROR(op_expect_rank(call, weights_input, 1));
    return op_expect_dims_equal(call, weights_input, 0, 0, 0);
}

static int64_t tile_rows(const op_call *call) {
    int64_t size = tensor_row_size(call->in[0]);
    return size > 0 && size < TILE_ELEMENTS ? TILE_ELEMENTS / size : 1;
}

static int64_t tiles_of(const op_call *call, int64_t rows) {
    int64_t tile = tile_rows(call);
    return (rows + tile - 1) / tile;
}

size_t loss_rows_scratch(const op_call *call, bool backward) {
    return backward ? 0 : (size_t)tiles_of(call, call->in[0]->shape[0]) * sizeof(double);
}

typedef struct job {
    const op_call *call;
    int64_t rows;
    double scale;
    double (*loss)(const op_call *call, int64_t i);
    void (*gradient)(const op_call *call, int64_t i, double scale);
} job;

static void run_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    int64_t size = tile_rows(j->call), first = tile * size,
            end = first + size < j->rows ? first + size : j->rows;
    double sum = 0;
    for (int64_t i = first; i < end; i++) {
        if (j->gradient)
            j->gradient(j->call, i, j->scale);
        else
            sum += j->loss(j->call, i);
    }
    if (j->loss) ((double *)j->call->scratch)[tile] = sum;
}

static double denominator(const op_call *call, double normalizer, int count_input) {
    const tensor *count = call->in[count_input];
    return normalizer * (count ? fmax(tensor_get(count, 0), 1) : 1);
}

void loss_rows_forward(const op_call *call, double normalizer, int count_input,
                       double (*row)(const op_call *call, int64_t i)) {
    job j = {.call = call, .rows = tensor_valid_rows(call->in[0]), .loss = row};
    int64_t tiles = tiles_of(call, j.rows);
    parallel_for(tiles, run_tile, &j);
    double sum = 0;
    for (int64_t t = 0; t < tiles; t++) sum += ((const double *)call->scratch)[t];
    tensor_set(call->out[0], 0, sum / denominator(call, normalizer, count_input));
}

void loss_rows_backward(const op_call *call, double normalizer, int count_input,
                        void (*row)(const op_call *call, int64_t i, double scale)) {
    if (!call->d_in[0]) return;
    double scale = tensor_get(call->d_out[0], 0) / denominator(call, normalizer, count_input);
    job j = {.call = call, .rows = tensor_valid_rows(call->in[0]), .scale = scale, .gradient = row};
    parallel_for(tiles_of(call, j.rows), run_tile, &j);
}
