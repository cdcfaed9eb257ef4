/* Shared by tape.c (recording, running), tape_plan.c (memory) and tape_times.c. */
#ifndef AUTOGRAD_TAPE_INTERNAL_H
#define AUTOGRAD_TAPE_INTERNAL_H

#include "autograd/tape.h"
#include "device/device.h"

/* What the tape knows of a tensor beside its descriptor. */
typedef struct tape_value {
    tensor value;
    tensor grad;
    int producer;       /* op that makes it; -1: leaf */
    bool external;      /* the caller owns the data */
    bool external_grad; /* the caller owns the gradient (a parameter's, a loss's) */
    bool requires_grad;
    bool keep;
    bool grad_written;     /* some active op contributes to its gradient */
    int variable;          /* index for the ready hook; -1: none */
    int ready_after;       /* op whose backward writes its gradient last; -1: nobody does */
    int block, grad_block; /* into tape.blocks; -1: external or none */
} tape_value;

/* A piece of step memory and the time it is alive. Op i runs forward at time i and backward at 2n-1-i. */
typedef struct tape_block {
    size_t bytes, offset;
    int first, last;
} tape_block;

typedef struct tape_node {
    op_call call;
    void *params;
    const op_kernel *kernel;
    int scope; /* into tape.scopes */
    bool requires_grad;
    bool active;          /* its backward runs */
    bool prepared;        /* its kernel's prepare was called */
    int scratch_block[2]; /* forward, backward; -1: none */
} tape_node;

typedef struct tape_mark_record {
    int node;            /* the op behind the mark */
    double seconds;      /* since the start of the last forward run; where the host computes itself */
    device_event *event; /* elsewhere */
} tape_mark_record;

typedef struct tape_timing tape_timing; /* tape_times.c */

struct tape {
    struct device *dev;
    struct comm *comm;
    tape_node **nodes; /* pointers, so that calls keep their address while the list grows */
    int n_nodes, nodes_capacity;
    tape_value **values;
    int n_values, values_capacity;
    tape_block *blocks;
    int n_blocks, blocks_capacity;
    char **scopes;
    int n_scopes, scopes_capacity;
    tape_mark_record *marks;
    int n_marks, marks_capacity;
    size_t bytes;
    bool planned;
    char *memory;
    device_event *begin; /* of the last forward run; NULL without marks */
    tape_timing *timing; /* NULL where nothing is measured */
    float *one;          /* gradient of every loss, on the device */
    float *loss_scale;   /* the caller's instead; NULL: one */
    dtype storage;
    bool tf32;
};

/* Decides what backward does and lays out memory; called by tape_plan. */
void tape_plan_gradients(tape *t);
void tape_plan_memory(tape *t);

int tape_add_block(tape *t, size_t bytes, int first, int last);

/* Guard zones (MASKRCNN_REDZONES): paints a block's zones before an op writes it, checks them afterwards. */
void tape_paint_redzones(tape *t, int block);
void tape_check_redzones(tape *t, int block, const char *op, const char *what);

/* Around forward and around each op; without effect where nothing is measured. */
void tape_timing_begin(tape *t);
void tape_timing_start(tape *t, int index, bool backward);
void tape_timing_end(tape *t, int index, bool backward);
void tape_timing_free(tape *t);

/* Data of a block inside the attached memory. */
void *tape_block_data(tape *t, int block);

#endif
