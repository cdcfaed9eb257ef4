/* maskrcnn plans: cuDNN execution plans for a GPU that is not here. */
#include "cli/cli.h"

#include "base/file_util.h"
#include "base/round_up.h"
#include "setup/model_config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_CUDNN
#include "cudnn/conv_list.h"

enum { MAX_JSON = 1 << 16, MAX_CANVASES = 2048, MAX_SIDE = 1 << 15 };

typedef struct canvas {
    int64_t height, width;
} canvas;

typedef struct canvas_set {
    canvas all[MAX_CANVASES];
    int count;
} canvas_set;

static void add_canvas(canvas_set *set, int64_t height, int64_t width) {
    for (int i = 0; i < set->count; i++)
        if (set->all[i].height == height && set->all[i].width == width) return;
    if (set->count < MAX_CANVASES) set->all[set->count++] = (canvas){height, width};
}

static int64_t canvas_side(int64_t side) {
    return (int64_t)round_up((size_t)side, CANVAS_DIVISOR);
}

/* The short side fits one of the sizes, the other one any length up to the limit; both ways round. */
static void add_short_side(canvas_set *set, const config *cfg, int64_t side) {
    int64_t most = canvas_side(cfg->INPUT_MAX_SIZE_TRAIN);
    for (int64_t other = canvas_side(side); other <= most; other += CANVAS_DIVISOR) {
        add_canvas(set, canvas_side(side), other);
        add_canvas(set, other, canvas_side(side));
    }
}

static void canvases_of_config(canvas_set *set, const config *cfg) {
    const config_ints *sizes = &cfg->INPUT_MIN_SIZE_TRAIN;
    if (strcmp(cfg->INPUT_MIN_SIZE_TRAIN_SAMPLING, "range") == 0 && sizes->count >= 2) {
        for (int64_t side = sizes->values[0]; side < sizes->values[1]; side += CANVAS_DIVISOR)
            add_short_side(set, cfg, side);
        add_short_side(set, cfg, sizes->values[1]);
        return;
    }
    for (int i = 0; i < sizes->count; i++) add_short_side(set, cfg, sizes->values[i]);
}

static status canvases_of_options(canvas_set *set, const cli_args *args) {
    const char *text;
    for (int i = 0; (text = cli_nth_value(args, "canvas", i)); i++) {
        int64_t height, width;
        char end;
        if (sscanf(text, "%" SCNd64 "x%" SCNd64 "%c", &height, &width, &end) != 2 || height < 1 ||
            width < 1 || height > MAX_SIDE || width > MAX_SIDE)
            return error_set(STATUS_USAGE, "give height and width, e.g. --canvas 800x1344",
                             "--canvas %s: not two numbers from 1 to %d", text, MAX_SIDE);
        add_canvas(set, canvas_side(height), canvas_side(width));
    }
    return STATUS_OK;
}

/* Records the training step of every canvas, which runs nowhere, and lists its convolutions. */
static status list_convolutions(conv_list *list, const canvas_set *set, const config *cfg, int images,
                                const precision *wanted) {
    mask_rcnn_spec spec;
    mask_rcnn model;
    device *dev = NULL;
    step_inputs none = {0};
    const precision plain = {.storage = DTYPE_F32}; /* the CPU records it; sizes are the same */
    RETURN_IF_ERROR(model_spec_from_config(&spec, cfg));
    status s = mask_rcnn_init(&model, &spec);
    if (s == STATUS_OK) s = device_open(&dev, "cpu");
    if (s == STATUS_OK) s = param_store_allocate(&model.params, dev, &plain, true);
    for (int i = 0; i < set->count && s == STATUS_OK; i++) {
        step_shape shape = {.images = images,
                            .height = set->all[i].height,
                            .width = set->all[i].width,
                            .gt_capacity = 1,
                            .mask_bytes = 64,
                            .pixel_bytes = 64};
        s = train_graph_check(&spec, &shape);
        if (s != STATUS_OK) break;
        train_graph *step = train_graph_new(&model, dev, NULL, &shape, &none, images, false);
        conv_list_add_tape(list, step->t, wanted->storage, wanted->tf32);
        train_graph_free(step);
    }
    mask_rcnn_release(&model);
    device_close(dev);
    return s;
}

