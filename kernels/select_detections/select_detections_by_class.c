/* select_detections in three steps: scores, a tile per block of rows; candidates and their suppression, a tile per
 * class and image; the best of all classes, a tile per image. Candidates live in the thread's memory; what is kept
 * of a class is at most what an image may keep. */
#include "select_detections/detection_candidate.h"

#include "base/clock.h"
#include "base/thread_pool.h"
#include "nms_greedy.h"
#include "radix_sort.h"
#include "sample_heap.h"

enum { ROWS = 32 }; /* of a tile */

typedef struct survivor {
    float box[4], score; /* resized pixels */
    int32_t row;
} survivor;

typedef struct job {
    const op_call *call;
    const select_detections_params *p;
    const float *logits, *deltas, *rois;
    const image_info *info;
    int64_t capacity, rows, classes, images; /* capacity: rows that there may be */
    int64_t keep;                            /* of a class of an image */
    float delta_limit; /* deltas and corners below it give finite boxes, whatever they are */

    int32_t *order;  /* [capacity] place -> row: rows of image 0 first */
    int32_t *first;  /* [images + 1] places where the images start */
    float *scores;   /* [classes, capacity] by place; 0: no candidate */
    survivor *kept;  /* [images, classes, keep] by falling score */
    int32_t *n_kept; /* [images, classes] */
    char *image_space, *thread_space;
} job;

/* --- memory ---------------------------------------------------------------------------------------------------- */

static size_t aligned(size_t bytes) {
    return (bytes + 63) / 64 * 64;
}

/* Of an image: a heap, two sort buffers; the first of them holds slots of kept boxes in the end. */
static size_t image_bytes(int64_t detections) {
    return aligned((size_t)detections * (sizeof(sample) + 2 * (sizeof(uint32_t) + sizeof(int32_t))));
}

/* Of a thread: the softmax of a row, or the candidates of a class of an image. */
static size_t thread_bytes(int64_t capacity, int64_t classes) {
    size_t softmax = (size_t)(classes + 1) * sizeof(float),
           candidates =
               (size_t)capacity * 2 * (sizeof(uint32_t) + sizeof(int32_t)) + nms_boxes_bytes(capacity);
    return aligned(softmax > candidates ? softmax : candidates);
}

/* Fills in everything; with call->scratch NULL only sizes are of use. Returns the scratch needed. */
static size_t make_job(job *j, const op_call *call) {
    const select_detections_params *p = call->params;
    const tensor *rois = call->in[SELECT_DETECTIONS_ROIS];
    *j = (job){.call = call,
               .p = p,
               .logits = tensor_f32(call->in[SELECT_DETECTIONS_LOGITS]),
               .deltas = tensor_f32(call->in[SELECT_DETECTIONS_DELTAS]),
               .rois = tensor_f32(rois),
               .info = call->in[SELECT_DETECTIONS_INFO]->data,
               .capacity = rois->shape[0],
               .classes = call->in[SELECT_DETECTIONS_LOGITS]->shape[1] - 1,
               .images = call->in[SELECT_DETECTIONS_INFO]->shape[0],
               .delta_limit = 1e6f};
    j->keep = j->capacity < p->max_detections ? j->capacity : p->max_detections;
    for (int k = 0; k < 4; k++)
        if (p->box_weights[k] < 1) j->delta_limit = fminf(j->delta_limit, (float)(1e6 * p->box_weights[k]));
    size_t sizes[] = {(size_t)j->capacity * sizeof(int32_t),
                      (size_t)(j->images + 1) * sizeof(int32_t),
                      (size_t)(j->classes * j->capacity) * sizeof(float),
                      (size_t)(j->images * j->classes * j->keep) * sizeof(survivor),
                      (size_t)(j->images * j->classes) * sizeof(int32_t),
                      (size_t)j->images * image_bytes(p->max_detections),
                      (size_t)thread_pool_size() * thread_bytes(j->capacity, j->classes)};
    enum { PARTS = sizeof sizes / sizeof *sizes };
    size_t offsets[PARTS + 1] = {0};
    for (int i = 0; i < PARTS; i++) offsets[i + 1] = offsets[i] + aligned(sizes[i]);
    char *memory = call->scratch;
    if (!memory) return offsets[PARTS];
    j->order = (int32_t *)(void *)(memory + offsets[0]);
    j->first = (int32_t *)(void *)(memory + offsets[1]);
    j->scores = (float *)(void *)(memory + offsets[2]);
    j->kept = (survivor *)(void *)(memory + offsets[3]);
    j->n_kept = (int32_t *)(void *)(memory + offsets[4]);
    j->image_space = memory + offsets[5];
    j->thread_space = memory + offsets[6];
    j->rows = tensor_valid_rows(rois);
    return offsets[PARTS];
}

