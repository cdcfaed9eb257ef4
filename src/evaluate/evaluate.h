/* Evaluation of a model on the sets of DATASETS.TEST: every rank detects in its share of the images, rank 0 writes the
 * results file and scores it. The model is not changed, and the numbers do not depend on the number of ranks. */
#ifndef EVALUATE_EVALUATE_H
#define EVALUATE_EVALUATE_H

#include "comm/comm.h"
#include "eval/coco_eval.h"
#include "eval/proposal_recall.h"
#include "model/mask_rcnn.h"
#include "evaluate/test_data.h"

#include <limits.h>

/* What was found out about one set. */
typedef struct evaluation_set {
    const char *name;                   /* as in DATASETS.TEST */
    char results[PATH_MAX];             /* the results file */
    int64_t images, bad_images;         /* bad: unreadable, counted as images without detections */
    double seconds;                     /* of detecting */
    coco_scores scores[COCO_IOU_TYPES]; /* of a model with RoI heads */
    bool has_masks;                     /* scores[COCO_IOU_SEGM] is filled: MODEL.MASK_ON */
    bool is_proposals;                  /* an RPN alone: `recall` is filled instead of scores */
    proposal_recall recall;
    int64_t validated_images; /* images behind the losses below; 0: there are none */
    double losses[LOSS_COUNT];
    double validation_loss; /* their sum */
} evaluation_set;

typedef struct evaluation {
    evaluation_set *sets; /* rank 0: [count], in the order of DATASETS.TEST; other ranks: none */
    int count;
    int64_t iteration;
} evaluation;

typedef struct evaluate_options {
    int64_t iteration; /* the last finished one; -1: unknown */
    int pictures; /* of the first set: ground truth beside predictions, in OUTPUT_DIR/pictures; 0: none */
} evaluate_options;

/* Tells early whether the annotations of every set can be scored; rank 0 only. Codes of coco_truth_open, coco_eval_check. */
status evaluate_check(const test_data *data, const config *cfg);

/* Collective: all ranks call it with the same model and return the same status. test_data_map_classes comes before. Memory
 * of the detector is taken here and given back. Rank 0 writes OUTPUT_DIR/coco_instances_results.json (with several sets
 * OUTPUT_DIR/inference/<name>/coco_instances_results.json) and prints scores; a picture that cannot be drawn is a
 * warning. Codes of detector_run, loader_next, coco_eval_results, results_writer_open. evaluation_release in any case. */
status evaluate_model(evaluation *out, mask_rcnn *model, test_data *data, const config *cfg, comm *c,
                      device *dev, const evaluate_options *options);
void evaluation_release(evaluation *e);

#endif
