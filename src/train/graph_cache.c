#include "train/graph_cache.h"

static status attach_all(graph_cache *cache, size_t bytes) {
    void *before = cache->memory->arena;
    RETURN_IF_ERROR(step_memory_reserve(cache->memory, bytes));
    for (int i = 0; i < GRAPH_CACHE_SIZE && cache->memory->arena != before; i++)
        if (cache->graphs[i])
            tape_attach(cache->graphs[i]->t, cache->memory->arena, cache->memory->arena_bytes);
    return STATUS_OK;
}

status graph_cache_init(graph_cache *cache, mask_rcnn *model, struct comm *comm, step_memory *memory,
                        int global_images) {
    *cache = (graph_cache){.model = model, .comm = comm, .memory = memory, .global_images = global_images};
    train_graph *largest;
    return graph_cache_get(&largest, cache, memory->largest.height, memory->largest.width);
}

void graph_cache_release(graph_cache *cache) {
    for (int i = 0; i < GRAPH_CACHE_SIZE; i++) train_graph_free(cache->graphs[i]);
    *cache = (graph_cache){0};
}

static int oldest_place(const graph_cache *cache) {
    int place = 0;
    for (int i = 0; i < GRAPH_CACHE_SIZE; i++) {
        if (!cache->graphs[i]) return i;
        if (cache->used[i] < cache->used[place]) place = i;
    }
    return place;
}

status graph_cache_get(train_graph **out, graph_cache *cache, int64_t height, int64_t width) {
    cache->clock++;
    for (int i = 0; i < GRAPH_CACHE_SIZE; i++) {
        train_graph *step = cache->graphs[i];
        if (!step || step->shape.height != height || step->shape.width != width) continue;
        cache->used[i] = cache->clock;
        *out = step;
        return STATUS_OK;
    }
    int place = oldest_place(cache);
    train_graph_free(cache->graphs[place]);
    step_shape shape = cache->memory->largest;
    shape.height = height;
    shape.width = width;
    train_graph *step = train_graph_new(cache->model, cache->memory->dev, cache->comm, &shape,
                                        &cache->memory->inputs, cache->global_images, false);
    cache->graphs[place] = step;
    cache->used[place] = cache->clock;
    RETURN_IF_ERROR(attach_all(cache, step->bytes));
    tape_attach(step->t, cache->memory->arena, cache->memory->arena_bytes);
    *out = step;
    return STATUS_OK;
}
