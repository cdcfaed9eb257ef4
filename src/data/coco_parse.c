#include "data/coco_parse.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yajl/yajl_parse.h>
#include "base/content_hash.h"
#include "data/mask_rle.h"

enum { MAX_DEPTH = 64, CHUNK_BYTES = 1 << 20 };

/* JSON of 8 GiB and more would overflow the index's 32-bit counts. */
static const uint64_t max_json_bytes = (uint64_t)8 << 30;

/* What a level of nesting is. */
typedef enum frame_kind {
    FRAME_SKIP, /* unknown key: whatever is inside is passed over */
    FRAME_ROOT,
    FRAME_IMAGES,
    FRAME_IMAGE,
    FRAME_CATEGORIES,
    FRAME_CATEGORY,
    FRAME_ANNOTATIONS,
    FRAME_ANNOTATION,
    FRAME_BOX,
    FRAME_POLYGONS, /* segmentation: [...] */
    FRAME_PART,     /* segmentation: [[...]] */
    FRAME_RLE,      /* segmentation: {...} */
    FRAME_COUNTS,
    FRAME_SIZE
} frame_kind;

typedef enum field {
    FIELD_NONE,
    FIELD_IMAGES,
    FIELD_CATEGORIES,
    FIELD_ANNOTATIONS,
    FIELD_ID,
    FIELD_FILE_NAME,
    FIELD_WIDTH,
    FIELD_HEIGHT,
    FIELD_NAME,
    FIELD_IMAGE_ID,
    FIELD_CATEGORY_ID,
    FIELD_CROWD,
    FIELD_AREA,
    FIELD_SCORE,
    FIELD_BOX,
    FIELD_SEGMENTATION,
    FIELD_COUNTS,
    FIELD_SIZE
} field;

static const struct {
    frame_kind frame;
    field field;
    const char *key;
} known_keys[] = {
    {FRAME_ROOT, FIELD_IMAGES, "images"},
    {FRAME_ROOT, FIELD_CATEGORIES, "categories"},
    {FRAME_ROOT, FIELD_ANNOTATIONS, "annotations"},
    {FRAME_IMAGE, FIELD_ID, "id"},
    {FRAME_IMAGE, FIELD_FILE_NAME, "file_name"},
    {FRAME_IMAGE, FIELD_WIDTH, "width"},
    {FRAME_IMAGE, FIELD_HEIGHT, "height"},
    {FRAME_CATEGORY, FIELD_ID, "id"},
    {FRAME_CATEGORY, FIELD_NAME, "name"},
    {FRAME_ANNOTATION, FIELD_ID, "id"},
    {FRAME_ANNOTATION, FIELD_IMAGE_ID, "image_id"},
    {FRAME_ANNOTATION, FIELD_CATEGORY_ID, "category_id"},
    {FRAME_ANNOTATION, FIELD_CROWD, "iscrowd"},
    {FRAME_ANNOTATION, FIELD_AREA, "area"},
    {FRAME_ANNOTATION, FIELD_SCORE, "score"},
    {FRAME_ANNOTATION, FIELD_BOX, "bbox"},
    {FRAME_ANNOTATION, FIELD_SEGMENTATION, "segmentation"},
    {FRAME_RLE, FIELD_COUNTS, "counts"},
    {FRAME_RLE, FIELD_SIZE, "size"},
};

typedef struct frame {
    frame_kind kind;
    field field;      /* objects: the key whose value comes next */
    size_t key_first; /* objects: first of its keys in `keys` */
} frame;

typedef struct seen_key {
    uint64_t hash, offset;
} seen_key;

