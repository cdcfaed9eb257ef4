#include "bench/op_timer.h"

#include "base/check.h"
#include "base/crc32c.h"
#include "base/philox.h"
#include "bench/median.h"

#include <stdlib.h>
#include <string.h>

enum {
    PERIOD =
        1048573, /* values of a large input before they repeat: a prime, so that no row equals another one */
    MOST_BLOCKS = 2 * (OP_MAX_INPUTS + OP_MAX_OUTPUTS) + 2,
    WARM_UPS = 2,
    LEAST_REPETITIONS = 3,
    MOST_REPETITIONS = 1000
};

static const double usual_seconds = 0.2, slow_seconds = 1;

struct op_timer {
    device *dev;
    op_call call; /* points into the tensors below */
    tensor in[OP_MAX_INPUTS], out[OP_MAX_OUTPUTS], d_in[OP_MAX_INPUTS], d_out[OP_MAX_OUTPUTS], rows;
    struct {
        void *memory;
        size_t bytes;
    } blocks[MOST_BLOCKS];
    int block_count;
    size_t scratch_bytes;
    bool backward;
    double seconds;               /* for repetitions */
    double enough;                /* 0: not limited */
    const op_kernel *prepared[2]; /* forward and backward have prepared themselves on this memory */
};

static status take(op_timer *r, tensor *t) {
    RETURN_IF_ERROR(device_alloc(r->dev, &t->data, tensor_bytes(t), t->name));
    r->blocks[r->block_count].memory = t->data;
    r->blocks[r->block_count++].bytes = tensor_bytes(t);
    return STATUS_OK;
}

static dtype input_type(const op_def *op, int i, dtype storage) {
    return op->input_types[i] == DTYPE_F32 && op->half_inputs >> i & 1u ? storage : op->input_types[i];
}

static double value_at(const op_case_input *in, const philox_key *key, uint64_t index) {
    switch (in->fill) {
    case FILL_NORMAL:
        return in->low + in->high * (double)philox_normal(key, index);
    case FILL_UNIFORM:
        return in->low + (in->high - in->low) * (double)philox_uniform(key, index);
    case FILL_INTEGER:
        return in->low + (double)philox_below(key, index, (uint32_t)(in->high - in->low));
    default:
        return in->low;
    }
}

/* Into host memory at `data`. */
static void fill(tensor *t, void *data, const op_case_input *in, const philox_key *key) {
    tensor host = *t;
    host.data = data;
    int64_t count = tensor_count(t), first = count < PERIOD ? count : PERIOD;
    for (int64_t i = 0; i < first; i++) tensor_set(&host, i, value_at(in, key, (uint64_t)i));
    size_t size = dtype_size(t->type);
    for (int64_t i = first; i < count; i += PERIOD)
        memcpy((char *)data + (size_t)i * size, data,
               (size_t)(count - i < PERIOD ? count - i : PERIOD) * size);
}

static void describe_inputs(op_timer *r, const op_case *c) {
    const op_def *op = r->call.op;
    unsigned counted = c->rows_inputs ? c->rows_inputs : 1u;
    r->rows = tensor_make("rows", DTYPE_I32, 1, (int64_t[]){1}, NULL);
    for (int i = 0; i < op->n_inputs; i++) {
        if (!c->in[i].present) continue;
        r->in[i] = tensor_make(op->input_names[i], input_type(op, i, r->call.storage), c->in[i].rank,
                               c->in[i].shape, NULL);
        r->call.in[i] = &r->in[i];
        if (c->valid_rows && counted >> i & 1u) r->in[i].rows = &r->rows;
    }
    for (int i = 0; i < op->n_outputs; i++) r->call.out[i] = &r->out[i];
}

static void describe_gradients(op_timer *r) {
    const op_def *op = r->call.op;
    for (int i = 0; i < op->n_outputs; i++) {
        bool is_real = r->out[i].type != DTYPE_I32 && r->out[i].type != DTYPE_U8;
        if (!is_real || op->constant_outputs >> i & 1u) continue;
        r->d_out[i] = r->out[i];
        r->call.d_out[i] = &r->d_out[i];
    }
    for (int i = 0; i < op->n_inputs; i++) {
        if (!r->call.in[i] || !(op->differentiable >> i & 1u)) continue;
        r->d_in[i] = r->in[i];
        if (dtype_is_half(r->call.storage)) r->d_in[i].type = r->call.storage;
        r->call.d_in[i] = &r->d_in[i];
    }
}

/* Whether the gradient of input i lies where that of output 0 does, as on a tape. */
static bool is_shared(const op_timer *r, int i) {
    return r->call.op->shares_gradient == i && r->call.d_out[0] &&
           tensor_same_shape(&r->d_in[i], &r->d_out[0]) && r->d_in[i].type == r->d_out[0].type;
}

