#include "setup/step_memory.h"

#include "data/gt_masks.h"
#include "base/host_memory.h"
#include "image_pack/image_pack.h"

typedef struct piece {
    void **memory;
    size_t bytes;
    const char *what;
} piece;

enum { PIECES = 10 };

static void list_pieces(piece pieces[PIECES], step_memory *m) {
    size_t n = (size_t)m->largest.images, g = (size_t)m->largest.gt_capacity;
    step_inputs *in = &m->inputs;
    piece all[PIECES] = {
        {(void **)&in->pixels, (size_t)m->largest.pixel_bytes, "pixels of a batch"},
        {(void **)&in->pixel_table, n * IMAGE_PACK_RECORD_INTS * sizeof(int32_t), "table of pixels"},
        {(void **)&in->images,
         m->largest.pixel_bytes ? 0 : n * (size_t)(m->largest.height * m->largest.width) * 3 * sizeof(float),
         "images of a batch"},
        {(void **)&in->info, n * sizeof *in->info, "image sizes"},
        {(void **)&in->step, sizeof(int32_t), "iteration number"},
        {(void **)&in->gt_boxes, n * g * 4 * sizeof(float), "ground-truth boxes"},
        {(void **)&in->gt_labels, n * g * sizeof(int32_t), "ground-truth labels"},
        {(void **)&in->gt_count, n * sizeof(int32_t), "ground-truth counts"},
        {(void **)&in->gt_masks, n * g * sizeof(gt_mask_record), "ground-truth mask records"},
        {(void **)&in->mask_blob, (size_t)m->largest.mask_bytes, "ground-truth masks"},
    };
    for (int i = 0; i < PIECES; i++) pieces[i] = all[i];
}

status step_memory_init(step_memory *memory, device *dev, const step_shape *largest) {
    *memory = (step_memory){.dev = dev, .largest = *largest};
    piece pieces[PIECES];
    list_pieces(pieces, memory);
    for (int i = 0; i < PIECES; i++) {
        void *got = NULL;
        if (pieces[i].bytes == 0) continue;
        RETURN_IF_ERROR(device_alloc(dev, &got, pieces[i].bytes, pieces[i].what));
        *pieces[i].memory = got;
    }
    return STATUS_OK;
}

void step_memory_release(step_memory *memory) {
    if (!memory->dev) return;
    piece pieces[PIECES];
    list_pieces(pieces, memory);
    for (int i = 0; i < PIECES; i++) device_free(memory->dev, *pieces[i].memory, pieces[i].bytes);
    device_free(memory->dev, memory->arena, memory->arena_bytes);
    *memory = (step_memory){0};
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