typedef struct parser {
    raw_coco *raw;
    const char *path;
    yajl_handle yajl;
    content_hash digest;
    uint64_t chunk_start, lines;
    frame stack[MAX_DEPTH];
    int depth;
    seen_key *keys; /* of all open objects, to find those given twice */
    size_t key_count, key_room;
    int64_t *counts; /* of the RLE that is being read */
    size_t count_count, count_room;
    char *counts_text;
    size_t counts_text_size, counts_text_room;
    int64_t rle_size[2];
    size_t rle_size_count, box_count;
    bool results;                  /* a results file: see coco_parse_results_file */
    bool counts_are_text, rle_odd; /* odd: something else than numbers inside */
    uint32_t sections;             /* bit per FIELD_IMAGES.. of the root seen */
    mask_rle mask;                 /* scratch */
    status failure;                /* set when a callback cancels the parse */
} parser;

static const char fix_json[] = "copy, download or export the file again";

void raw_coco_release(raw_coco *raw) {
    free(raw->images);
    free(raw->categories);
    free(raw->annotations);
    free(raw->coordinates);
    free(raw->parts);
    free(raw->runs);
    free(raw->strings);
    memset(raw, 0, sizeof *raw);
}

void coco_finding_add(coco_finding findings[COCO_ISSUE_COUNT], coco_issue issue, const char *example, ...) {
    coco_finding *finding = &findings[issue];
    if (finding->count++ >= COCO_ISSUE_EXAMPLES) return;
    va_list args;
    va_start(args, example);
    vsnprintf(finding->examples[finding->count - 1], COCO_EXAMPLE_SIZE, example, args);
    va_end(args);
}

/* Makes room for `more` elements behind `count`; false (and the parse's failure) when there is no memory. */
static bool make_room(parser *p, void *array, size_t *room, size_t count, size_t more, size_t element) {
    if (count + more <= *room) return true;
    size_t fresh = *room + *room / 2;
    if (fresh < count + more) fresh = count + more + 64;
    void *old, *grown;
    memcpy(&old, array, sizeof old);
    if (fresh > SIZE_MAX / element || !(grown = realloc(old, fresh * element))) {
        p->failure = error_set(STATUS_OS, "free memory or split the annotation file",
                               "%s: no memory for its annotations (%zu elements of %zu bytes)", p->path,
                               fresh, element);
        return false;
    }
    memcpy(array, &grown, sizeof grown);
    *room = fresh;
    return true;
}

#define APPEND(p, owner, array, count, room, value)                                                          \
    (make_room(p, &(owner)->array, &(owner)->room, (owner)->count, 1, sizeof *(owner)->array) &&             \
     ((owner)->array[(owner)->count++] = (value), true))

static uint64_t position(const parser *p) {
    return p->chunk_start + yajl_get_bytes_consumed(p->yajl);
}

static frame *top(parser *p) {
    return &p->stack[p->depth - 1];
}

static raw_annotation *current_annotation(parser *p) {
    return &p->raw->annotations[p->raw->annotation_count - 1];
}

static bool wrong_type(parser *p, const char *where) {
    coco_finding_add(p->raw->findings, COCO_WRONG_TYPE, "%s before byte %llu", where,
                     (unsigned long long)position(p));
    return true;
}

/* Copies a text behind the strings; 0 for an empty one. */
static bool keep_string(parser *p, const char *text, size_t length, uint64_t *out) {
    raw_coco *raw = p->raw;
    if (memchr(text, 0, length)) length = 0; /* a name with a zero byte can be no file's */
    *out = 0;
    if (length == 0) return true;
    if (!make_room(p, &raw->strings, &raw->string_room, raw->string_size, length + 1, 1)) return false;
    *out = raw->string_size;
    memcpy(raw->strings + raw->string_size, text, length);
    raw->strings[raw->string_size + length] = '\0';
    raw->string_size += length + 1;
    return true;
}

