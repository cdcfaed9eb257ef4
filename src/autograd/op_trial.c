#include "autograd/op_trial.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/philox.h"
#include "base/round_up.h"
#include "device/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = OP_SCRATCH_ALIGNMENT, GUARD_BYTE = 0xA5, INT_POISON = 0x7f7f7f7f };

/* There only in a program with AddressSanitizer: reading a guard zone is then an error, too. */
extern void __asan_poison_memory_region(const volatile void *memory, size_t bytes) __attribute__((weak));
extern void __asan_unpoison_memory_region(const volatile void *memory, size_t bytes) __attribute__((weak));

static void guards_forbid(const guarded_block *g) {
    if (!g->block || !__asan_poison_memory_region) return;
    __asan_poison_memory_region(g->block, GUARD);
    __asan_poison_memory_region(g->block + GUARD + g->bytes, GUARD);
}

static guarded_block guarded_alloc(size_t bytes) {
    size_t total = round_up(GUARD + bytes + GUARD, GUARD);
    guarded_block g = {.block = aligned_alloc(GUARD, total), .bytes = bytes};
    CHECK(g.block, "no memory for a test tensor of %zu bytes", bytes);
    memset(g.block, GUARD_BYTE, total);
    guards_forbid(&g);
    return g;
}

static void *guarded_data(const guarded_block *g) {
    return g->block ? g->block + GUARD : NULL;
}

static bool guarded_intact(const guarded_block *g) {
    if (!g->block) return true;
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(g->block, GUARD + g->bytes + GUARD);
    bool intact = true;
    for (size_t i = 0; i < GUARD && intact; i++)
        intact = g->block[i] == GUARD_BYTE && g->block[GUARD + g->bytes + i] == GUARD_BYTE;
    guards_forbid(g);
    return intact;
}

static bool is_real(dtype type) {
    return type == DTYPE_F32 || type == DTYPE_F64 || dtype_is_half(type);
}

static void poison_from(tensor *t, int64_t first) {
    int64_t count = tensor_count(t);
    char *data = t->data;
    if (t->type != DTYPE_I32)
        memset(data + first * (int64_t)dtype_size(t->type), 0xFF,
               (size_t)(count - first) * dtype_size(t->type));
    else
        for (int64_t i = first; i < count; i++) tensor_i32(t)[i] = INT_POISON;
}

static bool is_poison_from(const tensor *t, int64_t first) {
    int64_t count = tensor_count(t), size = (int64_t)dtype_size(t->type);
    const unsigned char *data = t->data;
    for (int64_t i = first * size; i < count * size; i++)
        if (data[i] != (t->type == DTYPE_I32 ? 0x7f : 0xFF)) return false;
    return true;
}

static double random_value(const op_case_input *in, const philox_key *key, uint64_t index) {
    switch (in->fill) {
    case FILL_NORMAL:
        return in->low + in->high * (double)philox_normal(key, index);
    case FILL_UNIFORM:
        return in->low + (in->high - in->low) * (double)philox_uniform(key, index);
    case FILL_CONSTANT:
        return in->low;
    case FILL_INTEGER:
        CHECK(in->high > in->low, "a case fills integers from an empty range");
        return in->low + (double)philox_below(key, index, (uint32_t)(in->high - in->low));
    }
    CHECK(false, "fill %d", (int)in->fill);
}

/* ---- running on another device ------------------------------------------------------------------------------------ */

static device *trial_device;
static bool trial_tf32;

void op_trial_use_device(device *d) {
    trial_device = d;
}

void op_trial_allow_tf32(bool allow) {
    trial_tf32 = allow;
}

enum { MAX_BLOCKS = 2 * (OP_MAX_INPUTS + OP_MAX_OUTPUTS) + 2 };

/* The trial's blocks on the device, while a kernel runs. */
typedef struct mirror {
    struct {
        unsigned char *host, *device;
        size_t bytes;
    } blocks[MAX_BLOCKS];
    int count;
} mirror;

