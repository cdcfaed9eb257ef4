/* nms by one radix sort on scores and one on groups; the groups are tiles of their own, and within a group
 * one box meets many in a vector. */
#include "nms/nms.h"

#include "base/thread_pool.h"
#include "nms_greedy.h"
#include "radix_sort.h"

typedef struct job {
    float threshold;
    nms_boxes boxes;      /* by group, in a group by rank */
    const int32_t *first; /* [groups + 1] places where the groups start */
} job;

/* Everything is [n] of four bytes: two sort buffers, rank -> box, place -> rank, group starts (n + 1), then
 * the boxes. */
static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    int64_t n = call->in[NMS_BOXES]->shape[0];
    return (size_t)(7 * n + 1) * 4 + nms_boxes_bytes(n);
}

static void group_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const job *j = context;
    int64_t count = j->first[tile + 1] - j->first[tile];
    nms_greedy(nms_boxes_from(j->boxes, j->first[tile]), count, j->threshold, count);
}

/* Sorts places by group (stable, so by rank within a group) and finds where each group starts; returns their
 * number. */
static int64_t split_groups(int32_t *first, radix_buffer sorted, radix_buffer spare, const int32_t *groups,
                            const int32_t *order, int64_t n) {
    for (int64_t rank = 0; rank < n; rank++) {
        sorted.keys[rank] = groups ? (uint32_t)groups[order[rank]] : 0;
        sorted.values[rank] = (int32_t)rank;
    }
    radix_sort(sorted, spare, n);
    int64_t count = 0;
    for (int64_t place = 0; place < n; place++)
        if (place == 0 || sorted.keys[place] != sorted.keys[place - 1]) first[count++] = (int32_t)place;
    first[count] = (int32_t)n;
    return count;
}

static void forward(const op_call *call) {
    const nms_params *p = call->params;
    int64_t capacity = call->in[NMS_BOXES]->shape[0], n = tensor_valid_rows(call->in[NMS_BOXES]);
    const float *boxes = tensor_f32(call->in[NMS_BOXES]), *scores = tensor_f32(call->in[NMS_SCORES]);
    const int32_t *groups = call->in[NMS_GROUPS] ? tensor_i32(call->in[NMS_GROUPS]) : NULL;
    int32_t *words = call->scratch;
    radix_buffer sorted = {(uint32_t *)words, words + capacity},
                 spare = {(uint32_t *)words + 2 * capacity, words + 3 * capacity};
    int32_t *order = words + 4 * capacity, *removed_by_rank = words + 5 * capacity,
            *first = words + 6 * capacity;
    nms_boxes by_group = nms_boxes_at(words + 7 * capacity + 1, capacity);

    for (int64_t i = 0; i < n; i++) {
        sorted.keys[i] = radix_key_descending(scores[i]);
        sorted.values[i] = (int32_t)i;
    }
    radix_sort(sorted, spare, n);
    memcpy(order, sorted.values, (size_t)n * sizeof *order);
    int64_t n_groups = split_groups(first, sorted, spare, groups, order, n);
    for (int64_t place = 0; place < n; place++)
        nms_boxes_set(by_group, place, boxes + 4 * (int64_t)order[sorted.values[place]]);
    job j = {.threshold = nms_float_threshold(p->iou_threshold), .boxes = by_group, .first = first};
    parallel_for(n_groups, group_tile, &j);

    for (int64_t place = 0; place < n; place++)
        removed_by_rank[sorted.values[place]] = by_group.removed[place];
    int32_t *keep = tensor_i32(call->out[0]), kept = 0;
    for (int64_t rank = 0; rank < n; rank++)
        if (!removed_by_rank[rank]) keep[kept++] = order[rank];
    *tensor_i32(call->out[1]) = kept;
}

const op_kernel nms_sorted = {.name = "sorted", .forward = forward, .scratch_bytes = scratch_bytes};
