/* Who used which bytes last, and whether that is ordered before what comes now: vector clocks for a few actors (streams and the
 * host), the last write and the last read of each actor for every range of bytes. */
#ifndef ACCESS_ORDER_H
#define ACCESS_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ORDER_ACTORS = 4 };

typedef struct order_clock {
    uint64_t at[ORDER_ACTORS];
} order_clock;

typedef struct order_access {
    int actor;
    uint64_t time;    /* the actor's own clock then; 0: none */
    const char *what; /* borrowed */
} order_access;

/* Bytes [from, to) with one history. */
typedef struct order_range {
    uintptr_t from, to;
    order_access write, reads[ORDER_ACTORS];
} order_range;

typedef struct access_order {
    order_clock clocks[ORDER_ACTORS];
    order_range *ranges; /* sorted, disjoint */
    size_t count, capacity;
} access_order;

void access_order_release(access_order *o);

/* The clock becomes one that has seen all of `seen`. */
void order_clock_join(order_clock *clock, const order_clock *seen);

/* A new step of the actor; all its accesses until the next step are one. */
void access_order_step(access_order *o, int actor);

/* Records an access by the actor's current step. False: it is not ordered behind *other, the first access found that it conflicts with, on
 * the bytes of *where. */
bool access_order_use(access_order *o, int actor, const char *what, const void *memory, size_t bytes,
                      bool write, order_access *other, order_range *where);

/* The bytes have no history any more: freed. */
void access_order_forget(access_order *o, const void *memory, size_t bytes);

#endif
