#include "train/train_pictures.h"

#include "base/check.h"
#include "base/file_util.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "data/mask_polygon.h"
#include "draw/picture.h"
#include "image_pack/image_pack.h"
#include "model/forward.h"
#include "setup/model_config.h"
#include "setup/setup.h"
#include "setup/step_batch.h"
#include "setup/step_memory.h"
#include "setup/train_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRID_WIDTH = 3600, LEAST_CELL = 200, CAPTION = 512 };

/* A step's inputs without the step. */
typedef struct batch_view {
    train_data data;
    device *dev;
    pixel_spec pixels;
    step_memory memory;
    loader_batch batch;
    int64_t height, width; /* canvas */
    bool masks;
} batch_view;

/* What one image of a batch takes; as large as the largest so far. */
typedef struct image_scratch {
    uint8_t *rgb;            /* [height,width,3] of the canvas */
    uint8_t *bitmap, *rows;  /* [height,width]; what rasterizing needs */
    picture_instance *items; /* [gt_capacity] */
    mask_rle *masks;         /* [gt_capacity] */
    int capacity;
} image_scratch;

static status no_memory(const char *what) {
    return error_set(STATUS_OS, "free some memory", "out of memory for %s", what);
}

/* --- pixels -------------------------------------------------------------------------------------------------- */

/* The network's values as bytes again. `from` is one image of image_pack's output. */
static void normalise_back(uint8_t *rgb, const float *from, const pixel_spec *p, int64_t pixels) {
    for (int64_t i = 0; i < pixels; i++, from += 3, rgb += 3)
        for (int c = 0; c < 3; c++) {
            double value = (double)from[c] * p->std[c] + p->mean[c];
            rgb[p->bgr ? 2 - c : c] = (uint8_t)lround(fmax(0, fmin(value, 255)));
        }
}

/* Records what a training step does first; *images is its output. */
static tape *record(tensor **images, const batch_view *v) {
    tape *t = tape_new(v->dev, NULL);
    const step_inputs *in = &v->memory.inputs;
    tensor *bytes =
        tape_constant(t, "pixels", DTYPE_U8, 1, (int64_t[]){v->memory.largest.pixel_bytes}, in->pixels);
    tensor *table =
        tape_constant(t, "pixel_table", DTYPE_I32, 2,
                      (int64_t[]){v->memory.largest.images, IMAGE_PACK_RECORD_INTS}, in->pixel_table);
    *images = forward_images(t, &v->pixels, bytes, table, v->height, v->width);
    tape_keep(t, *images);
    return t;
}

/* --- objects ------------------------------------------------------------------------------------------------- */

/* A crop of the original image, seen in the resized one: the pixel under each pixel's centre. */
static void resize_bitmap(uint8_t *out, const gt_mask_view *mask, const image_info *info, int64_t stride) {
    for (int y = 0; y < info->height; y++)
        for (int x = 0; x < info->width; x++) {
            int64_t column = info->flip ? info->width - 1 - x : x;
            int from_x = (int)((2 * column + 1) * info->original_width / (2 * (int64_t)info->width));
            int from_y = (int)((2 * (int64_t)y + 1) * info->original_height / (2 * (int64_t)info->height));
            out[y * stride + x] = gt_mask_bit(mask, from_x, from_y);
        }
}

static status mask_on_canvas(mask_rle *out, const batch_view *v, const image_scratch *scratch,
                             const gt_mask_record *record, const image_info *info) {
    gt_mask_view mask;
    int height = (int)v->height, width = (int)v->width;
    RETURN_IF_ERROR(
        gt_mask_read(&mask, record, v->memory.inputs.mask_blob, (size_t)v->memory.largest.mask_bytes));
    if (mask.kind == GT_MASK_POLYGON) {
        double x = info->width / (double)info->original_width,
               y = info->height / (double)info->original_height;
        mask_affine place = info->flip ? (mask_affine){-x, info->width, y, 0} : (mask_affine){x, 0, y, 0};
        mask_polygon_rasterize(scratch->bitmap, scratch->rows, &mask, &place, height, width);
    } else {
        memset(scratch->bitmap, 0, (size_t)height * (size_t)width);
        resize_bitmap(scratch->bitmap, &mask, info, width);
    }
    return mask_rle_encode(out, scratch->bitmap, height, width);
}

