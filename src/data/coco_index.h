/* A COCO annotation file as a packed, read-only index that every rank and worker of a node shares.
 *
 * coco_index_open reads the JSON once by SAX (no tree) and packs it; the packed form is kept as a file beside
 * the JSON (".NAME.index"), where that cannot be written in $XDG_CACHE_HOME or $TMPDIR, else only in memory; small
 * JSONs are always packed in memory. A kept index belongs to one content of the JSON (size, time, XXH64
 * digest); one that is stale or damaged is never used but made anew. The mapping survives fork and is shared
 * by the children.
 *
 * Reading rules: keys may come in any order, unknown ones are skipped; `info`, `licenses`, `area`, `iscrowd`
 * may be missing; ids are exact over all of int64 and may be numeric strings; a UTF-8 BOM is allowed; nesting
 * beyond 64 levels is refused. Category ids become 0..K-1 by ascending id. Everything that had to be fixed or
 * dropped is counted by reason with the first examples named; nothing is dropped silently.
 *
 * Errors: STATUS_NO_INPUT (no such file), STATUS_DATA (not JSON, with byte offset and line; not a COCO
 * dataset), STATUS_IO, STATUS_OS. No usable annotation is not an error here (see
 * coco_index_usable_annotations). */
#ifndef DATA_COCO_INDEX_H
#define DATA_COCO_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef enum coco_issue {
#define COCO_ISSUE(name, verdict, text) COCO_##name,
#include "data/coco_issues.def"
#undef COCO_ISSUE
    COCO_ISSUE_COUNT
} coco_issue;

typedef enum coco_verdict { COCO_VERDICT_NOTE, COCO_VERDICT_FIXED, COCO_VERDICT_DROPPED } coco_verdict;

enum { COCO_ISSUE_EXAMPLES = 3, COCO_EXAMPLE_SIZE = 104 };

/* How often something was met, and the first places. */
typedef struct coco_finding {
    uint64_t count;
    /* "annotation 17 at byte 1234"; "" when there is none */
    char examples[COCO_ISSUE_EXAMPLES][COCO_EXAMPLE_SIZE];
} coco_finding;

typedef enum coco_mask_kind { COCO_MASK_NONE, COCO_MASK_POLYGONS, COCO_MASK_RLE } coco_mask_kind;

typedef struct coco_image {
    int64_t id;
    uint64_t file_name; /* offset of its text: use coco_index_file_name */
    int32_t width, height;
    uint32_t first_annotation, annotation_count; /* all that name the image, also the unusable ones */
} coco_image;

typedef struct coco_category {
    int64_t id;
    uint64_t name;               /* offset of its text: use coco_index_category_name */
    uint64_t annotations, crowd; /* all of this category; how many of them are crowd regions */
} coco_category;

typedef struct coco_annotation {
    int64_t id;
    double box[4];       /* x y width height as written, in pixels */
    double area;         /* as written; NaN where the file has none */
    uint64_t data;       /* polygons: first coordinate; RLE: first run */
    uint64_t part;       /* polygons: first part's size */
    uint32_t count;      /* polygons: parts; RLE: runs */
    uint32_t image;      /* 0..images-1 */
    uint32_t category;   /* 0..K-1 */
    int32_t mask_box[4]; /* x y width height: pixels the mask can touch, inside the image */
    uint8_t mask_kind;   /* coco_mask_kind; a damaged mask is COCO_MASK_NONE */
    uint8_t crowd;       /* 0 or 1 */
    uint8_t dropped;     /* 1: box empty, outside the image or no box at all */
    uint8_t reserved;
} coco_annotation;

typedef struct coco_options {
    bool crowd_as_instances; /* use crowd regions as ordinary objects */
    bool need_masks;         /* an object without a valid mask is not usable */
    const char *index_dir;   /* where to keep index files; NULL: see above */
    int64_t keep_from_bytes; /* a JSON smaller than this is packed in memory only */
} coco_options;

/* Crowds dropped, masks needed, index kept beside the JSON from 8 MB up. */
coco_options coco_options_default(void);

typedef struct coco_index coco_index;

/* `options` NULL: defaults. On STATUS_OK *out is owned by the caller. */
status coco_index_open(coco_index **out, const char *json_path, const coco_options *options);
void coco_index_free(coco_index *index);

const char *coco_index_path(const coco_index *index); /* of the JSON */
/* Where the index is kept on disk; "" when in memory only. `true` in *reused when no JSON had to be parsed. */
const char *coco_index_kept_at(const coco_index *index, bool *reused);

uint32_t coco_index_image_count(const coco_index *index);
const coco_image *coco_index_image(const coco_index *index, uint32_t image);
const char *coco_index_file_name(const coco_index *index, uint32_t image);
/* Index of an image id; -1 when there is none. */
int64_t coco_index_find_image(const coco_index *index, int64_t id);

uint32_t coco_index_category_count(const coco_index *index);
const coco_category *coco_index_category(const coco_index *index, uint32_t category);
const char *coco_index_category_name(const coco_index *index, uint32_t category);

/* Annotations are grouped by image; inside an image they keep the file's order. Those of an unknown image or
 * category are not among them, but are counted in coco_index_annotations_in_file. */
uint32_t coco_index_annotation_count(const coco_index *index);
uint64_t coco_index_annotations_in_file(const coco_index *index);
const coco_annotation *coco_index_annotation(const coco_index *index, uint32_t annotation);
/* Whether training uses the annotation: its box is good, its mask, too, where one is needed, and it is no crowd region
 * (or those are used). */
bool coco_index_usable(const coco_index *index, const coco_annotation *annotation);

/* Whether crowd regions are used as ordinary objects (the option it was opened with). */
bool coco_index_uses_crowd(const coco_index *index);

/* COCO_MASK_POLYGONS: coordinates x,y pairs of all parts one after another; sizes[parts] counts the numbers
 * (2 per point) of each part, every one even and >= 6. */
const double *coco_index_polygon(const coco_index *index, const coco_annotation *annotation,
                                 const uint32_t **sizes);
/* COCO_MASK_RLE: annotation->count runs, column-major, zeros first; their sum is the image's height * width. */
const uint32_t *coco_index_runs(const coco_index *index, const coco_annotation *annotation);

/* Totals under the options. */
typedef struct coco_summary {
    uint64_t images, annotations; /* annotations: in the file, of every kind */
    uint64_t usable;              /* annotations that training uses */
    uint64_t crowd;               /* crowd regions */
    uint64_t without_mask;        /* annotations whose segmentation is missing, null, empty or invalid */
    uint64_t images_without_annotations;        /* no annotation in the file names them */
    uint64_t images_without_usable_annotations; /* includes those */
} coco_summary;
coco_summary coco_index_summarize(const coco_index *index);

const coco_finding *coco_index_finding(const coco_index *index, coco_issue issue);
const char *coco_issue_text(coco_issue issue);
coco_verdict coco_issue_verdict(coco_issue issue);
/* True when anything was fixed or dropped (`strict` checks refuse that). */
bool coco_index_was_fixed(const coco_index *index);

/* STATUS_DATA when training could use no annotation; names what is wrong and the key that helps
 * (DATASETS.CROWD_AS_INSTANCES for an all-crowd set, MODEL.MASK_ON for boxes only). */
status coco_index_check_usable(const coco_index *index);

/* Logs images, annotations, categories with names and counts, images without annotations, and every finding. */
void coco_index_report(const coco_index *index);

#endif