static void mirror_block(mirror *m, void *host, size_t bytes) {
    if (!host) return;
    void *memory;
    status s = device_alloc(trial_device, &memory, bytes, "a test tensor");
    CHECK(s == STATUS_OK, "%s", error_cause());
    device_copy(trial_device, NULL, memory, host, bytes);
    m->blocks[m->count].host = host;
    m->blocks[m->count].device = memory;
    m->blocks[m->count++].bytes = bytes;
}

static void mirror_guarded(mirror *m, const guarded_block *g) {
    if (!g->block) return;
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(g->block, GUARD + g->bytes + GUARD);
    mirror_block(m, g->block, GUARD + g->bytes + GUARD);
}

/* A host address inside one of the blocks, on the device; back again with `to_host`. */
static void *mirrored(const mirror *m, void *address, bool to_host) {
    for (int i = 0; i < m->count; i++) {
        unsigned char *from = to_host ? m->blocks[i].device : m->blocks[i].host,
                      *to = to_host ? m->blocks[i].host : m->blocks[i].device;
        if ((unsigned char *)address >= from && (unsigned char *)address < from + m->blocks[i].bytes)
            return to + ((unsigned char *)address - from);
    }
    CHECK(!address, "a test tensor is outside of the trial's memory");
    return NULL;
}

static void move_addresses(op_trial *t, const mirror *m, bool to_host) {
    const op_def *op = t->call.op;
    for (int i = 0; i < op->n_inputs; i++) {
        if (!t->call.in[i]) continue;
        t->in[i].data = mirrored(m, t->in[i].data, to_host);
        if (t->d_in_memory[i].block) t->d_in[i].data = mirrored(m, t->d_in[i].data, to_host);
    }
    for (int i = 0; i < op->n_outputs; i++) {
        t->out[i].data = mirrored(m, t->out[i].data, to_host);
        t->d_out[i].data = mirrored(m, t->d_out[i].data, to_host);
    }
    t->rows.data = mirrored(m, t->rows.data, to_host);
    t->call.scratch = mirrored(m, t->call.scratch, to_host);
}

static void run_mirrored(op_trial *t, const op_kernel *kernel, bool backward) {
    mirror m = {.count = 0};
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        mirror_guarded(&m, &t->in_memory[i]);
        mirror_guarded(&m, &t->d_in_memory[i]);
    }
    for (int i = 0; i < OP_MAX_OUTPUTS; i++) {
        mirror_guarded(&m, &t->out_memory[i]);
        mirror_guarded(&m, &t->d_out_memory[i]);
    }
    mirror_guarded(&m, &t->scratch_memory);
    mirror_block(&m, &t->valid_rows, sizeof t->valid_rows);
    move_addresses(t, &m, false);
    t->call.stream = device_get_stream(trial_device, DEVICE_STREAM_COMPUTE);
    (backward ? kernel->backward : kernel->forward)(&t->call);
    device_synchronize(trial_device, NULL);
    move_addresses(t, &m, true);
    for (int i = 0; i < m.count; i++) {
        device_copy(trial_device, NULL, m.blocks[i].host, m.blocks[i].device, m.blocks[i].bytes);
        device_free(trial_device, m.blocks[i].device, m.blocks[i].bytes);
    }
    for (int i = 0; i < OP_MAX_INPUTS; i++)
        guards_forbid(&t->in_memory[i]), guards_forbid(&t->d_in_memory[i]);
    for (int i = 0; i < OP_MAX_OUTPUTS; i++)
        guards_forbid(&t->out_memory[i]), guards_forbid(&t->d_out_memory[i]);
    guards_forbid(&t->scratch_memory);
}

static void run_kernel(op_trial *t, const op_kernel *kernel, bool backward) {
    bool is_cpu = kernel == t->call.op->reference_f64 || kernel == t->call.op->reference_f32;
    if (trial_device && !is_cpu)
        run_mirrored(t, kernel, backward);
    else
        (backward ? kernel->backward : kernel->forward)(&t->call);
}

