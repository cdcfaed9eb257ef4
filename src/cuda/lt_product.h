/* A matrix product on cublasLt, described row by row as the program stores matrices:
 *
 *   d [m,n] = relu?(A B + bias[n] + addend[m,n])
 *
 * A is a [m,k], or a [k,m] read transposed; B is b [k,n], or b [n,k] read transposed. Sums are taken in float. */
#ifndef CUDA_LT_PRODUCT_H
#define CUDA_LT_PRODUCT_H

#include "autograd/tensor.h"
#include "cuda/lt_api.h"

typedef struct lt_desc {
    int64_t m, n, k;
    bool transposed_a, transposed_b;
    dtype storage, output; /* of a and b; of d, bias and addend */
    bool tf32;             /* F32 products may be rounded to TF32 */
    bool bias, addend, relu;
    size_t workspace; /* bytes that algorithms may use */
} lt_desc;

typedef struct lt_operands {
    const void *a, *b, *bias, *addend;
    void *d; /* may be the addend */
} lt_operands;

/* LT_ALIGNMENT: bytes; all operands begin at multiples of it. */
enum { LT_ALGORITHMS = 8, LT_WORKSPACE = 32 << 20, LT_ALIGNMENT = 16 };

typedef struct lt_product {
    const lt_api *api;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d; /* as cublasLt sees them: by columns, so of the transposed product */
    cublasLtMatmulHeuristicResult_t algorithms[LT_ALGORITHMS];
    int n_algorithms, chosen;
    size_t workspace;
    bool has_bias, has_addend;
} lt_product;

/* NO_DEVICE: cublasLt has no algorithm for it. Release in any case. */
status lt_product_init(lt_product *p, const lt_api *api, cublasLtHandle_t handle, const lt_desc *d);
void lt_product_release(lt_product *p);

/* Queues it with algorithm p->chosen. The workspace begins at a multiple of OP_SCRATCH_ALIGNMENT bytes: cublasLt asks for that.
 * False: cublasLt refused. */
bool lt_product_run(lt_product *p, cublasLtHandle_t handle, const lt_operands *operands, void *workspace,
                    cudaStream_t stream);

#endif
