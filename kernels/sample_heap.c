#include "sample_heap.h"

static void sift_down(sample *items, int64_t count, int64_t at) {
    if (count == 0) return;
    sample moved = items[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && items[child + 1].order > items[child].order) child++;
        if (items[child].order <= moved.order) break;
        items[at] = items[child];
        at = child;
    }
    items[at] = moved;
}

void sample_heap_push(sample_heap *heap, sample s) {
    if (heap->count < heap->capacity) {
        int64_t at = heap->count++;
        for (; at > 0 && heap->items[(at - 1) / 2].order < s.order; at = (at - 1) / 2)
            heap->items[at] = heap->items[(at - 1) / 2];
        heap->items[at] = s;
    } else if (heap->capacity > 0 && s.order < heap->items[0].order) {
        heap->items[0] = s;
        sift_down(heap->items, heap->count, 0);
    }
}

void sample_heap_shrink(sample_heap *heap, int64_t count) {
    while (heap->count > count) {
        heap->items[0] = heap->items[--heap->count];
        sift_down(heap->items, heap->count, 0);
    }
}

void sample_heap_sort_by_index(sample_heap *heap) {
    sample *items = heap->items;
    for (int64_t i = 0; i < heap->count; i++) items[i].order = (uint32_t)items[i].index;
    for (int64_t i = heap->count / 2 - 1; i >= 0; i--) sift_down(items, heap->count, i);
    for (int64_t i = heap->count - 1; i > 0; i--) {
        sample last = items[i];
        items[i] = items[0];
        items[0] = last;
        sift_down(items, i, 0);
    }
}
