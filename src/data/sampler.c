#include "data/sampler.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/philox.h"

/* Images that wait until a batch of their kind is full. */
typedef struct bucket {
    sampler_item *items; /* [global_batch] */
    int32_t count;
} bucket;

struct sampler {
    const dataset *data;
    sampler_options options;
    int32_t short_edges[SAMPLER_MAX_SHORT_EDGES];
    uint32_t *images; /* [count] chosen images: the wide ones (bucket 0) first when grouping, in file order */
    uint32_t *order;  /* [count] this epoch's order, indices into `stream` */
    uint32_t *stream; /* [count] chosen images in file order */
    uint32_t count, wide_count, filtered;
    /* where the replay stands: everything before is a function of (seed, next) */
    bucket buckets[2];
    int64_t next; /* iteration that the stream makes next */
    uint32_t epoch, position;
};

static bool is_tall(const dataset *data, uint32_t image) {
    const coco_image *record = dataset_image(data, image);
    return record->width < record->height;
}

static void start_epoch(sampler *s, uint32_t epoch) {
    s->epoch = epoch;
    s->position = 0;
    for (uint32_t i = 0; i < s->count; i++) s->order[i] = s->stream[i];
    if (!s->options.shuffle) return;
    philox_key key = {s->options.seed, PHILOX_SHUFFLE, epoch, 0};
    for (uint32_t i = s->count - 1; i > 0; i--) {
        uint32_t other = philox_below(&key, i, i + 1), kept = s->order[i];
        s->order[i] = s->order[other];
        s->order[other] = kept;
    }
}

static void restart(sampler *s) {
    s->next = 0;
    s->buckets[0].count = s->buckets[1].count = 0;
    start_epoch(s, 0);
}

static status check_options(const sampler_options *o) {
    if (o->global_batch < 1)
        return error_set(STATUS_CONFIG, "set SOLVER.IMS_PER_BATCH to 1 or more", "SOLVER.IMS_PER_BATCH is %d",
                         o->global_batch);
    if (o->short_edge_count < 1 || o->short_edge_count > SAMPLER_MAX_SHORT_EDGES)
        return error_set(STATUS_CONFIG, "give 1 to 64 sizes in INPUT.MIN_SIZE_TRAIN",
                         "INPUT.MIN_SIZE_TRAIN has %d sizes", o->short_edge_count);
    for (int32_t i = 0; i < o->short_edge_count; i++)
        if (o->short_edges[i] < 1)
            return error_set(STATUS_CONFIG, "give sizes of 1 pixel or more",
                             "INPUT.MIN_SIZE_TRAIN has the size %d", o->short_edges[i]);
    if (o->short_edge_range && (o->short_edge_count != 2 || o->short_edges[0] > o->short_edges[1]))
        return error_set(
            STATUS_CONFIG,
            "give INPUT.MIN_SIZE_TRAIN as (LOWEST, HIGHEST), or use INPUT.MIN_SIZE_TRAIN_SAMPLING choice",
            "INPUT.MIN_SIZE_TRAIN_SAMPLING is range, but INPUT.MIN_SIZE_TRAIN is not a range of two sizes");
    if (!(o->flip_probability >= 0 && o->flip_probability <= 1))
        return error_set(STATUS_CONFIG, "choose it between 0 and 1", "the flip probability is %g",
                         (double)o->flip_probability);
    return STATUS_OK;
}

static void choose_images(sampler *s) {
    uint32_t all = dataset_image_count(s->data), tall = 0;
    for (uint32_t i = 0; i < all; i++) {
        if (s->options.filter_empty && dataset_usable_annotations(s->data, i) == 0)
            s->filtered++;
        else
            s->stream[s->count++] = i;
    }
    for (uint32_t i = 0; i < s->count; i++)
        if (!is_tall(s->data, s->stream[i])) s->images[s->wide_count++] = s->stream[i];
    for (uint32_t i = 0; i < s->count; i++)
        if (is_tall(s->data, s->stream[i])) s->images[s->wide_count + tall++] = s->stream[i];
}

