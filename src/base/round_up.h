/* Sizes rounded up to a multiple: rows of a canvas, records in a buffer, blocks of scratch memory. */
#ifndef BASE_ROUND_UP_H
#define BASE_ROUND_UP_H

#include <stddef.h>

static inline size_t round_up(size_t size, size_t multiple) {
    return (size + multiple - 1) / multiple * multiple;
}

#endif
