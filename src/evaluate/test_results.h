/* What the ranks have detected, as the lines of a results file, image by image, and brought together on rank 0. */
#ifndef EVALUATE_TEST_RESULTS_H
#define EVALUATE_TEST_RESULTS_H

#include "base/json_write.h"
#include "comm/comm.h"
#include "data/detection.h"
#include "evaluate/class_map.h"

/* This rank's share, one record after another. */
typedef struct test_results {
    char *bytes;
    size_t size, capacity;
    json_writer lines; /* scratch */
} test_results;

void test_results_init(test_results *r);
void test_results_release(test_results *r);

/* Appends the detections of the next image of this rank; of labels without a category none. OS. */
status test_results_add(test_results *r, int64_t image_id, const detection_list *found, const class_map *map);

/* Appends a bad image: no detections, and why. OS. */
status test_results_add_bad(test_results *r, const char *cause);

/* Collective. Rank 0 writes the results of all `images` images to `path` in the order of the file (rank r has the images r,
 * r + ranks, ...), names the bad ones in warnings and counts them. OS, on all ranks; codes of results_writer_open and
 * results_writer_finish, on rank 0. */
status test_results_write(int64_t *bad_images, const test_results *r, comm *c, int64_t images,
                          const char *path);

#endif
