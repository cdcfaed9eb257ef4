/* What an op is: a constant table of its contract (names, shape rule, what backward reads), its kernels and
 * its test cases. Every op of a network runs through tape_apply; the `op` command and tests call the
 * kernels of one op directly. */
#ifndef AUTOGRAD_OP_H
#define AUTOGRAD_OP_H

#include "autograd/tensor.h"
#include "base/status.h"

struct comm;
struct device_stream;
struct op_def;

enum { OP_MAX_INPUTS = 20, OP_MAX_OUTPUTS = 10, OP_MAX_VARIANTS = 4, OP_MAX_PARTS = 4 };

/* Bytes at multiples of which scratch begins: cublasLt refuses a workspace that does not. */
enum { OP_SCRATCH_ALIGNMENT = 256 };

/* One call of a kernel. */
typedef struct op_call {
    const struct op_def *op;
    const void *params;        /* the op's params struct; NULL if it has none */
    tensor *in[OP_MAX_INPUTS]; /* NULL: optional input that is absent */
    tensor *out[OP_MAX_OUTPUTS];
    /* Backward only. d_out[i] NULL: no gradient arrived (count it as zero). A kernel may overwrite d_out
     * (e.g. apply the ReLU mask in place): nobody reads it afterwards. d_in[i] NULL: that gradient is not
     * wanted. Otherwise the kernel writes every valid row of d_in[i]; where accumulate[i] is set it adds to
     * what is there instead. d_in[i] has the type of in[i]; but that of a parameter has the type of the gradient buffer,
     * which is 16 bits wide where activations are. */
    tensor *d_in[OP_MAX_INPUTS];
    tensor *d_out[OP_MAX_OUTPUTS];
    bool accumulate[OP_MAX_INPUTS];
    /* What activations are stored as that no half input decides (the packed image, folded weights): F32, BF16 or F16. */
    dtype storage;
    bool tf32;     /* F32 inputs of products may be rounded to TF32, where the device has it */
    void *scratch; /* scratch_bytes() bytes at OP_SCRATCH_ALIGNMENT, uninitialised; NULL when that is 0 */
    struct device_stream *stream;
    struct comm *comm; /* ranks for ops that reduce over them; NULL: one rank */
    /* [OP_MAX_PARTS] zeros, or NULL: nobody measures. A kernel that can tell adds what each of op->parts took, in seconds of
     * all threads together. */
    double *part_seconds;
} op_call;

/* C++ asks for every member of an initialiser that has no default. */
#ifdef __cplusplus
#define OP_KERNEL_ABSENT = nullptr
#else
#define OP_KERNEL_ABSENT
#endif

/* One implementation for one device and one real type. */
typedef struct op_kernel {
    const char *name; /* e.g. "reference_f64", "tiled_im2col" */
    void (*forward)(const op_call *call);
    void (*backward)(const op_call *call);                       /* NULL: op has no gradient */
    size_t (*scratch_bytes)(const op_call *call, bool backward); /* shapes only, no data; NULL: none needed */
    /* Optional: called once for each direction that will run, when all memory is attached and outside of any step. May
     * allocate, wait for the device, and run the call on what memory holds then (plans of libraries, timings). */
    void (*prepare)(const op_call *call, bool backward) OP_KERNEL_ABSENT;
} op_kernel;

typedef enum op_attr_type { ATTR_INT, ATTR_BOOL, ATTR_FLOAT, ATTR_FLOAT_LIST } op_attr_type;

/* An attribute of the params struct that `maskrcnn op --attr` can set. */
typedef struct op_attr {
    const char *name;
    op_attr_type type; /* struct member: int, bool, double, double[count] */
    size_t offset;
    int count; /* for lists */
    bool required;
    double fallback; /* when not required and absent; lists are required */
} op_attr;

/* How a test case fills an input. */
typedef enum op_fill { FILL_NORMAL, FILL_UNIFORM, FILL_CONSTANT, FILL_INTEGER } op_fill;

typedef struct op_case_input {
    bool present;
    int rank;
    int64_t shape[TENSOR_MAX_RANK];
    op_fill fill;
    double low, high; /* NORMAL: mean, deviation; UNIFORM [low, high); CONSTANT low; INTEGER low..high-1 */
} op_case_input;

typedef struct op_case {
    const char *name; /* says what is special: "odd_tails", "no_rows", "boxes_off_the_image" */
    const void *params;
    op_case_input in[OP_MAX_INPUTS];
    /* Optional: overwrites inputs after the fill (tensor_set works for F32 and F64). */
    void (*prepare)(const op_call *call);
    /* Not differentiable near the inputs (ties): skip finite differences, still compare kernels. */
    bool kinks;
    int valid_rows;       /* 0: no count; n > 0: the first n rows are valid; -1: none is */
    unsigned rows_inputs; /* bit mask of the inputs that get this count; 0: input 0 */
} op_case;

/* What a call has to do. A multiplication, an addition, a comparison and a function such as exp count as one operation each; ReLU,
 * bias and index arithmetic do not count. */
typedef struct op_cost {
    double flops, read_bytes, written_bytes;
} op_cost;

