/* Checkpoints: OUTPUT_DIR/checkpoints/iter_0000499/ holds
 *
 *   weights.safetensors    all values, as weights_save writes them
 *   momentum.safetensors   momentum of the trainable ones
 *   state.json             struct checkpoint_state
 *   manifest.json          size and CRC-32C of each file and of each tensor, and of itself
 *
 * A checkpoint is written into a folder beside its place, synced and renamed, so a folder of the right name
 * is whole; then OUTPUT_DIR/last_checkpoint is replaced, which names the newest. What a killed run left
 * behind carries a name of its own (checkpoints/.tmp_maskrcnn_*) and is removed by the next one. Only rank 0
 * calls the functions that write. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "weights/weights.h"

#include <limits.h>

/* The best checkpoint so far, by a number that evaluations gave. */
typedef struct checkpoint_best {
    char number[32];   /* as in TEST.KEEP_BEST; "": no evaluation so far */
    double value;      /* where iteration >= 0 */
    int64_t iteration; /* its last finished one; -1: none so far */
    int64_t since;     /* evaluations in a row that were not better */
} checkpoint_best;

/* Of training with fp16. */
typedef struct checkpoint_loss_scale {
    double scale; /* 0: losses are not scaled */
    int64_t good_steps, skipped_steps;
} checkpoint_loss_scale;

typedef struct checkpoint_state {
    int64_t iteration;      /* the last finished one, from 0 */
    int64_t images;         /* drawn from the training data so far by all ranks: the loader's position */
    int64_t skipped_images; /* unreadable ones replaced so far */
    uint64_t seed;
    char config_digest[17]; /* hexadecimal; what must be equal for a bit-exact continuation */
    checkpoint_best best;
    checkpoint_loss_scale loss_scale;
} checkpoint_state;

/* What a checkpoint is made of besides the state. */
typedef struct checkpoint_source {
    const param_store *store;
    const config *cfg; /* OUTPUT_DIR, and the claims of the weights */
    const weights_classes *classes;
    int keep; /* newest checkpoints that stay; older ones are removed, but not the best. 0: all */
} checkpoint_source;

/* Makes OUTPUT_DIR/checkpoints and removes what killed runs left there. */
status checkpoint_prepare(const char *output_dir);

/* The best model so far, in OUTPUT_DIR beside the checkpoints. */
#define CHECKPOINT_BEST "model_best.safetensors"

/* For a run that begins anew: if an earlier one left checkpoints in OUTPUT_DIR, moves them to
 * OUTPUT_DIR/checkpoints_<N>, N = 1, 2..., its best model with them, and says so. Else a later resume, or a reader, would
 * take them for this run's. */
status checkpoint_set_aside(const char *output_dir);

/* Writes one checkpoint and points last_checkpoint to it. On failure nothing but a warning if `is_final` is
 * false (the run goes on, older checkpoints are untouched), STATUS_IO if it is true. */
status checkpoint_save(const checkpoint_source *source, const checkpoint_state *state, bool is_final);

/* Writes the folder of the newest checkpoint whose digests all hold to `path` [PATH_MAX]; "" if there is no
 * checkpoint at all. Each damaged one on the way is warned of. DATA: there are some, but none is good. */
status checkpoint_find_latest(char *path, const char *output_dir);

/* Checks all digests of one checkpoint: DATA naming file and tensor, NO_INPUT if a file is absent. */
status checkpoint_verify(const char *path);

/* Its state alone. */
status checkpoint_read_state(checkpoint_state *state, const char *path);

/* Restores values, momentum and state, bit for bit; everything must match. */
status checkpoint_load(param_store *store, checkpoint_state *state, const char *path, const config *cfg,
                       const weights_classes *classes);

#endif
