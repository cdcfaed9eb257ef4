#include "autograd/tape_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "device/device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Recording happens outside the step, so the heap is fine here; running out of it for a few kilobytes is
 * fatal. */
static void *grow(void *list, int count, int *capacity, size_t element) {
    if (count < *capacity) return list;
    *capacity = *capacity ? *capacity * 2 : 64;
    list = realloc(list, (size_t)*capacity * element);
    CHECK(list, "out of memory for %d tape entries", *capacity);
    return list;
}

static void *new_zeroed(size_t bytes) {
    void *memory = calloc(1, bytes);
    CHECK(memory, "out of memory for %zu bytes of tape", bytes);
    return memory;
}

tape *tape_new(struct device *dev, struct comm *comm) {
    tape *t = new_zeroed(sizeof *t);
    t->dev = dev;
    t->comm = comm;
    t->storage = DTYPE_F32;
    void *one = NULL;
    status got = device_alloc(dev, &one, 64, "gradient of the losses");
    CHECK(got == STATUS_OK, "%s", error_cause());
    t->one = one;
    float value = 1.0f;
    device_copy(dev, NULL, t->one, &value, sizeof value);
    tape_scope(t, "");
    return t;
}

void tape_free(tape *t) {
    if (!t) return;
    tape_timing_free(t);
    for (int i = 0; i < t->n_nodes; i++) {
        free(t->nodes[i]->params);
        free(t->nodes[i]);
    }
    for (int i = 0; i < t->n_values; i++) free(t->values[i]);
    for (int i = 0; i < t->n_scopes; i++) free(t->scopes[i]);
    for (int i = 0; i < t->n_marks; i++)
        if (t->marks[i].event) device_event_free(t->dev, t->marks[i].event);
    if (t->begin) device_event_free(t->dev, t->begin);
    device_free(t->dev, t->one, 64);
    free(t->nodes);
    free(t->values);
    free(t->blocks);
    free(t->scopes);
    free(t->marks);
    free(t);
}

void tape_set_precision(tape *t, dtype storage, bool tf32) {
    CHECK(t->n_values == 0, "the tape's precision changes while it is recorded");
    t->storage = storage;
    t->tf32 = tf32;
}

void tape_set_loss_scale(tape *t, float *scale) {
    t->loss_scale = scale;
}

static tape_value *add_value(tape *t) {
    CHECK(!t->planned, "the tape is planned; nothing can be recorded any more");
    t->values = grow(t->values, t->n_values, &t->values_capacity, sizeof *t->values);
    tape_value *v = new_zeroed(sizeof *v);
    v->producer = v->variable = v->ready_after = v->block = v->grad_block = -1;
    v->value.id = t->n_values;
    t->values[t->n_values++] = v;
    return v;
}

tensor *tape_constant(tape *t, const char *name, dtype type, int rank, const int64_t *shape, void *data) {
    tape_value *v = add_value(t);
    int id = v->value.id;
    v->value = tensor_make(name, type, rank, shape, data);
    v->value.id = id;
    v->external = true;
    return &v->value;
}

tensor *tape_variable(tape *t, const char *name, dtype type, const int64_t *shape, int rank, void *data,
                      void *grad, int index) {
    tensor *leaf = tape_constant(t, name, type, rank, shape, data); /* may move t->values */
    tape_value *v = t->values[leaf->id];
    if (grad) {
        v->grad = v->value;
        v->grad.data = grad;
        v->grad.type = t->storage;
        v->value.grad = &v->grad;
        v->external_grad = true;
        v->requires_grad = true;
        v->variable = index;
    }
    return &v->value;
}

void tape_scope(tape *t, const char *name) {
    t->scopes = grow(t->scopes, t->n_scopes, &t->scopes_capacity, sizeof *t->scopes);
    t->scopes[t->n_scopes] = strdup(name);
    CHECK(t->scopes[t->n_scopes], "out of memory");
    t->n_scopes++;
}