typedef struct op_def {
    const char *name;
    int n_inputs, n_outputs;
    const char *input_names[OP_MAX_INPUTS];
    const char *output_names[OP_MAX_OUTPUTS];
    const char *parts
        [OP_MAX_PARTS]; /* what the op does one after another, where that is of different kinds; NULL-padded */
    dtype input_types[OP_MAX_INPUTS]; /* F32 stands for "real": F64 in the double build of the reference */
    unsigned optional_inputs;         /* bit mask */
    /* Bit mask of real inputs that may be BF16 or F16 instead (activations, weights), all of those present the same. Only
     * kernels of a GPU take them. The other real inputs stay F32. */
    unsigned half_inputs;
    bool makes_half;         /* no input decides an output's type, op_call.storage does */
    unsigned differentiable; /* bit mask of inputs that get gradients; 0: the op has no gradient */
    /* Bit masks: what must be kept for backward; everything else is dropped. */
    unsigned backward_reads_inputs, backward_reads_outputs;
    /* Optional: whether backward reads no output with these params (no ReLU, so no mask). */
    bool (*backward_ignores_outputs)(const op_call *call);
    unsigned constant_outputs; /* bit mask of real outputs that carry no gradient (statistics) */
    /* d_in[shares_gradient] equals d_out[0] as backward leaves it (residual, lateral): the tape may give both
     * the same memory; the kernel then sees equal pointers and must not copy. -1: none. */
    int shares_gradient;
    size_t params_size;
    const op_attr *attrs; /* ends with a NULL name; NULL: none */
    /* Checks inputs and params and describes out[i] (type, rank, shape, rows) from them; reads no data. An
     * output may count its rows in another output (nms: keep and count). An output with rows is written to
     * files cut to its valid rows. */
    status (*infer)(op_call *call);
    /* Optional: checks values of inputs that come from a file (indices, labels) so that kernels cannot be
     * misled. */
    status (*validate)(const op_call *call);
    /* Optional: sets cost->flops, which is 0, and corrects the bytes, which are those of every tensor that the call reads or
     * writes. Shapes only, all rows valid; where data decides (suppression, matching), the most that the shapes allow. For
     * op_cost_of (op_cost.h). */
    void (*cost)(op_cost *cost, const op_call *call, bool backward);
    const op_kernel *reference_f32, *reference_f64; /* plain loops, one source */
    const op_kernel *cpu;                           /* the one that ships; may be reference_f32 */
    const op_kernel *variants[OP_MAX_VARIANTS];     /* further CPU kernels that tests run; NULL-padded */
    double atol, rtol;                              /* float kernels against the double reference */
    const op_case *cases;
    int n_cases;
    const op_case *bench_cases; /* what `bench op` times: the shapes of training, or a known comparison's */
    int n_bench_cases;
} op_def;

/* For infer functions: STATUS_DATA naming op and tensor (both tensors for a mismatch). Inputs count from 0. */
status op_expect_rank(const op_call *call, int input, int rank);
status op_expect_dim(const op_call *call, int input, int axis, int64_t size, const char *why);
status op_expect_dims_equal(const op_call *call, int input, int axis, int other_input, int other_axis);
status op_expect_same_shape(const op_call *call, int input, int other_input);
/* The mismatch itself, for rules that the functions above do not cover. */
status op_expect_mismatch(const op_call *call, int input, int other_input);
status op_bad_attr(const op_call *call, const char *attr, const char *expected);

/* Describes out[index] as real of the same type as input 0 would have (F32 or F64), or with an explicit type. */
void op_describe_output(op_call *call, int index, dtype type, int rank, const int64_t *shape,
                        const tensor *rows);

/* Inputs present and of the declared type (real may be F32 or F64), then op->infer. out[] must point to
 * descriptors. */
status op_infer(op_call *call);

/* Bit mask of the outputs that backward of this very call reads. */
unsigned op_backward_reads_outputs(const op_call *call);

/* Kernel that runs on the CPU for this call's real type. */
const op_kernel *op_cpu_kernel(const op_call *call);

/* F64 in the double build of the reference, else F32: what a call computes, and outputs that are never stored in 16 bits. */
dtype op_real_type(const op_call *call);

/* Type of the call's half_inputs; F32 (F64) if it has none. */
dtype op_storage_type(const op_call *call);

/* Whether the op has inputs or outputs of 16 bits. */
bool op_has_half(const op_def *op);

/* The list of kernels/ops.def. */
int op_count(void);
const op_def *op_at(int index);
const op_def *op_find(const char *name); /* NULL: unknown */

/* Start-up self check of the table: names unique, masks in range, cases present. CHECKs. */
void op_registry_check(void);

/* For cases: OP_IN(NORMAL, 0, 1, 2, 7, 9, 3) is a present input of shape [2,7,9,3]. */
#define OP_SHAPE_RANK(...) ((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
#define OP_IN(fill_, low_, high_, ...)                                                                       \
    {                                                                                                        \
        .present = true, .rank = OP_SHAPE_RANK(__VA_ARGS__), .shape = {__VA_ARGS__}, .fill = FILL_##fill_,   \
        .low = (low_), .high = (high_)                                                                       \
    }
#define OP_IN_SCALAR(fill_, low_, high_)                                                                     \
    { .present = true, .rank = 0, .fill = FILL_##fill_, .low = (low_), .high = (high_) }

/* In <op>_cpu.c, compiled twice: REAL is float or double, REAL_NAME(f) is f_f32 or f_f64. */
#define OP_JOIN(a, b) a##b
#if defined(REAL_IS_FLOAT) && REAL_IS_FLOAT
#define REAL_NAME(f) OP_JOIN(f, _f32)
#define REAL_DTYPE DTYPE_F32
#define REAL_KERNEL_NAME "reference_f32"
#elif defined(REAL_IS_FLOAT)
#define REAL_NAME(f) OP_JOIN(f, _f64)
#define REAL_DTYPE DTYPE_F64
#define REAL_KERNEL_NAME "reference_f64"
#endif

#endif