static dtype input_type(const op_def *op, int i, dtype storage) {
    if (op->input_types[i] != DTYPE_F32) return op->input_types[i];
    return storage == DTYPE_F64 || op->half_inputs >> i & 1u ? storage : DTYPE_F32;
}

static void make_inputs(op_trial *t, dtype storage) {
    const op_def *op = t->call.op;
    const op_case *c = t->test_case;
    for (int i = 0; i < op->n_inputs; i++) {
        const op_case_input *in = &c->in[i];
        if (!in->present) continue;
        t->in[i] = tensor_make(op->input_names[i], input_type(op, i, storage), in->rank, in->shape, NULL);
        t->in_memory[i] = guarded_alloc(tensor_bytes(&t->in[i]));
        t->in[i].data = guarded_data(&t->in_memory[i]);
        t->call.in[i] = &t->in[i];
    }
    unsigned mask = c->rows_inputs ? c->rows_inputs : 1u;
    t->valid_rows = c->valid_rows < 0 ? 0 : c->valid_rows;
    t->rows = tensor_make("rows", DTYPE_I32, 1, (int64_t[]){1}, &t->valid_rows);
    for (int i = 0; i < op->n_inputs && c->valid_rows; i++)
        if (t->call.in[i] && mask >> i & 1u) t->in[i].rows = &t->rows;
}

static void fill_inputs(op_trial *t) {
    const op_def *op = t->call.op;
    for (int i = 0; i < op->n_inputs; i++) {
        if (!t->call.in[i]) continue;
        uint64_t name = crc32c(0, t->test_case->name, strlen(t->test_case->name));
        philox_key key = {.seed = crc32c(0, op->name, strlen(op->name)), PHILOX_TEST, (uint32_t)i, name};
        int64_t count = tensor_count(&t->in[i]);
        for (int64_t e = 0; e < count; e++)
            tensor_set(&t->in[i], e, random_value(&t->test_case->in[i], &key, (uint64_t)e));
    }
    if (t->test_case->prepare) t->test_case->prepare(&t->call);
    for (int i = 0; i < op->n_inputs; i++)
        if (t->call.in[i] && t->in[i].rows)
            poison_from(&t->in[i], tensor_valid_rows(&t->in[i]) * tensor_row_size(&t->in[i]));
}

static void save_inputs(op_trial *t, const op_trial *from) {
    for (int i = 0; i < t->call.op->n_inputs; i++) {
        if (!t->call.in[i]) continue;
        if (from) { /* the prepared numbers, in this trial's type */
            int64_t valid = tensor_valid_rows(&t->in[i]) * tensor_row_size(&t->in[i]);
            for (int64_t e = 0; e < valid; e++) tensor_set(&t->in[i], e, tensor_get(&from->in[i], e));
            poison_from(&t->in[i], valid);
        }
        size_t bytes = tensor_bytes(&t->in[i]);
        t->saved_in[i] = malloc(bytes ? bytes : 1);
        CHECK(t->saved_in[i], "no memory for a test tensor of %zu bytes", bytes);
        memcpy(t->saved_in[i], t->in[i].data, bytes);
    }
}

static void make_outputs(op_trial *t) {
    const op_def *op = t->call.op;
    for (int i = 0; i < op->n_outputs; i++) {
        t->out_memory[i] = guarded_alloc(tensor_bytes(&t->out[i]));
        t->out[i].data = guarded_data(&t->out_memory[i]);
        t->d_out[i] = t->out[i];
        t->d_out_memory[i] = guarded_alloc(tensor_bytes(&t->out[i]));
        t->d_out[i].data = guarded_data(&t->d_out_memory[i]);
    }
    for (int i = 0; i < op->n_inputs; i++) {
        if (!t->call.in[i] || !(op->differentiable >> i & 1u)) continue;
        t->d_in[i] = t->in[i];
        if (dtype_is_half(t->call.storage)) t->d_in[i].type = t->call.storage;
        t->d_in_memory[i] = guarded_alloc(tensor_bytes(&t->d_in[i]));
        t->d_in[i].data = guarded_data(&t->d_in_memory[i]);
    }
}

