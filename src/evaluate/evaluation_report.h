/* What an evaluation found, for people and for programs. Rank 0 only.
 *
 * OUTPUT_DIR/evaluations.json holds a line for each set of each evaluation:
 * (an RPN alone: "box_proposals": {"AR@100": .., "ARs@100": .., .. "ARl@1000": ..} instead of bbox, segm and classes)
 *   {"iteration": 499, "dataset": "synth_val", "images": 16, "bad_images": 0, "seconds": 3.2, "bbox": {"AP": .., .. "ARl": ..},
 *    "segm": {..}, "classes": [{"id": 1, "name": "disk", "bbox": 0.31, "segm": 0.29}], "validation_loss": 0.9,
 *    "validation_losses": {"loss_cls": .., ..}}
 * Scores from 0 to 1, -1 where there is nothing to average; segm with masks only, validation_loss with
 * TEST.VALIDATION_LOSS; iteration -1 where it is not known. */
#ifndef EVALUATE_EVALUATION_REPORT_H
#define EVALUATE_EVALUATION_REPORT_H

#include "evaluate/evaluate.h"
#include "record/metrics.h"

/* Tables to stdout; detectron2's lines `copypaste: ...`, `box AP: 23.45`, `mask AP: 23.45` to the log. */
void evaluation_print(const evaluation *e);

/* Adds the lines to OUTPUT_DIR/evaluations.json. CANT_CREATE, NO_PERMISSION, IO, OS. */
status evaluation_append(const evaluation *e, const char *output_dir);

/* Removes from it what comes at `start` or later, see json_lines_cut. */
status evaluation_cut(const char *output_dir, int64_t start);

/* TensorBoard: bbox/AP, segm/AP50, ..., box_proposals/AR@1000, ..., validation_loss; with several sets behind the set's name. */
void evaluation_add_scalars(const evaluation *e, metrics *log);

/* {"bbox": {..}, "segm": {..}} of the only set; of several {"NAME": {"bbox": ..}, ..}. Codes of write_file_atomic, OS. */
status evaluation_write_json(const evaluation *e, const char *path);

/* A value of TEST.KEEP_BEST, of the first set (an RPN alone: AR@1000 unless AR@100 is named); false where there is nothing to average. */
bool evaluation_number(double *out, const evaluation *e, const char *name);

#endif
