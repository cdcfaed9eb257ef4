/* All parameters of a model: a table of named records over flat buffers: values (the float32 masters), momentum (float32),
 * gradients, and, where activations are stored in 16 bits, copies of the values in that type, which convolutions and
 * matrix products read. Gradients have the type of the activations.
 *
 * Trainable parameters come first in `values`, in the order of the model (backbone ... mask head), so
 * values[i], gradients[i] and momentum[i] belong together and a range of the gradient buffer is a bucket.
 * Frozen parameters and buffers (running statistics) follow and have no gradient. Every record starts at a
 * multiple of 16 floats; the gaps hold zeros. Names are torchvision's state_dict names (0.13+); layouts are
 * ours (see param_layout for the border). */
#ifndef LAYERS_PARAM_STORE_H
#define LAYERS_PARAM_STORE_H

#include "autograd/tensor.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device;

enum { PARAM_NAME_SIZE = 96, PARAM_MAX_RANK = 4 };

typedef enum param_kind {
    PARAM_WEIGHT, /* convolution or linear weight */
    PARAM_BIAS,   /* bias of a convolution or linear layer */
    PARAM_NORM,   /* scale or shift of a norm */
    PARAM_BUFFER  /* running statistics: saved, never trained */
} param_kind;

/* How the record lies in a file (PyTorch's layout) compared with memory. */
typedef enum param_layout {
    LAYOUT_SAME,
    LAYOUT_CONV,     /* file [K,C,R,S], memory [K,R,S,C] */
    LAYOUT_DECONV,   /* file [C,K,R,S], memory [C,R,S,K] */
    LAYOUT_FLATTENED /* linear after a flattened map: file [K, C*H*W], memory [K, H*W*C]; `map` holds H,W,C */
} param_layout;

typedef enum param_init { INIT_CONSTANT, INIT_NORMAL, INIT_UNIFORM } param_init;

typedef struct param_spec {
    const char *name;
    param_kind kind;
    param_layout layout;
    int rank;
    int64_t shape[PARAM_MAX_RANK]; /* in memory */
    int64_t map[3];                /* H,W,C for LAYOUT_FLATTENED */
    bool trainable;
    param_init init;
    double init_value; /* the constant; the standard deviation; the bound of U(-b, b) */
} param_spec;

typedef struct param {
    char name[PARAM_NAME_SIZE];
    param_kind kind;
    param_layout layout;
    int rank;
    int64_t shape[PARAM_MAX_RANK];
    int64_t map[3];
    bool trainable;
    param_init init;
    double init_value;
    int64_t size; /* elements */
    int64_t
        offset; /* elements from the start of values and copies, and of gradients and momentum if trainable */
} param;

/* What a model computes in: F32, with products rounded to TF32 or not, or BF16 or F16. */
typedef struct precision {
    dtype storage; /* of activations, weight copies and gradients */
    bool tf32;     /* with F32 */
} precision;

typedef struct param_store {
    param *params;
    int count, capacity;
    struct device *dev;
    /* Device memory; NULL before param_store_allocate, gradients and momentum also without training. */
    float *values, *momentum;
    void *gradients; /* of precision.storage */
    void *copies;    /* values as precision.storage; NULL where that is F32 */
    precision precision;
    int64_t total;     /* elements of values and copies */
    int64_t trainable; /* elements of gradients and of momentum */
} param_store;

void param_store_init(param_store *store);
void param_store_release(param_store *store);

/* Appends a record and returns its index; a name that is there already is a CHECK. Before
 * param_store_allocate only. */
int param_store_add(param_store *store, const param_spec *spec);

/* Lays out and allocates the buffers, all zero. `p` NULL: F32. `training` false: values and copies only. */
status param_store_allocate(param_store *store, struct device *dev, const precision *p, bool training);

/* A flat buffer of the store. */
typedef enum param_buffer { PARAM_VALUES, PARAM_MOMENTUM, PARAM_GRADIENTS } param_buffer;

/* A record as the host sees it, outside of steps. `staging` [p->size] may be NULL where param_store_in_place. */
bool param_store_in_place(const param_store *store,
                          param_buffer which); /* floats in memory the host can use */
/* The record's floats in memory order: where they lie, or read back into `staging`. */
const float *param_store_read(const param_store *store, param_buffer which, const param *p, float *staging);
/* Where the host writes a record: where it lies, or `staging`; param_store_commit then brings it to the device and makes its
 * copy. Not for gradients. */
float *param_store_place(const param_store *store, param_buffer which, const param *p, float *staging);
void param_store_commit(param_store *store, param_buffer which, const param *p, const float *values);

/* Start values: every element is a function of (seed, CRC-32 of the name, element's index in the FILE's
 * layout), so the layout in memory does not matter. OS. */
status param_store_initialise(param_store *store, uint64_t seed);

/* Index by name; -1: unknown. */
int param_store_find(const param_store *store, const char *name);

/* Shape in the file's layout; returns its rank. */
int param_file_shape(const param *p, int64_t shape[PARAM_MAX_RANK]);

/* Copies a record between memory order and file order (both float32, host). */
void param_to_file_order(const param *p, float *file, const float *memory);
void param_from_file_order(const param *p, float *memory, const float *file);

#endif
