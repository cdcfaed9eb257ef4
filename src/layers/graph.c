#include "layers/graph.h"

#include "base/check.h"

#include <stdlib.h>

void graph_init(graph *g, tape *t, param_store *store, bool training) {
    *g = (graph){.tape = t, .store = store, .training = training};
    g->variables = calloc((size_t)store->count, sizeof *g->variables);
    CHECK(g->variables, "out of memory for %d parameters", store->count);
}

void graph_release(graph *g) {
    free(g->variables);
    *g = (graph){0};
}

tensor *graph_param(graph *g, int index) {
    if (index < 0) return NULL;
    CHECK(index < g->store->count, "parameter %d of %d", index, g->store->count);
    if (g->variables[index]) return g->variables[index];
    const param *p = &g->store->params[index];
    float *gradient = g->training && p->trainable ? g->store->gradients + p->offset : NULL;
    g->variables[index] = tape_variable(g->tape, p->name, DTYPE_F32, p->shape, p->rank,
                                        g->store->values + p->offset, gradient, index);
    return g->variables[index];
}
