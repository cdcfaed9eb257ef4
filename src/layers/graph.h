/* A tape being recorded together with the parameters it uses: what a layer's _apply needs. A parameter that
 * several layers' calls use (the RPN head runs on five levels) is one variable of the tape. */
#ifndef LAYERS_GRAPH_H
#define LAYERS_GRAPH_H

#include "autograd/tape.h"
#include "layers/param_store.h"

typedef struct graph {
    tape *tape;
    param_store *store; /* borrowed */
    tensor **variables; /* by parameter index; NULL until first used */
    bool training;
} graph;

/* Gives the tape the store's types. `training` false records parameters as constants, so no backward is planned. */
void graph_init(graph *g, tape *t, param_store *store, bool training);
void graph_release(graph *g);

/* The parameter as a tensor of this tape, in float32; -1 gives NULL (an absent optional input). */
tensor *graph_param(graph *g, int index);

/* A weight that a convolution or matrix product reads as it is: its copy in the type of the activations. A parameter is used
 * through one of the two functions. */
tensor *graph_weight(graph *g, int index);

#endif