static tape_value *value_of(const tape *t, const tensor *x) {
    CHECK(x->id >= 0 && x->id < t->n_values && &t->values[x->id]->value == x, "tensor %s is not on this tape",
          x->name);
    return t->values[x->id];
}

static const op_kernel *kernel_for(const device *dev, const op_call *call) {
    if (device_get_kind(dev) == DEVICE_CPU) return op_cpu_kernel(call);
    const op_kernel *kernel = device_find_kernel(dev, call->op->name);
    CHECK(kernel, "op %s has no kernel for device %s", call->op->name, device_get_name(dev));
    return kernel;
}

void tape_apply(tape *t, const op_def *op, const void *params, tensor *const *in, tensor **out) {
    tape_node *node = new_zeroed(sizeof *node);
    op_call *call = &node->call;
    call->op = op;
    call->comm = t->comm;
    call->storage = t->storage;
    call->tf32 = t->tf32;
    node->scope = t->n_scopes - 1;
    if (op->params_size) {
        node->params = new_zeroed(op->params_size);
        memcpy(node->params, params, op->params_size);
        call->params = node->params;
    }
    for (int i = 0; i < op->n_inputs; i++) {
        call->in[i] = in[i];
        if (!in[i]) continue;
        tape_value *v = value_of(t, in[i]);
        if (v->requires_grad && (op->differentiable >> i & 1u)) node->requires_grad = true;
    }
    for (int i = 0; i < op->n_outputs; i++) {
        tape_value *v = add_value(t);
        v->producer = t->n_nodes;
        v->requires_grad = node->requires_grad;
        call->out[i] = out[i] = &v->value;
    }
    status got = op_infer(call);
    CHECK(got == STATUS_OK, "layer %s: %s", t->scopes[node->scope], error_cause());
    node->kernel = kernel_for(t->dev, call);
    call->stream = device_get_stream(t->dev, DEVICE_STREAM_COMPUTE);
    node->scratch_block[0] = node->scratch_block[1] = -1;
    t->nodes = grow(t->nodes, t->n_nodes, &t->nodes_capacity, sizeof *t->nodes);
    t->nodes[t->n_nodes++] = node;
}

void tape_keep(tape *t, tensor *value) {
    value_of(t, value)->keep = true;
}

void tape_bind(tape *t, tensor *output, void *data) {
    tape_value *v = value_of(t, output);
    CHECK(v->producer >= 0, "%s is no output", output->name);
    v->external = true;
    v->value.data = data;
}

static device_event *new_event(device *dev) {
    device_event *event;
    status got = device_event_new_timed(dev, &event);
    CHECK(got == STATUS_OK, "%s", error_cause());
    return event;
}

int tape_mark(tape *t) {
    CHECK(!t->planned, "the tape is planned; nothing can be recorded any more");
    t->marks = grow(t->marks, t->n_marks, &t->marks_capacity, sizeof *t->marks);
    t->marks[t->n_marks] = (tape_mark_record){.node = t->n_nodes};
    if (!device_is_host_accessible(t->dev)) {
        t->marks[t->n_marks].event = new_event(t->dev);
        if (!t->begin) t->begin = new_event(t->dev);
    }
    return t->n_marks++;
}

void tape_loss(tape *t, tensor *loss) {
    tape_value *v = value_of(t, loss);
    CHECK(loss->rank == 0 && loss->type == DTYPE_F32 && v->producer >= 0,
          "loss %s must be a float32 scalar made by an op", loss->name);
    v->keep = true;
    v->grad = v->value;
    v->grad.data = t->loss_scale ? t->loss_scale : t->one;
    v->external_grad = true;
    v->grad_written = v->requires_grad;
}

int tape_op_count(const tape *t) {
    return t->n_nodes;
}

const op_call *tape_call(const tape *t, int index, bool *backward) {
    CHECK(index >= 0 && index < t->n_nodes, "op %d of %d", index, t->n_nodes);
    *backward = t->nodes[index]->active;
    return &t->nodes[index]->call;
}

size_t tape_plan(tape *t) {
    CHECK(!t->planned, "tape_plan called twice");
    tape_plan_gradients(t);
    tape_plan_memory(t);
    t->planned = true;
    return t->bytes;
}