/* A scalar of any kind, as its text; `is_string` tells "12" from 12. */
static bool image_value(parser *p, field f, const char *text, size_t length, bool is_string) {
    raw_image *image = &p->raw->images[p->raw->image_count - 1];
    int64_t *target = f == FIELD_ID ? &image->id : f == FIELD_WIDTH ? &image->width : &image->height;
    uint32_t bit = f == FIELD_ID ? RAW_HAS_ID : f == FIELD_WIDTH ? RAW_HAS_WIDTH : RAW_HAS_HEIGHT;
    if (f == FIELD_NONE) return true;
    if (f == FIELD_FILE_NAME) {
        if (!is_string) return wrong_type(p, "file_name");
        image->have |= RAW_HAS_NAME;
        return keep_string(p, text, length, &image->name);
    }
    double real;
    bool good = coco_number_to_int64(text, length, target);
    if (!good && f != FIELD_ID && coco_number_to_double(text, length, &real) && fabs(real) < 1e9) {
        *target = (int64_t)real; /* "640.5" pixels: some tools write such sizes */
        good = true;
    }
    if (!good) return wrong_type(p, f == FIELD_ID ? "image id" : "image size");
    if (is_string)
        coco_finding_add(p->raw->findings, COCO_STRING_NUMBER, "image value \"%.*s\" before byte %llu",
                         (int)(length < 24 ? length : 24), text, (unsigned long long)position(p));
    image->have |= bit;
    return true;
}

static bool category_value(parser *p, field f, const char *text, size_t length, bool is_string) {
    raw_category *category = &p->raw->categories[p->raw->category_count - 1];
    if (f == FIELD_NONE) return true;
    if (f == FIELD_NAME) {
        category->have |= RAW_HAS_NAME;
        return keep_string(p, text, length, &category->name);
    }
    if (!coco_number_to_int64(text, length, &category->id)) return wrong_type(p, "category id");
    if (is_string)
        coco_finding_add(p->raw->findings, COCO_STRING_NUMBER, "category id \"%.*s\" before byte %llu",
                         (int)(length < 24 ? length : 24), text, (unsigned long long)position(p));
    category->have |= RAW_HAS_ID;
    return true;
}

static bool annotation_value(parser *p, field f, const char *text, size_t length, bool is_string) {
    raw_annotation *annotation = current_annotation(p);
    int64_t crowd;
    double area;
    switch (f) {
    case FIELD_ID:
        if (!coco_number_to_int64(text, length, &annotation->id)) return wrong_type(p, "annotation id");
        annotation->have |= RAW_HAS_ID;
        break;
    case FIELD_IMAGE_ID:
        if (!coco_number_to_int64(text, length, &annotation->image_id)) return wrong_type(p, "image_id");
        annotation->have |= RAW_HAS_IMAGE;
        break;
    case FIELD_CATEGORY_ID:
        if (!coco_number_to_int64(text, length, &annotation->category_id))
            return wrong_type(p, "category_id");
        annotation->have |= RAW_HAS_CATEGORY;
        break;
    case FIELD_CROWD:
        if (!coco_number_to_int64(text, length, &crowd)) return wrong_type(p, "iscrowd");
        annotation->crowd = crowd != 0;
        break;
    case FIELD_AREA:
        if (!coco_number_to_double(text, length, &area)) return wrong_type(p, "area");
        annotation->area = area;
        annotation->have |= RAW_HAS_AREA;
        break;
    case FIELD_SCORE: /* datasets do without */
        if (!p->results) return true;
        if (!coco_number_to_double(text, length, &annotation->score)) return wrong_type(p, "score");
        annotation->have |= RAW_HAS_SCORE;
        break;
    case FIELD_BOX:
        return wrong_type(p, "bbox");
    case FIELD_SEGMENTATION:
        return wrong_type(p, "segmentation");
    default:
        return true;
    }
    if (is_string)
        coco_finding_add(p->raw->findings, COCO_STRING_NUMBER, "annotation value \"%.*s\" before byte %llu",
                         (int)(length < 24 ? length : 24), text, (unsigned long long)position(p));
    return true;
}

