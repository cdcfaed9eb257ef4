#include "train/trace.h"

#include "base/thread_pool.h"
#include "data/gt_masks.h"
#include "data/safetensors.h"
#include "setup/model_config.h"
#include "setup/setup.h"
#include "setup/step_batch.h"
#include "setup/step_memory.h"
#include "setup/train_data.h"
#include "weights/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 1 << 15 }; /* of a canvas */

/* The tensors of a batch file, checked. */
typedef struct batch_file {
    safetensors *file;
    const safetensors_tensor *images, *sizes, *boxes, *labels, *owners, *masks;
    int64_t n, h, w, objects;
} batch_file;

static status find_tensor(const safetensors_tensor **out, const batch_file *b, const char *name,
                          safetensors_dtype type, int rank) {
    *out = safetensors_find(b->file, name);
    if (!*out)
        return error_set(STATUS_DATA, "add the tensor to the batch", "%s: tensor %s is missing",
                         safetensors_path(b->file), name);
    if ((*out)->dtype == type && (*out)->rank == rank) return STATUS_OK;
    return error_set(STATUS_DATA, "see `maskrcnn trace --help` for the tensors of a batch",
                     "%s: tensor %s is %s with %d dimensions, expected %s with %d", safetensors_path(b->file),
                     name, safetensors_dtype_name((*out)->dtype), (*out)->rank, safetensors_dtype_name(type),
                     rank);
}

static status expect_size(const batch_file *b, const safetensors_tensor *t, int axis, int64_t size,
                          const char *other) {
    if (t->shape[axis] == size) return STATUS_OK;
    return error_set(STATUS_DATA, "see `maskrcnn trace --help` for the tensors of a batch",
                     "%s: tensor %s has size %lld in dimension %d, but tensor %s asks for %lld",
                     safetensors_path(b->file), t->name, (long long)t->shape[axis], axis, other,
                     (long long)size);
}

static status batch_file_open(batch_file *b, const char *path) {
    *b = (batch_file){0};
    RETURN_IF_ERROR(safetensors_open(&b->file, path));
    RETURN_IF_ERROR(find_tensor(&b->images, b, "images", SAFETENSORS_F32, 4));
    RETURN_IF_ERROR(find_tensor(&b->sizes, b, "image_sizes", SAFETENSORS_I32, 2));
    RETURN_IF_ERROR(find_tensor(&b->boxes, b, "boxes", SAFETENSORS_F32, 2));
    RETURN_IF_ERROR(find_tensor(&b->labels, b, "labels", SAFETENSORS_I32, 1));
    RETURN_IF_ERROR(find_tensor(&b->owners, b, "box_image", SAFETENSORS_I32, 1));
    RETURN_IF_ERROR(find_tensor(&b->masks, b, "masks", SAFETENSORS_U8, 3));
    b->n = b->images->shape[0];
    b->h = b->images->shape[1];
    b->w = b->images->shape[2];
    b->objects = b->boxes->shape[0];
    RETURN_IF_ERROR(expect_size(b, b->images, 3, 3, "images"));
    RETURN_IF_ERROR(expect_size(b, b->sizes, 0, b->n, "images"));
    RETURN_IF_ERROR(expect_size(b, b->sizes, 1, 2, "image_sizes"));
    RETURN_IF_ERROR(expect_size(b, b->boxes, 1, 4, "boxes"));
    RETURN_IF_ERROR(expect_size(b, b->labels, 0, b->objects, "boxes"));
    RETURN_IF_ERROR(expect_size(b, b->owners, 0, b->objects, "boxes"));
    RETURN_IF_ERROR(expect_size(b, b->masks, 0, b->objects, "boxes"));
    RETURN_IF_ERROR(expect_size(b, b->masks, 1, b->h, "images"));
    RETURN_IF_ERROR(expect_size(b, b->masks, 2, b->w, "images"));
    if (b->n < 1)
        return error_set(STATUS_DATA, "put at least one image into the batch",
                         "%s: tensor images holds 0 images", path);
    if (b->h < 1 || b->w < 1 || b->h % CANVAS_DIVISOR || b->w % CANVAS_DIVISOR)
        return error_set(STATUS_DATA, "pad the images at the right and at the bottom",
                         "%s: tensor images has a canvas of %lld x %lld, which is no multiple of %d", path,
                         (long long)b->h, (long long)b->w, CANVAS_DIVISOR);
    if (b->n > 4096 || b->h > MAX_SIDE || b->w > MAX_SIDE || b->objects > 1 << 20)
        return error_set(STATUS_DATA, "trace a smaller batch",
                         "%s: tensor images or boxes is too large for one step", path);
    return STATUS_OK;
}

