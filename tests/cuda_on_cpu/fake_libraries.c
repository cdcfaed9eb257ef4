#include "fake_libraries.h"

#include "base/check.h"
#include "base/half.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

fake_counts fake_seen;
int fake_refuses_fusions, fake_gpu_is_there = 1, fake_gpu_is_described = 1;

static double load(const void *data, int type, int64_t i) {
    if (type == CUDA_R_32F) return (double)((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return (double)(type == CUDA_R_16BF ? bfloat16_to_float(bits) : float16_to_float(bits));
}

static void store(void *data, int type, int64_t i, double value) {
    if (type == CUDA_R_32F)
        ((float *)data)[i] = (float)value;
    else
        ((uint16_t *)data)[i] =
            type == CUDA_R_16BF ? bfloat16_from_float((float)value) : float16_from_float((float)value);
}

/* ---- cuDNN: descriptors ---------------------------------------------------------------------------------- */

enum { MAX_ATTRIBUTES = 12, PLAN_WORKSPACE = 4096, OFFERED = 3 };

typedef struct attribute {
    cudnnBackendAttributeName_t name;
    int64_t count;
    void *values;
} attribute;

typedef struct fake_descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized;
    int n;
    attribute attributes[MAX_ATTRIBUTES];
    struct fake_descriptor *of; /* heuristic, configuration, plan: the graph */
    struct fake_descriptor *next;
    int number;
} fake_descriptor;

static fake_descriptor *all;
static int last_number;

static size_t size_of(cudnnBackendAttributeType_t type) {
    switch (type) {
    case CUDNN_TYPE_INT64:
        return sizeof(int64_t);
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_FLOAT:
        return sizeof(float);
    case CUDNN_TYPE_CHAR:
        return 1;
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_HANDLE:
        return sizeof(void *);
    default:
        return sizeof(int); /* enumerations */
    }
}

static cudnnStatus_t descriptor_create(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *out) {
    fake_descriptor *d = calloc(1, sizeof *d);
    CHECK(d, "out of memory");
    *d = (fake_descriptor){.type = type, .next = all, .number = ++last_number};
    all = d;
    *out = d;
    fake_seen.live++;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t descriptor_destroy(cudnnBackendDescriptor_t descriptor) {
    (void)descriptor; /* freed at the end: plans refer to it */
    fake_seen.live--;
    return CUDNN_STATUS_SUCCESS;
}

static const attribute *find(const fake_descriptor *d, cudnnBackendAttributeName_t name) {
    for (int i = 0; i < d->n; i++)
        if (d->attributes[i].name == name) return &d->attributes[i];
    return NULL;
}

static const attribute *must_find(const fake_descriptor *d, cudnnBackendAttributeName_t name) {
    const attribute *a = find(d, name);
    CHECK(a, "descriptor of type %d lacks attribute %d", (int)d->type, (int)name);
    return a;
}

static int64_t integer(const fake_descriptor *d, cudnnBackendAttributeName_t name, int i) {
    return ((const int64_t *)must_find(d, name)->values)[i];
}
static int enumeration(const fake_descriptor *d, cudnnBackendAttributeName_t name) {
    return *(const int *)must_find(d, name)->values;
}
static fake_descriptor *part(const fake_descriptor *d, cudnnBackendAttributeName_t name) {
    return *(fake_descriptor *const *)must_find(d, name)->values;
}

static cudnnStatus_t descriptor_set(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                    cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    fake_descriptor *d = descriptor;
    if (d->finalized || find(d, name)) return CUDNN_STATUS_BAD_PARAM;
    CHECK(d->n < MAX_ATTRIBUTES, "too many attributes");
    size_t bytes = size_of(type) * (size_t)count;
    void *copy = malloc(bytes + 1);
    CHECK(copy, "out of memory");
    memcpy(copy, values, bytes);
    ((char *)copy)[bytes] = '\0';
    d->attributes[d->n++] = (attribute){name, count, copy};
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t descriptor_finalize(cudnnBackendDescriptor_t descriptor) {
    fake_descriptor *d = descriptor;
    if (d->finalized) return CUDNN_STATUS_BAD_PARAM;
    d->finalized = true;
    if (d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)
        d->of = part(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    if (d->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) return CUDNN_STATUS_SUCCESS;
    if (!find(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE) && !find(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP))
        return CUDNN_STATUS_BAD_PARAM;
    const attribute *json = find(d, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION);
    if (!json) {
        d->of = part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->of;
        return CUDNN_STATUS_SUCCESS;
    }
    int number = 0;
    if (sscanf(json->values, "{\"graph\": %d}", &number) != 1) return CUDNN_STATUS_BAD_PARAM;
    for (fake_descriptor *g = all; g; g = g->next)
        if (g->number == number && g->type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR) d->of = g;
    fake_seen.plans_restored += d->of != NULL;
    return d->of ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

static cudnnStatus_t give_text(const char *text, int64_t capacity, int64_t *count, void *values) {
    *count = (int64_t)strlen(text);
    if (capacity >= *count) memcpy(values, text, (size_t)*count);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t give_configs(const fake_descriptor *heuristic, int64_t capacity, int64_t *count,
                                  void *values) {
    int64_t ops = must_find(heuristic->of, CUDNN_ATTR_OPERATIONGRAPH_OPS)->count;
    *count = 0;
    if (fake_refuses_fusions && ops > 1) return CUDNN_STATUS_SUCCESS;
    for (; *count < OFFERED && *count < capacity; ++*count)
        ((fake_descriptor **)values)[*count]->of = heuristic->of;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t descriptor_get(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                    cudnnBackendAttributeType_t type, int64_t capacity, int64_t *count,
                                    void *values) {
    fake_descriptor *d = descriptor;
    char text[64];
    (void)type;
    *count = 0;
    switch (name) {
    case CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION:
        if (!fake_gpu_is_described) return CUDNN_STATUS_NOT_SUPPORTED;
        return give_text("{\"deviceName\": \"Stand-in\", \"deviceVer\": 900}", capacity, count, values);
    case CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION:
        snprintf(text, sizeof text, "{\"graph\": %d}", d->of->number);
        return give_text(text, capacity, count, values);
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        return give_configs(d, capacity, count, values);
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        *count = 1;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        *count = 1;
        *(int64_t *)values = PLAN_WORKSPACE;
        return CUDNN_STATUS_SUCCESS;
    default:
        return CUDNN_STATUS_SUCCESS; /* notes: none */
    }
}

/* ---- cuDNN: execution ------------------------------------------------------------------------------------ */

/* A tensor of the graph where it lies: memory of the variant pack, or an intermediate of one execution. */
typedef struct view {
    void *data;
    int type; /* cudaDataType_t */
    int64_t dims[4], strides[4];
} view;

enum { MAX_VIRTUAL = 64 };

typedef struct execution {
    const fake_descriptor *pack;
    float *intermediates[MAX_VIRTUAL]; /* by unique id */
} execution;

static int data_type(int cudnn) {
    return cudnn == CUDNN_DATA_BFLOAT16 ? CUDA_R_16BF : cudnn == CUDNN_DATA_HALF ? CUDA_R_16F : CUDA_R_32F;
}

static view view_of(execution *e, const fake_descriptor *t) {
    view v = {.type = data_type(enumeration(t, CUDNN_ATTR_TENSOR_DATA_TYPE))};
    int64_t count = 1, uid = integer(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
    for (int i = 0; i < 4; i++) {
        v.dims[i] = integer(t, CUDNN_ATTR_TENSOR_DIMENSIONS, i);
        v.strides[i] = integer(t, CUDNN_ATTR_TENSOR_STRIDES, i);
        count *= v.dims[i];
    }
    CHECK(t->finalized && uid > 0 && uid < MAX_VIRTUAL, "tensor %lld is not ready", (long long)uid);
    if (*(const bool *)must_find(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL)->values) {
        if (!e->intermediates[uid]) e->intermediates[uid] = malloc((size_t)count * sizeof(float));
        v.data = e->intermediates[uid];
        return v;
    }
    const attribute *uids = must_find(e->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    for (int64_t i = 0; i < uids->count; i++)
        if (((const int64_t *)uids->values)[i] == uid)
            v.data = ((void *const *)must_find(e->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS)->values)[i];
    CHECK(v.data && (uintptr_t)v.data % 16 == 0, "no aligned memory for tensor %lld", (long long)uid);
    return v;
}

static int64_t at(const view *v, const int64_t i[4]) {
    return i[0] * v->strides[0] + i[1] * v->strides[1] + i[2] * v->strides[2] + i[3] * v->strides[3];
}

/* Calls f for every index of a shape. */
#define FOR_EACH(i, dims)                                                                                    \
    for (int64_t i[4] = {0}; i[0] < (dims)[0]; i[0]++)                                                       \
        for (i[1] = 0; i[1] < (dims)[1]; i[1]++)                                                             \
            for (i[2] = 0; i[2] < (dims)[2]; i[2]++)                                                         \
                for (i[3] = 0; i[3] < (dims)[3]; i[3]++)

static view sums_like(const view *out) {
    view sums = *out;
    int64_t count = out->dims[0] * out->dims[1] * out->dims[2] * out->dims[3];
    sums.data = calloc((size_t)count, sizeof(double));
    CHECK(sums.data, "out of memory");
    return sums;
}

/* Every product of the convolution, each added to the tensor that is written. */
static void convolve(view *x, view *w, view *y, view *out, const fake_descriptor *c) {
    view sums = sums_like(out);
    int64_t taps[4] = {w->dims[2], w->dims[3], w->dims[1], 1};
    FOR_EACH(o, y->dims) {
        FOR_EACH(t, taps) {
            int64_t in[4] = {o[0], t[2], 0, 0}, weight[4] = {o[1], t[2], t[0], t[1]};
            for (int axis = 0; axis < 2; axis++)
                in[2 + axis] = o[2 + axis] * integer(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, axis) -
                               integer(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, axis) +
                               t[axis] * integer(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, axis);
            if (in[2] < 0 || in[3] < 0 || in[2] >= x->dims[2] || in[3] >= x->dims[3]) continue;
            const int64_t *place = out == y ? o : out == x ? in : weight;
            double a = out == x ? load(y->data, y->type, at(y, o)) : load(x->data, x->type, at(x, in)),
                   b = out == w ? load(y->data, y->type, at(y, o)) : load(w->data, w->type, at(w, weight));
            ((double *)sums.data)[at(out, place)] += a * b;
        }
    }
    FOR_EACH(i, out->dims) store(out->data, out->type, at(out, i), ((double *)sums.data)[at(out, i)]);
    free(sums.data);
    fake_seen.convolutions++;
}

static void run_convolution(execution *e, const fake_descriptor *op) {
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t x, w, y, conv, beta;
        int out;
    } kinds[] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
         2},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, 0},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, 1},
    };
    for (int k = 0; k < 3; k++) {
        if (op->type != kinds[k].type) continue;
        view x = view_of(e, part(op, kinds[k].x)), w = view_of(e, part(op, kinds[k].w)),
             y = view_of(e, part(op, kinds[k].y));
        CHECK(*(const float *)must_find(op, kinds[k].beta)->values == 0.0f, "the stand-in has no beta");
        convolve(&x, &w, &y, kinds[k].out == 0 ? &x : kinds[k].out == 1 ? &w : &y, part(op, kinds[k].conv));
        return;
    }
    CHECK(false, "no operation of type %d", (int)op->type);
}

/* The index of an element in a tensor whose sides of 1 are repeated. */
static int64_t repeated_at(const view *v, const int64_t i[4]) {
    int64_t own[4];
    for (int axis = 0; axis < 4; axis++) own[axis] = v->dims[axis] == 1 ? 0 : i[axis];
    return at(v, own);
}

static void run_pointwise(execution *e, const fake_descriptor *op) {
    int mode = enumeration(part(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR), CUDNN_ATTR_POINTWISE_MODE);
    view x = view_of(e, part(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC));
    bool masks = mode == CUDNN_POINTWISE_RELU_BWD, adds = mode == CUDNN_POINTWISE_ADD;
    view out = view_of(
        e, part(op, masks ? CUDNN_ATTR_OPERATION_POINTWISE_DXDESC : CUDNN_ATTR_OPERATION_POINTWISE_YDESC));
    view other = masks  ? view_of(e, part(op, CUDNN_ATTR_OPERATION_POINTWISE_DYDESC))
                 : adds ? view_of(e, part(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC))
                        : x;
    FOR_EACH(i, out.dims) {
        double a = load(x.data, x.type, repeated_at(&x, i)),
               b = load(other.data, other.type, repeated_at(&other, i));
        store(out.data, out.type, at(&out, i), masks ? (a > 0 ? b : 0) : adds ? a + b : a > 0 ? a : 0);
    }
}

static cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                             cudnnBackendDescriptor_t variant_pack) {
    execution e = {.pack = variant_pack};
    const fake_descriptor *graph = ((fake_descriptor *)plan)->of;
    const attribute *ops = must_find(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    CHECK(handle && ((fake_descriptor *)plan)->finalized && e.pack->finalized, "something is not finalized");
    memset(*(void *const *)must_find(e.pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE)->values, 0xFF,
           PLAN_WORKSPACE);
    for (int64_t i = 0; i < ops->count; i++) {
        const fake_descriptor *op = ((fake_descriptor *const *)ops->values)[i];
        if (op->type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
            run_pointwise(&e, op);
        else
            run_convolution(&e, op);
    }
    for (int i = 0; i < MAX_VIRTUAL; i++) free(e.intermediates[i]);
    return CUDNN_STATUS_SUCCESS;
}

static size_t get_version(void) {
    return 91900;
}
static void get_last_error(char *message, size_t size) {
    snprintf(message, size, "the stand-in says no");
}
static cudnnStatus_t cudnn_create(cudnnHandle_t *handle) {
    *handle = (cudnnHandle_t)&fake_seen;
    return fake_gpu_is_there ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_INITIALIZED;
}
static cudnnStatus_t cudnn_destroy(cudnnHandle_t handle) {
    return handle == (cudnnHandle_t)&fake_seen ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}
static cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream) {
    (void)stream;
    return handle == (cudnnHandle_t)&fake_seen ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

const cudnn_api fake_cudnn = {
    get_version,        get_last_error,      cudnn_create,   cudnn_destroy,  set_stream, descriptor_create,
    descriptor_destroy, descriptor_finalize, descriptor_set, descriptor_get, execute};

void fake_libraries_free(void) {
    while (all) {
        fake_descriptor *d = all;
        all = d->next;
        for (int i = 0; i < d->n; i++) free(d->attributes[i].values);
        free(d);
    }
}

/* ---- cublasLt --------------------------------------------------------------------------------------------- */

typedef struct fake_matmul {
    cublasOperation_t transposed_a, transposed_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    cudaDataType_t bias_type;
} fake_matmul;

/* Stored by columns, `leading` elements apart. */
typedef struct fake_layout {
    int type;
    int64_t rows, columns, leading;
} fake_layout;

typedef struct fake_preference {
    uint32_t alignment[4]; /* of a, b, c, d */
} fake_preference;

static void *new_object(size_t bytes) {
    void *made = calloc(1, bytes);
    CHECK(made, "out of memory");
    fake_seen.live++;
    return made;
}
static cublasStatus_t free_object(void *object) {
    free(object);
    fake_seen.live--;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t lt_create(cublasLtHandle_t *handle) {
    if (!fake_gpu_is_there) return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = new_object(1);
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t lt_destroy(cublasLtHandle_t handle) {
    return free_object(handle);
}
static cublasStatus_t desc_create(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                  cudaDataType_t scale) {
    CHECK((compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_FAST_TF32) && scale == CUDA_R_32F,
          "sums are not taken in float");
    *out = new_object(sizeof(fake_matmul));
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t desc_destroy(cublasLtMatmulDesc_t desc) {
    return free_object(desc);
}
static cublasStatus_t desc_set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name,
                               const void *value, size_t bytes) {
    fake_matmul *m = (fake_matmul *)desc;
    void *to = name == CUBLASLT_MATMUL_DESC_TRANSA           ? (void *)&m->transposed_a
               : name == CUBLASLT_MATMUL_DESC_TRANSB         ? (void *)&m->transposed_b
               : name == CUBLASLT_MATMUL_DESC_EPILOGUE       ? (void *)&m->epilogue
               : name == CUBLASLT_MATMUL_DESC_BIAS_POINTER   ? (void *)&m->bias
               : name == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE ? (void *)&m->bias_type
                                                             : NULL;
    size_t size = name == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : sizeof(int);
    if (!to || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t layout_create(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows,
                                    uint64_t columns, int64_t leading) {
    fake_layout *l = new_object(sizeof *l);
    *l = (fake_layout){(int)type, (int64_t)rows, (int64_t)columns, leading};
    *out = (cublasLtMatrixLayout_t)l;
    return leading >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
static cublasStatus_t layout_destroy(cublasLtMatrixLayout_t layout) {
    return free_object(layout);
}
static cublasStatus_t preference_create(cublasLtMatmulPreference_t *out) {
    fake_preference *p = new_object(sizeof *p);
    for (int i = 0; i < 4; i++) p->alignment[i] = 256;
    *out = (cublasLtMatmulPreference_t)p;
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t preference_destroy(cublasLtMatmulPreference_t preference) {
    return free_object(preference);
}
static cublasStatus_t preference_set(cublasLtMatmulPreference_t preference,
                                     cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                     size_t bytes) {
    size_t size = name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? sizeof(uint64_t) : sizeof(uint32_t);
    if (!value || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    if (name >= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
        name <= CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)
        memcpy(((fake_preference *)preference)->alignment + name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
               value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* Whether the sizes fit: op(a) op(b) = d, and c is like d. */
static bool fits(const fake_matmul *m, const fake_layout *a, const fake_layout *b, const fake_layout *c,
                 const fake_layout *d) {
    int64_t rows = m->transposed_a ? a->columns : a->rows, inner = m->transposed_a ? a->rows : a->columns,
            inner_b = m->transposed_b ? b->columns : b->rows,
            columns = m->transposed_b ? b->rows : b->columns;
    return rows == d->rows && columns == d->columns && inner == inner_b && c->rows == d->rows &&
           c->columns == d->columns && c->type == d->type && a->type == b->type;
}

static cublasStatus_t heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                cublasLtMatmulPreference_t preference, int wanted,
                                cublasLtMatmulHeuristicResult_t *results, int *got) {
    if (!handle || !preference || wanted < 2 ||
        !fits((fake_matmul *)desc, (fake_layout *)a, (fake_layout *)b, (fake_layout *)c, (fake_layout *)d))
        return CUBLAS_STATUS_INVALID_VALUE;
    memset(results, 0, 2 * sizeof *results);
    for (int i = 0; i < 8; i++) /* both algorithms stand on what was promised */
        results[i / 4].algo.data[i % 4] = ((fake_preference *)preference)->alignment[i % 4];
    *got = 2;
    return CUBLAS_STATUS_SUCCESS;
}

static double element(const void *data, const fake_layout *l, bool transposed, int64_t row, int64_t column) {
    return load(data, l->type, transposed ? row * l->leading + column : column * l->leading + row);
}

static cublasStatus_t matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                             const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                             cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                             cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                             const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                             cudaStream_t stream) {
    const fake_matmul *m = (fake_matmul *)desc;
    const fake_layout *la = (fake_layout *)a_layout, *lb = (fake_layout *)b_layout,
                      *lc = (fake_layout *)c_layout, *ld = (fake_layout *)d_layout;
    (void)stream;
    if (!handle || !algorithm || (uintptr_t)workspace % 256 || !fits(m, la, lb, lc, ld))
        return CUBLAS_STATUS_INVALID_VALUE;
    const void *matrices[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        if ((uintptr_t)matrices[i] % algorithm->data[i]) return CUBLAS_STATUS_INVALID_VALUE;
    memset(workspace, 0xFF, workspace_bytes);
    bool has_bias = m->epilogue == CUBLASLT_EPILOGUE_BIAS || m->epilogue == CUBLASLT_EPILOGUE_RELU_BIAS,
         has_relu = m->epilogue == CUBLASLT_EPILOGUE_RELU || m->epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
    int64_t inner = m->transposed_a ? la->rows : la->columns;
    float scale = *(const float *)alpha, keep = *(const float *)beta;
    CHECK(!has_bias || (int)m->bias_type == ld->type, "a bias of another type than the result");
    for (int64_t column = 0; column < ld->columns; column++)
        for (int64_t row = 0; row < ld->rows; row++) {
            double sum = 0;
            for (int64_t i = 0; i < inner; i++)
                sum += element(a, la, m->transposed_a == CUBLAS_OP_T, row, i) *
                       element(b, lb, m->transposed_b == CUBLAS_OP_T, i, column);
            sum *= (double)scale;
            if (keep != 0.0f) sum += (double)keep * element(c, lc, false, row, column);
            if (has_bias) sum += load(m->bias, (int)m->bias_type, row);
            store(d, ld->type, column * ld->leading + row, has_relu && sum < 0 ? 0 : sum);
        }
    fake_seen.products++;
    return CUBLAS_STATUS_SUCCESS;
}

const lt_api fake_lt = {lt_create,          lt_destroy,     desc_create,    desc_destroy,
                        desc_set,           layout_create,  layout_destroy, preference_create,
                        preference_destroy, preference_set, heuristic,      matmul};

/* ---- CUDA's events: each run takes a millisecond less than the one before, so the last candidate wins ------ */

static float last_milliseconds = 1e6f;

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    *event = new_object(1);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free_object(event);
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    (void)stream;
    return event ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return event ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop) {
    *milliseconds = last_milliseconds--;
    return start && stop ? cudaSuccess : cudaErrorInvalidValue;
}