/* A number inside bbox, a polygon or an RLE. */
static bool list_value(parser *p, const char *text, size_t length) {
    raw_coco *raw = p->raw;
    raw_annotation *annotation = current_annotation(p);
    double real;
    int64_t whole;
    switch (top(p)->kind) {
    case FRAME_BOX:
        if (!coco_number_to_double(text, length, &real)) real = NAN;
        if (p->box_count < 4) annotation->box[p->box_count] = real;
        p->box_count++;
        return true;
    case FRAME_POLYGONS:
        annotation->flat = 1;
        if (raw->part_count == annotation->part) {
            if (!APPEND(p, raw, parts, part_count, part_room, 0u)) return false;
            annotation->count = 1;
        }
        __attribute__((fallthrough)); /* a number of the one polygon */
    case FRAME_PART:
        if (!coco_number_to_double(text, length, &real)) real = NAN;
        raw->parts[raw->part_count - 1]++;
        return APPEND(p, raw, coordinates, coordinate_count, coordinate_room, real);
    case FRAME_COUNTS:
        if (!coco_number_to_int64(text, length, &whole))
            p->rle_odd = true;
        else
            return APPEND(p, p, counts, count_count, count_room, whole);
        return true;
    case FRAME_SIZE:
        if (!coco_number_to_int64(text, length, &whole)) whole = -1;
        if (p->rle_size_count < 2) p->rle_size[p->rle_size_count] = whole;
        p->rle_size_count++;
        return true;
    default:
        return true;
    }
}

static bool rle_text(parser *p, const char *text, size_t length) {
    p->counts_are_text = true;
    p->counts_text_size = 0;
    if (!make_room(p, &p->counts_text, &p->counts_text_room, 0, length, 1)) return false;
    if (length) memcpy(p->counts_text, text, length);
    p->counts_text_size = length;
    return true;
}

static bool on_scalar(parser *p, const char *text, size_t length, bool is_string) {
    frame *f = top(p);
    switch (f->kind) {
    case FRAME_SKIP:
        return true;
    case FRAME_IMAGE:
        return image_value(p, f->field, text, length, is_string);
    case FRAME_CATEGORY:
        return category_value(p, f->field, text, length, is_string);
    case FRAME_ANNOTATION:
        return annotation_value(p, f->field, text, length, is_string);
    case FRAME_RLE:
        if (f->field == FIELD_COUNTS && is_string) return rle_text(p, text, length);
        if (f->field != FIELD_NONE) p->rle_odd = true;
        return true;
    case FRAME_ROOT:
        return f->field == FIELD_NONE || wrong_type(p, "images, annotations or categories");
    case FRAME_IMAGES:
    case FRAME_CATEGORIES:
    case FRAME_ANNOTATIONS:
        return wrong_type(p, "element of a list of objects");
    default:
        return list_value(p, text, length);
    }
}

static int on_number(void *context, const char *text, size_t length) {
    parser *p = context;
    return p->depth == 0 || on_scalar(p, text, length, false);
}

static int on_string(void *context, const unsigned char *text, size_t length) {
    parser *p = context;
    return p->depth == 0 || on_scalar(p, (const char *)text, length, true);
}

static int on_boolean(void *context, int value) {
    return on_number(context, value ? "1" : "0", 1);
}

/* null is the same as a missing key, except inside lists of numbers. */
static int on_null(void *context) {
    parser *p = context;
    if (p->depth == 0) return 1;
    frame_kind kind = top(p)->kind;
    if (kind == FRAME_BOX || kind == FRAME_POLYGONS || kind == FRAME_PART || kind == FRAME_COUNTS ||
        kind == FRAME_SIZE)
        return list_value(p, "", 0);
    return 1;
}

static bool push(parser *p, frame_kind kind) {
    if (p->depth == MAX_DEPTH) {
        p->failure = error_set(STATUS_DATA, fix_json, "%s: nested deeper than %d levels at byte %llu",
                               p->path, MAX_DEPTH, (unsigned long long)position(p));
        return false;
    }
    p->stack[p->depth++] = (frame){.kind = kind, .key_first = p->key_count};
    return true;
}

