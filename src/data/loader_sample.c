#include "data/loader_sample.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "base/file_util.h"
#include "base/round_up.h"
#include "data/image_read.h"
#include "data/mask_polygon.h"

enum { SAMPLE_ALIGN = 64 };

static const float min_box_side = 1e-5f;

void sample_builder_init(sample_builder *b, const dataset *data, bool masks, bool bitmap_masks) {
    *b = (sample_builder){.data = data, .masks = masks, .bitmap_masks = bitmap_masks};
}

void sample_builder_release(sample_builder *b) {
    free(b->xy);
    free(b->points);
    mask_rle_release(&b->mask);
    *b = (sample_builder){0};
}

static size_t align_up(size_t bytes) {
    return round_up(bytes, SAMPLE_ALIGN);
}

/* 0 for an image that the decoder refuses for its size: whatever its annotations claim, no room is kept for it. */
static size_t pixel_bound(const coco_image *record) {
    int64_t pixels = (int64_t)record->height * record->width;
    return pixels > image_limits_default().max_pixels ? 0 : (size_t)pixels * 3;
}

static size_t mask_bound(const sample_builder *b, const coco_index *index, const coco_annotation *a) {
    if (!b->masks || a->mask_kind == COCO_MASK_NONE) return 0;
    if (a->mask_kind == COCO_MASK_RLE || b->bitmap_masks)
        return gt_mask_bitmap_size(a->mask_box[2], a->mask_box[3]);
    const uint32_t *sizes;
    coco_index_polygon(index, a, &sizes);
    size_t bytes = sizeof(int32_t);
    for (uint32_t i = 0; i < a->count; i++) bytes += sizeof(int32_t) + sizes[i] * sizeof(float);
    return bytes;
}

/* Offsets of a sample of the image, whose arrays are as long as they may get; returns the end. */
static size_t lay_out(sample_header *header, const sample_builder *b, uint32_t image) {
    const coco_index *index = dataset_part_index(b->data, dataset_image_part(b->data, image));
    const coco_image *record = dataset_image(b->data, image);
    size_t objects = 0, blob = 0;
    for (uint32_t k = 0; k < record->annotation_count; k++) {
        const coco_annotation *a = coco_index_annotation(index, record->first_annotation + k);
        if (!coco_index_usable(index, a)) continue;
        objects++;
        blob += mask_bound(b, index, a);
    }
    size_t at = align_up(sizeof *header);
    header->pixels = at;
    at = align_up(at + pixel_bound(record));
    header->boxes = at;
    at = align_up(at + objects * 4 * sizeof(float));
    header->ids = at;
    at = align_up(at + objects * sizeof(int64_t));
    header->labels = at;
    at = align_up(at + objects * sizeof(int32_t));
    header->masks = at;
    at = align_up(at + objects * sizeof(gt_mask_record));
    header->blob = at;
    header->blob_bytes = blob;
    return align_up(at + blob);
}

sample_limits sample_limits_of(const sample_builder *b, uint32_t image) {
    sample_header header;
    size_t bytes = lay_out(&header, b, image);
    const coco_image *record = dataset_image(b->data, image);
    return (sample_limits){.bytes = bytes,
                           .pixel_bytes = pixel_bound(record),
                           .mask_bytes = header.blob_bytes,
                           .objects = (int32_t)dataset_usable_annotations(b->data, image)};
}

/* Undoes the turn of an EXIF orientation that exchanges the sides: upright [stored_width, stored_height]
 * becomes [stored_height, stored_width] again. */
static status turn_back(uint8_t *pixels, const image_header *file) {
    size_t h = (size_t)file->stored_height, w = (size_t)file->stored_width;
    uint8_t *upright = malloc(h * w * 3);
    if (!upright) return error_set(STATUS_OS, "free memory", "no memory to turn an image of %zu x %zu", w, h);
    memcpy(upright, pixels, h * w * 3);
    /* 5: transposed, 6: to be turned clockwise, 7: transverse, 8: to be turned counter-clockwise */
    bool mirror_rows = file->orientation == 6 || file->orientation == 7,
         mirror_columns = file->orientation == 7 || file->orientation == 8;
    for (size_t r = 0; r < h; r++)
        for (size_t c = 0; c < w; c++) {
            size_t x = mirror_rows ? h - 1 - r : r, y = mirror_columns ? w - 1 - c : c;
            memcpy(pixels + (r * w + c) * 3, upright + (y * h + x) * 3, 3);
        }
    free(upright);
    return STATUS_OK;
}

