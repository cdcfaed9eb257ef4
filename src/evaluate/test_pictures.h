/* Pictures of a test set's images: ground truth beside predictions. */
#ifndef EVALUATE_TEST_PICTURES_H
#define EVALUATE_TEST_PICTURES_H

#include "data/detection.h"
#include "draw/truth.h"
#include "evaluate/test_data.h"

typedef struct test_pictures {
    const char *folder; /* that is there */
    const test_set *set;
    bool masks;         /* draw those of the ground truth */
    double least_score; /* of predictions that are drawn */
    int drawn;          /* so far, of all sets */
    truth_list truth;   /* scratch */
} test_pictures;

/* Draws FOLDER/NNNN_<stem>.png, where NNNN counts from 1 and the stem is the file's name without folders and ending. Codes of
 * truth_of_image and picture_write. */
status test_pictures_draw(test_pictures *p, const loader_sample *sample, const detection_list *found);
void test_pictures_release(test_pictures *p);

/* Whether a file's name is one that test_pictures_draw gives. */
bool test_pictures_is_name(const char *name);

#endif
