/* manifest.json of a checkpoint: sizes and CRC-32C of its files, of the tensors in them, and of itself. */
#ifndef TRAIN_CHECKPOINT_MANIFEST_H
#define TRAIN_CHECKPOINT_MANIFEST_H

#include "base/status.h"

/* The files a manifest covers, in this order; ends with NULL. */
extern const char *const checkpoint_files[];

/* Reads back the files in `folder` and writes manifest.json there. */
status manifest_write(const char *folder);

/* Checks the files against it. DATA naming the file, and the tensor where the damage lies in one. */
status manifest_verify(const char *folder);

#endif