static status decode(uint8_t *pixels, const coco_image *record, const uint8_t *bytes, size_t size) {
    image_header file;
    RETURN_IF_ERROR(image_decode_header(&file, bytes, size, NULL));
    bool upright = file.height == record->height && file.width == record->width;
    bool stored = file.stored_height == record->height && file.stored_width == record->width;
    if (!upright && !stored)
        return error_set(STATUS_DATA, "correct width and height in the annotation file",
                         "the image is %d x %d, but its annotations say %d x %d", file.width, file.height,
                         record->width, record->height);
    int height, width;
    RETURN_IF_ERROR(image_decode_into(pixels, pixel_bound(record), &height, &width, bytes, size, NULL));
    if (height != file.height || width != file.width)
        return error_set(STATUS_DATA, "write the image again",
                         "its header promises %d x %d, its pixels are %d x %d", file.width, file.height,
                         width, height);
    return upright ? STATUS_OK : turn_back(pixels, &file);
}

/* Box in the resized, flipped and clipped image; false when nothing is left of it. In double until the end,
 * as detectron2 (transform_instance_annotations) does it. */
static bool place_box(float out[4], const double box[4], const coco_image *record, const sampler_view *view) {
    double scale_x = (double)view->resized_width / record->width,
           scale_y = (double)view->resized_height / record->height;
    double x1 = box[0] * scale_x, x2 = (box[0] + box[2]) * scale_x, y1 = box[1] * scale_y,
           y2 = (box[1] + box[3]) * scale_y;
    if (view->flip) {
        double right = view->resized_width - x1;
        x1 = view->resized_width - x2;
        x2 = right;
    }
    out[0] = (float)fmin(fmax(x1, 0), view->resized_width);
    out[1] = (float)fmin(fmax(y1, 0), view->resized_height);
    out[2] = (float)fmin(fmax(x2, 0), view->resized_width);
    out[3] = (float)fmin(fmax(y2, 0), view->resized_height);
    return out[2] - out[0] > min_box_side && out[3] - out[1] > min_box_side;
}

static status grow(void *array, size_t *room, size_t need, size_t element) {
    if (need <= *room) return STATUS_OK;
    void *old, *grown;
    memcpy(&old, array, sizeof old);
    grown = realloc(old, need * element);
    if (!grown) return error_set(STATUS_OS, "free memory", "no memory for a mask of %zu numbers", need);
    memcpy(array, &grown, sizeof grown);
    *room = need;
    return STATUS_OK;
}

static status pack_bitmap(gt_mask_record *out, gt_mask_writer *writer, const mask_rle *mask,
                          const int32_t box[4]) {
    uint8_t *rows;
    RETURN_IF_ERROR(gt_mask_pack_bitmap(out, writer, box[0], box[1], box[2], box[3], &rows));
    if (box[2] > 0 && box[3] > 0) mask_rle_decode_crop(rows, mask, box[0], box[1], box[2], box[3]);
    return STATUS_OK;
}

static status pack_polygon(gt_mask_record *out, bool *empty, gt_mask_writer *writer, sample_builder *b,
                           const coco_index *index, const coco_annotation *a, const coco_image *record) {
    const uint32_t *sizes;
    const double *xy = coco_index_polygon(index, a, &sizes);
    size_t numbers = 0;
    RETURN_IF_ERROR(grow(&b->points, &b->points_room, a->count, sizeof *b->points));
    for (uint32_t i = 0; i < a->count; i++) {
        b->points[i] = (int32_t)(sizes[i] / 2);
        numbers += sizes[i];
    }
    if (b->bitmap_masks) {
        RETURN_IF_ERROR(
            mask_rle_from_polygons(&b->mask, xy, b->points, (int)a->count, record->height, record->width));
        mask_box box = mask_rle_bounding_box(&b->mask);
        *empty = box.width == 0 || box.height == 0;
        if (*empty) return STATUS_OK;
        return pack_bitmap(out, writer, &b->mask, a->mask_box);
    }
    RETURN_IF_ERROR(grow(&b->xy, &b->xy_room, numbers, sizeof *b->xy));
    for (size_t i = 0; i < numbers; i++) b->xy[i] = (float)xy[i];
    return gt_mask_pack_polygon(out, writer, b->xy, b->points, (int)a->count);
}

