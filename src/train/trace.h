/* One forward and one backward pass without update, written to a file: to compare with another framework. */
#ifndef TRAIN_TRACE_H
#define TRAIN_TRACE_H

#include "config/config.h"

/* Batch from the safetensors file `batch_path`: images f32 [N,H,W,3] normalised and padded, image_sizes i32 [N,2]
 * (height, width), boxes f32 [G,4], labels i32 [G] 0..K-1, box_image i32 [G], masks u8 [G,H,W]; NULL: the first batch of
 * DATASETS.TRAIN in file order, unflipped. Weights from MODEL.WEIGHTS (empty: start values), which must fit exactly.
 * Writes to `out_path`: loss/<torchvision's name>, feature/p2..p6 (NHWC), grad/<name> in PyTorch's layout for every
 * trainable parameter. `shapes`: also print the step's tensors in order. */
status trace_run(const config *cfg, const char *batch_path, const char *out_path, bool shapes);

#endif
