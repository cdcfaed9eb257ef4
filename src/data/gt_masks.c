#include "data/gt_masks.h"

#include <math.h>
#include <string.h>
#include "base/check.h"
#include "base/round_up.h"

size_t gt_mask_polygon_size(const int32_t *part_points, int parts) {
    size_t bytes = sizeof(int32_t);
    for (int i = 0; i < parts; i++) bytes += sizeof(int32_t) + (size_t)part_points[i] * 2 * sizeof(float);
    return bytes;
}

size_t gt_mask_bitmap_size(int width, int height) {
    return round_up(((size_t)width + 7) / 8 * (size_t)height, sizeof(int32_t));
}

static status reserve(gt_mask_record *out, gt_mask_writer *writer, size_t bytes, uint8_t **payload) {
    CHECK(((uintptr_t)writer->blob & 3) == 0 && (writer->used & 3) == 0, "blob of masks is not aligned to 4");
    size_t left = writer->capacity - writer->used;
    if (bytes > left || writer->used + bytes > INT32_MAX)
        return error_set(STATUS_DATA, "simplify the masks of this image or split the image",
                         "the masks of one image need more than %zu bytes (%zu used, %zu more wanted)",
                         writer->capacity, writer->used, bytes);
    *payload = writer->blob + writer->used;
    out->offset = (int32_t)writer->used;
    out->size = (int32_t)bytes;
    writer->used += bytes;
    return STATUS_OK;
}

status gt_mask_pack_polygon(gt_mask_record *out, gt_mask_writer *writer, const float *xy,
                            const int32_t *part_points, int parts) {
    uint8_t *payload = NULL;
    *out = (gt_mask_record){.kind = GT_MASK_POLYGON};
    RETURN_IF_ERROR(reserve(out, writer, gt_mask_polygon_size(part_points, parts), &payload));
    int32_t count = parts;
    memcpy(payload, &count, sizeof count);
    payload += sizeof count;
    for (int i = 0; i < parts; i++) {
        size_t bytes = (size_t)part_points[i] * 2 * sizeof(float);
        memcpy(payload, &part_points[i], sizeof count);
        memcpy(payload + sizeof count, xy, bytes);
        payload += sizeof count + bytes;
        xy += (size_t)part_points[i] * 2;
    }
    return STATUS_OK;
}

status gt_mask_pack_bitmap(gt_mask_record *out, gt_mask_writer *writer, int x0, int y0, int width, int height,
                           uint8_t **rows) {
    CHECK(width >= 0 && height >= 0, "crop of %d x %d", width, height);
    *out = (gt_mask_record){.kind = GT_MASK_BITMAP, .x0 = x0, .y0 = y0, .width = width, .height = height};
    RETURN_IF_ERROR(reserve(out, writer, gt_mask_bitmap_size(width, height), rows));
    memset(*rows, 0, (size_t)out->size);
    return STATUS_OK;
}

gt_mask_view gt_mask_view_of(const gt_mask_record *record, const uint8_t *blob) {
    const uint8_t *payload = blob + record->offset;
    gt_mask_view view = {.kind = record->kind, .data = payload};
    if (record->kind == GT_MASK_POLYGON) {
        view.parts = *(const int32_t *)(const void *)payload;
        view.data = payload + sizeof(int32_t);
    } else {
        view.x0 = record->x0;
        view.y0 = record->y0;
        view.width = record->width;
        view.height = record->height;
        view.row_bytes = ((size_t)record->width + 7) / 8;
    }
    return view;
}

static const char check_packer[] =
    "the packed masks are damaged: delete the dataset's index file and start again";

static status check_parts(const gt_mask_record *record, const uint8_t *payload) {
    size_t size = (size_t)record->size, at = sizeof(int32_t);
    int32_t parts;
    if (size < at) return error_set(STATUS_DATA, check_packer, "polygon mask of %zu bytes", size);
    memcpy(&parts, payload, sizeof parts);
    if (parts < 0) return error_set(STATUS_DATA, check_packer, "polygon mask with %d parts", parts);
    for (int32_t i = 0; i < parts; i++) {
        int32_t points;
        if (size - at < sizeof points)
            return error_set(STATUS_DATA, check_packer, "polygon mask ends before part %d of %d", i, parts);
        memcpy(&points, payload + at, sizeof points);
        at += sizeof points;
        if (points < 0 || (size_t)points > (size - at) / (2 * sizeof(float)))
            return error_set(STATUS_DATA, check_packer,
                             "part %d of a polygon mask has %d points in %zu bytes", i, points, size - at);
        const float *xy = (const float *)(const void *)(payload + at);
        for (size_t k = 0; k < (size_t)points * 2; k++)
            if (!isfinite(xy[k]))
                return error_set(STATUS_DATA, check_packer, "part %d of a polygon mask is not finite", i);
        at += (size_t)points * 2 * sizeof(float);
    }
    if (at != size) return error_set(STATUS_DATA, check_packer, "%zu bytes behind a polygon mask", size - at);
    return STATUS_OK;
}

status gt_mask_read(gt_mask_view *out, const gt_mask_record *record, const uint8_t *blob, size_t blob_size) {
    CHECK(((uintptr_t)blob & 3) == 0, "blob of masks is not aligned to 4");
    if (record->offset < 0 || record->size < 0 || (record->offset & 3) ||
        (size_t)record->offset + (size_t)record->size > blob_size)
        return error_set(STATUS_DATA, check_packer, "mask at offset %d, size %d, in %zu bytes of masks",
                         record->offset, record->size, blob_size);
    if (record->kind == GT_MASK_POLYGON) {
        RETURN_IF_ERROR(check_parts(record, blob + record->offset));
    } else if (record->kind == GT_MASK_BITMAP) {
        if (record->width < 0 || record->height < 0 ||
            gt_mask_bitmap_size(record->width, record->height) != (size_t)record->size)
            return error_set(STATUS_DATA, check_packer, "bitmap mask of %d x %d in %d bytes", record->width,
                             record->height, record->size);
    } else {
        return error_set(STATUS_DATA, check_packer, "mask of unknown kind %d", record->kind);
    }
    *out = gt_mask_view_of(record, blob);
    return STATUS_OK;
}
