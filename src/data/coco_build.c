#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "data/coco_index_file.h"
#include "data/mask_rle.h"

static const int64_t max_side = 65535;
static const double max_coordinate = 1e6;

typedef struct ordered_id {
    int64_t id;
    uint32_t at;
} ordered_id;

typedef struct builder {
    raw_coco *raw;
    coco_tables *out;
    ordered_id *image_ids, *category_ids; /* of the kept ones, ascending; at: index in the table */
    size_t image_ids_count, category_ids_count;
    const char *path;
} builder;

void coco_tables_release(coco_tables *tables) {
#define SECTION(name, type) free(tables->name);
    COCO_SECTIONS(SECTION)
#undef SECTION
    memset(tables, 0, sizeof *tables);
}

static status no_memory(const builder *b) {
    return error_set(STATUS_OS, "free memory or split the annotation file", "%s: no memory to index it",
                     b->path);
}

static int compare_ids(const void *a, const void *b) {
    const ordered_id *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static int64_t find_id(const ordered_id *ids, size_t count, int64_t id) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ids[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && ids[low].id == id ? (int64_t)ids[low].at : -1;
}

static int compare_texts(const void *a, const void *b, void *context) {
    const char *strings = context;
    const uint64_t *x = a, *y = b;
    int order = strcmp(strings + *x, strings + *y);
    return order ? order : (*x < *y ? -1 : *x > *y);
}

/* Counts texts that occur more than once; names: offsets in `strings`, put in order here. */
static void find_same_texts(builder *b, coco_issue issue, uint64_t *names, size_t count) {
    char *strings = b->raw->strings;
    qsort_r(names, count, sizeof *names, compare_texts, strings);
    for (size_t i = 1; i < count; i++) {
        bool same = !strcmp(strings + names[i], strings + names[i - 1]);
        bool counted = i > 1 && !strcmp(strings + names[i], strings + names[i - 2]);
        if (same && !counted) coco_finding_add(b->raw->findings, issue, "\"%.80s\"", strings + names[i]);
    }
}

static status build_categories(builder *b) {
    raw_coco *raw = b->raw;
    coco_tables *out = b->out;
    size_t n = raw->category_count, kept = 0;
    ordered_id *ids = b->category_ids = malloc((n + 1) * sizeof *ids);
    out->categories = malloc((n + 1) * sizeof *out->categories);
    uint64_t *names = malloc((n + 1) * sizeof *names);
    if (!ids || !out->categories || !names) {
        free(names);
        return no_memory(b);
    }
    for (size_t i = 0; i < n; i++) {
        if (raw->categories[i].have & RAW_HAS_ID)
            ids[kept++] = (ordered_id){raw->categories[i].id, (uint32_t)i};
        else
            coco_finding_add(raw->findings, COCO_BAD_CATEGORY, "category at byte %llu",
                             (unsigned long long)raw->categories[i].offset);
    }
    qsort(ids, kept, sizeof *ids, compare_ids);
    size_t count = 0;
    for (size_t i = 0; i < kept; i++) {
        const raw_category *category = &raw->categories[ids[i].at];
        if (count > 0 && ids[count - 1].id == category->id) {
            coco_finding_add(raw->findings, COCO_DUPLICATE_CATEGORY, "category %lld at byte %llu",
                             (long long)category->id, (unsigned long long)category->offset);
            continue;
        }
        out->categories[count] = (coco_category){.id = category->id, .name = category->name};
        names[count] = category->name;
        ids[count] = (ordered_id){category->id, (uint32_t)count};
        count++;
    }
    out->categories_count = b->category_ids_count = count;
    find_same_texts(b, COCO_SAME_NAME, names, count);
    free(names);
    return STATUS_OK;
}

static bool image_is_good(const raw_coco *raw, const raw_image *image) {
    uint32_t needed = RAW_HAS_ID | RAW_HAS_NAME | RAW_HAS_WIDTH | RAW_HAS_HEIGHT;
    return (image->have & needed) == needed && raw->strings[image->name] != '\0' && image->width >= 1 &&
           image->width <= max_side && image->height >= 1 && image->height <= max_side;
}

/* Raw images that are good and the first of their id, marked in `ids` (ascending by id, at: raw index). */
static size_t select_images(builder *b, ordered_id *ids) {
    raw_coco *raw = b->raw;
    size_t good = 0, count = 0;
    for (size_t i = 0; i < raw->image_count; i++) {
        const raw_image *image = &raw->images[i];
        if (image_is_good(raw, image))
            ids[good++] = (ordered_id){image->id, (uint32_t)i};
        else if (image->have & RAW_HAS_ID)
            coco_finding_add(raw->findings, COCO_BAD_IMAGE, "image %lld at byte %llu", (long long)image->id,
                             (unsigned long long)image->offset);
        else
            coco_finding_add(raw->findings, COCO_BAD_IMAGE, "image at byte %llu",
                             (unsigned long long)image->offset);
    }
    qsort(ids, good, sizeof *ids, compare_ids);
    for (size_t i = 0; i < good; i++) {
        const raw_image *image = &raw->images[ids[i].at];
        if (count > 0 && ids[count - 1].id == image->id)
            coco_finding_add(raw->findings, COCO_DUPLICATE_IMAGE, "image %lld at byte %llu",
                             (long long)image->id, (unsigned long long)image->offset);
        else
            ids[count++] = ids[i];
    }
    return count;
}

static status build_images(builder *b) {
    raw_coco *raw = b->raw;
    coco_tables *out = b->out;
    size_t n = raw->image_count;
    ordered_id *ids = b->image_ids = malloc((n + 1) * sizeof *ids);
    out->images = malloc((n + 1) * sizeof *out->images);
    out->images_by_id = malloc((n + 1) * sizeof *out->images_by_id);
    uint64_t *names = malloc((n + 1) * sizeof *names);
    uint32_t *place = calloc(n + 1, sizeof *place); /* raw index -> table index + 1 */
    if (!ids || !out->images || !out->images_by_id || !names || !place) {
        free(names);
        free(place);
        return no_memory(b);
    }
    size_t count = select_images(b, ids), next = 0;
    for (size_t i = 0; i < count; i++) place[ids[i].at] = 1;
    for (size_t i = 0; i < n; i++) {
        if (!place[i]) continue;
        const raw_image *image = &raw->images[i];
        names[next] = image->name;
        out->images[next] = (coco_image){.id = image->id,
                                         .file_name = image->name,
                                         .width = (int32_t)image->width,
                                         .height = (int32_t)image->height};
        place[i] = (uint32_t)++next;
    }
    for (size_t i = 0; i < count; i++) out->images_by_id[i] = ids[i].at = place[ids[i].at] - 1;
    out->images_count = out->images_by_id_count = b->image_ids_count = count;
    find_same_texts(b, COCO_SAME_FILE, names, count);
    free(names);
    free(place);
    return STATUS_OK;
}

static void find_duplicate_annotations(builder *b, ordered_id *ids) {
    raw_coco *raw = b->raw;
    size_t count = 0;
    for (size_t i = 0; i < raw->annotation_count; i++) {
        if (raw->annotations[i].have & RAW_HAS_ID)
            ids[count++] = (ordered_id){raw->annotations[i].id, (uint32_t)i};
        else
            coco_finding_add(raw->findings, COCO_NO_ANNOTATION_ID, "annotation at byte %llu",
                             (unsigned long long)raw->annotations[i].offset);
    }
    qsort(ids, count, sizeof *ids, compare_ids);
    for (size_t i = 1; i < count; i++)
        if (ids[i].id == ids[i - 1].id)
            coco_finding_add(raw->findings, COCO_DUPLICATE_ANNOTATION, "annotation %lld at byte %llu",
                             (long long)ids[i].id, (unsigned long long)raw->annotations[ids[i].at].offset);
}

#define FIND(b, issue, a)                                                                                    \
    coco_finding_add((b)->raw->findings, issue, "annotation %lld at byte %llu", (long long)(a)->id,          \
                     (unsigned long long)(a)->offset)

/* True when the annotation can be used at all. */
static bool check_box(builder *b, const raw_annotation *a, const coco_image *image) {
    const double *v = a->box;
    if (!(a->have & RAW_HAS_BOX) || !isfinite(v[0]) || !isfinite(v[1]) || !isfinite(v[2]) ||
        !isfinite(v[3])) {
        FIND(b, COCO_BAD_BOX, a);
        return false;
    }
    if (!(v[2] > 0) || !(v[3] > 0)) {
        FIND(b, COCO_EMPTY_BOX, a);
        return false;
    }
    double right = v[0] + v[2], bottom = v[1] + v[3];
    if (v[0] >= image->width || v[1] >= image->height || right <= 0 || bottom <= 0) {
        FIND(b, COCO_BOX_OUTSIDE, a);
        return false;
    }
    if (v[0] < -1 || v[1] < -1 || right > image->width + 1 || bottom > image->height + 1)
        FIND(b, COCO_BOX_CLIPPED, a);
    return true;
}

static bool part_is_good(const double *xy, uint32_t numbers) {
    if (numbers % 2) return false;
    for (uint32_t i = 0; i < numbers; i++)
        if (!(fabs(xy[i]) <= max_coordinate)) return false;
    return true;
}

/* Pixels a polygon can touch: its bounds and one pixel more, inside the image. */
static void bound_polygons(int32_t box[4], const double *xy, uint64_t numbers, const coco_image *image) {
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (uint64_t i = 0; i < numbers; i++) {
        low[i % 2] = fmin(low[i % 2], xy[i]);
        high[i % 2] = fmax(high[i % 2], xy[i]);
    }
    int32_t limit[2] = {image->width, image->height};
    for (int k = 0; k < 2; k++) {
        double first = fmin(fmax(floor(low[k]) - 1, 0), limit[k]),
               last = fmin(fmax(ceil(high[k]) + 1, first), limit[k]);
        box[k] = (int32_t)first;
        box[k + 2] = (int32_t)(last - first);
    }
}

static void check_polygons(builder *b, const raw_annotation *a, coco_annotation *out,
                           const coco_image *image) {
    raw_coco *raw = b->raw;
    if (a->count == 0) return; /* `[]`: no segmentation */
    if (a->flat) FIND(b, COCO_FLAT_POLYGON, a);
    uint64_t from = a->data, to = a->data;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < a->count; i++) {
        uint32_t numbers = raw->parts[a->part + i];
        if (numbers >= 6 && part_is_good(raw->coordinates + from, numbers)) {
            memmove(raw->coordinates + to, raw->coordinates + from, numbers * sizeof(double));
            to += numbers;
            raw->parts[a->part + kept++] = numbers;
        }
        from += numbers;
    }
    if (kept == 0) {
        FIND(b, COCO_BAD_POLYGON, a);
        return;
    }
    if (kept < a->count) FIND(b, COCO_BAD_PART, a);
    out->mask_kind = COCO_MASK_POLYGONS;
    out->data = a->data;
    out->part = a->part;
    out->count = kept;
    bound_polygons(out->mask_box, raw->coordinates + a->data, to - a->data, image);
}

