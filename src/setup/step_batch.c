#include "setup/step_batch.h"

#include "base/check.h"
#include "base/round_up.h"
#include "image_pack/image_pack.h"

#include <string.h>

static int64_t canvas_side(int64_t side) {
    return (int64_t)round_up((size_t)side, CANVAS_DIVISOR);
}

status step_batch_largest(step_shape *largest, const loader *l, int images) {
    int32_t height, width;
    sampler_largest(loader_sampler(l), &height, &width);
    loader_limits most = loader_get_limits(l);
    *largest = (step_shape){.images = images,
                            .height = canvas_side(height),
                            .width = canvas_side(width),
                            .gt_capacity = most.objects > 0 ? most.objects : 1,
                            .mask_bytes = images * (int64_t)(most.mask_bytes + sizeof(int32_t)),
                            .pixel_bytes = images * (int64_t)(most.pixel_bytes + IMAGE_PACK_ALIGNMENT)};
    if (largest->mask_bytes <= INT32_MAX && largest->pixel_bytes / IMAGE_PACK_ALIGNMENT <= INT32_MAX)
        return STATUS_OK;
    return error_set(
        STATUS_CONFIG, "use a smaller SOLVER.IMS_PER_BATCH, or more ranks",
        "SOLVER.IMS_PER_BATCH: %d images per rank may need %lld bytes of masks and %lld of pixels; "
        "at most %d and %lld can be counted",
        images, (long long)largest->mask_bytes, (long long)largest->pixel_bytes, INT32_MAX,
        (long long)INT32_MAX * IMAGE_PACK_ALIGNMENT);
}

void step_batch_canvas(int64_t *height, int64_t *width, const loader_batch *batch) {
    *height = *width = CANVAS_DIVISOR;
    for (int i = 0; i < batch->count; i++) {
        const loader_sample *s = &batch->samples[i];
        if (canvas_side(s->resized_height) > *height) *height = canvas_side(s->resized_height);
        if (canvas_side(s->resized_width) > *width) *width = canvas_side(s->resized_width);
    }
}

static void fill_objects(step_inputs *in, const step_shape *largest, const loader_sample *s, int image,
                         int64_t *mask_bytes) {
    int64_t first = (int64_t)image * largest->gt_capacity;
    CHECK(s->objects <= largest->gt_capacity, "image %lld has %d objects, room is for %d",
          (long long)s->image_id, s->objects, largest->gt_capacity);
    CHECK(*mask_bytes + (int64_t)s->mask_blob_bytes <= largest->mask_bytes,
          "masks of image %lld do not fit %lld bytes", (long long)s->image_id,
          (long long)largest->mask_bytes);
    in->gt_count[image] = s->objects;
    size_t n = (size_t)s->objects;
    if (n == 0) return;
    memcpy(in->gt_boxes + 4 * first, s->boxes, 4 * n * sizeof(float));
    memcpy(in->gt_labels + first, s->labels, n * sizeof(int32_t));
    memcpy(in->mask_blob + *mask_bytes, s->mask_blob, s->mask_blob_bytes);
    for (int g = 0; s->masks && g < s->objects; g++) {
        gt_mask_record record = s->masks[g];
        record.offset += (int32_t)*mask_bytes; /* offsets count from the start of the batch's blob */
        memcpy(in->gt_masks + GT_MASK_RECORD_INTS * (first + g), &record, sizeof record);
    }
    *mask_bytes += (int64_t)round_up(s->mask_blob_bytes, sizeof(int32_t));
}

/* The bytes as they are; image_pack resizes and normalises them in the step. */
static void fill_pixels(step_inputs *in, const step_shape *largest, const loader_sample *s, int image,
                        int64_t *pixel_bytes) {
    int64_t bytes = (int64_t)s->height * s->width * 3;
    CHECK(*pixel_bytes + bytes <= largest->pixel_bytes, "pixels of image %lld do not fit %lld bytes",
          (long long)s->image_id, (long long)largest->pixel_bytes);
    image_pack_record record = {.offset = (int32_t)(*pixel_bytes / IMAGE_PACK_ALIGNMENT),
                                .height = s->height,
                                .width = s->width,
                                .resized_height = s->resized_height,
                                .resized_width = s->resized_width,
                                .flip = s->flip};
    memcpy(in->pixel_table + image * IMAGE_PACK_RECORD_INTS, &record, sizeof record);
    memcpy(in->pixels + *pixel_bytes, s->pixels, (size_t)bytes);
    *pixel_bytes += (int64_t)round_up((size_t)bytes, IMAGE_PACK_ALIGNMENT);
}

step_used step_batch_fill(step_inputs **host, step_memory *memory, const loader_batch *batch,
                          const dataset *data) {
    int64_t mask_bytes = 0, pixel_bytes = 0;
    CHECK(batch->count == memory->largest.images, "%d images, room is for %d", batch->count,
          memory->largest.images);
    step_inputs *in = *host = step_memory_next(memory);
    for (int i = 0; i < batch->count; i++) {
        const loader_sample *s = &batch->samples[i];
        uint64_t key = dataset_image_key(data, s->image);
        in->info[i] = (image_info){.original_height = s->height,
                                   .original_width = s->width,
                                   .height = s->resized_height,
                                   .width = s->resized_width,
                                   .flip = s->flip,
                                   .id_low = (int32_t)(uint32_t)key,
                                   .id_high = (int32_t)(uint32_t)(key >> 32)};
        fill_objects(in, &memory->largest, s, i, &mask_bytes);
        fill_pixels(in, &memory->largest, s, i, &pixel_bytes);
    }
    return (step_used){.mask_bytes = (size_t)mask_bytes, .pixel_bytes = (size_t)pixel_bytes};
}
