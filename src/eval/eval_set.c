#include "eval/eval_set.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "data/mask_rle.h"

static const char fix_results[] =
    "write one object per detection: image_id, category_id, score, bbox or segmentation";

static const uint32_t max_parts = 1 << 20; /* of one polygon */

/* An id and where it stands in the file; for looking up. */
typedef struct id_place {
    int64_t id;
    uint32_t at;
} id_place;

static status no_memory(const char *path) {
    return error_set(STATUS_OS, "free memory", "%s: no memory to score it", path);
}

static int compare_places(const void *a, const void *b) {
    const id_place *x = a, *y = b;
    if (x->id != y->id) return x->id < y->id ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Sorts and keeps the last of each id; the new count. */
static size_t sort_places(id_place *places, size_t count) {
    size_t kept = 0;
    qsort(places, count, sizeof *places, compare_places);
    for (size_t i = 0; i < count; i++)
        if (i + 1 == count || places[i + 1].id != places[i].id) places[kept++] = places[i];
    return kept;
}

/* Place of an id among sorted ones, -1 where it is not. */
static int64_t find_place(const id_place *places, size_t count, int64_t id) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (places[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && places[low].id == id ? (int64_t)low : -1;
}

/* eval_image and eval_category are laid out as id_place is, so one search serves all. */
_Static_assert(sizeof(eval_image) == sizeof(id_place) && sizeof(eval_category) == sizeof(id_place),
               "one layout");

static int64_t find_image(const eval_set *set, int64_t id) {
    return find_place((const id_place *)(const void *)set->images, set->image_count, id);
}

static int64_t find_category(const eval_set *set, int64_t id) {
    return find_place((const id_place *)(const void *)set->categories, set->category_count, id);
}

static status build_tables(eval_set *set) {
    const raw_coco *raw = &set->truth;
    set->images = malloc((raw->image_count + 1) * sizeof *set->images);
    set->categories = malloc((raw->category_count + 1) * sizeof *set->categories);
    if (!set->images || !set->categories) return no_memory(set->truth_path);
    size_t images = 0, categories = 0;
    for (size_t i = 0; i < raw->image_count; i++)
        if (raw->images[i].have & RAW_HAS_ID)
            set->images[images++] = (eval_image){raw->images[i].id, (uint32_t)i};
    for (size_t i = 0; i < raw->category_count; i++)
        if (raw->categories[i].have & RAW_HAS_ID)
            set->categories[categories++] = (eval_category){raw->categories[i].id, (uint32_t)i};
    set->image_count = sort_places((id_place *)(void *)set->images, images);
    set->category_count = sort_places((id_place *)(void *)set->categories, categories);
    return STATUS_OK;
}

static bool box_is_finite(const raw_annotation *a) {
    return isfinite(a->box[0]) && isfinite(a->box[1]) && isfinite(a->box[2]) && isfinite(a->box[3]);
}

/* A mask that is there must be whole, and fit its image where that has a size. */
static status check_mask(const eval_set *set, const raw_coco *raw, const raw_annotation *a, uint32_t image,
                         const char *name) {
    const raw_image *where = &set->truth.images[set->images[image].raw];
    bool sized = (where->have & RAW_HAS_WIDTH) && (where->have & RAW_HAS_HEIGHT);
    if (a->mask_kind == COCO_MASK_RLE) {
        if (a->bad_rle)
            return error_set(STATUS_DATA, "write counts and size [height, width] that belong together",
                             "%s has a damaged RLE mask", name);
        if (sized && (a->rle_height != where->height || a->rle_width != where->width))
            return error_set(
                STATUS_DATA, "give masks in the size of their image",
                "%s has a mask of %d x %d pixels (height x width), its image %lld has %lld x %lld", name,
                a->rle_height, a->rle_width, (long long)where->id, (long long)where->height,
                (long long)where->width);
        return STATUS_OK;
    }
    if (!sized)
        return error_set(STATUS_DATA, "add height and width to the images of the annotation file",
                         "%s has a polygon, but its image %lld has no size", name, (long long)where->id);
    if (mask_check_size(where->height, where->width) != STATUS_OK)
        return error_prefix(STATUS_DATA, "%s", name);
    if (a->count > max_parts)
        return error_set(STATUS_DATA, "give this mask as RLE",
                         "%s has a polygon of %u parts, at most %u are taken", name, a->count, max_parts);
    uint64_t at = a->data;
    for (uint32_t part = 0; part < a->count; part++)
        for (uint32_t end = raw->parts[a->part + part], k = 0; k < end; k++, at++)
            if (!isfinite(raw->coordinates[at]))
                return error_set(STATUS_DATA, "write polygons as lists of numbers",
                                 "%s has a polygon with something else than finite numbers", name);
    return STATUS_OK;
}

static bool has_mask(const raw_annotation *a) {
    return a->mask_kind != COCO_MASK_NONE && (a->count > 0 || a->bad_rle);
}

/* Whether an object has the shape that is asked for: ground truth the very one, a detection one it can be made of. */
static status check_shape(const eval_set *set, const raw_coco *raw, const raw_annotation *a, uint32_t image,
                          const char *name) {
    bool truth = raw == &set->truth, box = a->have & RAW_HAS_BOX, mask = has_mask(a);
    bool use_mask = set->type == COCO_IOU_SEGM ? mask || truth : !box && !truth;
    if (use_mask && !mask)
        return error_set(STATUS_DATA, truth ? "score boxes instead: --iou-type bbox" : fix_results,
                         "%s has no %s", name, truth ? "segmentation" : "bbox and no segmentation");
    if (use_mask) return check_mask(set, raw, a, image, name);
    if (!box || !box_is_finite(a))
        return error_set(STATUS_DATA, "write bbox as four numbers: x, y, width, height",
                         "%s has no box of four finite numbers", name);
    if (set->type == COCO_IOU_BBOX) return STATUS_OK;
    const raw_image *where = &set->truth.images[set->images[image].raw]; /* the box will be drawn as a mask */
    if (mask_check_size(where->height, where->width) != STATUS_OK)
        return error_prefix(STATUS_DATA, "%s", name);
    return STATUS_OK;
}

/* pycocotools collects ids image by image and then looks the ids up: of annotations with one id the last one in the
 * file comes out each time, with its own image and category. */
static status resolve_truths(eval_set *set) {
    const raw_coco *raw = &set->truth;
    size_t n = raw->annotation_count, ids = 0;
    id_place *places = malloc((n + 1) * sizeof *places);
    set->truths = malloc((n + 1) * sizeof *set->truths);
    status s = places && set->truths ? STATUS_OK : no_memory(set->truth_path);
    for (size_t i = 0; i < n && s == STATUS_OK; i++)
        if (raw->annotations[i].have & RAW_HAS_ID)
            places[ids++] = (id_place){raw->annotations[i].id, (uint32_t)i};
    if (s == STATUS_OK) ids = sort_places(places, ids);
    for (size_t i = 0; i < n && s == STATUS_OK; i++) {
        const raw_annotation *a = &raw->annotations[i];
        int64_t image = a->have & RAW_HAS_IMAGE ? find_image(set, a->image_id) : -1;
        int64_t category = a->have & RAW_HAS_CATEGORY ? find_category(set, a->category_id) : -1;
        if (image < 0 || category < 0) continue;
        uint64_t order = (uint64_t)image << 32 | i;
        size_t last = a->have & RAW_HAS_ID ? places[find_place(places, ids, a->id)].at : i;
        a = &raw->annotations[last];
        image = a->have & RAW_HAS_IMAGE ? find_image(set, a->image_id) : -1;
        category = a->have & RAW_HAS_CATEGORY ? find_category(set, a->category_id) : -1;
        if (image < 0 || category < 0) continue;
        char name[96];
        snprintf(name, sizeof name, "annotation %lld at byte %llu", (long long)a->id,
                 (unsigned long long)a->offset);
        s = check_shape(set, raw, a, (uint32_t)image, name);
        if (s != STATUS_OK) s = error_prefix(s, "%s", set->truth_path);
        set->truths[set->truth_count++] = (eval_ref){
            .category = (uint32_t)category, .image = (uint32_t)image, .order = order, .raw = (uint32_t)last};
    }
    free(places);
    return s;
}

static status resolve_detection(eval_set *set, size_t i) {
    const raw_annotation *a = &set->results.annotations[i];
    char name[96];
    snprintf(name, sizeof name, "result %zu at byte %llu", i, (unsigned long long)a->offset);
    static const struct {
        uint32_t bit;
        const char *name;
    } needed[] = {{RAW_HAS_IMAGE, "image_id"}, {RAW_HAS_CATEGORY, "category_id"}, {RAW_HAS_SCORE, "score"}};
    for (size_t k = 0; k < sizeof needed / sizeof *needed; k++)
        if (!(a->have & needed[k].bit))
            return error_set(STATUS_DATA, fix_results, "%s has no %s", name, needed[k].name);
    int64_t image = find_image(set, a->image_id), category = find_category(set, a->category_id);
    if (image < 0)
        return error_set(STATUS_DATA, "score results against the annotations of the same images",
                         "%s is of image_id %lld, which %s does not have", name, (long long)a->image_id,
                         set->truth_path);
    if (category < 0)
        return error_set(STATUS_DATA, "write the category ids of the annotation file, not indices of classes",
                         "%s is of category_id %lld, which %s does not have", name, (long long)a->category_id,
                         set->truth_path);
    RETURN_IF_ERROR(check_shape(set, &set->results, a, (uint32_t)image, name));
    set->detections[set->detection_count++] = (eval_ref){.category = (uint32_t)category,
                                                         .image = (uint32_t)image,
                                                         .order = i,
                                                         .raw = (uint32_t)i,
                                                         .score = a->score};
    return STATUS_OK;
}

static status resolve_detections(eval_set *set) {
    const coco_finding *wrong = &set->results.findings[COCO_WRONG_TYPE];
    if (wrong->count)
        return error_set(STATUS_DATA, fix_results, "%s: a value of the wrong type: %s", set->results_path,
                         wrong->examples[0]);
    set->detections = malloc((set->results.annotation_count + 1) * sizeof *set->detections);
    if (!set->detections) return no_memory(set->results_path);
    for (size_t i = 0; i < set->results.annotation_count; i++) {
        status s = resolve_detection(set, i);
        if (s != STATUS_OK) return error_prefix(s, "%s", set->results_path);
    }
    return STATUS_OK;
}

/* By category, image, falling score, order. Ground truth has score 0 throughout. */
static int compare_refs(const void *a, const void *b) {
    const eval_ref *x = a, *y = b;
    if (x->category != y->category) return x->category < y->category ? -1 : 1;
    if (x->image != y->image) return x->image < y->image ? -1 : 1;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static uint64_t pair_key(const eval_ref *refs, size_t at, size_t count) {
    return at < count ? (uint64_t)refs[at].category << 32 | refs[at].image : UINT64_MAX;
}

static status build_pairs(eval_set *set) {
    qsort(set->truths, set->truth_count, sizeof *set->truths, compare_refs);
    qsort(set->detections, set->detection_count, sizeof *set->detections, compare_refs);
    set->pairs = malloc((set->truth_count + set->detection_count + 1) * sizeof *set->pairs);
    if (!set->pairs) return no_memory(set->results_path);
    for (size_t t = 0, d = 0; t < set->truth_count || d < set->detection_count;) {
        uint64_t of_truth = pair_key(set->truths, t, set->truth_count),
                 of_detection = pair_key(set->detections, d, set->detection_count),
                 key = of_truth < of_detection ? of_truth : of_detection;
        eval_pair *pair = &set->pairs[set->pair_count++];
        *pair = (eval_pair){.category = (uint32_t)(key >> 32),
                            .image = (uint32_t)key,
                            .first_truth = t,
                            .first_detection = d};
        while (pair_key(set->truths, t, set->truth_count) == key) t++;
        while (pair_key(set->detections, d, set->detection_count) == key) d++;
        size_t detections = d - pair->first_detection;
        pair->truths = (uint32_t)(t - pair->first_truth);
        pair->detections = (uint32_t)(detections < EVAL_MAX_DETECTIONS ? detections : EVAL_MAX_DETECTIONS);
    }
    return STATUS_OK;
}

status eval_set_resolve(eval_set *set) {
    RETURN_IF_ERROR(build_tables(set));
    RETURN_IF_ERROR(resolve_truths(set));
    RETURN_IF_ERROR(resolve_detections(set));
    return build_pairs(set);
}

typedef status (*parse_file)(raw_coco *out, int fd, const char *path);

static status parse(raw_coco *out, const char *path, parse_file parser, const char *option) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        error_set(errno == EACCES ? STATUS_NO_PERMISSION : STATUS_NO_INPUT, NULL, "cannot open %s: %s", path,
                  strerror(errno));
        error_set_remedy("check the path given to %s", option);
        return errno == EACCES ? STATUS_NO_PERMISSION : STATUS_NO_INPUT;
    }
    struct stat info;
    status s = fstat(fd, &info) == 0 && S_ISREG(info.st_mode)
                   ? parser(out, fd, path)
                   : error_set(STATUS_NO_INPUT, "name the JSON file itself", "%s: not a regular file", path);
    close(fd);
    return s;
}

status eval_set_open(eval_set *out, const char *truth_path, const char *results_path, coco_iou_type type) {
    *out = (eval_set){.truth_path = truth_path, .results_path = results_path, .type = type};
    RETURN_IF_ERROR(parse(&out->truth, truth_path, coco_parse_file, "--annotations"));
    RETURN_IF_ERROR(parse(&out->results, results_path, coco_parse_results_file, "--results"));
    return eval_set_resolve(out);
}

void eval_set_release(eval_set *set) {
    raw_coco_release(&set->truth);
    raw_coco_release(&set->results);
    free(set->images);
    free(set->categories);
    free(set->truths);
    free(set->detections);
    free(set->pairs);
    *set = (eval_set){0};
}
