#include "setup/graph_cache.h"

static status attach_all(graph_cache *cache, size_t bytes) {
    void *before = cache->memory->arena;
    RETURN_IF_ERROR(step_memory_reserve(cache->memory, bytes));
    for (int i = 0; i < CANVAS_CACHE_SIZE && cache->memory->arena != before; i++) {
        train_graph *step = cache->graphs[i];
        if (!step) continue;
        tape_attach(step->t, cache->memory->arena, cache->memory->arena_bytes);
        if (step->recording) device_graph_free(step->dev, step->recording); /* it holds the old addresses */
        step->recording = NULL;
    }
    return STATUS_OK;
}

status graph_cache_init(graph_cache *cache, mask_rcnn *model, struct comm *comm, step_memory *memory,
                        int global_images) {
    *cache = (graph_cache){.model = model, .comm = comm, .memory = memory, .global_images = global_images};
    train_graph *largest;
    return graph_cache_get(&largest, cache, memory->largest.height, memory->largest.width);
}

void graph_cache_release(graph_cache *cache) {
    for (int i = 0; i < CANVAS_CACHE_SIZE; i++) train_graph_free(cache->graphs[i]);
    *cache = (graph_cache){0};
}

status graph_cache_get(train_graph **out, graph_cache *cache, int64_t height, int64_t width) {
    bool is_new;
    int slot = canvas_cache_slot(&cache->canvases, height, width, 0, &is_new);
    if (!is_new) {
        *out = cache->graphs[slot];
        return STATUS_OK;
    }
    train_graph_free(cache->graphs[slot]);
    step_shape shape = cache->memory->largest;
    shape.height = height;
    shape.width = width;
    train_graph *step = train_graph_new(cache->model, cache->memory->dev, cache->comm, &shape,
                                        &cache->memory->inputs, cache->global_images, false);
    cache->graphs[slot] = step;
    RETURN_IF_ERROR(attach_all(cache, step->bytes));
    tape_attach(step->t, cache->memory->arena, cache->memory->arena_bytes);
    *out = step;
    return STATUS_OK;
}