static status pack_mask(gt_mask_record *out, bool *empty, gt_mask_writer *writer, sample_builder *b,
                        const coco_index *index, const coco_annotation *a, const coco_image *record) {
    *empty = false;
    *out = (gt_mask_record){.kind = GT_MASK_BITMAP};
    if (!b->masks || a->mask_kind == COCO_MASK_NONE) return STATUS_OK;
    if (a->mask_kind == COCO_MASK_POLYGONS) return pack_polygon(out, empty, writer, b, index, a, record);
    mask_rle mask = {.height = record->height,
                     .width = record->width,
                     .counts = (uint32_t *)(uintptr_t)coco_index_runs(index, a),
                     .count = a->count};
    return pack_bitmap(out, writer, &mask, a->mask_box);
}

static status pack_objects(uint8_t *slot, sample_header *header, sample_builder *b,
                           const sample_request *request) {
    const coco_index *index = dataset_part_index(b->data, dataset_image_part(b->data, request->image));
    const coco_image *record = dataset_image(b->data, request->image);
    float *boxes = (float *)(void *)(slot + header->boxes);
    int64_t *ids = (int64_t *)(void *)(slot + header->ids);
    int32_t *labels = (int32_t *)(void *)(slot + header->labels);
    gt_mask_record *masks = (gt_mask_record *)(void *)(slot + header->masks);
    gt_mask_writer writer = {.blob = slot + header->blob, .capacity = header->blob_bytes};
    int32_t n = 0;
    for (uint32_t k = 0; k < record->annotation_count; k++) {
        const coco_annotation *a = coco_index_annotation(index, record->first_annotation + k);
        bool empty;
        if (!coco_index_usable(index, a) || !place_box(boxes + 4 * n, a->box, record, &header->view))
            continue;
        RETURN_IF_ERROR(pack_mask(&masks[n], &empty, &writer, b, index, a, record));
        if (empty) continue;
        ids[n] = a->id;
        labels[n++] = (int32_t)a->category;
    }
    header->objects = n;
    header->blob_bytes = writer.used;
    return STATUS_OK;
}

static status build(uint8_t *slot, size_t slot_bytes, sample_header *header, sample_builder *b,
                    const sample_request *request) {
    char path[PATH_MAX];
    const coco_image *record = dataset_image(b->data, request->image);
    if (lay_out(header, b, request->image) > slot_bytes)
        return error_set(STATUS_INTERNAL, NULL, "%s needs more than a slot",
                         dataset_file_name(b->data, request->image));
    if (!dataset_image_path(b->data, request->image, path, sizeof path))
        return error_set(STATUS_NO_INPUT, "give file_name below the image folder",
                         "\"%s\" leads out of the image folder or is too long",
                         dataset_file_name(b->data, request->image));
    char *bytes;
    size_t size;
    double start = clock_seconds();
    RETURN_IF_ERROR(read_file(&bytes, &size, path, image_limits_default().max_file_bytes));
    double have_file = clock_seconds();
    status s = decode(slot + header->pixels, record, (const uint8_t *)bytes, size);
    double have_pixels = clock_seconds();
    free(bytes);
    if (s != STATUS_OK) return error_prefix(s, "%s", path);
    header->height = record->height;
    header->width = record->width;
    header->view = request->view;
    s = pack_objects(slot, header, b, request);
    header->seconds = (sample_seconds){.read = (float)(have_file - start),
                                       .decode = (float)(have_pixels - have_file),
                                       .annotations = (float)(clock_seconds() - have_pixels)};
    return s;
}

void sample_build(uint8_t *slot, size_t slot_bytes, sample_builder *b, const sample_request *request) {
    CHECK(slot_bytes >= sizeof(sample_header), "slot of %zu bytes", slot_bytes);
    sample_header header;
    memset(&header, 0, sizeof header);
    header.outcome = build(slot, slot_bytes, &header, b, request);
    if (header.outcome != STATUS_OK) snprintf(header.cause, sizeof header.cause, "%s", error_cause());
    memcpy(slot, &header, sizeof header);
}
