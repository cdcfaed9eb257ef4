#include "infer/mask_paster.h"

#include "base/check.h"
#include "image_info.h"
#include "mask_paste/mask_paste.h"

#include <string.h>

void mask_paster_init(mask_paster *paster, device *dev, int side, int masks, int rule) {
    *paster = (mask_paster){.dev = dev,
                            .side = side,
                            .batch = masks < MASK_PASTER_BATCH ? masks : MASK_PASTER_BATCH,
                            .rule = rule};
}

void mask_paster_release(mask_paster *paster) {
    if (!paster->dev) return;
    tape_free(paster->t);
    device_free(paster->dev, paster->arena, paster->arena_bytes);
    device_free(paster->dev, paster->rest, sizeof *paster->rest);
    device_free_host(paster->dev, paster->host_runs, paster->host_bytes);
    *paster = (mask_paster){0};
}

static void record(mask_paster *p, int64_t capacity) {
    int64_t m = p->batch, s = p->side;
    tape *t = p->t = tape_new(p->dev, NULL);
    tape_scope(t, "mask_paste");
    p->probs = tape_constant(t, "probs", DTYPE_F32, 3, (int64_t[]){m, s, s}, NULL);
    p->boxes = tape_constant(t, "boxes", DTYPE_F32, 2, (int64_t[]){m, 4}, NULL);
    p->rois = tape_constant(t, "rois", DTYPE_F32, 2, (int64_t[]){m, 5}, NULL);
    p->info = tape_constant(t, "image_info", DTYPE_I32, 2, (int64_t[]){1, IMAGE_INFO_INTS}, NULL);
    p->count = tape_constant(t, "count", DTYPE_I32, 1, (int64_t[]){1}, NULL);
    p->probs->rows = p->boxes->rows = p->rois->rows = p->count;
    mask_paste_params params = {.rule = p->rule, .threshold = 0.5, .capacity = (int)capacity};
    mask_paste_result result = mask_paste(t, (tensor *[]){p->probs, p->boxes, p->rois, p->info}, &params);
    p->runs = result.runs;
    p->run_counts = result.counts;
    tape_keep(t, p->runs);
    tape_keep(t, p->run_counts);
}

status mask_paster_reserve(mask_paster *paster, int width) {
    if (paster->t && width <= paster->width) return STATUS_OK;
    void *memory = NULL;
    if (!paster->rest) {
        RETURN_IF_ERROR(device_alloc(paster->dev, &memory, sizeof *paster->rest, "count of masks"));
        paster->rest = memory;
    }
    tape_free(paster->t);
    device_free(paster->dev, paster->arena, paster->arena_bytes);
    device_free_host(paster->dev, paster->host_runs, paster->host_bytes);
    paster->t = NULL;
    paster->arena = NULL;
    paster->host_runs = NULL;
    paster->arena_bytes = 0;
    paster->width = width;
    paster->capacity = mask_paste_capacity(paster->side, width);
    record(paster, paster->capacity);
    size_t bytes = tape_plan(paster->t);
    paster->host_bytes = (size_t)(paster->batch * (1 + paster->capacity)) * sizeof *paster->host_runs;
    status s = device_alloc_host(paster->dev, &memory, paster->host_bytes, "run lengths of masks");
    if (s == STATUS_OK) {
        paster->host_runs = memory;
        s = device_alloc(paster->dev, &memory, bytes, "run lengths of masks");
    }
    if (s != STATUS_OK) {
        tape_free(paster->t);
        paster->t = NULL;
        return s;
    }
    paster->arena = memory;
    paster->arena_bytes = bytes;
    tape_attach(paster->t, memory, bytes);
    return STATUS_OK;
}

void mask_paster_run(mask_paster *paster, const mask_paster_input *in, int first, int count) {
    int64_t side = paster->side;
    paster->probs->data = in->probs + first * side * side;
    paster->boxes->data = in->boxes + (int64_t)first * 4;
    paster->rois->data = in->rois + (int64_t)first * 5;
    paster->info->data = in->info;
    paster->count->data = in->count;
    if (first > 0) {
        int32_t rest = count - first;
        device_copy(paster->dev, NULL, paster->rest, &rest, sizeof rest);
        paster->count->data = paster->rest;
    }
    tape_forward(paster->t);
    int64_t left = count - first, masks = left < paster->batch ? left : paster->batch;
    device_copy(paster->dev, NULL, paster->host_runs, paster->run_counts->data,
                (size_t)masks * sizeof(int32_t));
    device_copy(paster->dev, NULL, paster->host_runs + paster->batch, paster->runs->data,
                (size_t)(masks * paster->capacity) * sizeof(int32_t));
}

status mask_paster_read(mask_rle *out, const mask_paster *paster, int index, int height, int width) {
    int32_t count = paster->host_runs[index];
    CHECK(count >= 1 && count <= paster->capacity, "mask %d has %d runs, room is for %lld", index, count,
          (long long)paster->capacity);
    RETURN_IF_ERROR(mask_rle_reserve(out, (size_t)count));
    memcpy(out->counts, paster->host_runs + paster->batch + index * paster->capacity,
           (size_t)count * sizeof *out->counts);
    out->count = (size_t)count;
    out->height = height;
    out->width = width;
    return STATUS_OK;
}