status sampler_new(sampler **out, const dataset *data, const sampler_options *options) {
    RETURN_IF_ERROR(check_options(options));
    size_t room = (size_t)dataset_image_count(data) + 1, batch = (size_t)options->global_batch;
    sampler *s = calloc(1, sizeof *s);
    if (!s) return error_set(STATUS_OS, "free memory", "no memory for the sampler");
    s->data = data;
    s->options = *options;
    memcpy(s->short_edges, options->short_edges, (size_t)options->short_edge_count * sizeof *s->short_edges);
    s->options.short_edges = s->short_edges;
    s->images = malloc(room * sizeof *s->images);
    s->order = malloc(room * sizeof *s->order);
    s->stream = malloc(room * sizeof *s->stream);
    for (int k = 0; k < 2; k++) s->buckets[k].items = malloc(batch * sizeof *s->buckets[k].items);
    if (!s->images || !s->order || !s->stream || !s->buckets[0].items || !s->buckets[1].items) {
        sampler_free(s);
        return error_set(STATUS_OS, "free memory", "no memory to sample from %zu images", room - 1);
    }
    choose_images(s);
    if (s->count == 0) {
        uint32_t filtered = s->filtered;
        sampler_free(s);
        return error_set(
            STATUS_DATA,
            "see the reasons in the log; DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps images without "
            "annotations",
            "no image to train on: %" PRIu32 " have no usable annotation", filtered);
    }
    restart(s);
    *out = s;
    return STATUS_OK;
}

void sampler_free(sampler *s) {
    if (!s) return;
    free(s->images);
    free(s->order);
    free(s->stream);
    for (int k = 0; k < 2; k++) free(s->buckets[k].items);
    free(s);
}

/* Draws from the stream until a bucket is full, and returns it. */
static bucket *fill_bucket(sampler *s) {
    for (;;) {
        if (s->position == s->count) start_epoch(s, s->epoch + 1);
        uint32_t image = s->order[s->position++];
        bucket *b = &s->buckets[s->options.aspect_grouping && is_tall(s->data, image)];
        b->items[b->count++] = (sampler_item){image, s->epoch};
        if (b->count == s->options.global_batch) return b;
    }
}

void sampler_batch(sampler_item *items, sampler *s, int64_t iteration) {
    CHECK(iteration >= 0, "iteration %lld", (long long)iteration);
    if (iteration < s->next) restart(s);
    for (;;) {
        bucket *b = fill_bucket(s);
        b->count = 0;
        if (s->next++ == iteration) {
            memcpy(items, b->items, (size_t)s->options.global_batch * sizeof *items);
            return;
        }
    }
}

sampler_view sampler_view_of(const sampler *s, uint32_t image, uint32_t epoch, int32_t height,
                             int32_t width) {
    const sampler_options *o = &s->options;
    uint64_t item = dataset_image_key(s->data, image);
    philox_key flip = {o->seed, PHILOX_FLIP, epoch, item}, scale = {o->seed, PHILOX_SCALE, epoch, item};
    int32_t edge = o->short_edges[0];
    if (o->short_edge_range)
        edge += (int32_t)philox_below(&scale, 0, (uint32_t)(o->short_edges[1] - o->short_edges[0]) + 1);
    else if (o->short_edge_count > 1)
        edge = o->short_edges[philox_below(&scale, 0, (uint32_t)o->short_edge_count)];
    sampler_view view = {.flip = philox_uniform(&flip, 0) < o->flip_probability};
    resize_rule_apply(&view.resized_height, &view.resized_width, o->rule, height, width, edge, o->max_size);
    return view;
}

uint32_t sampler_replacement(const sampler *s, uint32_t image, uint32_t epoch, uint32_t attempt) {
    philox_key key = {s->options.seed, PHILOX_REPLACEMENT, epoch, dataset_image_key(s->data, image)};
    uint32_t first = 0, count = s->count, tall_count = s->count - s->wide_count;
    if (s->options.aspect_grouping) {
        bool tall = is_tall(s->data, image);
        if ((tall ? tall_count : s->wide_count) > 1) {
            first = tall ? s->wide_count : 0;
            count = tall ? tall_count : s->wide_count;
        }
    }
    uint32_t at = first + philox_below(&key, attempt, count);
    if (s->images[at] == image) at = first + (at - first + 1) % count;
    return s->images[at];
}

uint32_t sampler_image_count(const sampler *s) {
    return s->count;
}

uint32_t sampler_filtered_count(const sampler *s) {
    return s->filtered;
}

uint32_t sampler_image(const sampler *s, uint32_t index) {
    CHECK(index < s->count, "image %u of %u", index, s->count);
    return s->stream[index];
}

void sampler_largest(const sampler *s, int32_t *height, int32_t *width) {
    const sampler_options *o = &s->options;
    int32_t edge = o->short_edges[0];
    for (int32_t i = 1; i < o->short_edge_count; i++)
        if (o->short_edges[i] > edge) edge = o->short_edges[i];
    *height = *width = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        const coco_image *record = dataset_image(s->data, s->stream[i]);
        int32_t h, w;
        resize_rule_apply(&h, &w, o->rule, record->height, record->width, edge, o->max_size);
        if (h > *height) *height = h;
        if (w > *width) *width = w;
    }
}