static size_t scratch_bytes(const op_call *call, bool backward) {
    (void)backward;
    op_call sizes_only = *call;
    sizes_only.scratch = NULL;
    job j;
    return make_job(&j, &sizes_only);
}

/* --- rows ------------------------------------------------------------------------------------------------------ */

static void sort_rows_by_image(const job *j) {
    memset(j->first, 0, (size_t)(j->images + 1) * sizeof *j->first);
    for (int64_t row = 0; row < j->rows; row++) j->first[(int64_t)j->rois[5 * row] + 1]++;
    for (int64_t n = 0; n < j->images; n++) j->first[n + 1] += j->first[n];
    for (int64_t row = 0; row < j->rows; row++)
        j->order[j->first[(int64_t)j->rois[5 * row]]++] = (int32_t)row;
    for (int64_t n = j->images; n > 0; n--) j->first[n] = j->first[n - 1]; /* they moved to their ends */
    j->first[0] = 0;
}

static bool all_below(const float *values, int64_t count, float limit) {
    int32_t bad = 0;
    for (int64_t i = 0; i < count; i++) bad |= !(fabsf(values[i]) < limit);
    return !bad;
}

/* Decodes only where a box might be out of range. */
static bool boxes_are_finite(const job *j, const float *deltas, const float *roi) {
    if (all_below(deltas + 4, 4 * j->classes, j->delta_limit) && all_below(roi + 1, 4, 1e8f)) return true;
    float box[4];
    for (int64_t c = 1; c <= j->classes; c++)
        if (!detection_decode(box, j->p, deltas + 4 * c, roi)) return false;
    return true;
}

static void score_tile(void *context, int64_t tile, int thread) {
    const job *j = context;
    int64_t channels = j->classes + 1, end = (tile + 1) * ROWS < j->rows ? (tile + 1) * ROWS : j->rows;
    float *softmax =
        (float *)(void *)(j->thread_space + (size_t)thread * thread_bytes(j->capacity, j->classes));
    float threshold = (float)j->p->score_threshold;
    for (int64_t place = tile * ROWS; place < end; place++) {
        int64_t row = j->order[place];
        bool valid = detection_softmax(softmax, j->logits + row * channels, channels) &&
                     boxes_are_finite(j, j->deltas + row * 4 * channels, j->rois + 5 * row);
        for (int64_t c = 0; c < j->classes; c++)
            j->scores[c * j->capacity + place] = valid && softmax[c + 1] > threshold ? softmax[c + 1] : 0;
    }
}

/* --- classes --------------------------------------------------------------------------------------------------- */

static void class_tile(void *context, int64_t tile, int thread) {
    const job *j = context;
    int64_t class = tile % j->classes, image = tile / j->classes, count = 0, kept = 0;
    const float *scores = j->scores + class * j->capacity;
    char *memory = j->thread_space + (size_t)thread * thread_bytes(j->capacity, j->classes);
    int32_t *words = (int32_t *)(void *)memory;
    radix_buffer sorted = {(uint32_t *)words, words + j->capacity},
                 spare = {(uint32_t *)words + 2 * j->capacity, words + 3 * j->capacity};
    nms_boxes boxes = nms_boxes_at(words + 4 * j->capacity, j->capacity);
    for (int32_t place = j->first[image]; place < j->first[image + 1]; place++) {
        if (!(scores[place] > 0)) continue;
        sorted.keys[count] = radix_key_descending(scores[place]);
        sorted.values[count++] = place;
    }
    radix_sort(sorted, spare, count);
    int64_t candidates = 0;
    for (int64_t i = 0; i < count; i++) {
        float box[4];
        int32_t place = sorted.values[i];
        int64_t row = j->order[place];
        if (!detection_candidate(box, j->p, j->deltas + 4 * (row * (j->classes + 1) + class + 1),
                                 j->rois + 5 * row, j->info + image))
            continue;
        sorted.values[candidates] = place; /* candidates <= i: only those read already are overwritten */
        nms_boxes_set(boxes, candidates++, box);
    }
    nms_greedy(boxes, candidates, nms_float_threshold(j->p->nms_threshold), j->keep);
    survivor *out = j->kept + tile * j->keep;
    for (int64_t i = 0; i < candidates; i++) {
        if (boxes.removed[i]) continue;
        out[kept++] = (survivor){.box = {boxes.x1[i], boxes.y1[i], boxes.x2[i], boxes.y2[i]},
                                 .score = scores[sorted.values[i]],
                                 .row = j->order[sorted.values[i]]};
    }
    j->n_kept[tile] = (int32_t)kept;
}

