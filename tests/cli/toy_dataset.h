/* Small COCO datasets whose every property a test chooses. */
#ifndef TESTS_CLI_TOY_DATASET_H
#define TESTS_CLI_TOY_DATASET_H

#include <stdbool.h>

typedef enum toy_kind { TOY_POLYGONS, TOY_CROWDS, TOY_BOXES_ONLY } toy_kind;

typedef struct toy_options {
    int images;
    bool mixed_sizes; /* 64x64 otherwise */
    int empty_from;   /* images from this one on have no annotation; 0: all have 1 to 3 */
    toy_kind kind;
    bool jpeg; /* PNG otherwise */
} toy_options;

/* Writes FOLDER/NAME.json and FOLDER/NAME/0001.png and so on: coloured rectangles, diamonds and octagons on noise, with the
 * category ids 1, 2 and 5. Image ids are 101, 102... Returns the number of annotations. */
int toy_dataset_write(const char *folder, const char *name, const toy_options *options);

#endif
