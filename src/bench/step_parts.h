/* The parts of a model that the layers of a step belong to. */
#ifndef BENCH_STEP_PARTS_H
#define BENCH_STEP_PARTS_H

typedef enum step_part {
    STEP_PART_INPUT, /* resizing, normalising, padding */
    STEP_PART_BACKBONE,
    STEP_PART_FPN,
    STEP_PART_RPN, /* head and proposals */
    STEP_PART_ROI_BOX,
    STEP_PART_ROI_MASK,
    STEP_PART_LOSSES, /* with their targets: matching, sampling, masks to be learned */
    STEP_PART_OTHER,
    STEP_PARTS
} step_part;

extern const char *const step_part_names[STEP_PARTS]; /* "input", "backbone", ..., as keys of JSON */

/* `layer` as tape_scope names it. */
step_part step_part_of_layer(const char *layer);

#endif