/* --- images ---------------------------------------------------------------------------------------------------- */

typedef struct image_space {
    sample_heap heap;
    radix_buffer sorted, spare;
} image_space;

static image_space image_space_of(const job *j, int64_t image) {
    int64_t n = j->p->max_detections;
    char *memory = j->image_space + (size_t)image * image_bytes(n);
    int32_t *words = (int32_t *)(void *)(memory + (size_t)n * sizeof(sample));
    return (image_space){.heap = {.items = (sample *)(void *)memory, .capacity = n},
                         .sorted = {(uint32_t *)words, words + n},
                         .spare = {(uint32_t *)words + 2 * n, words + 3 * n}};
}

/* Leaves the slots (places in `kept`) of the image's detections in `sorted.values`, best first. */
static void image_tile(void *context, int64_t image, int thread) {
    (void)thread;
    const job *j = context;
    image_space space = image_space_of(j, image);
    for (int64_t c = 0; c < j->classes; c++) {
        int64_t tile = image * j->classes + c;
        for (int64_t i = 0; i < j->n_kept[tile]; i++) {
            const survivor *s = &j->kept[tile * j->keep + i];
            int64_t slot = tile * j->keep + i, candidate = s->row * j->classes + c;
            sample_heap_push(&space.heap,
                             sample_make(radix_key_descending(s->score), candidate, (int32_t)slot));
        }
    }
    int64_t count = space.heap.count, filled = 0;
    sample_heap_sort_by_index(&space.heap);
    for (int64_t i = 0; i < count; i++) {
        int32_t slot = space.heap.items[i].match;
        space.sorted.keys[i] = radix_key_descending(j->kept[slot].score);
        space.sorted.values[i] = slot;
    }
    radix_sort(space.sorted, space.spare, count); /* stable: ties by candidate */
    for (int64_t i = 0; i < count; i++) {
        float original[4];
        int32_t slot = space.sorted.values[i];
        if (detection_to_original(original, j->kept[slot].box, j->info + image))
            space.sorted.values[filled++] = slot;
    }
    tensor_i32(j->call->out[SELECT_DETECTIONS_COUNTS])[image] = (int32_t)filled;
}

static void write_detections(const job *j) {
    float *boxes = tensor_f32(j->call->out[SELECT_DETECTIONS_BOXES]),
          *det_rois = tensor_f32(j->call->out[SELECT_DETECTIONS_DET_ROIS]),
          *scores = tensor_f32(j->call->out[SELECT_DETECTIONS_SCORES]);
    int32_t *labels = tensor_i32(j->call->out[SELECT_DETECTIONS_LABELS]), row = 0;
    for (int64_t n = 0; n < j->images; n++) {
        int32_t count = tensor_i32(j->call->out[SELECT_DETECTIONS_COUNTS])[n];
        const int32_t *slots = image_space_of(j, n).sorted.values;
        for (int32_t i = 0; i < count; i++, row++) {
            const survivor *s = &j->kept[slots[i]];
            detection_to_original(boxes + 4 * row, s->box, j->info + n);
            det_rois[5 * row] = (float)n;
            memcpy(det_rois + 5 * row + 1, s->box, sizeof s->box);
            scores[row] = s->score;
            labels[row] = (int32_t)(slots[i] / j->keep % j->classes) + 1;
        }
    }
    *tensor_i32(j->call->out[SELECT_DETECTIONS_COUNT]) = row;
}

static void forward(const op_call *call) {
    job j;
    make_job(&j, call);
    double times[] = {clock_seconds(), 0, 0,
                      0}; /* op->parts are between them; all threads take part in each */
    sort_rows_by_image(&j);
    parallel_for((j.rows + ROWS - 1) / ROWS, score_tile, &j);
    times[1] = clock_seconds();
    parallel_for(j.images * j.classes, class_tile, &j);
    times[2] = clock_seconds();
    parallel_for(j.images, image_tile, &j);
    write_detections(&j);
    times[3] = clock_seconds();
    for (int i = 0; i < 3 && call->part_seconds; i++) call->part_seconds[i] += times[i + 1] - times[i];
}

const op_kernel select_detections_by_class = {
    .name = "by_class", .forward = forward, .scratch_bytes = scratch_bytes};