static void check_rle(builder *b, const raw_annotation *a, coco_annotation *out, const coco_image *image) {
    if (a->bad_rle || a->rle_height != image->height || a->rle_width != image->width) {
        FIND(b, COCO_BAD_RLE, a);
        return;
    }
    mask_rle mask = {
        .height = a->rle_height, .width = a->rle_width, .counts = b->raw->runs + a->data, .count = a->count};
    mask_box box = mask_rle_bounding_box(&mask);
    if (box.width == 0 || box.height == 0) {
        FIND(b, COCO_EMPTY_RLE, a);
        return;
    }
    out->mask_kind = COCO_MASK_RLE;
    out->data = a->data;
    out->count = a->count;
    out->mask_box[0] = box.x;
    out->mask_box[1] = box.y;
    out->mask_box[2] = box.width;
    out->mask_box[3] = box.height;
}

/* Fills `out`; false when image or category is not in the file. */
static bool resolve_annotation(builder *b, const raw_annotation *a, coco_annotation *out) {
    int64_t image = a->have & RAW_HAS_IMAGE ? find_id(b->image_ids, b->image_ids_count, a->image_id) : -1;
    if (image < 0) {
        FIND(b, COCO_UNKNOWN_IMAGE, a);
        return false;
    }
    int64_t category =
        a->have & RAW_HAS_CATEGORY ? find_id(b->category_ids, b->category_ids_count, a->category_id) : -1;
    if (category < 0) {
        FIND(b, COCO_UNKNOWN_CATEGORY, a);
        return false;
    }
    const coco_image *where = &b->out->images[image];
    *out = (coco_annotation){.id = a->id,
                             .box = {a->box[0], a->box[1], a->box[2], a->box[3]},
                             .area = a->area,
                             .image = (uint32_t)image,
                             .category = (uint32_t)category,
                             .crowd = a->crowd};
    out->dropped = !check_box(b, a, where);
    if (a->mask_kind == COCO_MASK_POLYGONS) check_polygons(b, a, out, where);
    if (a->mask_kind == COCO_MASK_RLE) check_rle(b, a, out, where);
    return true;
}

