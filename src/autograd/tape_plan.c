/* What backward does, and where every tensor of a step lies. */
#include "autograd/tape_internal.h"

#include "base/check.h"
#include "base/round_up.h"

#include <stdlib.h>
#include <string.h>

#ifdef MASKRCNN_REDZONES
enum { REDZONE = OP_SCRATCH_ALIGNMENT, REDZONE_BYTE = 0xA5 };
#else
enum { REDZONE = 0 };
#endif

int tape_add_block(tape *t, size_t bytes, int first, int last) {
    if (t->n_blocks == t->blocks_capacity) {
        t->blocks_capacity = t->blocks_capacity ? 2 * t->blocks_capacity : 256;
        t->blocks = realloc(t->blocks, (size_t)t->blocks_capacity * sizeof *t->blocks);
        CHECK(t->blocks, "out of memory for %d tape blocks", t->blocks_capacity);
    }
    t->blocks[t->n_blocks] = (tape_block){
        .bytes = round_up(bytes, OP_SCRATCH_ALIGNMENT) + 2 * REDZONE, .first = first, .last = last};
    return t->n_blocks++;
}

void *tape_block_data(tape *t, int block) {
    return t->memory + t->blocks[block].offset + REDZONE;
}

#ifdef MASKRCNN_REDZONES
void tape_paint_redzones(tape *t, int block) {
    const tape_block *b = &t->blocks[block];
    char *start = t->memory + b->offset;
    memset(start, REDZONE_BYTE, REDZONE);
    memset(start + b->bytes - REDZONE, REDZONE_BYTE, REDZONE);
}

void tape_check_redzones(tape *t, int block, const char *op, const char *what) {
    const tape_block *b = &t->blocks[block];
    const unsigned char *start = (unsigned char *)t->memory + b->offset;
    for (int i = 0; i < REDZONE; i++)
        CHECK(start[i] == REDZONE_BYTE && start[b->bytes - REDZONE + (size_t)i] == REDZONE_BYTE,
              "op %s (layer %s) wrote outside its tensor", op, what);
}
#else
void tape_paint_redzones(tape *t, int block) {
    (void)t;
    (void)block;
}

void tape_check_redzones(tape *t, int block, const char *op, const char *what) {
    (void)t;
    (void)block;
    (void)op;
    (void)what;
}
#endif

static tape_value *value_of(const tape *t, const tensor *x) {
    return t->values[x->id];
}

/* Walks backward once: which ops are active, who writes each gradient first (overwrites) and last (ready). */
void tape_plan_gradients(tape *t) {
    for (int i = t->n_nodes - 1; i >= 0; i--) {
        tape_node *node = t->nodes[i];
        op_call *call = &node->call;
        const op_def *op = call->op;
        for (int j = 0; j < op->n_outputs; j++) {
            tape_value *v = value_of(t, call->out[j]);
            if (!v->grad_written) continue;
            call->d_out[j] = &v->grad;
            node->active = node->requires_grad;
        }
        if (!node->active) continue;
        CHECK(node->kernel->backward, "op %s (layer %s) has no backward", op->name, t->scopes[node->scope]);
        for (int j = 0; j < op->n_inputs; j++) {
            if (!call->in[j] || !(op->differentiable >> j & 1u)) continue;
            tape_value *v = value_of(t, call->in[j]);
            if (!v->requires_grad) continue;
            for (int k = 0; k < j; k++)
                CHECK(call->in[k] != call->in[j], "op %s (layer %s) takes %s twice", op->name,
                      t->scopes[node->scope], call->in[j]->name);
            if (!v->external_grad && !v->grad_written) {
                v->grad = v->value;
                v->grad.data = NULL;
                v->value.grad = &v->grad;
            }
            call->d_in[j] = &v->grad;
            call->accumulate[j] = v->grad_written;
            v->grad_written = true;
            v->ready_after = i;
        }
    }
}

/* Time at which the data of a value is needed last. */
static void extend(int *last, int time) {
    if (time > *last) *last = time;
}