static status make_plans(const conv_list *list, const cudnn_target *target, const char *folder) {
    plan_cache cache;
    int made = 0;
    status s = plan_cache_open(&cache, folder, target);
    for (int i = 0; s == STATUS_OK && i < list->count; i++) {
        conv_plan_counts counts;
        char key[CONV_KEY_SIZE];
        bool is_made = conv_list_plan(&cache, &counts, target, &list->descs[i]);
        made += is_made;
        if (!is_made) printf("no plan: %s\n", conv_desc_key(key, &list->descs[i]));
    }
    if (s == STATUS_OK) s = plan_cache_save(&cache);
    if (s == STATUS_OK)
        printf("%d plans of %d convolutions for %s (sm_%d, cuDNN %zu): %s\n", made, list->count, target->name,
               target->capability, target->version, cache.path);
    plan_cache_release(&cache);
    return s;
}

static status open_target(cudnn_target *target, const char *path) {
    const cudnn_api *api;
    char *json;
    size_t size;
    *target = (cudnn_target){0};
    RETURN_IF_ERROR(cudnn_api_get(&api));
    RETURN_IF_ERROR(read_file(&json, &size, path, MAX_JSON));
    status s = cudnn_target_from_json(target, api, json);
    free(json);
    return s == STATUS_OK ? s : error_prefix(s, "%s", path);
}

static status plan_config(const cli_args *args, const config *cfg, const cudnn_target *target) {
    static const struct {
        const char *name;
        precision is;
    } precisions[] = {{"bf16", {DTYPE_BF16, false}},
                      {"fp16", {DTYPE_F16, false}},
                      {"tf32", {DTYPE_F32, true}},
                      {"fp32", {DTYPE_F32, false}}};
    const char *wanted = cli_value(args, "precision");
    precision p = precisions[0].is;
    for (int i = 0; wanted && i < 4; i++)
        if (strcmp(wanted, precisions[i].name) == 0) p = precisions[i].is;
    int64_t ranks;
    RETURN_IF_ERROR(cli_int(&ranks, args, "ranks", 1, cfg->SOLVER_IMS_PER_BATCH, 1));
    static canvas_set set;
    set.count = 0;
    RETURN_IF_ERROR(canvases_of_options(&set, args));
    if (set.count == 0) canvases_of_config(&set, cfg);
    conv_list list = {0};
    status s = list_convolutions(&list, &set, cfg, (int)(cfg->SOLVER_IMS_PER_BATCH / ranks), &p);
    if (s == STATUS_OK) s = make_plans(&list, target, cli_value(args, "out"));
    conv_list_release(&list);
    return s;
}

static status run(const cli_args *args) {
    config cfg;
    cudnn_target target;
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    status s = open_target(&target, cli_value(args, "device-json"));
    if (s == STATUS_OK) s = plan_config(args, &cfg, &target);
    if (target.api) cudnn_target_release(&target);
    config_release(&cfg);
    return s;
}

#else

static status run(const cli_args *args) {
    (void)args;
    return error_set(STATUS_NO_DEVICE,
                     "build with cuDNN's headers (9.8 or later) where the compiler finds them",
                     "this program was built without cuDNN");
}

#endif

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "device-json",
     .value = "FILE",
     .help = "the GPU's properties, as cuDNN writes them",
     .required = true},
    {.name = "out", .value = "DIR", .help = "folder of the plan cache", .required = true},
    {.name = "ranks", .value = "N", .help = "ranks that share SOLVER.IMS_PER_BATCH (1)"},
    {.name = "precision",
     .value = "NAME",
     .help = "what activations are stored as (bf16)",
     .choices = "bf16|fp16|tf32|fp32"},
    {.name = "canvas",
     .value = "HxW",
     .help = "only this size of a batch's images, rounded up to 32; without it: all of the configuration",
     .repeated = true},
    {0}};

const cli_command cmd_plans = {
    .name = "plans",
    .summary = "makes cuDNN's execution plans for a GPU that is not here",
    .usage = "--config FILE --device-json FILE --out DIR [KEY VALUE...]",
    .details =
        "Makes the plans that a training run would search in its first steps, from a description of the GPU "
        "alone, "
        "and writes the plan cache that the run reads when MASKRCNN_PLANS is DIR. Plans are not measured. "
        "What cuDNN "
        "compiles at run time needs the NVIDIA driver; without it those convolutions are listed and left to "
        "the run.",
    .examples =
        {"maskrcnn plans --config configs/mask_rcnn_R_50_FPN_1x.yaml --device-json h200.json --out plans "
         "--ranks 8",
         "maskrcnn plans --config configs/quickstart.yaml --device-json h200.json --out plans --canvas "
         "800x1344",
         "maskrcnn plans --config configs/mask_rcnn_R_50_FPN_1x.yaml --device-json a100.json --out plans "
         "--precision fp16 SOLVER.IMS_PER_BATCH 8"},
    .options = options,
    .overrides = true,
    .one_process = true,
    .run = run,
};
