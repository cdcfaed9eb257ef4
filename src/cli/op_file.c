#include "cli/op_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/op_attrs.h"
#include "data/safetensors.h"
#include "device/device.h"

/* Sizes above this are no array anybody computes with, and products of them stay far from overflow. */
#define MAX_SIZE INT32_MAX
#define MAX_ELEMENTS ((int64_t)1 << 40)

enum { MAX_TENSORS = 2 * (OP_MAX_INPUTS + OP_MAX_OUTPUTS), NAME_SIZE = 64 };

/* A call and the memory behind it, which the host can use. */
typedef struct bound_call {
    op_call call;
    struct device *dev; /* of the memory */
    struct device *gpu; /* where the kernel runs; NULL: on `dev` */
    tensor tensors[MAX_TENSORS];
    char names[MAX_TENSORS][NAME_SIZE];
    int count;
    void *params;
    size_t scratch_bytes;
} bound_call;

static struct device *runner(const bound_call *b) {
    return b->gpu ? b->gpu : b->dev;
}

static void release(bound_call *b) {
    for (int i = 0; i < b->count; i++) device_free(b->dev, b->tensors[i].data, tensor_bytes(&b->tensors[i]));
    device_free(runner(b), b->call.scratch, b->scratch_bytes);
    free(b->params);
}

/* A further tensor named prefix + name; it gets its memory from allocate. */
static tensor *add_tensor(bound_call *b, const char *prefix, const char *name) {
    int i = b->count++;
    snprintf(b->names[i], NAME_SIZE, "%s%s", prefix, name);
    b->tensors[i] = (tensor){.name = b->names[i], .id = -1};
    return &b->tensors[i];
}

static status allocate(bound_call *b, tensor *t) {
    int64_t count = 1;
    for (int i = 0; i < t->rank; i++)
        if (t->shape[i] < 0 || __builtin_mul_overflow(count, t->shape[i], &count)) count = MAX_ELEMENTS + 1;
    if (count > MAX_ELEMENTS) {
        char text[96];
        return error_set(STATUS_DATA, "use smaller arrays or other attributes",
                         "%s: tensor %s would have the shape %s", b->call.op->name, t->name,
                         tensor_shape_text(t, text, sizeof text));
    }
    void *memory = NULL;
    status s = device_alloc(b->dev, &memory, tensor_bytes(t), t->name);
    t->data = memory;
    return s;
}

static bool has_dtype(const safetensors_tensor *source, dtype type) {
    return strcmp(safetensors_dtype_name(source->dtype), dtype_name(type)) == 0;
}

/* Copies `source` into a new tensor of the call. */
static status bind(tensor **out, bound_call *b, const safetensors_tensor *source, const char *name,
                   dtype type) {
    const char *op = b->call.op->name;
    char text[SAFETENSORS_SHAPE_TEXT];
    if (!has_dtype(source, type))
        return error_set(STATUS_DATA, "convert the tensor", "%s: tensor %s has dtype %s, expected %s", op,
                         name, safetensors_dtype_name(source->dtype), dtype_name(type));
    bool is_small = source->rank <= TENSOR_MAX_RANK;
    for (int i = 0; i < source->rank; i++) is_small = is_small && source->shape[i] <= MAX_SIZE;
    if (!is_small)
        return error_set(STATUS_DATA, "give the tensor the documented shape",
                         "%s: tensor %s has shape %s, more than %d dimensions or a size above 2^31 - 1", op,
                         name, safetensors_shape_text(text, source->shape, source->rank), TENSOR_MAX_RANK);
    tensor *t = add_tensor(b, "", name);
    t->type = type;
    t->rank = source->rank;
    memcpy(t->shape, source->shape, (size_t)t->rank * sizeof *t->shape);
    RETURN_IF_ERROR(allocate(b, t));
    if (source->bytes > 0) device_copy(b->dev, NULL, t->data, source->data, source->bytes);
    *out = t;
    return STATUS_OK;
}