static status list_objects(image_scratch *scratch, const batch_view *v, int image) {
    const step_inputs *in = &v->memory.inputs;
    int first = image * v->memory.largest.gt_capacity;
    for (int i = 0; i < in->gt_count[image]; i++) {
        picture_instance *item = &scratch->items[i];
        *item = (picture_instance){.score = -1, .label = in->gt_labels[first + i]};
        item->name = v->data.classes.names[item->label];
        memcpy(item->box, in->gt_boxes + 4 * (first + i), sizeof item->box);
        if (!v->masks) continue;
        gt_mask_record record;
        memcpy(&record, in->gt_masks + GT_MASK_RECORD_INTS * (first + i), sizeof record);
        RETURN_IF_ERROR(mask_on_canvas(&scratch->masks[i], v, scratch, &record, &in->info[image]));
        item->mask = &scratch->masks[i];
    }
    return STATUS_OK;
}

/* --- pictures ------------------------------------------------------------------------------------------------ */

/* Columns that make a grid about half as wide again as high. */
static int columns_for(int count, int64_t height, int64_t width) {
    int columns = (int)lround(sqrt(1.5 * count * (double)height / (double)width));
    return columns < 1 ? 1 : columns > count ? count : columns;
}

static double cell_scale(const batch_view *v, int columns) {
    double most = fmax((double)GRID_WIDTH / columns, LEAST_CELL) / (double)v->width;
    double scale = fmin(picture_scale_for((int)v->height, (int)v->width), most);
    return scale > 1 ? floor(scale) : scale;
}

static status draw_image(picture **out, image_scratch *scratch, const batch_view *v, const float *values,
                         int image, double scale) {
    const image_info *info = &v->memory.inputs.info[image];
    normalise_back(scratch->rgb, values, &v->pixels, v->height * v->width);
    RETURN_IF_ERROR(list_objects(scratch, v, image));
    RETURN_IF_ERROR(picture_new(out, scratch->rgb, (int)v->height, (int)v->width, scale));
    picture_mark_area(*out, info->height, info->width);
    return picture_draw(*out, scratch->items, v->memory.inputs.gt_count[image]);
}

static status scratch_init(image_scratch *s, const batch_view *v) {
    size_t pixels = (size_t)(v->height * v->width), objects = (size_t)v->memory.largest.gt_capacity;
    *s = (image_scratch){.rgb = malloc(pixels * 3),
                         .bitmap = malloc(pixels),
                         .rows = malloc(mask_polygon_scratch_bytes((int)v->height, (int)v->width)),
                         .items = calloc(objects, sizeof *s->items),
                         .masks = calloc(objects, sizeof *s->masks)};
    s->capacity = s->masks ? (int)objects : 0;
    return s->rgb && s->bitmap && s->rows && s->items && s->masks ? STATUS_OK
                                                                  : no_memory("a batch's pictures");
}

static void scratch_release(image_scratch *s) {
    for (int i = 0; i < s->capacity; i++) mask_rle_release(&s->masks[i]);
    free(s->masks);
    free(s->items);
    free(s->rows);
    free(s->bitmap);
    free(s->rgb);
}

static void caption_of(char out[CAPTION], const batch_view *v, int image) {
    const loader_sample *s = &v->batch.samples[image];
    snprintf(out, CAPTION, "%.400s: %d x %d to %d x %d%s", s->file_name, s->width, s->height,
             s->resized_width, s->resized_height, s->flip ? ", flipped" : "");
}