/* Forgets what the segmentation given so far has left behind (it is given twice). */
static void restart_segmentation(parser *p, raw_annotation *annotation) {
    p->raw->coordinate_count =
        annotation->mask_kind == COCO_MASK_POLYGONS ? annotation->data : p->raw->coordinate_count;
    p->raw->part_count = annotation->mask_kind == COCO_MASK_POLYGONS ? annotation->part : p->raw->part_count;
    p->raw->run_count = annotation->mask_kind == COCO_MASK_RLE ? annotation->data : p->raw->run_count;
    annotation->mask_kind = COCO_MASK_NONE;
    annotation->count = 0;
    annotation->flat = annotation->bad_rle = 0;
}

static int on_start_map(void *context) {
    parser *p = context;
    raw_coco *raw = p->raw;
    uint64_t at = position(p) - 1;
    if (p->depth == 0) return push(p, FRAME_ROOT);
    frame *f = top(p);
    if (f->kind == FRAME_IMAGES)
        return APPEND(p, raw, images, image_count, image_room, ((raw_image){.offset = at})) &&
               push(p, FRAME_IMAGE);
    if (f->kind == FRAME_CATEGORIES)
        return APPEND(p, raw, categories, category_count, category_room, ((raw_category){.offset = at})) &&
               push(p, FRAME_CATEGORY);
    if (f->kind == FRAME_ANNOTATIONS)
        return APPEND(p, raw, annotations, annotation_count, annotation_room,
                      ((raw_annotation){.offset = at, .area = NAN})) &&
               push(p, FRAME_ANNOTATION);
    if (f->kind == FRAME_ANNOTATION && f->field == FIELD_SEGMENTATION) {
        restart_segmentation(p, current_annotation(p));
        p->count_count = p->counts_text_size = p->rle_size_count = 0;
        p->counts_are_text = p->rle_odd = false;
        current_annotation(p)->mask_kind = COCO_MASK_RLE;
        current_annotation(p)->data = raw->run_count;
        return push(p, FRAME_RLE);
    }
    if (f->kind == FRAME_RLE && f->field != FIELD_NONE)
        p->rle_odd = true;
    else if (f->kind >= FRAME_BOX && f->kind != FRAME_RLE)
        list_value(p, "", 0); /* an object where a number should be */
    else if (f->kind != FRAME_SKIP && f->field != FIELD_NONE)
        wrong_type(p, "an object");
    return p->failure == STATUS_OK && push(p, FRAME_SKIP);
}

/* The list that starts as the value of a known key. */
static bool start_field_list(parser *p, frame_kind kind, field f) {
    raw_coco *raw = p->raw;
    if (kind == FRAME_ROOT) {
        /* A key given twice: the last one counts. */
        if (f == FIELD_IMAGES) raw->image_count = 0;
        if (f == FIELD_CATEGORIES) raw->category_count = 0;
        if (f == FIELD_ANNOTATIONS)
            raw->annotation_count = raw->coordinate_count = raw->part_count = raw->run_count = 0;
        p->sections |= 1u << f;
        return push(p, f == FIELD_IMAGES       ? FRAME_IMAGES
                       : f == FIELD_CATEGORIES ? FRAME_CATEGORIES
                                               : FRAME_ANNOTATIONS);
    }
    if (kind == FRAME_ANNOTATION && f == FIELD_BOX) {
        p->box_count = 0;
        current_annotation(p)->have &= ~(uint32_t)(RAW_HAS_BOX | RAW_HAS_ODD_BOX);
        return push(p, FRAME_BOX);
    }
    if (kind == FRAME_ANNOTATION && f == FIELD_SEGMENTATION) {
        raw_annotation *annotation = current_annotation(p);
        restart_segmentation(p, annotation);
        annotation->mask_kind = COCO_MASK_POLYGONS;
        annotation->data = raw->coordinate_count;
        annotation->part = raw->part_count;
        return push(p, FRAME_POLYGONS);
    }
    if (kind == FRAME_RLE && f == FIELD_COUNTS) {
        p->count_count = 0;
        p->counts_are_text = false;
        return push(p, FRAME_COUNTS);
    }
    if (kind == FRAME_RLE && f == FIELD_SIZE) {
        p->rle_size_count = 0;
        return push(p, FRAME_SIZE);
    }
    wrong_type(p, "a list");
    return push(p, FRAME_SKIP);
}

