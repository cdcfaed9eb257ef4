/* The median: what a bench reports of its repetitions, because one interruption does not move it. */
#ifndef BENCH_MEDIAN_H
#define BENCH_MEDIAN_H

/* Sorts `values`; of an even count the mean of the two in the middle. `count` > 0. */
double median(double *values, int count);

#endif