static status draw_grid(const batch_view *v, const float *values, int count, const char *path) {
    int columns = columns_for(count, v->height, v->width);
    double scale = cell_scale(v, columns);
    image_scratch scratch = {0};
    picture **cells = calloc((size_t)count, sizeof(picture *)), *grid = NULL;
    char(*text)[CAPTION] = calloc((size_t)count, sizeof *text);
    const char **captions = calloc((size_t)count, sizeof *captions);
    status s = cells && text && captions ? scratch_init(&scratch, v) : no_memory("a batch's pictures");
    for (int i = 0; i < count && s == STATUS_OK; i++) {
        caption_of(text[i], v, i);
        captions[i] = text[i];
        s = draw_image(&cells[i], &scratch, v, values + i * v->height * v->width * 3, i, scale);
    }
    if (s == STATUS_OK) s = picture_grid(&grid, cells, captions, count, columns);
    if (s == STATUS_OK) s = picture_write(grid, path);
    if (s == STATUS_OK)
        log_info("draw", "%d images of iteration %lld in %s", count, (long long)v->batch.iteration, path);
    for (int i = 0; cells && i < count; i++) picture_free(cells[i]);
    picture_free(grid);
    free(cells);
    free(text);
    free(captions);
    scratch_release(&scratch);
    return s;
}

/* --- batches ------------------------------------------------------------------------------------------------- */

/* The next batch, its first `count` images drawn. */
static status draw_batch(batch_view *v, const char *folder, int count) {
    char name[64], path[PATH_MAX];
    RETURN_IF_ERROR(loader_next(v->data.load, &v->batch));
    snprintf(name, sizeof name, "train_batch_%04lld.png", (long long)v->batch.iteration);
    RETURN_IF_ERROR(path_join(path, folder, name));
    step_batch_canvas(&v->height, &v->width, &v->batch);
    step_inputs *host; /* the inputs themselves: the device is the CPU */
    step_used used = step_batch_fill(&host, &v->memory, &v->batch, v->data.set);
    step_memory_bring(&v->memory, &used);
    tensor *images;
    tape *t = record(&images, v);
    size_t bytes = tape_plan(t);
    status s = step_memory_reserve(&v->memory, bytes);
    if (s == STATUS_OK) {
        tape_attach(t, v->memory.arena, v->memory.arena_bytes);
        tape_forward(t);
        s = draw_grid(v, tensor_f32(images), count, path);
    }
    tape_free(t);
    loader_release_batch(v->data.load);
    return s;
}

static status draw_batches(batch_view *v, const config *cfg, const char *folder, int64_t images) {
    const rank_env alone = {.size = 1, .local_size = 1};
    int64_t batch = cfg->SOLVER_IMS_PER_BATCH;
    mask_rcnn_spec spec;
    step_shape largest;
    RETURN_IF_ERROR(model_spec_from_config(&spec, cfg));
    v->pixels = spec.pixels;
    v->masks = cfg->MODEL_MASK_ON;
    RETURN_IF_ERROR(train_data_open(&v->data, cfg, &alone));
    RETURN_IF_ERROR(step_batch_largest(&largest, v->data.load, (int)batch));
    thread_pool_start(setup_thread_count(cfg, 1));
    status s = device_open(&v->dev, "cpu"); /* its memory is read here */
    if (s == STATUS_OK) s = step_memory_init(&v->memory, v->dev, &largest);
    if (images == 0) images = 2 * batch;
    for (; images > 0 && s == STATUS_OK; images -= batch)
        s = draw_batch(v, folder, (int)(images < batch ? images : batch));
    step_memory_release(&v->memory);
    if (v->dev) device_close(v->dev);
    thread_pool_stop();
    return s;
}

status train_pictures_write(const config *cfg, const char *folder, int64_t images) {
    RETURN_IF_ERROR(picture_check_built_in());
    RETURN_IF_ERROR(make_directories(folder));
    batch_view v = {0};
    status s = draw_batches(&v, cfg, folder, images);
    train_data_close(&v.data);
    return s;
}