static int on_start_array(void *context) {
    parser *p = context;
    if (p->depth == 0 && p->results) {
        p->sections |= 1u << FIELD_ANNOTATIONS;
        return push(p, FRAME_ANNOTATIONS);
    }
    if (p->depth == 0) {
        p->failure = error_set(STATUS_DATA,
                               "give the annotation file (an object with images, annotations and categories)",
                               "%s: not a COCO dataset: its top level is a list (a results file?)", p->path);
        return 0;
    }
    frame *f = top(p);
    raw_coco *raw = p->raw;
    if (f->kind == FRAME_POLYGONS) {
        raw_annotation *annotation = current_annotation(p);
        if (annotation->flat) { /* numbers and lists mixed: the list counts as a number that is none */
            if (!list_value(p, "", 0)) return 0;
            return push(p, FRAME_SKIP);
        }
        annotation->count++;
        return APPEND(p, raw, parts, part_count, part_room, 0u) && push(p, FRAME_PART);
    }
    if (f->kind == FRAME_BOX || f->kind == FRAME_PART || f->kind == FRAME_COUNTS || f->kind == FRAME_SIZE) {
        if (!list_value(p, "", 0)) return 0;
        return push(p, FRAME_SKIP);
    }
    if (f->kind == FRAME_IMAGES || f->kind == FRAME_CATEGORIES || f->kind == FRAME_ANNOTATIONS)
        wrong_type(p, "element of a list of objects");
    else if (f->field != FIELD_NONE)
        return start_field_list(p, f->kind, f->field);
    return push(p, FRAME_SKIP);
}

static int on_end_array(void *context) {
    parser *p = context;
    if (top(p)->kind == FRAME_BOX && p->box_count > 0)
        current_annotation(p)->have |= p->box_count == 4 ? RAW_HAS_BOX : RAW_HAS_ODD_BOX;
    p->depth--;
    return 1;
}

/* counts and size are complete: turns them into runs. A bad one is counted when the index is built. */
static bool finish_rle(parser *p) {
    raw_coco *raw = p->raw;
    raw_annotation *annotation = current_annotation(p);
    status s = STATUS_DATA;
    if (!p->rle_odd && p->rle_size_count == 2)
        s = p->counts_are_text
                ? mask_rle_from_string(&p->mask, p->counts_text, p->counts_text_size, p->rle_size[0],
                                       p->rle_size[1])
                : mask_rle_from_counts(&p->mask, p->counts, p->count_count, p->rle_size[0], p->rle_size[1]);
    if (s == STATUS_OS) {
        p->failure = error_prefix(s, "%s", p->path);
        return false;
    }
    annotation->bad_rle = s != STATUS_OK || p->mask.count > UINT32_MAX;
    if (annotation->bad_rle) return true;
    if (!make_room(p, &raw->runs, &raw->run_room, raw->run_count, p->mask.count, sizeof *raw->runs))
        return false;
    if (p->mask.count) memcpy(raw->runs + raw->run_count, p->mask.counts, p->mask.count * sizeof *raw->runs);
    raw->run_count += p->mask.count;
    annotation->count = (uint32_t)p->mask.count;
    annotation->rle_height = p->mask.height;
    annotation->rle_width = p->mask.width;
    return true;
}

static int on_map_key(void *context, const unsigned char *key, size_t length) {
    parser *p = context;
    frame *f = top(p);
    f->field = FIELD_NONE;
    seen_key seen = {content_hash_of(key, length), position(p)};
    for (size_t i = f->key_first; i < p->key_count && i < f->key_first + 32; i++)
        if (p->keys[i].hash == seen.hash) {
            coco_finding_add(p->raw->findings, COCO_DUPLICATE_KEY, "key \"%.*s\" before byte %llu",
                             (int)(length < 40 ? length : 40), (const char *)key,
                             (unsigned long long)seen.offset);
            break;
        }
    if (!APPEND(p, p, keys, key_count, key_room, seen)) return 0;
    for (size_t i = 0; i < sizeof known_keys / sizeof *known_keys; i++)
        if (known_keys[i].frame == f->kind && strlen(known_keys[i].key) == length &&
            !memcmp(known_keys[i].key, key, length))
            f->field = known_keys[i].field;
    return 1;
}

