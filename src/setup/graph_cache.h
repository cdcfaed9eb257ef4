/* One training graph per canvas size, recorded when the size is first met; the least recently used one makes room. All
 * run in the same arena. */
#ifndef SETUP_GRAPH_CACHE_H
#define SETUP_GRAPH_CACHE_H

#include "model/canvas_cache.h"
#include "setup/step_memory.h"

typedef struct graph_cache {
    mask_rcnn *model;
    struct comm *comm;
    step_memory *memory;
    int global_images;
    train_graph *graphs[CANVAS_CACHE_SIZE];
    canvas_cache canvases;
} graph_cache;

/* Everything is borrowed. Records the graph of the largest shape and reserves its arena. OS. */
status graph_cache_init(graph_cache *cache, mask_rcnn *model, struct comm *comm, step_memory *memory,
                        int global_images);
void graph_cache_release(graph_cache *cache);

/* The graph of a canvas; its other sizes are those of the memory's largest shape. OS: it needs a larger arena (a canvas
 * beyond the largest shape). */
status graph_cache_get(train_graph **out, graph_cache *cache, int64_t height, int64_t width);

#endif
