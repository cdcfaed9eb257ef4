#include "setup/step_memory.h"

#include "base/host_memory.h"
#include "base/round_up.h"
#include "data/gt_masks.h"
#include "image_pack/image_pack.h"
#include "sgd_step/sgd_step.h"

enum { PIECE_ALIGNMENT = 256 };

/* Parts of the block by rising address: those of fixed size first, so that one copy takes them all. */
typedef struct layout {
    size_t fixed, masks, pixels, images, bytes; /* bytes of the fixed parts; where the others begin; all */
} layout;

static void *part(char *base, size_t *end, size_t bytes) {
    size_t at = *end;
    *end = at + round_up(bytes, PIECE_ALIGNMENT);
    return base && bytes ? base + at : NULL;
}

/* Places the parts of `in` in memory from `base` on (NULL: only counts). */
static layout lay_out(step_inputs *in, const step_shape *largest, void *base) {
    size_t n = (size_t)largest->images, g = (size_t)largest->gt_capacity, end = 0;
    layout at = {0};
    in->step = part(base, &end, sizeof *in->step);
    in->rates = part(base, &end, SGD_STEP_RATE_FLOATS * sizeof *in->rates);
    in->skipped_images = part(base, &end, sizeof *in->skipped_images);
    in->info = part(base, &end, n * sizeof *in->info);
    in->gt_boxes = part(base, &end, n * g * 4 * sizeof *in->gt_boxes);
    in->gt_labels = part(base, &end, n * g * sizeof *in->gt_labels);
    in->gt_count = part(base, &end, n * sizeof *in->gt_count);
    in->gt_masks = part(base, &end, n * g * sizeof(gt_mask_record));
    in->pixel_table = part(base, &end, n * IMAGE_PACK_RECORD_INTS * sizeof *in->pixel_table);
    at.fixed = at.masks = end;
    in->mask_blob = part(base, &end, (size_t)largest->mask_bytes);
    at.pixels = end;
    in->pixels = part(base, &end, (size_t)largest->pixel_bytes);
    at.images = end;
    size_t canvas = (size_t)(largest->height * largest->width) * 3 * sizeof(float);
    in->images = part(base, &end, largest->pixel_bytes ? 0 : n * canvas);
    at.bytes = end;
    return at;
}

static status make_stages(step_memory *m) {
    RETURN_IF_ERROR(device_alloc(m->dev, &m->waiting, m->block_bytes, "the next batch"));
    RETURN_IF_ERROR(device_event_new(m->dev, &m->arrived));
    RETURN_IF_ERROR(device_event_new(m->dev, &m->taken));
    for (int i = 0; i < STEP_MEMORY_STAGES; i++) {
        RETURN_IF_ERROR(device_alloc_host(m->dev, &m->stage_blocks[i], m->block_bytes,
                                          "batches on their way to the device"));
        lay_out(&m->stages[i], &m->largest, m->stage_blocks[i]);
        RETURN_IF_ERROR(device_event_new(m->dev, &m->left[i]));
    }
    return STATUS_OK;
}

status step_memory_init(step_memory *memory, device *dev, const step_shape *largest) {
    *memory = (step_memory){.dev = dev, .largest = *largest};
    memory->block_bytes = lay_out(&memory->inputs, largest, NULL).bytes;
    RETURN_IF_ERROR(device_alloc(dev, &memory->block, memory->block_bytes, "batches"));
    lay_out(&memory->inputs, largest, memory->block);
    return device_is_host_accessible(dev) ? STATUS_OK : make_stages(memory);
}

void step_memory_release(step_memory *memory) {
    if (!memory->dev) return;
    device *dev = memory->dev;
    for (int i = 0; i < STEP_MEMORY_STAGES; i++) {
        device_free_host(dev, memory->stage_blocks[i], memory->block_bytes);
        if (memory->left[i]) device_event_free(dev, memory->left[i]);
    }
    if (memory->arrived) device_event_free(dev, memory->arrived);
    if (memory->taken) device_event_free(dev, memory->taken);
    device_free(dev, memory->waiting, memory->block_bytes);
    device_free(dev, memory->block, memory->block_bytes);
    device_free(dev, memory->arena, memory->arena_bytes);
    *memory = (step_memory){0};
}

static int next_turn(const step_memory *m) {
    return (m->turn + 1) % STEP_MEMORY_STAGES;
}

bool step_memory_is_free(const step_memory *m) {
    return !m->waiting || device_event_is_reached(m->dev, m->left[next_turn(m)]);
}

step_inputs *step_memory_next(step_memory *m) {
    if (!m->waiting) return &m->inputs;
    if (!step_memory_is_free(m)) device_event_synchronize(m->dev, m->left[next_turn(m)]);
    m->turn = next_turn(m);
    return &m->stages[m->turn];
}

/* The same parts from one block to another. */
static void copy_parts(const step_memory *m, device_stream *stream, char *to, const char *from,
                       const step_used *used) {
    step_inputs parts;
    layout at = lay_out(&parts, &m->largest, NULL);
    device_copy(m->dev, stream, to, from, at.fixed);
    device_copy(m->dev, stream, to + at.masks, from + at.masks, used->mask_bytes);
    device_copy(m->dev, stream, to + at.pixels, from + at.pixels, used->pixel_bytes);
    device_copy(m->dev, stream, to + at.images, from + at.images, used->image_bytes);
}

void step_memory_bring(step_memory *m, const step_used *used) {
    if (!m->waiting) return;
    device_stream *copies = device_get_stream(m->dev, DEVICE_STREAM_COPY);
    device_event_wait(m->dev, copies, m->taken); /* the batch before has left the waiting place */
    copy_parts(m, copies, m->waiting, m->stage_blocks[m->turn], used);
    device_event_record(m->dev, m->left[m->turn], copies);
    device_event_record(m->dev, m->arrived, copies);
    device_event_wait(m->dev, NULL, m->arrived);
    copy_parts(m, NULL, m->block, m->waiting, used);
    device_event_record(m->dev, m->taken, NULL);
}

/* Reserving takes nothing from the host; it would be taken away in the middle of the first step. */
static status check_host_has(const device *dev, size_t bytes) {
    size_t total = host_memory_total();
    if (device_get_kind(dev) != DEVICE_CPU || bytes <= total) return STATUS_OK;
    return error_set(STATUS_OS,
                     "choose smaller values of INPUT.MIN_SIZE_TRAIN, INPUT.MAX_SIZE_TRAIN, or fewer images "
                     "per rank (SOLVER.IMS_PER_BATCH)",
                     "activations of a training step need %zu MiB, this host has %zu MiB of memory",
                     bytes >> 20, total >> 20);
}

status step_memory_reserve(step_memory *memory, size_t bytes) {
    if (memory->arena && bytes <= memory->arena_bytes) return STATUS_OK;
    RETURN_IF_ERROR(check_host_has(memory->dev, bytes));
    device_free(memory->dev, memory->arena, memory->arena_bytes);
    memory->arena = NULL;
    memory->arena_bytes = 0;
    RETURN_IF_ERROR(device_alloc(memory->dev, &memory->arena, bytes, "activations of a training step"));
    memory->arena_bytes = bytes;
    return STATUS_OK;
}
