/* rpn_proposals: a tile per image and level finds its top k by a radix selection (three counting passes over
 * the logits), sorts only those, and suppresses; a tile per image merges the levels. */
#include "rpn_proposals/rpn_candidate.h"

#include "base/clock.h"
#include "base/thread_pool.h"
#include "nms_greedy.h"
#include "radix_sort.h"

/* op->parts; the last is the merge of the levels. */
enum { PART_TOP_K, PART_DECODE, PART_NMS, PART_MERGE };

typedef struct level_head {
    int64_t count;              /* candidates */
    double seconds[PART_MERGE]; /* for each part */
} level_head;

/* What one image and level leaves in scratch: candidates by rank; those that suppression removed are marked. */
typedef struct level_slot {
    radix_buffer picked, spare; /* [k] keys and indices */
    float *scores;              /* [k] */
    nms_boxes boxes;            /* [k] */
    level_head *head;
} level_slot;

static int64_t topk_of(const op_call *call, int level) {
    const rpn_proposals_params *p = call->params;
    int64_t size = tensor_row_size(call->in[RPN_PROPOSALS_LOGITS + level]);
    return size < p->pre_nms_topk ? size : p->pre_nms_topk;
}

static size_t slot_bytes(int64_t k) {
    return (sizeof(level_head) + (size_t)k * 5 * 4 + nms_boxes_bytes(k) + 63) / 64 * 64;
}

static size_t image_bytes(const op_call *call) {
    const rpn_proposals_params *p = call->params;
    size_t bytes = 0;
    for (int l = 0; l < p->anchors.levels; l++) bytes += slot_bytes(topk_of(call, l));
    return bytes;
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    return (size_t)call->in[RPN_PROPOSALS_INFO]->shape[0] * image_bytes(call);
}

static level_slot slot_of(const op_call *call, int64_t image, int level) {
    char *memory = (char *)call->scratch + (size_t)image * image_bytes(call);
    for (int l = 0; l < level; l++) memory += slot_bytes(topk_of(call, l));
    int64_t k = topk_of(call, level);
    int32_t *words = (int32_t *)(void *)(memory + sizeof(level_head));
    return (level_slot){.head = (level_head *)(void *)memory,
                        .picked = {(uint32_t *)words, words + k},
                        .spare = {(uint32_t *)words + 2 * k, words + 3 * k},
                        .scores = (float *)(words + 4 * k),
                        .boxes = nms_boxes_at(words + 5 * k, k)};
}

/* The digit of the *k-th smallest key in `histogram`; *k becomes its rank within that digit (1-based). */
static uint32_t digit_of_rank(const int32_t *histogram, int64_t *k) {
    uint32_t digit = 0;
    while (*k > histogram[digit]) *k -= histogram[digit++];
    return digit;
}

/* The k largest finite logits, by falling value, ties by rising index; fewer if there are not so many. */
static int64_t select_top(radix_buffer picked, radix_buffer spare, const float *logits, int64_t count,
                          int64_t k) {
    enum { BITS = 11, BINS = 1 << BITS };
    static const int shifts[3] = {21, 10, 0}, widths[3] = {11, 11, 10};
    uint32_t prefix = 0, mask = 0;
    int64_t rank = k, finite = 0;
    for (int pass = 0; pass < 3; pass++) {
        int32_t histogram[BINS] = {0};
        uint32_t digits = (1u << widths[pass]) - 1;
        for (int64_t i = 0; i < count; i++) {
            uint32_t key = radix_key_descending(logits[i]);
            if (!isfinite(logits[i]) || (key & mask) != prefix) continue;
            histogram[key >> shifts[pass] & digits]++;
            finite += pass == 0;
        }
        if (pass == 0 && finite < k) rank = k = finite;
        if (k == 0) return 0;
        prefix |= digit_of_rank(histogram, &rank) << shifts[pass];
        mask |= digits << shifts[pass];
    }
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) { /* `rank` of those equal to the k-th belong to it */
        uint32_t key = radix_key_descending(logits[i]);
        if (key > prefix || !isfinite(logits[i]) || (key == prefix && rank-- <= 0)) continue;
        picked.keys[n] = key;
        picked.values[n++] = (int32_t)i;
    }
    radix_sort(picked, spare, n);
    return n;
}

