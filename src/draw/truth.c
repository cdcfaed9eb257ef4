#include "draw/truth.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/mask_polygon.h"

static status no_memory(void) {
    return error_set(STATUS_OS, "free some memory", "out of memory for an image's annotations");
}

static status reserve(truth_list *list, int count) {
    if (count <= list->capacity) return STATUS_OK;
    picture_instance *items = realloc(list->items, (size_t)count * sizeof *items);
    if (!items) return no_memory();
    list->items = items;
    mask_rle *masks = realloc(list->masks, (size_t)count * sizeof *masks);
    if (!masks) return no_memory();
    memset(masks + list->capacity, 0, (size_t)(count - list->capacity) * sizeof *masks);
    list->masks = masks;
    list->capacity = count;
    return STATUS_OK;
}

static status mask_of_polygons(mask_rle *out, const coco_index *index, const coco_annotation *a, int height,
                               int width) {
    const uint32_t *sizes;
    const double *xy = coco_index_polygon(index, a, &sizes);
    int32_t *points = malloc(((size_t)a->count + 1) * sizeof *points);
    if (!points) return no_memory();
    for (uint32_t i = 0; i < a->count; i++) points[i] = (int32_t)(sizes[i] / 2);
    status s = mask_rle_from_polygons(out, xy, points, (int)a->count, height, width);
    free(points);
    return s;
}

static status mask_of_runs(mask_rle *out, const coco_index *index, const coco_annotation *a, int height,
                           int width) {
    RETURN_IF_ERROR(mask_rle_reserve(out, a->count));
    memcpy(out->counts, coco_index_runs(index, a), a->count * sizeof *out->counts);
    out->count = a->count;
    out->height = height;
    out->width = width;
    return STATUS_OK;
}

static status add_annotation(truth_list *out, const dataset *data, const coco_index *index,
                             const coco_annotation *a, bool masks) {
    picture_instance *item = &out->items[out->count];
    double sides[4] = {a->box[0], a->box[1], a->box[0] + a->box[2], a->box[1] + a->box[3]};
    *item = (picture_instance){.name = dataset_category_name(data, a->category),
                               .score = -1,
                               .label = (int32_t)a->category,
                               .crowd = a->crowd && !coco_index_uses_crowd(index)};
    for (int i = 0; i < 4; i++)
        item->box[i] = (float)fmax(0, fmin(sides[i], i % 2 ? out->height : out->width));
    if (masks && a->mask_kind != COCO_MASK_NONE && a->count > 0) {
        mask_rle *mask = &out->masks[out->count];
        RETURN_IF_ERROR((a->mask_kind == COCO_MASK_RLE ? mask_of_runs : mask_of_polygons)(
            mask, index, a, out->height, out->width));
        item->mask = mask;
    }
    out->count++;
    return STATUS_OK;
}

status truth_of_image(truth_list *out, const dataset *data, uint32_t image, bool masks) {
    const coco_index *index = dataset_part_index(data, dataset_image_part(data, image));
    const coco_image *entry = dataset_image(data, image);
    out->count = 0;
    out->height = entry->height;
    out->width = entry->width;
    RETURN_IF_ERROR(reserve(out, (int)entry->annotation_count));
    for (uint32_t i = 0; i < entry->annotation_count; i++) {
        const coco_annotation *a = coco_index_annotation(index, entry->first_annotation + i);
        if (!a->dropped) RETURN_IF_ERROR(add_annotation(out, data, index, a, masks));
    }
    return STATUS_OK;
}

void truth_release(truth_list *list) {
    for (int i = 0; i < list->capacity; i++) mask_rle_release(&list->masks[i]);
    free(list->masks);
    free(list->items);
    *list = (truth_list){0};
}