static int compare_keys(const void *a, const void *b) {
    const seen_key *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Objects with many keys: the first 32 were compared as they came, the rest is sorted here, so that a hostile
 * object with a million keys costs no quadratic time. */
static void find_late_duplicates(parser *p, size_t first) {
    size_t count = p->key_count - first;
    if (count <= 32) return;
    uint64_t early = p->keys[first + 31].offset;
    qsort(p->keys + first, count, sizeof *p->keys, compare_keys);
    bool with_early = false; /* whether the run of equal keys began among the first 32, and so was counted */
    for (size_t i = first; i < p->key_count; i++) {
        bool again = i > first && p->keys[i].hash == p->keys[i - 1].hash;
        if (!again) with_early = p->keys[i].offset <= early;
        if (again && !with_early)
            coco_finding_add(p->raw->findings, COCO_DUPLICATE_KEY, "a key before byte %llu",
                             (unsigned long long)p->keys[i].offset);
    }
}

static int on_end_map(void *context) {
    parser *p = context;
    frame *f = top(p);
    find_late_duplicates(p, f->key_first);
    p->key_count = f->key_first;
    frame_kind kind = f->kind;
    p->depth--;
    return kind != FRAME_RLE || finish_rle(p);
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_start_map,
    .yajl_map_key = on_map_key,
    .yajl_end_map = on_end_map,
    .yajl_start_array = on_start_array,
    .yajl_end_array = on_end_array,
};

static uint64_t count_lines(const uint8_t *bytes, size_t size) {
    uint64_t lines = 0;
    for (const uint8_t *at = bytes, *end = bytes + size;
         at < end && (at = memchr(at, '\n', (size_t)(end - at))); at++)
        lines++;
    return lines;
}

/* Turns what yajl says into an error with place and line. */
static status parse_error(parser *p, const uint8_t *chunk, size_t size) {
    if (p->failure != STATUS_OK) return p->failure;
    size_t used = yajl_get_bytes_consumed(p->yajl);
    if (used > size) used = size;
    unsigned char *text = yajl_get_error(p->yajl, 0, chunk, size);
    char message[160];
    snprintf(message, sizeof message, "%s", text ? (const char *)text : "parse error");
    if (text) yajl_free_error(p->yajl, text);
    message[strcspn(message, "\n")] = '\0';
    return error_set(STATUS_DATA, fix_json, "%s: not valid JSON at byte %llu, line %llu: %s", p->path,
                     (unsigned long long)(p->chunk_start + used),
                     (unsigned long long)(p->lines + count_lines(chunk, used) + 1), message);
}

static status parser_feed(parser *p, const uint8_t *chunk, size_t size) {
    content_hash_update(&p->digest, chunk, size);
    size_t skip = 0;
    if (p->chunk_start == 0 && size >= 3 && !memcmp(chunk, "\xEF\xBB\xBF", 3)) skip = 3;
    p->chunk_start += skip;
    if (yajl_parse(p->yajl, chunk + skip, size - skip) != yajl_status_ok)
        return parse_error(p, chunk + skip, size - skip);
    p->chunk_start += size - skip;
    p->lines += count_lines(chunk, size);
    return STATUS_OK;
}

static status parser_finish(parser *p) {
    if (yajl_complete_parse(p->yajl) != yajl_status_ok) {
        if (p->failure != STATUS_OK) return p->failure;
        return error_set(STATUS_DATA, fix_json, "%s: ends too early, at byte %llu, line %llu", p->path,
                         (unsigned long long)p->chunk_start, (unsigned long long)(p->lines + 1));
    }
    if (p->results && !(p->sections & 1u << FIELD_ANNOTATIONS))
        return error_set(STATUS_DATA, "give a COCO results file: a list of objects, each with a score",
                         "%s: not a results file: neither a list nor an object with \"annotations\"",
                         p->path);
    static const struct {
        field field;
        const char *name;
    } needed[] = {
        {FIELD_IMAGES, "images"}, {FIELD_ANNOTATIONS, "annotations"}, {FIELD_CATEGORIES, "categories"}};
    for (int i = 0; i < 3 && !p->results; i++)
        if (!(p->sections & 1u << needed[i].field))
            return error_set(STATUS_DATA,
                             "give a COCO annotation file: images, annotations and categories are needed",
                             "%s: not a COCO dataset: it has no list \"%s\"", p->path, needed[i].name);
    p->raw->bytes = p->chunk_start;
    p->raw->digest = content_hash_digest(&p->digest);
    return STATUS_OK;
}

static status parser_init(parser *p, raw_coco *out, const char *path, bool results) {
    memset(out, 0, sizeof *out);
    *p = (parser){.raw = out, .path = path, .results = results};
    content_hash_init(&p->digest);
    p->yajl = yajl_alloc(&callbacks, NULL, p);
    if (!p->yajl || !make_room(p, &out->strings, &out->string_room, 0, 1, 1))
        return error_set(STATUS_OS, "free memory", "%s: no memory for the JSON parser", path);
    out->strings[out->string_size++] = '\0';
    return STATUS_OK;
}

static void parser_release(parser *p) {
    if (p->yajl) yajl_free(p->yajl);
    free(p->keys);
    free(p->counts);
    free(p->counts_text);
    mask_rle_release(&p->mask);
}

static status parse_bytes(raw_coco *out, const uint8_t *bytes, size_t size, const char *path, bool results) {
    parser p;
    status s = parser_init(&p, out, path, results);
    if (s == STATUS_OK) s = parser_feed(&p, bytes, size);
    if (s == STATUS_OK) s = parser_finish(&p);
    parser_release(&p);
    return s;
}

status coco_parse_bytes(raw_coco *out, const uint8_t *bytes, size_t size, const char *path) {
    return parse_bytes(out, bytes, size, path, false);
}

status coco_parse_results_bytes(raw_coco *out, const uint8_t *bytes, size_t size, const char *path) {
    return parse_bytes(out, bytes, size, path, true);
}

static status parse_stream(parser *p, int fd, uint8_t *buffer) {
    for (;;) {
        size_t have = 0;
        while (have < CHUNK_BYTES) {
            ssize_t got = pread(fd, buffer + have, CHUNK_BYTES - have, (off_t)(p->chunk_start + have));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0)
                return error_set(STATUS_IO, "check the disk or the network mount",
                                 "%s: read error at byte %llu: %s", p->path,
                                 (unsigned long long)(p->chunk_start + have), strerror(errno));
            if (got == 0) break;
            have += (size_t)got;
        }
        if (p->chunk_start + have > max_json_bytes)
            return error_set(STATUS_DATA, "split the annotation file", "%s: larger than 8 GiB", p->path);
        RETURN_IF_ERROR(parser_feed(p, buffer, have));
        if (have < CHUNK_BYTES) return parser_finish(p);
    }
}

static status parse_file(raw_coco *out, int fd, const char *path, bool results) {
    parser p;
    status s = parser_init(&p, out, path, results);
    uint8_t *buffer = s == STATUS_OK ? malloc(CHUNK_BYTES) : NULL;
    if (s == STATUS_OK && !buffer) s = error_set(STATUS_OS, "free memory", "%s: no memory to read it", path);
    if (s == STATUS_OK) s = parse_stream(&p, fd, buffer);
    free(buffer);
    parser_release(&p);
    return s;
}

status coco_parse_file(raw_coco *out, int fd, const char *path) {
    return parse_file(out, fd, path, false);
}

status coco_parse_results_file(raw_coco *out, int fd, const char *path) {
    return parse_file(out, fd, path, true);
}