static size_t bytes_needed(const op_timer *r) {
    size_t bytes = 0;
    for (int i = 0; i < OP_MAX_INPUTS; i++) {
        if (r->call.in[i]) bytes += tensor_bytes(&r->in[i]);
        if (r->call.d_in[i] && !is_shared(r, i)) bytes += tensor_bytes(&r->d_in[i]);
    }
    for (int i = 0; i < r->call.op->n_outputs; i++)
        bytes += tensor_bytes(&r->out[i]) + (r->call.d_out[i] ? tensor_bytes(&r->d_out[i]) : 0);
    return bytes;
}

static status check_limit(const op_timer *r, size_t limit) {
    size_t bytes = bytes_needed(r);
    if (!limit || bytes <= limit) return STATUS_OK;
    double gib = 1024.0 * 1024.0 * 1024.0;
    return error_set(STATUS_OS, "use a machine with more memory",
                     "needs %.1f GiB, more than %.1f GiB (half of the free memory)", (double)bytes / gib,
                     (double)limit / gib);
}

/* Fills and checks the inputs in host memory, which is the device's own where the host can use that. */
static status make_inputs(op_timer *r, const op_case *c) {
    const op_def *op = r->call.op;
    bool is_host = device_is_host_accessible(r->dev);
    void *device_memory[OP_MAX_INPUTS] = {0}, *rows_memory = NULL;
    int32_t valid = c->valid_rows < 0 ? 0 : c->valid_rows;
    status s = take(r, &r->rows);
    for (int i = 0; i < op->n_inputs && s == STATUS_OK; i++)
        if (r->call.in[i]) s = take(r, &r->in[i]);
    for (int i = 0; i < op->n_inputs && s == STATUS_OK && !is_host; i++) {
        if (!r->call.in[i]) continue;
        device_memory[i] = r->in[i].data;
        r->in[i].data = malloc(tensor_bytes(&r->in[i]) + 1);
        CHECK(r->in[i].data, "no memory for %zu bytes of %s", tensor_bytes(&r->in[i]), r->in[i].name);
    }
    if (s != STATUS_OK) return s;
    rows_memory = r->rows.data;
    r->rows.data = &valid;
    for (int i = 0; i < op->n_inputs; i++) {
        philox_key key = {.seed = crc32c(0, op->name, strlen(op->name)),
                          PHILOX_TEST,
                          (uint32_t)i,
                          crc32c(0, c->name, strlen(c->name))};
        if (r->call.in[i]) fill(&r->in[i], r->in[i].data, &c->in[i], &key);
    }
    if (c->prepare) c->prepare(&r->call);
    if (op->validate) s = op->validate(&r->call);
    r->rows.data = rows_memory;
    device_copy(r->dev, NULL, r->rows.data, &valid, sizeof valid);
    for (int i = 0; i < op->n_inputs && !is_host; i++) {
        if (!r->call.in[i]) continue;
        device_copy(r->dev, NULL, device_memory[i], r->in[i].data, tensor_bytes(&r->in[i]));
        free(r->in[i].data);
        r->in[i].data = device_memory[i];
    }
    return s;
}

/* Numbers that arrive at output i, through host memory of their own. */
static status fill_gradient(op_timer *r, int i) {
    static const op_case_input normal = {.fill = FILL_NORMAL, .high = 1e-3};
    philox_key key = {.seed = 7, PHILOX_TEST, (uint32_t)i, 2};
    size_t bytes = tensor_bytes(&r->d_out[i]);
    void *host = device_is_host_accessible(r->dev) ? NULL : malloc(bytes + 1);
    if (!host && !device_is_host_accessible(r->dev))
        return error_set(STATUS_OS, "free some memory", "no memory for %zu bytes of a gradient", bytes);
    fill(&r->d_out[i], host ? host : r->d_out[i].data, &normal, &key);
    if (host) device_copy(r->dev, NULL, r->d_out[i].data, host, bytes);
    free(host);
    return STATUS_OK;
}

static status make_outputs(op_timer *r) {
    for (int i = 0; i < r->call.op->n_outputs; i++) {
        RETURN_IF_ERROR(take(r, &r->out[i]));
        if (!r->call.d_out[i]) continue;
        RETURN_IF_ERROR(take(r, &r->d_out[i]));
        RETURN_IF_ERROR(fill_gradient(r, i));
    }
    for (int i = 0; i < r->call.op->n_inputs; i++) {
        if (!r->call.d_in[i]) continue;
        if (is_shared(r, i))
            r->d_in[i].data = r->d_out[0].data;
        else
            RETURN_IF_ERROR(take(r, &r->d_in[i]));
    }
    return STATUS_OK;
}