static status make_trial(op_trial **out, const op_def *op, const op_case *test_case, dtype storage,
                         const op_trial *numbers) {
    op_trial *t = calloc(1, sizeof *t);
    CHECK(t, "no memory for a test case");
    t->call.op = op;
    t->call.params = test_case->params;
    t->call.storage = numbers ? DTYPE_F32 : storage;
    t->call.tf32 = trial_tf32 && storage == DTYPE_F32;
    t->test_case = test_case;
    t->numbers = numbers;
    for (int i = 0; i < op->n_outputs; i++) t->call.out[i] = &t->out[i];
    make_inputs(t, storage);
    if (!numbers) fill_inputs(t);
    save_inputs(t, numbers);
    status s = op_infer(&t->call);
    if (s == STATUS_OK && op->validate) s = op->validate(&t->call);
    if (s == STATUS_OK) make_outputs(t);
    if (s != STATUS_OK)
        op_trial_free(t);
    else
        *out = t;
    return s;
}

status op_trial_new(op_trial **out, const op_def *op, const op_case *test_case, dtype storage) {
    return make_trial(out, op, test_case, storage, NULL);
}

status op_trial_new_wide(op_trial **out, const op_trial *narrow) {
    return make_trial(out, narrow->call.op, narrow->test_case, DTYPE_F64, narrow);
}

void op_trial_free(op_trial *t) {
    if (!t) return;
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        free(t->in_memory[i].block);
        free(t->d_in_memory[i].block);
        free(t->saved_in[i]);
    }
    for (int i = 0; i < OP_MAX_OUTPUTS; i++) {
        free(t->out_memory[i].block);
        free(t->d_out_memory[i].block);
    }
    free(t->scratch_memory.block);
    free(t);
}

static void take_scratch(op_trial *t, const op_kernel *kernel, bool backward) {
    free(t->scratch_memory.block);
    size_t bytes = kernel->scratch_bytes ? kernel->scratch_bytes(&t->call, backward) : 0;
    t->scratch_memory = guarded_alloc(bytes);
    memset(guarded_data(&t->scratch_memory), 0xFF, bytes);
    t->call.scratch = bytes ? guarded_data(&t->scratch_memory) : NULL;
}

void op_trial_forward(op_trial *t, const op_kernel *kernel) {
    const op_def *op = t->call.op;
    for (int i = 0; i < op->n_inputs; i++) {
        t->call.d_in[i] = NULL;
        if (t->call.in[i]) memcpy(t->in[i].data, t->saved_in[i], tensor_bytes(&t->in[i]));
    }
    for (int i = 0; i < op->n_outputs; i++) {
        t->call.d_out[i] = NULL;
        poison_from(&t->out[i], 0);
    }
    take_scratch(t, kernel, false);
    run_kernel(t, kernel, false);
}

static double rounded(double value, dtype type) {
    uint64_t memory;
    tensor one = tensor_make("one", type, 0, NULL, &memory);
    tensor_set(&one, 0, value);
    return tensor_get(&one, 0);
}

static double number(int which, int64_t index, uint64_t purpose, dtype type) {
    philox_key key = {.seed = 7, PHILOX_TEST, (uint32_t)which, purpose};
    return rounded((double)philox_normal(&key, (uint64_t)index), type);
}

double op_trial_base(const op_trial *t, int input, int64_t index) {
    return number(input, index, 1, (t->numbers ? t->numbers : t)->d_in[input].type);
}

double op_trial_d_out(const op_trial *t, int output, int64_t index) {
    return number(output, index, 2, (t->numbers ? t->numbers : t)->d_out[output].type);
}

unsigned op_trial_gradient_outputs(const op_trial *t) {
    unsigned mask = 0;
    for (int i = 0; i < t->call.op->n_outputs; i++)
        if (is_real(t->out[i].type) && !(t->call.op->constant_outputs >> i & 1u)) mask |= 1u << i;
    return mask;
}

