#include "access_order.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

void access_order_release(access_order *o) {
    free(o->ranges);
    memset(o, 0, sizeof *o);
}

void order_clock_join(order_clock *clock, const order_clock *seen) {
    for (int i = 0; i < ORDER_ACTORS; i++)
        if (seen->at[i] > clock->at[i]) clock->at[i] = seen->at[i];
}

void access_order_step(access_order *o, int actor) {
    o->clocks[actor].at[actor]++;
}

/* First range that ends behind `at`. */
static size_t first_behind(const access_order *o, uintptr_t at) {
    size_t low = 0, high = o->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (o->ranges[middle].to > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void insert(access_order *o, size_t index, order_range range) {
    if (o->count == o->capacity) {
        o->capacity = o->capacity ? 2 * o->capacity : 64;
        o->ranges = realloc(o->ranges, o->capacity * sizeof *o->ranges);
        CHECK(o->ranges, "no memory for %zu ranges", o->capacity);
    }
    memmove(o->ranges + index + 1, o->ranges + index, (o->count - index) * sizeof *o->ranges);
    o->ranges[index] = range;
    o->count++;
}

/* No range crosses `at` afterwards. */
static void split(access_order *o, uintptr_t at) {
    size_t i = first_behind(o, at);
    if (i == o->count || o->ranges[i].from >= at) return;
    order_range left = o->ranges[i];
    left.to = at;
    o->ranges[i].from = at;
    insert(o, i, left);
}

static bool is_before(const access_order *o, const order_access *earlier, int actor) {
    return earlier->time == 0 || o->clocks[actor].at[earlier->actor] >= earlier->time;
}

/* The access in the range's history that the new one conflicts with; NULL: none. */
static const order_access *find_conflict(const access_order *o, const order_range *range, int actor,
                                         bool write) {
    if (!is_before(o, &range->write, actor)) return &range->write;
    for (int i = 0; write && i < ORDER_ACTORS; i++)
        if (!is_before(o, &range->reads[i], actor)) return &range->reads[i];
    return NULL;
}

bool access_order_use(access_order *o, int actor, const char *what, const void *memory, size_t bytes,
                      bool write, order_access *other, order_range *where) {
    uintptr_t at = (uintptr_t)memory, end = at + bytes;
    bool ordered = true;
    split(o, at);
    split(o, end);
    for (size_t i = first_behind(o, at); at < end; i++) {
        uintptr_t next = i < o->count && o->ranges[i].from < end ? o->ranges[i].from : end;
        if (next > at) insert(o, i, (order_range){.from = at, .to = next});
        order_range *range = &o->ranges[i];
        const order_access *conflict = ordered ? find_conflict(o, range, actor, write) : NULL;
        if (conflict) {
            ordered = false;
            *other = *conflict;
            *where = *range;
        }
        order_access now = {actor, o->clocks[actor].at[actor], what};
        if (write) {
            range->write = now;
            memset(range->reads, 0, sizeof range->reads);
        } else {
            range->reads[actor] = now;
        }
        at = range->to;
    }
    return ordered;
}

void access_order_forget(access_order *o, const void *memory, size_t bytes) {
    uintptr_t at = (uintptr_t)memory, end = at + bytes;
    split(o, at);
    split(o, end);
    size_t from = first_behind(o, at), to = from;
    while (to < o->count && o->ranges[to].from < end) to++;
    memmove(o->ranges + from, o->ranges + to, (o->count - to) * sizeof *o->ranges);
    o->count -= to - from;
}
