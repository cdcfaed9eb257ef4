/* RoI pooling and RoIAlign as people write them first: a loop over the regions, in each over bins, channels and pixels or
 * samples, on one thread. `bench op` puts them beside the program's own kernels. */
#ifndef BENCH_NAIVE_ROI_H
#define BENCH_NAIVE_ROI_H

#include "autograd/op.h"

/* The naive CPU kernel of "roi_pool" or "roi_align"; NULL for other ops. F32. */
const op_kernel *naive_roi_kernel(const char *op_name);

#endif
