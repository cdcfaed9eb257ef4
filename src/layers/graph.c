#include "layers/graph.h"

#include "base/check.h"

#include <stdlib.h>

void graph_init(graph *g, tape *t, param_store *store, bool training) {
    *g = (graph){.tape = t, .store = store, .training = training};
    tape_set_precision(t, store->precision.storage, store->precision.tf32);
    g->variables = calloc((size_t)store->count, sizeof *g->variables);
    CHECK(g->variables, "out of memory for %d parameters", store->count);
}

void graph_release(graph *g) {
    free(g->variables);
    *g = (graph){0};
}

static tensor *variable(graph *g, int index, bool is_copy) {
    CHECK(index < g->store->count, "parameter %d of %d", index, g->store->count);
    const param_store *store = g->store;
    const param *p = &store->params[index];
    is_copy = is_copy && store->copies;
    dtype type = is_copy ? store->precision.storage : DTYPE_F32;
    tensor *known = g->variables[index];
    CHECK(!known || known->type == type, "parameter %s is used both as it is and as its copy", p->name);
    if (known) return known;
    char *data = is_copy ? store->copies : (char *)store->values, *gradient = NULL;
    if (g->training && p->trainable)
        gradient = (char *)store->gradients + (size_t)p->offset * dtype_size(store->precision.storage);
    return g->variables[index] = tape_variable(g->tape, p->name, type, p->shape, p->rank,
                                               data + (size_t)p->offset * dtype_size(type), gradient, index);
}

tensor *graph_param(graph *g, int index) {
    return index < 0 ? NULL : variable(g, index, false);
}

tensor *graph_weight(graph *g, int index) {
    return variable(g, index, true);
}
