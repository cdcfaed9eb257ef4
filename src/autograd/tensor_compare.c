#include "autograd/tensor_compare.h"

#include "base/check.h"

#include <math.h>

double tensor_compare_share(double actual, double expected, double atol, double rtol) {
    if (!isfinite(expected) || !isfinite(actual)) return INFINITY;
    double error = fabs(actual - expected), limit = atol + rtol * fabs(expected);
    if (error == 0) return 0;
    return limit > 0 ? error / limit : INFINITY;
}

tensor_difference tensor_compare(const tensor *actual, const tensor *expected, int64_t rows, double atol,
                                 double rtol) {
    CHECK(tensor_same_shape(actual, expected), "comparing %s with a tensor of another shape", actual->name);
    tensor_difference d = {.index = -1, .share = -1};
    int64_t count = rows * tensor_row_size(actual);
    for (int64_t i = 0; i < count; i++) {
        double a = tensor_get(actual, i), e = tensor_get(expected, i),
               share = tensor_compare_share(a, e, atol, rtol);
        if (!(share <= 1)) d.bad++;
        if (!(share > d.share)) continue;
        d.index = i;
        d.actual = a;
        d.expected = e;
        d.share = share;
    }
    if (d.index < 0) d.share = 0;
    return d;
}
