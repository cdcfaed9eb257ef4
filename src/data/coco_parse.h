/* SAX reading of a COCO annotation file into plain arrays, in the file's order, nothing resolved yet:
 * annotations may come before the images they name. Used by the index builder and by evaluation, which also
 * reads results with it: annotations with a score. */
#ifndef DATA_COCO_PARSE_H
#define DATA_COCO_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "data/coco_index.h"

/* Which fields an object had (bits of `have`). */
enum {
    RAW_HAS_ID = 1,
    RAW_HAS_NAME = 2, /* file_name or name */
    RAW_HAS_WIDTH = 4,
    RAW_HAS_HEIGHT = 8,
    RAW_HAS_IMAGE = 16,
    RAW_HAS_CATEGORY = 32,
    RAW_HAS_BOX = 64,
    RAW_HAS_AREA = 128,
    RAW_HAS_SCORE = 256,
    RAW_HAS_ODD_BOX = 512 /* bbox is a list, but neither empty nor of four numbers */
};

typedef struct raw_image {
    int64_t id, width, height;
    uint64_t name, offset; /* name: in strings; offset: of the object's '{' in the file */
    uint32_t have;
} raw_image;

typedef struct raw_category {
    int64_t id;
    uint64_t name, offset;
    uint32_t have;
} raw_category;

typedef struct raw_annotation {
    int64_t id, image_id, category_id;
    double box[4], area, score;
    uint64_t data, part, offset;
    uint32_t count; /* parts, or runs */
    int32_t rle_height, rle_width;
    uint32_t have;
    uint8_t mask_kind, crowd, bad_rle, flat;
} raw_annotation;

typedef struct raw_coco {
    raw_image *images;
    raw_category *categories;
    raw_annotation *annotations;
    double *coordinates;
    uint32_t *parts; /* numbers of coordinates of each polygon part, as written: also odd or too few */
    uint32_t *runs;
    char *strings; /* zero-terminated texts; offset 0 is "" */
    size_t image_count, category_count, annotation_count, coordinate_count, part_count, run_count,
        string_size;
    size_t image_room, category_room, annotation_room, coordinate_room, part_room, run_room, string_room;
    coco_finding findings[COCO_ISSUE_COUNT];
    uint64_t bytes, digest; /* of the content that was parsed */
} raw_coco;

void raw_coco_release(raw_coco *raw);

/* Counts a finding; the first few keep their text. */
void coco_finding_add(coco_finding findings[COCO_ISSUE_COUNT], coco_issue issue, const char *example, ...)
    __attribute__((format(printf, 3, 4)));

/* Reads the whole of `fd` from its start. `path` is for messages. *out is released by the caller, also after
 * an error. */
status coco_parse_file(raw_coco *out, int fd, const char *path);
/* The same from memory. */
status coco_parse_bytes(raw_coco *out, const uint8_t *bytes, size_t size, const char *path);

/* The same for a results file: a list of annotations with scores, or an object whose "annotations" are such a
 * list (then images and categories in it are read but not needed). */
status coco_parse_results_file(raw_coco *out, int fd, const char *path);
status coco_parse_results_bytes(raw_coco *out, const uint8_t *bytes, size_t size, const char *path);

/* Number texts as COCO files hold them. Integers exact over int64, integral floats ("12.0", "1e3") accepted. */
bool coco_number_to_int64(const char *text, size_t length, int64_t *out);
/* Correctly rounded; false when it is no number or not finite. */
bool coco_number_to_double(const char *text, size_t length, double *out);

#endif
