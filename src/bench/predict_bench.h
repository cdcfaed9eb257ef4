/* `bench predict`: how long one prediction takes, stage by stage, through the detector that `predict` uses: from RGB bytes in
 * memory to boxes and masks in memory. Reading files and writing results are not part of it. */
#ifndef BENCH_PREDICT_BENCH_H
#define BENCH_PREDICT_BENCH_H

#include "config/config.h"
#include "data/image_list.h"

enum { PREDICT_BENCH_SIZES = 8 };

typedef struct predict_bench_size {
    int height, width;
} predict_bench_size;

typedef struct predict_bench_job {
    const config *cfg;        /* MODEL.WEIGHTS "": random weights of SEED */
    const image_list *images; /* taken in turn; none: drawn ones (synth_scene.h) */
    /* Drawn images of these sizes, which are not resized; none: one of 480x800, resized as the configuration says. */
    predict_bench_size sizes[PREDICT_BENCH_SIZES];
    int size_count;
    bool raw_masks; /* probabilities instead of masks of the whole image */
    int warmup, iterations;
    const char *json; /* file to write; NULL: none */
} predict_bench_job;

/* Prints a table for each size and writes
 *
 *   {"img_per_s", "step_ms", "stages_ms": {"preprocess", "backbone", "rpn", "roi", "mask_post"},
 *    "stages_detail_ms": {"preprocess", "backbone", "rpn", "box", "mask_forward", "mask_post"}, "step_ms_p90",
 *    "image": [H,W], "resized": [H,W], "detections", "score_threshold", "raw_masks", "warmup", "iterations": [first, last],
 *    "memory_mib", "device", "precision", "sizes": [the same keys for each size], "machine": {...}, "peak_rss_mib"}
 *
 * where the keys outside of "sizes" are those of the first one. Times are means. Random weights find nothing they are sure of: the score
 * threshold is then put just below the last of TEST.DETECTIONS_PER_IMAGE, so that masks are made of as many. Codes of
 * setup_model, detector_run, image_read. */
status predict_bench_run(const predict_bench_job *job);

#endif
