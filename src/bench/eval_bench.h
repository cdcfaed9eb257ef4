/* `bench eval`: how fast a results file is scored, through coco_eval_results as `eval --results` does it. */
#ifndef BENCH_EVAL_BENCH_H
#define BENCH_EVAL_BENCH_H

#include "eval/coco_eval.h"

typedef struct eval_bench_job {
    const char *annotations, *results; /* NULL, both: a pair that is made up (eval_pair.h) */
    int synthetic_images;
    const char
        *keep; /* folder to leave that pair in, as annotations.json and results.json; NULL: it is removed */
    bool types[COCO_IOU_TYPES];
    int iterations;
    const char *json; /* file to write; NULL: none */
} eval_bench_job;

/* Prints a table and writes
 *
 *   {"images", "objects", "detections", "iterations", "load_annotations_ms", "load_results_ms",
 *    "types": [{"type", "AP", "stages_ms": {"group", "match", "average"}, "total_ms", "images_per_s", "detections_per_s"},
 *    ...], "machine": {...}, "peak_rss_mib"}
 *
 * Times are medians of the iterations, each from the files on. total_ms is of one type alone: loading both files, then its
 * stages; rates are over that. Codes of coco_truth_open and coco_eval_results. */
status eval_bench_run(const eval_bench_job *job);

#endif
