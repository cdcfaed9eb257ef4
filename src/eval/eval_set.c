#include "eval/eval_set.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "data/mask_rle.h"

static const char fix_results[] =
    "write one object per detection: image_id, category_id, score, bbox or segmentation";

static const char fix_box[] = "write bbox as four numbers: x, y, width, height";

static const char fix_truth[] = "correct the annotation file, or leave the annotation out of it";

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

static int64_t find_category(const eval_set *set, const raw_annotation *a) {
    if (set->options->classless) return 0;
    if (!(a->have & RAW_HAS_CATEGORY)) return -1;
    return find_place((const id_place *)(const void *)set->categories, set->category_count, a->category_id);
}

static int compare_ids(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static status leave_out_images(eval_set *set) {
    size_t n = set->options->image_count;
    if (!set->options->image_ids) return STATUS_OK;
    int64_t *ids = malloc((n + 1) * sizeof *ids);
    if (!ids) return no_memory(set->truth_path);
    if (n) memcpy(ids, set->options->image_ids, n * sizeof *ids);
    qsort(ids, n, sizeof *ids, compare_ids);
    for (size_t i = 0; i < set->image_count; i++)
        set->images[i].left_out = !bsearch(&set->images[i].id, ids, n, sizeof *ids, compare_ids);
    free(ids);
    return STATUS_OK;
}

static status build_tables(eval_set *set) {
    const raw_coco *raw = set->truth;
    set->images = calloc(raw->image_count + 1, sizeof *set->images);
    set->categories = calloc(raw->category_count + 1, sizeof *set->categories);
    if (!set->images || !set->categories) return no_memory(set->truth_path);
    size_t images = 0, categories = 0;
    for (size_t i = 0; i < raw->image_count; i++)
        if (raw->images[i].have & RAW_HAS_ID)
            set->images[images++] = (eval_image){.id = raw->images[i].id, .raw = (uint32_t)i};
    for (size_t i = 0; i < raw->category_count; i++)
        if (raw->categories[i].have & RAW_HAS_ID)
            set->categories[categories++] = (eval_category){raw->categories[i].id, (uint32_t)i};
    set->image_count = sort_places((id_place *)(void *)set->images, images);
    set->category_count = sort_places((id_place *)(void *)set->categories, categories);
    return leave_out_images(set);
}

typedef char object_name[96];

/* How messages call an object; a function of its own, so that good objects cost no text. */
static const char *name_object(object_name out, const eval_set *set, const raw_coco *raw,
                               const raw_annotation *a) {
    unsigned long long byte = a->offset;
    if (raw == set->truth)
        snprintf(out, sizeof(object_name), "annotation %lld at byte %llu", (long long)a->id, byte);
    else
        snprintf(out, sizeof(object_name), "result %zu at byte %llu", (size_t)(a - raw->annotations), byte);
    return out;
}

static bool box_is_finite(const raw_annotation *a) {
    return isfinite(a->box[0]) && isfinite(a->box[1]) && isfinite(a->box[2]) && isfinite(a->box[3]);
}

/* A mask that is there must be whole, and fit its image where that has a size. */
static status check_mask(const eval_set *set, const raw_coco *raw, const raw_annotation *a, uint32_t image) {
    object_name name;
    const raw_image *where = &set->truth->images[set->images[image].raw];
    bool sized = (where->have & RAW_HAS_WIDTH) && (where->have & RAW_HAS_HEIGHT);
    if (a->mask_kind == COCO_MASK_RLE) {
        if (a->bad_rle)
            return error_set(STATUS_DATA, "write counts and size [height, width] that belong together",
                             "%s has a damaged RLE mask", name_object(name, set, raw, a));
        if (sized && (a->rle_height != where->height || a->rle_width != where->width))
            return error_set(
                STATUS_DATA, "give masks in the size of their image",
                "%s has a mask of %d x %d pixels (height x width), its image %lld has %lld x %lld",
                name_object(name, set, raw, a), a->rle_height, a->rle_width, (long long)where->id,
                (long long)where->height, (long long)where->width);
        return STATUS_OK;
    }
    if (!sized)
        return error_set(STATUS_DATA, "add height and width to the images of the annotation file",
                         "%s has a polygon, but its image %lld has no size", name_object(name, set, raw, a),
                         (long long)where->id);
    if (mask_check_size(where->height, where->width) != STATUS_OK)
        return error_prefix(STATUS_DATA, "%s", name_object(name, set, raw, a));
    if (a->count > max_parts)
        return error_set(STATUS_DATA, "give this mask as RLE",
                         "%s has a polygon of %u parts, at most %u are taken", name_object(name, set, raw, a),
                         a->count, max_parts);
    uint64_t at = a->data;
    for (uint32_t part = 0; part < a->count; part++)
        for (uint32_t end = raw->parts[a->part + part], k = 0; k < end; k++, at++)
            if (!isfinite(raw->coordinates[at]))
                return error_set(STATUS_DATA, "write polygons as lists of numbers",
                                 "%s has a polygon with something else than finite numbers",
                                 name_object(name, set, raw, a));
    return STATUS_OK;
}

static bool has_mask(const raw_annotation *a) {
    return a->mask_kind != COCO_MASK_NONE && (a->count > 0 || a->bad_rle);
}

/* Whether an object has the shape that is asked for: ground truth the very one, a detection one it can be made of. */
static status check_shape(const eval_set *set, const raw_coco *raw, const raw_annotation *a, uint32_t image) {
    object_name name;
    bool truth = raw == set->truth, box = a->have & RAW_HAS_BOX, mask = has_mask(a);
    bool use_mask = set->type == COCO_IOU_SEGM ? mask || truth : !box && !truth;
    /* No box is a choice, a broken one is a mistake that a mask's box would hide. */
    if (!truth && (a->have & RAW_HAS_ODD_BOX))
        return error_set(STATUS_DATA, fix_box, "%s has a bbox that is not four numbers",
                         name_object(name, set, raw, a));
    if (use_mask && !mask)
        return error_set(STATUS_DATA, truth ? fix_truth : fix_results, "%s has no %s",
                         name_object(name, set, raw, a), truth ? "segmentation" : "bbox and no segmentation");
    if (use_mask) return check_mask(set, raw, a, image);
    if (!box || !box_is_finite(a))
        return error_set(STATUS_DATA, fix_box, "%s has no box of four finite numbers",
                         name_object(name, set, raw, a));
    if (set->type == COCO_IOU_BBOX) return STATUS_OK;
    const raw_image *where =
        &set->truth->images[set->images[image].raw]; /* the box will be drawn as a mask */
    if (mask_check_size(where->height, where->width) != STATUS_OK)
        return error_prefix(STATUS_DATA, "%s", name_object(name, set, raw, a));
    return STATUS_OK;
}

/* Places of an annotation's image and category; false where the file lacks one, or the image is left out. */
static bool place_truth(const eval_set *set, const raw_annotation *a, uint32_t *image, uint32_t *category) {
    int64_t i = a->have & RAW_HAS_IMAGE ? find_image(set, a->image_id) : -1;
    int64_t c = find_category(set, a);
    *image = (uint32_t)i;
    *category = (uint32_t)c;
    return i >= 0 && c >= 0 && !set->images[i].left_out;
}

static status leave_out_truth(eval_set *set) {
    if (set->notes.unusable++ == 0)
        snprintf(set->notes.first_unusable, sizeof set->notes.first_unusable, "%s", error_cause());
    error_clear();
    return STATUS_OK;
}

/* The annotation at `at`, for which the one at `last` stands. */
static status resolve_truth(eval_set *set, size_t at, size_t last) {
    uint32_t image, category;
    const raw_annotation *a = &set->truth->annotations[at];
    if (!place_truth(set, a, &image, &category)) return STATUS_OK;
    uint64_t order = (uint64_t)image << 32 | at;
    a = &set->truth->annotations[last];
    /* detectron2's recall counts it where its id was found. */
    if (!set->options->classless && !place_truth(set, a, &image, &category)) return STATUS_OK;
    status s = check_shape(set, set->truth, a, image);
    if (s == STATUS_DATA && set->options->skip_unusable) return leave_out_truth(set);
    if (s != STATUS_OK) return error_prefix(s, "%s", set->truth_path);
    set->notes.same_ids += last != at;
    set->notes.zero_ids += (a->have & RAW_HAS_ID) && a->id == 0;
    set->truths[set->truth_count++] =
        (eval_ref){.category = category, .image = image, .order = order, .raw = (uint32_t)last};
    return STATUS_OK;
}

/* pycocotools collects ids image by image and then looks the ids up: of annotations with one id the last one in the
 * file comes out each time, with its own image and category. */
static status resolve_truths(eval_set *set) {
    const raw_coco *raw = set->truth;
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
        s = resolve_truth(set, i, a->have & RAW_HAS_ID ? places[find_place(places, ids, a->id)].at : i);
    }
    free(places);
    if (s == STATUS_OK && set->notes.unusable && set->truth_count == 0)
        return error_set(STATUS_DATA, fix_truth, "%s: no annotation can be used: %s", set->truth_path,
                         set->notes.first_unusable);
    return s;
}

