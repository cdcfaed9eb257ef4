/* The tape: a static list of op calls, recorded once per canvas size and then run for every step of that
 * size.
 *
 * Recording (tape_apply) checks and infers shapes; nothing runs. tape_plan then knows every reader of every
 * tensor, so it gives each one just the memory for its lifetime: an activation lives until its last forward
 * reader, or until the backward of an op that declared it reads it; a gradient lives from its first writer to
 * its producer's backward. The first writer of a gradient overwrites, the others add, so nothing is cleared.
 * Running allocates nothing. How long each op took: tape_times.h.
 *
 * Misuse (wrong shapes while recording) is a CHECK: shapes come from the program, not from the world. */
#ifndef AUTOGRAD_TAPE_H
#define AUTOGRAD_TAPE_H

#include "autograd/op.h"

#include <stdio.h>

struct device;
typedef struct tape tape;

/* `comm` may be NULL (one rank). Both are borrowed. */
tape *tape_new(struct device *dev, struct comm *comm);
void tape_free(tape *t);

/* Before recording: what activations are stored as where no half input decides it (op_call.storage), which is also the type of
 * the parameters' gradients, F32 otherwise; and whether products of F32 may be rounded (op_call.tf32). */
void tape_set_precision(tape *t, dtype storage, bool tf32);

/* Before the first tape_loss: backward starts from this float in device memory instead of 1, so that small gradients
 * survive 16 bits. Borrowed. */
void tape_set_loss_scale(tape *t, float *scale);

/* --- recording; returned tensors belong to the tape ------------------------------------------------------ */

/* A leaf without gradient whose memory the caller owns: set ->data before each run, or pass it here. */
tensor *tape_constant(tape *t, const char *name, dtype type, int rank, const int64_t *shape, void *data);

/* A parameter. `grad` is its gradient in the flat buffer (as many elements, of the storage type), NULL when it is frozen.
 * `index` is handed to the ready hook of tape_backward. */
tensor *tape_variable(tape *t, const char *name, dtype type, const int64_t *shape, int rank, void *data,
                      void *grad, int index);

/* Records one call; `in` has op->n_inputs entries (NULL where absent), `out` receives op->n_outputs tensors.
 * `params` is copied. Layer names for messages and profiles come from tape_scope. */
void tape_apply(tape *t, const op_def *op, const void *params, tensor *const *in, tensor **out);

/* Name of the layer that is being recorded, e.g. "backbone.layer1.0.conv1"; copied. */
void tape_scope(tape *t, const char *name);

/* Keeps a tensor's data (and its gradient, if any) until the end of the step: losses, features to look at. */
void tape_keep(tape *t, tensor *value);

/* Sends an output to the caller's memory instead of the plan's, e.g. new running statistics onto the old
 * ones. */
void tape_bind(tape *t, tensor *output, void *data);

/* Marks this place between two ops; tape_mark_seconds tells later when forward came by. Returns the mark's number:
 * 0, 1, ... in the order of recording. */
int tape_mark(tape *t);

/* Declares a scalar f32 output as a loss: backward starts from all of them with gradient 1. Implies
 * tape_keep. See tape_set_loss_scale. */
void tape_loss(tape *t, tensor *loss);

/* --- planning -------------------------------------------------------------------------------------------- */

/* Lays out the step's memory; returns the bytes it needs. No tape_apply afterwards. */
size_t tape_plan(tape *t);

/* Gives the planned tape its memory (aligned to OP_SCRATCH_ALIGNMENT, at least the planned bytes, of the tape's device); what it
 * held is lost. The first time kernels prepare themselves (op_kernel.prepare): on a GPU that may take a while, and gradients of
 * parameters are overwritten. */
void tape_attach(tape *t, void *memory, size_t bytes);

/* --- running --------------------------------------------------------------------------------------------- */

void tape_forward(tape *t);

/* Called when the last gradient of variable `index` has been written (or cleared, if the losses do not depend
 * on it). */
typedef void (*tape_ready_hook)(void *context, int index);
void tape_backward(tape *t, tape_ready_hook hook, void *context);

/* Seconds from the start of the last tape_forward to the mark: everything recorded before it was done. The device has reached
 * the mark (the caller has waited). */
double tape_mark_seconds(const tape *t, int mark);

/* --- looking --------------------------------------------------------------------------------------------- */

/* One line per op in order: layer, op, input and output shapes, planned bytes. */
void tape_print_shapes(const tape *t, FILE *file);

int tape_op_count(const tape *t);

/* The call of an op in the order of recording, as it is planned; *backward: whether its backward runs. */
const op_call *tape_call(const tape *t, int index, bool *backward);

/* After a step went wrong: runs forward once more (the inputs must still be there) and writes "layer LAYER, op OP, output
 * NAME" of the first real output with a value that is not finite to `text`, or the input's name; "" when there is none.
 * Collective where the tape has ops that are. Host-accessible memory only. */
void tape_find_non_finite(tape *t, char *text, size_t size);

#endif
