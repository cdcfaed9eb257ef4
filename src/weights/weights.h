/* Weights in safetensors files: names of torchvision's state_dict, PyTorch's layouts, and in `__metadata__`
 * what the numbers mean: order and normalisation of the input, place of the stride, norm and its eps,
 * classes, iteration. */
#ifndef WEIGHTS_WEIGHTS_H
#define WEIGHTS_WEIGHTS_H

#include "base/status.h"
#include "data/safetensors.h"
#include "layers/param_store.h"
#include "config/config.h"

typedef enum weights_use {
    WEIGHTS_START, /* `train --weights`: what fits starts from the file */
    WEIGHTS_EXACT, /* resume, eval, predict, trace: every tensor there, none more (but for a mask head where
                    * MODEL.MASK_ON is False, and all heads for an RPN alone), all shapes equal */
    WEIGHTS_EXACT_OWN_INPUT /* the same where images come ready-made (trace --batch): what the file says of the
                             * input's order and normalisation is not compared, INPUT.* has no effect either */
} weights_use;

/* The foreground classes, in the order of the labels. */
typedef struct weights_classes {
    int count;
    const char *const *names;
    const int64_t *ids; /* as in the annotations; may be NULL */
} weights_classes;

typedef struct weights_report {
    int loaded;            /* tensors */
    int kept;              /* not in the file: start value kept */
    int restarted;         /* predictors of other classes: start value kept */
    int copied;            /* predictors of other classes: rows of the classes of the same name loaded */
    int ignored;           /* in the file, not in the model */
    int kept_frozen;       /* of `kept`: tensors that training will not change either */
    int64_t loaded_values; /* elements of `loaded` */
} weights_report;

/* Reads `path` into `store`, whose buffers are allocated and hold start values, and logs what was loaded,
 * kept and ignored. Nothing is written unless everything fits. `classes` NULL: unknown, not compared.
 *
 * In WEIGHTS_START, predictors of another number of classes start anew. Where the file names its classes
 * (class_names) and `classes` does too, names decide instead of numbers: the same list is loaded, of another one the
 * rows of classes of the same name are (MODEL.COPY_CLASS_ROWS; see class_rows.h), and the rest starts anew.
 *
 * NO_INPUT: absent, or a URL (nothing is ever fetched). DATA: no safetensors file, names of detectron2 or Detectron,
 * a tensor of another shape (named, with both shapes), under WEIGHTS_EXACT any other difference, or no tensor fits.
 * CONFIG: the file says that it was made for another input, stride place or norm than `cfg` sets (keys and both values
 * named). A file that says nothing of it is taken, with a warning where `cfg` is not what torchvision's and timm's
 * models want. */
status weights_load(weights_report *report, param_store *store, const char *path, const config *cfg,
                    const weights_classes *classes, weights_use use);

/* Writes all values to `path` (beside, then renamed). `classes` may be NULL; an RPN alone has none. */
status weights_save(const char *path, const param_store *store, const config *cfg,
                    const weights_classes *classes, int64_t iteration);

/* Momentum of the trainable parameters, under their names and in their file layouts; loading is
 * WEIGHTS_EXACT. */
status weights_save_momentum(const char *path, const param_store *store, int64_t iteration);
status weights_load_momentum(param_store *store, const char *path);

/* The claims in `__metadata__`; weights_save and weights_load call these. */
void weights_write_claims(safetensors_writer *writer, const config *cfg, const weights_classes *classes,
                          int64_t iteration);
status weights_check_claims(const safetensors *file, const config *cfg, const weights_classes *classes,
                            weights_use use);

/* Warns of a file without claims where `cfg` is not what torchvision's and timm's files, which have none, were made for.
 * Others of that kind are legal, so they are taken, but wrong settings cost accuracy and nothing else shows it. */
void weights_warn_of_silence(const safetensors *file, const config *cfg);

#endif
