/* "Did you mean ...?": the candidate nearest to a misspelt name, by edit distance. */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

typedef struct nearest {
    const char *name;
    const char *best; /* points to the candidate given to nearest_try */
    size_t distance;
} nearest;

/* Edits (insert, delete, replace, swap of neighbours; letters compare without case) that make `b` of `a`.
 * Only the first 127 bytes of each are compared. */
size_t edit_distance(const char *a, const char *b);

/* Start, offer every candidate, ask. `name` and the candidates must live until then. */
void nearest_init(nearest *n, const char *name);
void nearest_try(nearest *n, const char *candidate);

/* The best candidate, or NULL where none is near: more than a third of the name's letters differ (at least 2
 * may). A candidate whose last part, behind the last dot, is the whole name counts as one edit away. */
const char *nearest_result(const nearest *n);

#endif