/* pycocotools passes results of unknown categories over; so that this is no surprise, they are counted and named. */
static void note_unknown(eval_set *set, int64_t category) {
    char *ids = set->notes.unknown_ids, text[24];
    const size_t room = sizeof set->notes.unknown_ids;
    snprintf(text, sizeof text, "%lld", (long long)category);
    set->notes.unknown++;
    size_t length = strlen(text), used = strlen(ids);
    for (const char *at = ids; (at = strstr(at, text)); at++)
        if ((at == ids || at[-1] == ' ') && (at[length] == ',' || at[length] == '\0')) return;
    if (strstr(ids, "...")) return;
    const char *more = used + length + sizeof ", , ..." < room ? text : "...";
    snprintf(ids + used, room - used, "%s%s", used ? ", " : "", more);
}

static status resolve_detection(eval_set *set, size_t i) {
    const raw_annotation *a = &set->results->annotations[i];
    object_name name;
    static const struct {
        uint32_t bit;
        const char *name;
    } needed[] = {{RAW_HAS_IMAGE, "image_id"}, {RAW_HAS_CATEGORY, "category_id"}, {RAW_HAS_SCORE, "score"}};
    for (size_t k = 0; k < sizeof needed / sizeof *needed; k++)
        if (!(a->have & needed[k].bit) && !(set->options->classless && needed[k].bit == RAW_HAS_CATEGORY))
            return error_set(STATUS_DATA, fix_results, "%s has no %s",
                             name_object(name, set, set->results, a), needed[k].name);
    int64_t image = find_image(set, a->image_id), category = find_category(set, a);
    if (image < 0)
        return error_set(STATUS_DATA, "score results against the annotations of the same images",
                         "%s is of image_id %lld, which %s does not have",
                         name_object(name, set, set->results, a), (long long)a->image_id, set->truth_path);
    if (set->images[image].left_out) return STATUS_OK;
    if (category < 0) {
        note_unknown(set, a->category_id);
        return STATUS_OK;
    }
    RETURN_IF_ERROR(check_shape(set, set->results, a, (uint32_t)image));
    set->detections[set->detection_count++] = (eval_ref){.category = (uint32_t)category,
                                                         .image = (uint32_t)image,
                                                         .order = i,
                                                         .raw = (uint32_t)i,
                                                         .score = a->score};
    return STATUS_OK;
}