static void set_scratch(tape *t, tape_node *node, bool backward) {
    int scratch = node->scratch_block[backward];
    node->call.scratch = scratch >= 0 ? tape_block_data(t, scratch) : NULL;
}

static void prepare(tape *t, tape_node *node) {
    if (node->prepared || !node->kernel->prepare) return;
    node->prepared = true;
    for (int backward = 0; backward <= (node->active ? 1 : 0); backward++) {
        set_scratch(t, node, backward);
        node->kernel->prepare(&node->call, backward);
    }
}

void tape_attach(tape *t, void *memory, size_t bytes) {
    CHECK(t->planned, "tape_attach before tape_plan");
    CHECK(bytes >= t->bytes, "the step needs %zu bytes, got %zu", t->bytes, bytes);
    t->memory = memory;
    for (int i = 0; i < t->n_values; i++) {
        tape_value *v = t->values[i];
        if (v->block >= 0) v->value.data = tape_block_data(t, v->block);
        if (v->grad_block >= 0) v->grad.data = tape_block_data(t, v->grad_block);
    }
    for (int i = 0; i < t->n_nodes; i++) prepare(t, t->nodes[i]);
}

/* Runs `visit` over the blocks that this op writes in this direction. */
static void written_blocks(tape *t, tape_node *node, bool backward, bool check) {
    int blocks[OP_MAX_INPUTS + OP_MAX_OUTPUTS + 1], n = 0;
    const op_call *call = &node->call;
    blocks[n++] = node->scratch_block[backward];
    for (int i = 0; !backward && i < call->op->n_outputs; i++) blocks[n++] = value_of(t, call->out[i])->block;
    for (int i = 0; backward && i < call->op->n_inputs; i++)
        if (call->d_in[i] && (check || !call->accumulate[i]))
            blocks[n++] = value_of(t, call->in[i])->grad_block;
    for (int i = 0; i < n; i++) {
        if (blocks[i] < 0) continue;
        if (check)
            tape_check_redzones(t, blocks[i], call->op->name, t->scopes[node->scope]);
        else
            tape_paint_redzones(t, blocks[i]);
    }
}

static void run(tape *t, int index, bool backward) {
    tape_node *node = t->nodes[index];
    op_call *call = &node->call;
    set_scratch(t, node, backward);
    bool is_host = device_is_host_accessible(t->dev);
    if (is_host) written_blocks(t, node, backward, false);
    tape_timing_start(t, index, backward);
    device_range_begin(t->dev, t->scopes[node->scope]);
    device_range_begin(t->dev, call->op->name);
    if (backward)
        node->kernel->backward(call);
    else
        node->kernel->forward(call);
    device_range_end(t->dev);
    device_range_end(t->dev);
    tape_timing_end(t, index, backward);
    if (is_host) written_blocks(t, node, backward, true);
}

/* The mark's place is reached as soon as everything queued before it is done. */
static void pass_mark(tape *t, tape_mark_record *mark, double start) {
    if (mark->event)
        device_event_record(t->dev, mark->event, NULL);
    else
        mark->seconds = clock_seconds() - start;
}

void tape_forward(tape *t) {
    CHECK(t->memory || t->bytes == 0, "tape_forward before tape_attach");
    double start = clock_seconds();
    int mark = 0;
    device_range_begin(t->dev, "forward");
    if (t->begin) device_event_record(t->dev, t->begin, NULL);
    tape_timing_begin(t);
    for (int i = 0; i <= t->n_nodes; i++) {
        for (; mark < t->n_marks && t->marks[mark].node == i; mark++) pass_mark(t, &t->marks[mark], start);
        if (i == t->n_nodes) break;
        run(t, i, false);
    }
    device_range_end(t->dev);
}

double tape_mark_seconds(const tape *t, int mark) {
    CHECK(mark >= 0 && mark < t->n_marks, "mark %d of %d", mark, t->n_marks);
    const tape_mark_record *m = &t->marks[mark];
    return m->event ? 1e-3 * device_event_milliseconds(t->dev, t->begin, m->event) : m->seconds;
}

