/* maskrcnn bench predict: how long one prediction takes. */
#include "bench/predict_bench.h"
#include "cli/cli.h"
#include "data/image_read.h"

#include <stdio.h>

enum { MOST_SIDE = 65536 };

static status parse_size(predict_bench_size *out, const char *text) {
    int end = 0;
    bool is_size = sscanf(text, "%5dx%5d%n", &out->height, &out->width, &end) == 2 && !text[end] &&
                   out->height >= 1 && out->height <= MOST_SIDE && out->width >= 1 && out->width <= MOST_SIDE;
    int64_t most = image_limits_default().max_pixels;
    if (is_size && (int64_t)out->height * out->width > most)
        return error_set(STATUS_USAGE, "give a smaller image",
                         "bench predict: --size %.40s: more than the %lld pixels that an image may have",
                         text, (long long)most);
    return is_size
               ? STATUS_OK
               : error_set(STATUS_USAGE, "give height and width in pixels, as in --size 800x1333",
                           "bench predict: --size %.40s: expected HxW, sides from 1 to %d", text, MOST_SIDE);
}

static status parse_job(predict_bench_job *job, const cli_args *args) {
    int64_t warmup, iterations;
    RETURN_IF_ERROR(cli_int(&warmup, args, "warmup", 0, 1000000, 2));
    RETURN_IF_ERROR(cli_int(&iterations, args, "iters", 1, 1000000, 10));
    job->warmup = (int)warmup;
    job->iterations = (int)iterations;
    const char *text;
    for (int i = 0; (text = cli_nth_value(args, "size", i)); i++) {
        if (i == PREDICT_BENCH_SIZES)
            return error_set(STATUS_USAGE, "run it again for the others", "bench predict: more than %d sizes",
                             PREDICT_BENCH_SIZES);
        RETURN_IF_ERROR(parse_size(&job->sizes[job->size_count++], text));
    }
    bool synthetic = cli_flag(args, "synthetic");
    if (synthetic != (args->argument_count == 0))
        return error_set(STATUS_USAGE, "give one of them: --synthetic, or images",
                         synthetic ? "bench predict: --synthetic, and images"
                                   : "bench predict: neither --synthetic nor an image");
    if (job->size_count > 0 && !synthetic)
        return error_set(STATUS_USAGE, "leave --size out: images have theirs",
                         "bench predict: --size is of synthetic images");
    return STATUS_OK;
}

static status run_with(config *cfg, const cli_args *args) {
    image_list images = {0};
    predict_bench_job job = {.cfg = cfg,
                             .images = &images,
                             .raw_masks = cli_flag(args, "raw-masks"),
                             .json = cli_value(args, "json")};
    status s = parse_job(&job, args);
    /* The same random weights in every run. */
    if (s == STATUS_OK && cfg->SEED < 0) s = config_set(cfg, "SEED", "1");
    bool random_start = cli_flag(args, "synthetic") && !cli_value(args, "weights");
    if (s == STATUS_OK && random_start) s = config_set(cfg, "MODEL.WEIGHTS", "");
    for (int i = 0; i < args->argument_count && s == STATUS_OK; i++)
        s = image_list_add(&images, args->arguments[i]);
    if (s == STATUS_OK) s = predict_bench_run(&job);
    image_list_release(&images);
    return s;
}

static status run(const cli_args *args) {
    config cfg;
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    status s = run_with(&cfg, args);
    config_release(&cfg);
    return s;
}

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "weights", .value = "FILE", .help = "safetensors file; replaces MODEL.WEIGHTS"},
    {.name = "synthetic",
     .help = "a drawn image instead of IMAGE..., and random weights unless --weights is given"},
    {.name = "size",
     .value = "HxW",
     .help = "of the drawn image, which is then not resized; without it 480x800, resized as configured",
     .repeated = true},
    {.name = "warmup", .value = "N", .help = "predictions that do not count; 2 by default"},
    {.name = "iters", .value = "N", .help = "predictions that do; 10 by default"},
    {.name = "raw-masks", .help = "mask probabilities instead of masks of the whole image"},
    {.name = "device", .value = "NAME", .help = "cpu or cuda", .choices = "cpu|cuda"},
    {.name = "json", .value = "FILE", .help = "file to write the numbers to"},
    {0}};

const cli_command cmd_bench_predict = {
    .name = "bench predict",
    .summary = "how long a prediction takes, stage by stage",
    .usage = "--config FILE {--synthetic | IMAGE...} [--size HxW]... [--warmup N] [--iters N] [--raw-masks] "
             "[--json FILE] [KEY VALUE...]",
    .details = "One image at a time, from RGB in memory to masks in memory. Random weights are sure of "
               "nothing, so without weights the score threshold is put where TEST.DETECTIONS_PER_IMAGE pass.",
    .examples = {"maskrcnn bench predict --config configs/mask_rcnn_R_50_FPN_1x.yaml --synthetic",
                 "maskrcnn bench predict --config configs/mask_rcnn_R_50_FPN_1x.yaml --synthetic --size "
                 "800x1333 --size 2304x3840 --raw-masks --json predict.json",
                 "maskrcnn bench predict --config c.yaml --weights w.safetensors --iters 50 photo.jpg"},
    .options = options,
    .argument = "IMAGE",
    .max_arguments = CLI_ANY_COUNT,
    .overrides = true,
    .one_process = true,
    .run = run,
};