static void request_gradients(op_trial *t, const op_trial_request *request) {
    const op_def *op = t->call.op;
    for (int i = 0; i < op->n_outputs; i++) {
        t->call.d_out[i] = NULL;
        if (!(request->arrived >> i & 1u)) continue;
        t->call.d_out[i] = &t->d_out[i];
        int64_t valid = tensor_valid_rows(&t->out[i]) * tensor_row_size(&t->out[i]);
        for (int64_t e = 0; e < valid; e++) tensor_set(&t->d_out[i], e, op_trial_d_out(t, i, e));
        poison_from(&t->d_out[i], valid);
    }
    for (int i = 0; i < op->n_inputs; i++) {
        t->call.d_in[i] = NULL;
        if (!(request->wanted >> i & 1u) || !t->d_in_memory[i].block) continue;
        t->call.d_in[i] = &t->d_in[i];
        bool shared = request->share_gradient && i == op->shares_gradient;
        t->d_in[i].data = guarded_data(shared ? &t->d_out_memory[0] : &t->d_in_memory[i]);
        t->call.accumulate[i] = request->accumulate && !shared;
        if (shared) continue;
        poison_from(&t->d_in[i], 0);
        int64_t valid = tensor_valid_rows(&t->in[i]) * tensor_row_size(&t->in[i]);
        for (int64_t e = 0; e < valid && request->accumulate; e++)
            tensor_set(&t->d_in[i], e, op_trial_base(t, i, e));
    }
}

void op_trial_backward(op_trial *t, const op_kernel *kernel, const op_trial_request *request) {
    const op_def *op = t->call.op;
    op_trial_forward(t, kernel);
    request_gradients(t, request); /* before the poison: a count may be among the outputs */
    for (int i = 0; i < op->n_inputs; i++)
        if (t->call.in[i] && !(op->backward_reads_inputs >> i & 1u)) poison_from(&t->in[i], 0);
    unsigned read_outputs = op->backward_reads_outputs;
    if (op->backward_ignores_outputs && op->backward_ignores_outputs(&t->call)) read_outputs = 0;
    for (int i = 0; i < op->n_outputs; i++)
        if (!(read_outputs >> i & 1u)) poison_from(&t->out[i], 0);
    take_scratch(t, kernel, true);
    run_kernel(t, kernel, true);
}

static const char *tensor_damage(const tensor *t, const guarded_block *memory, const char *prefix) {
    static _Thread_local char text[128];
    const char *what = NULL;
    if (!guarded_intact(memory))
        what = "memory beside the tensor";
    else if (memory->block && t->rows && t->data == guarded_data(memory) &&
             !is_poison_from(t, tensor_valid_rows(t) * tensor_row_size(t)))
        what = "rows behind the count";
    if (!what) return NULL;
    snprintf(text, sizeof text, "%s%s: %s was written", prefix, t->name, what);
    return text;
}

static bool input_changed(const op_trial *t, int i) {
    if (!t->call.in[i]) return false;
    if (memcmp(t->in[i].data, t->saved_in[i], tensor_bytes(&t->in[i])) == 0) return false;
    return !is_poison_from(&t->in[i], 0); /* poisoned by op_trial_backward */
}

const char *op_trial_damage(const op_trial *t) {
    const op_def *op = t->call.op;
    const char *found = NULL;
    static _Thread_local char text[128];
    for (int i = 0; i < op->n_inputs && !found; i++) {
        found = tensor_damage(&t->in[i], &t->in_memory[i], "");
        if (!found && t->call.d_in[i]) found = tensor_damage(&t->d_in[i], &t->d_in_memory[i], "d_");
        if (found || !input_changed(t, i)) continue;
        snprintf(text, sizeof text, "%s: the input was changed", t->in[i].name);
        found = text;
    }
    for (int i = 0; i < op->n_outputs && !found; i++) {
        found = tensor_damage(&t->out[i], &t->out_memory[i], "");
        if (!found && t->call.d_out[i]) found = tensor_damage(&t->d_out[i], &t->d_out_memory[i], "d_");
    }
    if (!found && !guarded_intact(&t->scratch_memory)) found = "scratch: memory beside it was written";
    return found;
}
