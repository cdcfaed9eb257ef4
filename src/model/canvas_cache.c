#include "model/canvas_cache.h"

int canvas_cache_slot(canvas_cache *cache, int64_t height, int64_t width, int kind, bool *is_new) {
    int oldest = 0;
    cache->clock++;
    *is_new = false;
    for (int i = 0; i < CANVAS_CACHE_SIZE; i++) {
        struct canvas_slot *slot = &cache->slots[i];
        if (slot->used && slot->height == height && slot->width == width && slot->kind == kind) {
            slot->used = cache->clock;
            return i;
        }
        if (slot->used < cache->slots[oldest].used) oldest = i;
    }
    *is_new = true;
    cache->slots[oldest] =
        (struct canvas_slot){.height = height, .width = width, .used = cache->clock, .kind = kind};
    return oldest;
}