/* Groups the annotations by image, keeping the file's order inside each. */
static void group_by_image(coco_tables *out, const coco_annotation *in, size_t count) {
    for (size_t i = 0; i < count; i++) out->images[in[i].image].annotation_count++;
    uint32_t next = 0;
    for (size_t i = 0; i < out->images_count; i++) {
        out->images[i].first_annotation = next;
        next += out->images[i].annotation_count;
        out->images[i].annotation_count = 0;
    }
    for (size_t i = 0; i < count; i++) {
        coco_image *image = &out->images[in[i].image];
        out->annotations[image->first_annotation + image->annotation_count++] = in[i];
    }
    out->annotations_count = count;
}

static status build_annotations(builder *b) {
    raw_coco *raw = b->raw;
    coco_tables *out = b->out;
    size_t n = raw->annotation_count, count = 0;
    coco_annotation *resolved = malloc((n + 1) * sizeof *resolved);
    ordered_id *ids = malloc((n + 1) * sizeof *ids);
    out->annotations = malloc((n + 1) * sizeof *out->annotations);
    status s = resolved && ids && out->annotations ? STATUS_OK : no_memory(b);
    if (s == STATUS_OK) {
        find_duplicate_annotations(b, ids);
        for (size_t i = 0; i < n; i++) {
            if (!resolve_annotation(b, &raw->annotations[i], &resolved[count])) continue;
            coco_category *category = &out->categories[resolved[count].category];
            category->annotations++;
            category->crowd += resolved[count].crowd;
            count++;
        }
        group_by_image(out, resolved, count);
    }
    free(resolved);
    free(ids);
    return s;
}

#define MOVE(out, raw, section, array, number)                                                               \
    ((out)->section = (raw)->array, (out)->section##_count = (raw)->number, (raw)->array = NULL)

status coco_build(coco_tables *out, raw_coco *raw, const char *path) {
    memset(out, 0, sizeof *out);
    builder b = {.raw = raw, .out = out, .path = path};
    out->annotations_in_file = raw->annotation_count;
    status s = build_categories(&b);
    if (s == STATUS_OK) s = build_images(&b);
    if (s == STATUS_OK) s = build_annotations(&b);
    if (s == STATUS_OK && !(out->findings = malloc(sizeof raw->findings))) s = no_memory(&b);
    free(b.image_ids);
    free(b.category_ids);
    if (s != STATUS_OK) {
        coco_tables_release(out);
        return s;
    }
    memcpy(out->findings, raw->findings, sizeof raw->findings);
    out->findings_count = COCO_ISSUE_COUNT;
    MOVE(out, raw, coordinates, coordinates, coordinate_count);
    MOVE(out, raw, parts, parts, part_count);
    MOVE(out, raw, runs, runs, run_count);
    MOVE(out, raw, strings, strings, string_size);
    return STATUS_OK;
}
