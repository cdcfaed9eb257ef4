/* Matching of detections with ground truth, one category in one image at a time. Used inside src/eval only. */
#ifndef EVAL_EVAL_MATCH_H
#define EVAL_EVAL_MATCH_H

#include "eval/eval_set.h"

enum { EVAL_AREAS = 4, EVAL_THRESHOLDS = 10 };

/* A detection's fate: bit area * EVAL_THRESHOLDS + threshold. */
typedef struct eval_verdict {
    uint64_t matched, ignored;
    uint32_t rank; /* among the detections of its category and image, by score */
} eval_verdict;

/* What every pair gives; verdicts lie beside set->detections (those beyond the limit are left alone). */
typedef struct eval_matches {
    eval_verdict *verdicts;          /* [set->detection_count] */
    uint32_t (*objects)[EVAL_AREAS]; /* [set->pair_count]: ground truth that counts in each area range */
} eval_matches;

/* Runs on all threads. OS: no memory; DATA: a polygon that cannot be drawn. eval_matches_release after a failure too. */
status eval_match(eval_matches *out, const eval_set *set);
void eval_matches_release(eval_matches *matches);

#endif