static void level_tile(void *context, int64_t tile, int thread) {
    (void)thread;
    const op_call *call = context;
    const rpn_proposals_params *p = call->params;
    int level = (int)(tile % p->anchors.levels);
    int64_t image = tile / p->anchors.levels, size = tensor_row_size(call->in[RPN_PROPOSALS_LOGITS + level]);
    const float *logits = tensor_f32(call->in[RPN_PROPOSALS_LOGITS + level]) + image * size;
    const float *deltas = tensor_f32(call->in[RPN_PROPOSALS_DELTAS + level]) + image * size * 4;
    const image_info *info = (const image_info *)call->in[RPN_PROPOSALS_INFO]->data + image;
    level_slot slot = slot_of(call, image, level);
    anchor_grid grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    double start = clock_seconds();
    int64_t picked = select_top(slot.picked, slot.spare, logits, size, topk_of(call, level)), count = 0;
    double selected = clock_seconds();
    for (int64_t i = 0; i < picked; i++) {
        float box[4];
        int64_t anchor = slot.picked.values[i];
        if (!rpn_candidate(box, p, &grid.level[level], anchor, deltas + 4 * anchor, info)) continue;
        slot.scores[count] = logits[anchor];
        slot.picked.values[count] = (int32_t)anchor; /* count <= i: only those read already are overwritten */
        nms_boxes_set(slot.boxes, count++, box);
    }
    double decoded = clock_seconds();
    nms_greedy(slot.boxes, count, nms_float_threshold(p->nms_threshold), p->post_nms_topk);
    *slot.head = (level_head){.count = count,
                              .seconds = {selected - start, decoded - selected, clock_seconds() - decoded}};
}

static void merge_tile(void *context, int64_t image, int thread) {
    (void)thread;
    const op_call *call = context;
    const rpn_proposals_params *p = call->params;
    level_slot slots[ANCHOR_MAX_LEVELS];
    int64_t next[ANCHOR_MAX_LEVELS] = {0}, row = 0;
    for (int l = 0; l < p->anchors.levels; l++) slots[l] = slot_of(call, image, l);
    float *boxes = tensor_f32(call->out[RPN_PROPOSALS_BOXES]) + image * p->post_nms_topk * 4;
    float *scores = tensor_f32(call->out[RPN_PROPOSALS_SCORES]) + image * p->post_nms_topk;
    int32_t *anchors = tensor_i32(call->out[RPN_PROPOSALS_ANCHORS]) + image * p->post_nms_topk;
    anchor_grid grid = anchor_grid_make(&p->anchors, p->canvas_height, p->canvas_width);
    for (; row < p->post_nms_topk; row++) {
        int best = -1;
        for (int l = 0; l < p->anchors.levels; l++) {
            while (next[l] < slots[l].head->count && slots[l].boxes.removed[next[l]]) next[l]++;
            if (next[l] == slots[l].head->count) continue;
            if (best < 0 || slots[l].scores[next[l]] > slots[best].scores[next[best]]) best = l;
        }
        if (best < 0) break;
        const nms_boxes *b = &slots[best].boxes;
        int64_t i = next[best]++;
        memcpy(boxes + 4 * row, (float[4]){b->x1[i], b->y1[i], b->x2[i], b->y2[i]}, 4 * sizeof *boxes);
        scores[row] = slots[best].scores[i];
        anchors[row] = (int32_t)grid.level[best].first + slots[best].picked.values[i];
    }
    tensor_i32(call->out[RPN_PROPOSALS_COUNTS])[image] = (int32_t)row;
    memset(boxes + 4 * row, 0, (size_t)(p->post_nms_topk - row) * 4 * sizeof *boxes);
    memset(scores + row, 0, (size_t)(p->post_nms_topk - row) * sizeof *scores);
    for (; row < p->post_nms_topk; row++) anchors[row] = -1;
}

/* The merge counts as if all threads took part: it is as long for all. */
static void tell_parts(const op_call *call, int64_t images, double merge_seconds) {
    const rpn_proposals_params *p = call->params;
    for (int64_t tile = 0; tile < images * p->anchors.levels; tile++) {
        level_slot slot = slot_of(call, tile / p->anchors.levels, (int)(tile % p->anchors.levels));
        for (int part = 0; part < PART_MERGE; part++) call->part_seconds[part] += slot.head->seconds[part];
    }
    call->part_seconds[PART_MERGE] += merge_seconds * thread_pool_size();
}

static void forward(const op_call *call) {
    const rpn_proposals_params *p = call->params;
    int64_t images = call->in[RPN_PROPOSALS_INFO]->shape[0];
    parallel_for(images * p->anchors.levels, level_tile, (void *)call);
    double start = clock_seconds();
    parallel_for(images, merge_tile, (void *)call);
    if (call->part_seconds) tell_parts(call, images, clock_seconds() - start);
}

const op_kernel rpn_proposals_topk = {.name = "topk", .forward = forward, .scratch_bytes = scratch_bytes};