status op_timer_new(op_timer **out, device *dev, const op_def *op, const op_case *c,
                    const op_timer_options *options) {
    op_timer *r = calloc(1, sizeof *r);
    if (!r) return error_set(STATUS_OS, "free some memory", "no memory for a call of %s", op->name);
    r->dev = dev;
    r->call = (op_call){.op = op,
                        .params = c->params,
                        .storage = options->storage,
                        .tf32 = options->tf32,
                        .stream = device_get_stream(dev, DEVICE_STREAM_COMPUTE)};
    r->backward = options->backward && op->differentiable;
    r->seconds = options->seconds > 0 ? options->seconds : usual_seconds;
    r->enough = options->enough;
    describe_inputs(r, c);
    status s = op_infer(&r->call);
    if (s == STATUS_OK && r->backward) describe_gradients(r);
    if (s == STATUS_OK) s = check_limit(r, options->limit);
    if (s == STATUS_OK) s = make_inputs(r, c);
    if (s == STATUS_OK) s = make_outputs(r);
    if (s != STATUS_OK)
        op_timer_free(r);
    else
        *out = r;
    return s;
}

void op_timer_free(op_timer *r) {
    if (!r) return;
    for (int i = 0; i < r->block_count; i++) device_free(r->dev, r->blocks[i].memory, r->blocks[i].bytes);
    device_free(r->dev, r->call.scratch, r->scratch_bytes);
    free(r);
}

const op_call *op_timer_call(const op_timer *r) {
    return &r->call;
}

bool op_timer_has_backward(const op_timer *r) {
    return r->backward;
}

static status take_scratch(op_timer *r, const op_kernel *kernel, bool backward) {
    size_t bytes = kernel->scratch_bytes ? kernel->scratch_bytes(&r->call, backward) : 0;
    device_free(r->dev, r->call.scratch, r->scratch_bytes);
    r->call.scratch = NULL;
    r->scratch_bytes = bytes;
    if (bytes > 0) RETURN_IF_ERROR(device_alloc(r->dev, &r->call.scratch, bytes, "scratch"));
    if (kernel->prepare && r->prepared[backward] != kernel) kernel->prepare(&r->call, backward);
    r->prepared[backward] = kernel;
    return STATUS_OK;
}

/* Runs once between two events, or by the clock; the device is idle after it only where the host computes. */
static void run_once(op_timer *r, const op_kernel *kernel, bool backward, device_event *const events[2]) {
    device_event_record(r->dev, events[0], r->call.stream);
    (backward ? kernel->backward : kernel->forward)(&r->call);
    device_event_record(r->dev, events[1], r->call.stream);
}

static double seconds_of(op_timer *r, device_event *const events[2]) {
    device_event_synchronize(r->dev, events[1]);
    return 1e-3 * device_event_milliseconds(r->dev, events[0], events[1]);
}

static void free_events(op_timer *r, device_event **events, int count) {
    for (int i = 0; i < count; i++)
        if (events[i]) device_event_free(r->dev, events[i]);
    free(events);
}

static status make_events(device_event ***out, op_timer *r, int count) {
    device_event **events = calloc((size_t)count, sizeof *events);
    if (!events) return error_set(STATUS_OS, "free some memory", "no memory for %d events", count);
    for (int i = 0; i < count; i++) {
        status s = device_event_new_timed(r->dev, &events[i]);
        if (s == STATUS_OK) continue;
        free_events(r, events, count);
        return s;
    }
    *out = events;
    return STATUS_OK;
}

static bool is_enough(const op_timer *r, double seconds) {
    return r->enough > 0 && seconds > r->enough;
}

/* Warms up; the last run's seconds say how many repetitions are needed. A slow kernel needs no second warm-up. */
static double warm_up(op_timer *r, const op_kernel *kernel, bool backward, device_event **events) {
    double seconds = 0;
    for (int i = 0; i < WARM_UPS && seconds < slow_seconds && !is_enough(r, seconds); i++) {
        run_once(r, kernel, backward, events);
        seconds = seconds_of(r, events);
    }
    return seconds;
}

/* `seconds` is one run's. */
static int repetitions_for(const op_timer *r, double seconds) {
    double wanted = seconds > 0 ? r->seconds / seconds + 1 : MOST_REPETITIONS;
    return wanted < LEAST_REPETITIONS  ? LEAST_REPETITIONS
           : wanted > MOST_REPETITIONS ? MOST_REPETITIONS
                                       : (int)wanted;
}

status op_timer_seconds(double *seconds, op_timer *r, const op_kernel *kernel, bool backward) {
    RETURN_IF_ERROR(take_scratch(r, kernel, backward));
    device_event **events = NULL;
    RETURN_IF_ERROR(make_events(&events, r, 2));
    double one = warm_up(r, kernel, backward, events);
    free_events(r, events, 2);
    if (is_enough(r, one)) {
        *seconds = one;
        return STATUS_OK;
    }
    int count = repetitions_for(r, one);
    RETURN_IF_ERROR(make_events(&events, r, 2 * count));
    double *times = calloc((size_t)count, sizeof *times);
    status s = times ? STATUS_OK : error_set(STATUS_OS, "free some memory", "no memory for %d times", count);
    if (times) {
        for (int i = 0; i < count; i++) run_once(r, kernel, backward, events + 2 * i);
        for (int i = 0; i < count; i++) times[i] = seconds_of(r, events + 2 * i);
        *seconds = median(times, count);
    }
    free(times);
    free_events(r, events, 2 * count);
    return s;
}
