/* Writing of COCO results files: a JSON list with one detection per line,
 *   {"image_id": 7, "category_id": 1, "bbox": [x, y, width, height], "score": 0.9, "segmentation": {"size": [h, w],
 *   "counts": ".."}}
 * boxes in pixels of the original image; numbers read back as the same floats (x + width is the box's right edge to the
 * last bit); masks as pycocotools' compressed strings, only where a detection has one; "file_name" after the image id
 * where it is given.
 *
 * On several ranks each formats its own images (coco_results_format) and one of them writes the texts it has gathered. */
#ifndef EVAL_COCO_RESULTS_H
#define EVAL_COCO_RESULTS_H

#include <stdint.h>
#include "base/json_write.h"
#include "base/status.h"
#include "data/detection.h"

/* Appends one line for each detection. class_ids: category id by label, NULL for label + 1. file_name may be NULL.
 * Boxes and scores must be finite (CHECK). OS: no memory. */
status coco_results_format(json_writer *lines, int64_t image_id, const char *file_name,
                           const detection_list *list, const int64_t *class_ids);

typedef struct results_writer results_writer;

/* Starts the file beside its place (`<path>.part`). CANT_CREATE, NO_PERMISSION, IO, OS. */
status results_writer_open(results_writer **out, const char *path);
/* Codes of coco_results_format, and of writing. */
status results_writer_add(results_writer *w, int64_t image_id, const char *file_name,
                          const detection_list *list, const int64_t *class_ids);
/* Lines that coco_results_format has made, `size` bytes. */
status results_writer_add_lines(results_writer *w, const char *lines, size_t size);
/* Closes the list, makes the file durable and puts it in its place. Without results the list is empty. *w is freed in any
 * case and set to NULL; after a failure here or before, path is as it was. */
status results_writer_finish(results_writer **w);
/* Gives the file up; nothing for NULL. */
void results_writer_cancel(results_writer **w);

#endif