static status bind_inputs(bound_call *b, const safetensors *file) {
    const op_def *op = b->call.op;
    for (int i = 0; i < op->n_inputs; i++) {
        const safetensors_tensor *source = safetensors_find(file, op->input_names[i]);
        if (source) RETURN_IF_ERROR(bind(&b->call.in[i], b, source, op->input_names[i], op->input_types[i]));
    }
    for (int i = 0; i < op->n_outputs; i++) b->call.out[i] = add_tensor(b, "", op->output_names[i]);
    RETURN_IF_ERROR(op_infer(&b->call));
    if (op->validate) RETURN_IF_ERROR(op->validate(&b->call));
    for (int i = 0; i < op->n_outputs; i++) RETURN_IF_ERROR(allocate(b, b->call.out[i]));
    return STATUS_OK;
}

/* Finds `grad_<output>`; *is_wanted says whether there is any. */
static status bind_gradients(bool *is_wanted, bound_call *b, const safetensors *file) {
    const op_def *op = b->call.op;
    *is_wanted = false;
    for (int i = 0; i < op->n_outputs && op->differentiable; i++) {
        char name[NAME_SIZE], shape[96], other[96];
        const tensor *out = b->call.out[i];
        snprintf(name, sizeof name, "grad_%s", op->output_names[i]);
        const safetensors_tensor *source = safetensors_find(file, name);
        if (!source || (op->constant_outputs >> i & 1u)) continue;
        RETURN_IF_ERROR(bind(&b->call.d_out[i], b, source, name, out->type));
        if (!tensor_same_shape(b->call.d_out[i], out))
            return error_set(STATUS_DATA, "give both the same shape",
                             "%s: tensor %s has shape %s, but its output %s has %s", op->name, name,
                             tensor_shape_text(b->call.d_out[i], shape, sizeof shape), op->output_names[i],
                             tensor_shape_text(out, other, sizeof other));
        *is_wanted = true;
    }
    for (int i = 0; i < op->n_inputs && *is_wanted; i++) {
        const tensor *in = b->call.in[i];
        if (!in || !(op->differentiable >> i & 1u)) continue;
        tensor *d = add_tensor(b, "grad_", op->input_names[i]);
        d->type = in->type;
        d->rank = in->rank;
        memcpy(d->shape, in->shape, sizeof in->shape);
        b->call.d_in[i] = d;
        RETURN_IF_ERROR(allocate(b, d));
    }
    return STATUS_OK;
}

/* Tensors that lie on the GPU for a while: where they were, in order. */
typedef struct mirror {
    void *host[MAX_TENSORS];
    int count;
} mirror;

static status bring_to_gpu(mirror *m, bound_call *b) {
    for (; m->count < b->count; m->count++) {
        tensor *t = &b->tensors[m->count];
        void *memory = NULL;
        RETURN_IF_ERROR(device_alloc(b->gpu, &memory, tensor_bytes(t), t->name));
        device_copy(b->gpu, NULL, memory, t->data, tensor_bytes(t));
        m->host[m->count] = t->data;
        t->data = memory;
    }
    return STATUS_OK;
}

static void bring_back(bound_call *b, const mirror *m) {
    for (int i = 0; i < m->count; i++) {
        tensor *t = &b->tensors[i];
        device_copy(b->gpu, NULL, m->host[i], t->data, tensor_bytes(t));
        device_free(b->gpu, t->data, tensor_bytes(t));
        t->data = m->host[i];
    }
}

static status run_kernel(bound_call *b, const op_kernel *kernel, bool backward) {
    op_call *call = &b->call;
    mirror m = {.count = 0};
    size_t bytes = kernel->scratch_bytes ? kernel->scratch_bytes(call, backward) : 0;
    device_free(runner(b), call->scratch, b->scratch_bytes);
    call->scratch = NULL;
    b->scratch_bytes = bytes;
    if (bytes > 0) {
        void *memory = NULL;
        RETURN_IF_ERROR(device_alloc(runner(b), &memory, bytes, "scratch"));
        call->scratch = memory;
    }
    status s = b->gpu ? bring_to_gpu(&m, b) : STATUS_OK;
    if (s == STATUS_OK) (backward ? kernel->backward : kernel->forward)(call);
    bring_back(b, &m);
    return s;
}