static void plan_values(tape *t) {
    int n = t->n_nodes, end = 2 * n;
    int *last = malloc((size_t)(t->n_values + 1) * sizeof *last);
    CHECK(last, "out of memory for a plan of %d tensors", t->n_values);
    for (int i = 0; i < t->n_values; i++) last[i] = t->values[i]->keep ? end : t->values[i]->producer;
    for (int i = 0; i < n; i++) {
        const tape_node *node = t->nodes[i];
        const op_call *call = &node->call;
        for (int j = 0; j < call->op->n_inputs; j++) {
            if (!call->in[j]) continue;
            bool again = node->active && (call->op->backward_reads_inputs >> j & 1u);
            int time = again ? 2 * n - 1 - i : i;
            extend(&last[call->in[j]->id], time);
            /* Counts of valid rows are read whenever the tensor, or its gradient, is touched. */
            if (call->in[j]->rows) extend(&last[call->in[j]->rows->id], node->active ? 2 * n - 1 - i : i);
        }
        for (int j = 0; j < call->op->n_outputs; j++) {
            if (node->active && (op_backward_reads_outputs(call) >> j & 1u))
                extend(&last[call->out[j]->id], 2 * n - 1 - i);
            if (call->out[j]->rows) extend(&last[call->out[j]->rows->id], node->active ? 2 * n - 1 - i : i);
        }
    }
    for (int i = 0; i < t->n_values; i++) {
        tape_value *v = t->values[i];
        if (v->keep && v->value.rows) extend(&last[v->value.rows->id], end);
    }
    for (int i = 0; i < t->n_values; i++) {
        tape_value *v = t->values[i];
        if (!v->external && tensor_count(&v->value))
            v->block = tape_add_block(t, tensor_bytes(&v->value), v->producer, last[i]);
    }
    free(last);
}

/* A gradient lives from its first writer (the last reader of the value) to the backward of the value's
 * producer. */
static void plan_gradient_blocks(tape *t) {
    int n = t->n_nodes;
    for (int i = n - 1; i >= 0; i--) {
        const tape_node *node = t->nodes[i];
        const op_call *call = &node->call;
        if (!node->active) continue;
        for (int j = 0; j < call->op->n_inputs; j++) {
            if (!call->d_in[j] || call->accumulate[j]) continue;
            tape_value *v = value_of(t, call->in[j]);
            if (v->external_grad || !tensor_count(&v->value)) continue;
            int until = v->keep ? 2 * n : 2 * n - 1 - v->producer;
            int shared = call->op->shares_gradient == j ? value_of(t, call->out[0])->grad_block : -1;
            if (shared >= 0 && !value_of(t, call->out[0])->keep && !v->keep) {
                v->grad_block = shared;
                extend(&t->blocks[shared].last, until);
            } else {
                v->grad_block = tape_add_block(t, tensor_bytes(&v->grad), 2 * n - 1 - i, until);
            }
        }
    }
}

static void plan_scratch(tape *t) {
    int n = t->n_nodes;
    for (int i = 0; i < n; i++) {
        tape_node *node = t->nodes[i];
        if (!node->kernel->scratch_bytes) continue;
        for (int backward = 0; backward <= (node->active ? 1 : 0); backward++) {
            size_t bytes = node->kernel->scratch_bytes(&node->call, backward);
            int time = backward ? 2 * n - 1 - i : i;
            if (bytes) node->scratch_block[backward] = tape_add_block(t, bytes, time, time);
        }
    }
}

static const tape *sorting; /* qsort has no context; planning is single-threaded */

static int larger_first(const void *a, const void *b) {
    int i = *(const int *)a, j = *(const int *)b;
    const tape_block *x = &sorting->blocks[i], *y = &sorting->blocks[j];
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return i < j ? -1 : i > j;
}

static int lower_first(const void *a, const void *b) {
    const tape_block *x = &sorting->blocks[*(const int *)a], *y = &sorting->blocks[*(const int *)b];
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Greedy by size: each block takes the lowest gap that is free for its whole life among those already placed. */
void tape_plan_memory(tape *t) {
    plan_values(t);
    plan_gradient_blocks(t);
    plan_scratch(t);
    int n = t->n_blocks;
    int *order = malloc((size_t)(2 * n + 1) * sizeof *order), *overlapping = order + n;
    CHECK(order, "out of memory for a plan of %d blocks", n);
    for (int i = 0; i < n; i++) order[i] = i;
    sorting = t;
    qsort(order, (size_t)n, sizeof *order, larger_first);
    t->bytes = 0;
    for (int i = 0; i < n; i++) {
        tape_block *block = &t->blocks[order[i]];
        int count = 0;
        for (int j = 0; j < i; j++) {
            const tape_block *placed = &t->blocks[order[j]];
            if (placed->first <= block->last && block->first <= placed->last) overlapping[count++] = order[j];
        }
        qsort(overlapping, (size_t)count, sizeof *overlapping, lower_first);
        size_t at = 0;
        for (int j = 0; j < count; j++) {
            const tape_block *placed = &t->blocks[overlapping[j]];
            if (placed->offset >= at + block->bytes) break;
            if (placed->offset + placed->bytes > at) at = placed->offset + placed->bytes;
        }
        block->offset = at;
        if (at + block->bytes > t->bytes) t->bytes = at + block->bytes;
    }
    free(order);
}
