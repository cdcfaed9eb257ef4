/* Rows of the predictors (cls_score, bbox_pred, mask_fcn_logits) by the names of their classes, for weights of another class
 * list. A predictor's first dimension holds blocks of equally many rows (4 in bbox_pred, else 1): block 0 is the
 * background's, block 1 + i that of class i. */
#ifndef WEIGHTS_CLASS_ROWS_H
#define WEIGHTS_CLASS_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct class_rows {
    int count;    /* classes of the model that have names */
    int *source;  /* [count] class of the file, -1: none of this name */
    int matched;  /* of `count`; names equal but for upper and lower case (ASCII) count too */
    bool is_same; /* both lists are the same, in the same order */
} class_rows;

/* Finds each of `names` [count] in `from` [from_count]: exactly, then but for case. A class of the file is taken once;
 * "" and "N/A" (COCO's unused ids) are no names. OS. Release in any case. */
status class_rows_match(class_rows *out, const char *const *names, int count, const char *const *from,
                        int from_count);
void class_rows_release(class_rows *rows);

/* Rows per class of a predictor, 0 for any other name. */
int class_rows_per_class(const char *parameter);

/* Copies the background's rows and those of the matched classes from `from` [from_rows, row_size] to `to` [to_rows, row_size];
 * the rest of `to` stays. False, and nothing is copied, where a class lies outside one of them or rows are no multiple
 * of `per_class`. */
bool class_rows_copy(float *to, int64_t to_rows, const float *from, int64_t from_rows, int64_t row_size,
                     int per_class, const class_rows *rows);

/* The same question without copying. */
bool class_rows_fit(int64_t to_rows, int64_t from_rows, int per_class, const class_rows *rows);

#endif