void tape_backward(tape *t, tape_ready_hook hook, void *context) {
    for (int i = 0; i < t->n_values; i++) {
        tape_value *v = t->values[i];
        if (v->variable < 0 || v->grad_written) continue;
        device_fill(t->dev, NULL, v->grad.data, 0, tensor_bytes(&v->grad));
        if (hook) hook(context, v->variable);
    }
    device_range_begin(t->dev, "backward");
    for (int i = t->n_nodes - 1; i >= 0; i--) {
        tape_node *node = t->nodes[i];
        if (!node->active) continue;
        run(t, i, true);
        for (int j = 0; hook && j < node->call.op->n_inputs; j++) {
            if (!node->call.d_in[j]) continue;
            const tape_value *v = value_of(t, node->call.in[j]);
            if (v->variable >= 0 && v->ready_after == i) hook(context, v->variable);
        }
    }
    device_range_end(t->dev);
}

static bool is_finite(const tensor *x) {
    if (x->type != DTYPE_F32 && x->type != DTYPE_F64) return true;
    int64_t count = tensor_valid_rows(x) * (x->rank ? tensor_row_size(x) : 1);
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(tensor_get(x, i))) return false;
    return true;
}

/* Whether the op writes its new value over this input (running statistics): then it shows what went wrong, not why. */
static bool is_updated(const op_call *call, const tensor *input) {
    for (int i = 0; i < call->op->n_outputs; i++)
        if (call->out[i]->data == input->data) return true;
    return false;
}

/* Whether an input from outside or an output of this op is not finite; then `text` says which. */
static bool input_is_bad(const tape *t, const tape_node *node, char *text, size_t size) {
    const op_call *call = &node->call;
    for (int i = 0; i < call->op->n_inputs; i++) {
        if (!call->in[i] || value_of(t, call->in[i])->producer >= 0 || is_updated(call, call->in[i]))
            continue;
        if (is_finite(call->in[i])) continue;
        snprintf(text, size, "input %s of layer %s", call->in[i]->name, t->scopes[node->scope]);
        return true;
    }
    return false;
}

static bool output_is_bad(const tape *t, const tape_node *node, char *text, size_t size) {
    const op_call *call = &node->call;
    for (int i = 0; i < call->op->n_outputs; i++) {
        if (is_finite(call->out[i])) continue;
        snprintf(text, size, "layer %s, op %s, output %s", t->scopes[node->scope], call->op->name,
                 call->out[i]->name);
        return true;
    }
    return false;
}

/* Runs to the end also after it found one: ops that sum over the ranks are collective, and other ranks may find theirs
 * elsewhere or nowhere. */
void tape_find_non_finite(tape *t, char *text, size_t size) {
    bool found = false;
    text[0] = '\0';
    for (int i = 0; i < t->n_nodes; i++) {
        tape_node *node = t->nodes[i];
        found = found || input_is_bad(t, node, text, size);
        run(t, i, false);
        found = found || output_is_bad(t, node, text, size);
    }
}

void tape_print_shapes(const tape *t, FILE *file) {
    char text[96];
    for (int i = 0; i < t->n_nodes; i++) {
        const op_call *call = &t->nodes[i]->call;
        fprintf(file, "%4d %-40s %-22s", i, t->scopes[t->nodes[i]->scope], call->op->name);
        for (int j = 0; j < call->op->n_inputs; j++)
            if (call->in[j]) fprintf(file, " %s", tensor_shape_text(call->in[j], text, sizeof text));
        fprintf(file, " ->");
        for (int j = 0; j < call->op->n_outputs; j++)
            fprintf(file, " %s", tensor_shape_text(call->out[j], text, sizeof text));
        fprintf(file, "%s\n", t->nodes[i]->active ? "" : " (forward only)");
    }
    fprintf(file, "step memory: %.1f MiB for %d ops\n", (double)t->bytes / 0x1p20, t->n_nodes);
}
