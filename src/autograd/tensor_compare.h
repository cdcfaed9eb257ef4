/* The one comparison of all tests: an element is good if err <= atol + rtol * |expected|, written so that NaN
 * fails; an expected value that is not finite is never matched. */
#ifndef AUTOGRAD_TENSOR_COMPARE_H
#define AUTOGRAD_TENSOR_COMPARE_H

#include "autograd/tensor.h"

typedef struct tensor_difference {
    int64_t bad;   /* elements outside the tolerance */
    int64_t index; /* the worst of them if any, else the worst of all; -1 if nothing was compared */
    double actual, expected;
    double share; /* of the tolerance that the worst element uses; infinite where it is not a number */
} tensor_difference;

/* err / (atol + rtol * |expected|); 0 where both are 0; infinite for anything that is not finite. */
double tensor_compare_share(double actual, double expected, double atol, double rtol);

/* Compares `rows` leading rows (the caller knows how many are valid); the types may differ, the shapes must
 * not. */
tensor_difference tensor_compare(const tensor *actual, const tensor *expected, int64_t rows, double atol,
                                 double rtol);

#endif
