/* Datasets as training names them: COCO annotation files with a folder of images each, several one after
 * another.
 *
 * A specification is a registered name or `ANNOTATIONS.json:IMAGE_DIR`. An image's file is
 * IMAGE_DIR/file_name, with backslashes as slashes, confined to the folder: a file_name that leads out of it
 * (`..`, an absolute path) or names no file there is looked for by its base name. Images whose file is
 * missing are counted; the loader replaces them.
 *
 * Errors: STATUS_CONFIG (unknown name; malformed specification), STATUS_NO_INPUT (no annotation file, no
 * folder, none of a dataset's images in it), STATUS_DATA (damaged annotations, categories that differ),
 * STATUS_OS. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "data/coco_index.h"

typedef struct dataset_registration {
    const char *name, *annotations, *image_dir;
} dataset_registration;

typedef struct dataset dataset;

/* specs [spec_count] >= 1; known [known_count] are the registered names; options as for coco_index_open. */
status dataset_open(dataset **out, const char *const *specs, int spec_count,
                    const dataset_registration *known, int known_count, const coco_options *options);
void dataset_free(dataset *d);

/* Splits `ANNOTATIONS.json:IMAGE_DIR` at the last ':' that has an existing file or a name ending in .json
 * before it. Both parts are malloc'ed. STATUS_CONFIG when there is none. */
status dataset_split_spec(char **annotations, char **image_dir, const char *spec);

/* Parts, one per specification. */
int dataset_part_count(const dataset *d);
const coco_index *dataset_part_index(const dataset *d, int part);
const char *dataset_part_image_dir(const dataset *d, int part);

/* Images of all parts one after another: 0..dataset_image_count-1. */
uint32_t dataset_image_count(const dataset *d);
const coco_image *dataset_image(const dataset *d, uint32_t image);
int dataset_image_part(const dataset *d, uint32_t image);
const char *dataset_file_name(const dataset *d, uint32_t image);

/* Path of the image's file, as found when the dataset was opened (where it would be, when missing). Returns
 * false when it does not fit. */
bool dataset_image_path(const dataset *d, uint32_t image, char *path, size_t size);
bool dataset_image_missing(const dataset *d, uint32_t image);
/* Number of missing image files; *first (may be NULL) is the first of them. */
uint32_t dataset_missing_count(const dataset *d, uint32_t *first);

/* Key of an image for random choices: its id in the first part; later parts are set apart. */
uint64_t dataset_image_key(const dataset *d, uint32_t image);

/* Category names and ids, the same in every part. */
uint32_t dataset_category_count(const dataset *d);
const char *dataset_category_name(const dataset *d, uint32_t category);
int64_t dataset_category_id(const dataset *d, uint32_t category);

/* Annotations of the image that training uses. */
uint32_t dataset_usable_annotations(const dataset *d, uint32_t image);

/* STATUS_DATA when training could use no annotation of any part. */
status dataset_check_usable(const dataset *d);

/* Logs every part's index and the missing files. */
void dataset_report(const dataset *d);

#endif
