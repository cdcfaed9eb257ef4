#include "cuda/lt_product.h"

static cudaDataType_t lt_type(dtype type) {
    return type == DTYPE_BF16 ? CUDA_R_16BF : type == DTYPE_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static cublasLtEpilogue_t epilogue_of(const lt_desc *d) {
    if (d->bias) return d->relu ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS;
    return d->relu ? CUBLASLT_EPILOGUE_RELU : CUBLASLT_EPILOGUE_DEFAULT;
}

/* A matrix of `rows` rows here is one of as many columns there, with the same bytes. */
static bool make_layout(cublasLtMatrixLayout_t *out, const lt_api *api, dtype type, int64_t rows,
                        int64_t columns) {
    return api->layout_create(out, lt_type(type), (uint64_t)columns, (uint64_t)rows, columns) ==
           CUBLAS_STATUS_SUCCESS;
}

static bool set_desc(lt_product *p, cublasLtMatmulDescAttributes_t name, const void *value, size_t bytes) {
    return p->api->desc_set(p->desc, name, value, bytes) == CUBLAS_STATUS_SUCCESS;
}

/* d = A B by rows is d' = B' A' by columns: cublasLt's first matrix is our b. */
static bool describe(lt_product *p, const lt_desc *d) {
    cublasComputeType_t compute =
        d->storage == DTYPE_F32 && d->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    if (p->api->desc_create(&p->desc, compute, CUDA_R_32F) != CUBLAS_STATUS_SUCCESS) return false;
    cublasOperation_t first = d->transposed_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                      second = d->transposed_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = epilogue_of(d);
    cudaDataType_t bias_type = lt_type(d->output);
    bool set = set_desc(p, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first) &&
               set_desc(p, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second) &&
               set_desc(p, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
               (!d->bias || set_desc(p, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type));
    return set &&
           make_layout(&p->a, p->api, d->storage, d->transposed_a ? d->k : d->m,
                       d->transposed_a ? d->m : d->k) &&
           make_layout(&p->b, p->api, d->storage, d->transposed_b ? d->n : d->k,
                       d->transposed_b ? d->k : d->n) &&
           make_layout(&p->d, p->api, d->output, d->m, d->n);
}

/* What is promised of all four matrices; unasked, cublasLt takes it that they begin at multiples of 256 bytes. */
static bool set_alignment(const lt_product *p, cublasLtMatmulPreference_t preference) {
    static const cublasLtMatmulPreferenceAttributes_t names[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    uint32_t bytes = LT_ALIGNMENT;
    for (int i = 0; i < 4; i++)
        if (p->api->preference_set(preference, names[i], &bytes, sizeof bytes) != CUBLAS_STATUS_SUCCESS)
            return false;
    return true;
}

static void find_algorithms(lt_product *p, cublasLtHandle_t handle) {
    cublasLtMatmulPreference_t preference = NULL;
    size_t workspace = p->workspace;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    if (p->api->preference_create(&preference) != CUBLAS_STATUS_SUCCESS) return;
    if (p->api->preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                               sizeof workspace) != CUBLAS_STATUS_SUCCESS ||
        p->api->preference_set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions,
                               sizeof reductions) != CUBLAS_STATUS_SUCCESS ||
        !set_alignment(p, preference) ||
        p->api->heuristic(handle, p->desc, p->b, p->a, p->d, p->d, preference, LT_ALGORITHMS, p->algorithms,
                          &p->n_algorithms) != CUBLAS_STATUS_SUCCESS)
        p->n_algorithms = 0;
    p->api->preference_destroy(preference);
}

status lt_product_init(lt_product *p, const lt_api *api, cublasLtHandle_t handle, const lt_desc *d) {
    *p = (lt_product){.api = api, .workspace = d->workspace, .has_bias = d->bias, .has_addend = d->addend};
    if (describe(p, d)) find_algorithms(p, handle);
    if (p->n_algorithms > 0) return STATUS_OK;
    return error_set(STATUS_NO_DEVICE, "the program's own kernel computes it",
                     "cublasLt has no algorithm for a product of %lldx%lldx%lld", (long long)d->m,
                     (long long)d->n, (long long)d->k);
}

void lt_product_release(lt_product *p) {
    if (p->a) p->api->layout_destroy(p->a);
    if (p->b) p->api->layout_destroy(p->b);
    if (p->d) p->api->layout_destroy(p->d);
    if (p->desc) p->api->desc_destroy(p->desc);
    *p = (lt_product){0};
}

bool lt_product_run(lt_product *p, cublasLtHandle_t handle, const lt_operands *operands, void *workspace,
                    cudaStream_t stream) {
    float one = 1.0f, beta = p->has_addend ? 1.0f : 0.0f;
    if (p->has_bias &&
        !set_desc(p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &operands->bias, sizeof operands->bias))
        return false;
    const void *c = p->has_addend ? operands->addend : operands->d;
    return p->api->matmul(handle, p->desc, &one, operands->b, p->b, operands->a, p->a, &beta, c, p->d,
                          operands->d, p->d, &p->algorithms[p->chosen].algo, workspace, p->workspace,
                          stream) == CUBLAS_STATUS_SUCCESS;
}