/* An output's valid rows; the file holds no others. */
static tensor valid_part(const tensor *t) {
    tensor part = *t;
    if (t->rank > 0) part.shape[0] = tensor_valid_rows(t);
    return part;
}

static safetensors_dtype file_dtype(dtype type) {
    switch (type) {
    case DTYPE_F64:
        return SAFETENSORS_F64;
    case DTYPE_I32:
        return SAFETENSORS_I32;
    case DTYPE_U8:
        return SAFETENSORS_U8;
    default:
        return SAFETENSORS_F32;
    }
}

static status write_outputs(const char *path, const bound_call *b) {
    const op_call *call = &b->call;
    tensor parts[OP_MAX_OUTPUTS + OP_MAX_INPUTS];
    int count = 0;
    for (int i = 0; i < call->op->n_outputs; i++) parts[count++] = valid_part(call->out[i]);
    for (int i = 0; i < call->op->n_inputs; i++)
        if (call->d_in[i]) parts[count++] = *call->d_in[i];
    safetensors_writer *w;
    RETURN_IF_ERROR(safetensors_writer_new(&w, path));
    safetensors_writer_metadata(w, "op", call->op->name);
    for (int i = 0; i < count; i++)
        safetensors_writer_declare(w, parts[i].name, file_dtype(parts[i].type), parts[i].rank,
                                   parts[i].shape);
    status s = safetensors_writer_begin(w);
    for (int i = 0; i < count && s == STATUS_OK; i++)
        s = safetensors_writer_append(w, parts[i].data, tensor_bytes(&parts[i]));
    return safetensors_writer_finish(w, s);
}

static status run_bound(bound_call *b, const char *out, const safetensors *file, const op_file_job *job) {
    bool is_backward;
    RETURN_IF_ERROR(op_attrs_parse(b->params, job->op, job->attrs, job->attr_count));
    RETURN_IF_ERROR(bind_inputs(b, file));
    RETURN_IF_ERROR(bind_gradients(&is_backward, b, file));
    const op_kernel *kernel = job->kernel;
    if (!kernel) kernel = b->gpu ? device_find_kernel(b->gpu, job->op->name) : op_cpu_kernel(&b->call);
    if (!kernel)
        return error_set(STATUS_NO_DEVICE, "use --device cpu", "op %s has no kernel for %s", job->op->name,
                         device_get_name(b->gpu));
    b->call.stream = device_get_stream(runner(b), DEVICE_STREAM_COMPUTE);
    RETURN_IF_ERROR(run_kernel(b, kernel, false));
    if (is_backward) RETURN_IF_ERROR(run_kernel(b, kernel, true));
    return write_outputs(out, b);
}

static status run_file(const char *out, const safetensors *file, const op_file_job *job, struct device *dev,
                       struct device *gpu) {
    bound_call *b = calloc(1, sizeof *b);
    void *params = calloc(1, job->op->params_size + 1);
    status s = error_set(STATUS_OS, "free some memory", "%s: no memory for a call", job->op->name);
    if (b && params) {
        *b =
            (bound_call){.call = {.op = job->op, .params = params}, .dev = dev, .gpu = gpu, .params = params};
        s = run_bound(b, out, file, job);
        release(b);
    } else {
        free(params);
    }
    free(b);
    return s;
}

/* Where the host can use the memory: the job's device, or the CPU. */
static status open_memory(struct device **dev, struct device **gpu, const op_file_job *job) {
    *dev = job->dev;
    *gpu = NULL;
    if (device_is_host_accessible(job->dev)) return STATUS_OK;
    *gpu = job->dev;
    return device_open(dev, "cpu");
}

status op_file_run(const char *out, const char *in, const op_file_job *job) {
    safetensors *file;
    struct device *dev, *gpu;
    RETURN_IF_ERROR(open_memory(&dev, &gpu, job));
    status s = safetensors_open(&file, in);
    if (s == STATUS_OK) {
        s = run_file(out, file, job, dev, gpu);
        safetensors_close(file);
    }
    if (gpu) device_close(dev);
    return s;
}
