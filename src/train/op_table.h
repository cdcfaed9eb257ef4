/* Where the time of steps goes: a row for each op (or layer, or call) and direction, from the runs that tapes tell of, and rows for
 * what is no op. A row's mean and deviation are over steps, of the sum in each step. */
#ifndef TRAIN_OP_TABLE_H
#define TRAIN_OP_TABLE_H

#include "autograd/tape_times.h"

#include <stdio.h>

typedef enum op_table_group { OP_TABLE_BY_OP, OP_TABLE_BY_LAYER, OP_TABLE_BY_CALL } op_table_group;

enum { OP_TABLE_NAME = 128 };

typedef struct op_table_row {
    char name
        [OP_TABLE_NAME]; /* "conv2d", "rpn_proposals.nms", "fpn.fpn_output2", "fpn.fpn_output2 conv2d", "data wait" */
    const char *direction;  /* "forward", "backward"; "": no op */
    double mean, deviation; /* seconds of a step */
    double calls;           /* of a step, mean */
    double share;           /* of the sum of all rows, 0..1 */
    op_cost cost;           /* of a step, mean; 0: it is not known or does not apply */
} op_table_row;

/* What the machine reached when it was measured; 0: not known. */
typedef struct op_table_peaks {
    double flops, bytes; /* per second */
} op_table_peaks;

typedef struct op_table op_table;

op_table *op_table_new(op_table_group group);
void op_table_free(op_table *table); /* NULL may be freed */

/* A tape_run_hook; `table` is the op_table. An op that tells its parts gets a row for each, else one that names them. */
void op_table_add_run(void *table, const tape_run *run);

/* What is no op: one call of this step. */
void op_table_add(op_table *table, const char *name, double seconds);

/* Closes a step: rows that it had not count as 0. */
void op_table_end_step(op_table *table);

long op_table_steps(const op_table *table);

/* The rows by falling share; the caller frees the list. */
op_table_row *op_table_rows(const op_table *table, int *count);

/* Share of the peak that bounds the row (roofline): the larger of both; *of_memory says which. 0 where a peak or the cost is not
 * known. */
double op_table_peak_share(const op_table_row *row, const op_table_peaks *peaks, bool *of_memory);

/* `most` rows at most, 0: all; what is left out is summed up in a last one. */
void op_table_print(const op_table *table, FILE *file, const op_table_peaks *peaks, int most);

#endif