static float float_at(const safetensors_tensor *t, int64_t i) {
    float value;
    memcpy(&value, (const char *)t->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

static int32_t int_at(const safetensors_tensor *t, int64_t i) {
    int32_t value;
    memcpy(&value, (const char *)t->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

/* Index of the first value that is not finite; -1 when all are. */
static int64_t find_non_finite(const safetensors_tensor *t) {
    for (int64_t i = 0; i < t->elements; i++) {
        float value;
        memcpy(&value, (const char *)t->data + (size_t)i * sizeof value, sizeof value);
        if (!isfinite(value)) return i;
    }
    return -1;
}

/* Values a kernel would trust, and numbers that would make every result NaN. */
static status check_values(const batch_file *b, int classes) {
    int64_t pixel = find_non_finite(b->images), side = find_non_finite(b->boxes);
    if (pixel >= 0)
        return error_set(STATUS_DATA, "give finite pixels",
                         "%s: tensor images, image %lld: a value is not finite", safetensors_path(b->file),
                         (long long)(pixel / (b->h * b->w * 3)));
    if (side >= 0)
        return error_set(STATUS_DATA, "give x1, y1, x2, y2 in pixels",
                         "%s: tensor boxes, object %lld: a coordinate is not finite",
                         safetensors_path(b->file), (long long)(side / 4));
    for (int64_t i = 0; i < b->n; i++)
        if (int_at(b->sizes, 2 * i) < 1 || int_at(b->sizes, 2 * i) > b->h ||
            int_at(b->sizes, 2 * i + 1) < 1 || int_at(b->sizes, 2 * i + 1) > b->w)
            return error_set(STATUS_DATA, "give (height, width) within the canvas",
                             "%s: tensor image_sizes, image %lld: outside the canvas",
                             safetensors_path(b->file), (long long)i);
    for (int64_t i = 0; i < 4 * b->objects; i++)
        if (!isfinite(float_at(b->boxes, i)))
            return error_set(STATUS_DATA, "give x1 y1 x2 y2 in pixels",
                             "%s: tensor boxes, object %lld: not finite", safetensors_path(b->file),
                             (long long)i / 4);
    for (int64_t i = 0; i < b->objects; i++) {
        if (int_at(b->owners, i) < 0 || int_at(b->owners, i) >= b->n)
            return error_set(STATUS_DATA, "number images from 0",
                             "%s: tensor box_image, object %lld: no image %d in the batch",
                             safetensors_path(b->file), (long long)i, int_at(b->owners, i));
        if (int_at(b->labels, i) < 0 || int_at(b->labels, i) >= classes)
            return error_set(
                STATUS_DATA, "labels go from 0 to MODEL.ROI_HEADS.NUM_CLASSES - 1",
                "%s: tensor labels, object %lld: label %d, but MODEL.ROI_HEADS.NUM_CLASSES is %d",
                safetensors_path(b->file), (long long)i, int_at(b->labels, i), classes);
    }
    return STATUS_OK;
}

/* Of one image; at least 1. */
static status most_objects(int *most, const batch_file *b) {
    int *counts = calloc((size_t)b->n, sizeof *counts);
    if (!counts)
        return error_set(STATUS_OS, "free some memory", "out of memory for %lld images", (long long)b->n);
    *most = 1;
    for (int64_t i = 0; i < b->objects; i++) {
        int count = ++counts[int_at(b->owners, i)];
        *most = count > *most ? count : *most;
    }
    free(counts);
    return STATUS_OK;
}

static status pack_mask(int32_t *record, gt_mask_writer *writer, const batch_file *b, int64_t object,
                        const image_info *info) {
    uint8_t *rows;
    gt_mask_record packed;
    int h = info->height, w = info->width;
    RETURN_IF_ERROR(gt_mask_pack_bitmap(&packed, writer, 0, 0, w, h, &rows));
    const uint8_t *mask = (const uint8_t *)b->masks->data + object * b->h * b->w;
    size_t row_bytes = ((size_t)w + 7) / 8;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            if (mask[y * b->w + x]) rows[(size_t)y * row_bytes + (size_t)(x / 8)] |= (uint8_t)(1 << (x % 8));
    memcpy(record, &packed, sizeof packed);
    return STATUS_OK;
}

/* Masks become bitmaps of the image's size, whatever INPUT.MASK_FORMAT says. */
static status fill_from_file(step_memory *memory, const batch_file *b, dtype storage) {
    step_inputs *in = step_memory_next(memory);
    int capacity = memory->largest.gt_capacity;
    tensor images = tensor_make("images", storage, 1, &b->images->elements, in->images);
    if (storage == DTYPE_F32)
        memcpy(in->images, b->images->data, b->images->bytes);
    else
        for (int64_t i = 0; i < b->images->elements; i++)
            tensor_set(&images, i, (double)float_at(b->images, i));
    for (int64_t i = 0; i < b->n; i++) {
        int32_t height = int_at(b->sizes, 2 * i), width = int_at(b->sizes, 2 * i + 1);
        in->info[i] = (image_info){.original_height = height,
                                   .original_width = width,
                                   .height = height,
                                   .width = width,
                                   .id_low = (int32_t)i};
    }
    gt_mask_writer writer = {.blob = in->mask_blob, .capacity = (size_t)memory->largest.mask_bytes};
    for (int64_t i = 0; i < b->objects; i++) {
        int32_t image = int_at(b->owners, i);
        int64_t slot = (int64_t)image * capacity + in->gt_count[image]++;
        memcpy(in->gt_boxes + 4 * slot, (const char *)b->boxes->data + 16 * i, 16);
        in->gt_labels[slot] = int_at(b->labels, i);
        RETURN_IF_ERROR(
            pack_mask(in->gt_masks + GT_MASK_RECORD_INTS * slot, &writer, b, i, in->info + image));
    }
    step_memory_bring(memory, &(step_used){.mask_bytes = writer.used, .image_bytes = tensor_bytes(&images)});
    return STATUS_OK;
}

/* The first images of DATASETS.TRAIN as they stand in the file. */
static status fill_from_dataset(step_memory *memory, step_shape *shape, const config *cfg, device *dev) {
    train_data data;
    loader_batch batch = {0};
    int images = (int)cfg->SOLVER_IMS_PER_BATCH;
    status s = train_data_open_in_order(&data, cfg, images);
    if (s == STATUS_OK) s = loader_next(data.load, &batch);
    if (s == STATUS_OK) s = step_batch_largest(shape, data.load, images);
    if (s == STATUS_OK) {
        step_batch_canvas(&shape->height, &shape->width, &batch);
        s = step_memory_init(memory, dev, shape);
    }
    if (s == STATUS_OK) {
        step_inputs *host;
        step_used used = step_batch_fill(&host, memory, &batch, data.set);
        step_memory_bring(memory, &used);
    }
    train_data_close(&data);
    return s;
}

/* Reads a tensor back as float32. */
static status read_tensor(float *out, device *dev, const tensor *t) {
    int64_t count = tensor_count(t);
    tensor host = *t;
    host.data = malloc(tensor_bytes(t) + 1);
    if (!host.data) return error_set(STATUS_OS, "free some memory", "out of memory for tensor %s", t->name);
    device_copy(dev, NULL, host.data, t->data, tensor_bytes(t));
    device_synchronize(dev, NULL);
    for (int64_t i = 0; i < count; i++) out[i] = (float)tensor_get(&host, i);
    free(host.data);
    return STATUS_OK;
}

static status write_tensor(safetensors_writer *w, device *dev, const tensor *t) {
    size_t bytes = (size_t)tensor_count(t) * sizeof(float);
    float *values = malloc(bytes + 1);
    if (!values) return error_set(STATUS_OS, "free some memory", "out of memory for tensor %s", t->name);
    status s = read_tensor(values, dev, t);
    if (s == STATUS_OK) s = safetensors_writer_append(w, values, bytes);
    free(values);
    return s;
}

static status write_gradient(safetensors_writer *w, const param_store *store, const param *p) {
    float *file = malloc(2 * (size_t)p->size * sizeof *file);
    if (!file)
        return error_set(STATUS_OS, "free some memory", "out of memory for the gradient of %s", p->name);
    param_to_file_order(p, file, param_store_read(store, PARAM_GRADIENTS, p, file + p->size));
    status s = safetensors_writer_append(w, file, (size_t)p->size * sizeof *file);
    free(file);
    return s;
}

static void declare_outputs(safetensors_writer *w, const train_graph *step, const param_store *store) {
    char name[2 * PARAM_NAME_SIZE];
    int64_t shape[PARAM_MAX_RANK];
    for (int i = 0; i < LOSS_COUNT; i++) {
        snprintf(name, sizeof name, "loss/%s", loss_trace_names[i]);
        if (step->losses[i]) safetensors_writer_declare(w, name, SAFETENSORS_F32, 0, NULL);
    }
    bool is_c4 = !step->levels[1];
    for (int l = 0; l < FPN_LEVELS && step->levels[l]; l++) {
        snprintf(name, sizeof name, is_c4 ? "feature/res%d" : "feature/p%d", is_c4 ? 4 : l + 2);
        safetensors_writer_declare(w, name, SAFETENSORS_F32, 4, step->levels[l]->shape);
    }
    for (int i = 0; i < store->count; i++) {
        const param *p = &store->params[i];
        if (!p->trainable) continue;
        snprintf(name, sizeof name, "grad/%s", p->name);
        int rank = param_file_shape(p, shape);
        safetensors_writer_declare(w, name, SAFETENSORS_F32, rank, shape);
    }
}

static status write_outputs(const char *path, const train_graph *step, const param_store *store) {
    safetensors_writer *w;
    RETURN_IF_ERROR(safetensors_writer_new(&w, path));
    declare_outputs(w, step, store);
    status s = safetensors_writer_begin(w);
    for (int i = 0; i < LOSS_COUNT && s == STATUS_OK; i++)
        if (step->losses[i]) s = write_tensor(w, store->dev, step->losses[i]);
    for (int l = 0; l < FPN_LEVELS && step->levels[l] && s == STATUS_OK; l++)
        s = write_tensor(w, store->dev, step->levels[l]);
    for (int i = 0; i < store->count && s == STATUS_OK; i++)
        if (store->params[i].trainable) s = write_gradient(w, store, &store->params[i]);
    return safetensors_writer_finish(w, s);
}

static status run_graph(train_graph *step, step_memory *memory, mask_rcnn *model, const char *out_path,
                        bool shapes) {
    RETURN_IF_ERROR(step_memory_reserve(memory, step->bytes));
    tape_attach(step->t, memory->arena, memory->arena_bytes);
    if (shapes) tape_print_shapes(step->t, stdout);
    tape_forward(step->t);
    tape_backward(step->t, NULL, NULL);
    for (int i = 0; i < LOSS_COUNT; i++) {
        float loss;
        if (!step->losses[i]) continue;
        RETURN_IF_ERROR(read_tensor(&loss, memory->dev, step->losses[i]));
        printf("%-16s %.9g\n", loss_trace_names[i], (double)loss);
    }
    return write_outputs(out_path, step, &model->params);
}

static status trace_model(const config *cfg, mask_rcnn *model, step_memory *memory, device *dev,
                          const char *batch_path, const char *out_path, bool shapes) {
    weights_use use = batch_path ? WEIGHTS_EXACT_OWN_INPUT : WEIGHTS_EXACT;
    RETURN_IF_ERROR(setup_model(model, cfg, dev, true, cfg->MODEL_WEIGHTS, NULL, use));
    step_shape shape;
    batch_file batch = {0};
    status s = STATUS_OK;
    if (batch_path) {
        s = batch_file_open(&batch, batch_path);
        if (s == STATUS_OK) s = check_values(&batch, model->spec.roi.classes);
        shape = (step_shape){.images = (int)batch.n, .height = batch.h, .width = batch.w};
        if (s == STATUS_OK) s = most_objects(&shape.gt_capacity, &batch);
        if (s == STATUS_OK) {
            shape.mask_bytes = (int64_t)gt_mask_bitmap_size((int)batch.w, (int)batch.h) * batch.objects + 4;
            s = step_memory_init(memory, dev, &shape);
        }
        if (s == STATUS_OK) s = fill_from_file(memory, &batch, model->params.precision.storage);
        safetensors_close(batch.file);
    } else {
        s = fill_from_dataset(memory, &shape, cfg, dev);
    }
    RETURN_IF_ERROR(s);
    RETURN_IF_ERROR(train_graph_check(&model->spec, &shape));
    train_graph *step = train_graph_new(model, dev, NULL, &shape, &memory->inputs, shape.images, true);
    s = run_graph(step, memory, model, out_path, shapes);
    train_graph_free(step);
    return s;
}

status trace_run(const config *cfg, const char *batch_path, const char *out_path, bool shapes) {
    device *dev;
    RETURN_IF_ERROR(setup_device(&dev, cfg, 0));
    thread_pool_start(setup_thread_count(cfg, 1));
    mask_rcnn *model = calloc(1, sizeof *model);
    step_memory memory = {0};
    status s = model ? trace_model(cfg, model, &memory, dev, batch_path, out_path, shapes)
                     : error_set(STATUS_OS, "free some memory", "out of memory for the model");
    step_memory_release(&memory);
    if (model) mask_rcnn_release(model);
    free(model);
    thread_pool_stop();
    device_close(dev);
    return s;
}