static status resolve_detections(eval_set *set) {
    const coco_finding *wrong = &set->results->findings[COCO_WRONG_TYPE];
    if (wrong->count)
        return error_set(STATUS_DATA, fix_results, "%s: a value of the wrong type: %s", set->results_path,
                         wrong->examples[0]);
    set->detections = malloc((set->results->annotation_count + 1) * sizeof *set->detections);
    if (!set->detections) return no_memory(set->results_path);
    for (size_t i = 0; i < set->results->annotation_count; i++) {
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
        uint32_t limit = set->options->max_detections[COCO_LIMITS - 1];
        pair->detections = detections < limit ? (uint32_t)detections : limit;
    }
    return STATUS_OK;
}

status eval_set_resolve(eval_set *set) {
    RETURN_IF_ERROR(build_tables(set));
    RETURN_IF_ERROR(resolve_truths(set));
    RETURN_IF_ERROR(resolve_detections(set));
    return build_pairs(set);
}

status eval_parse_file(raw_coco *out, const char *path, eval_parser parser) {
    *out = (raw_coco){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(errno == EACCES ? STATUS_NO_PERMISSION : STATUS_NO_INPUT, "check the path",
                         "cannot open %s: %s", path, strerror(errno));
    struct stat info;
    status s = fstat(fd, &info) == 0 && S_ISREG(info.st_mode)
                   ? parser(out, fd, path)
                   : error_set(STATUS_NO_INPUT, "name the JSON file itself", "%s: not a regular file", path);
    close(fd);
    return s;
}

void eval_set_release(eval_set *set) {
    free(set->images);
    free(set->categories);
    free(set->truths);
    free(set->detections);
    free(set->pairs);
    *set = (eval_set){0};
}
