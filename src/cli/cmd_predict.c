/* maskrcnn predict: boxes, classes and masks of pictures. */
#include "cli/cli.h"
#include "cli/predict_job.h"

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "weights", .value = "FILE", .help = "safetensors file; replaces MODEL.WEIGHTS"},
    {.name = "out",
     .value = "DIR",
     .help = "folder for results and pictures; made if missing",
     .required = true},
    {.name = "device",
     .value = "NAME",
     .help = "cpu or cuda; default: the GPU where there is one",
     .choices = "cpu|cuda"},
    {.name = "raw-masks",
     .help = "write mask probabilities to raw_masks.safetensors instead of masks of the whole image"},
    {.name = "no-pictures", .help = "write results only"},
    {.name = "draw-threshold", .value = "SCORE", .help = "lowest score in pictures, 0 to 1; default 0.5"},
    {0},
};

static status run(const cli_args *args) {
    config cfg;
    predict_options job = {.out = cli_value(args, "out"),
                           .raw_masks = cli_flag(args, "raw-masks"),
                           .pictures = !cli_flag(args, "no-pictures")};
    RETURN_IF_ERROR(cli_fraction(&job.draw_threshold, args, "draw-threshold", 0.5));
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    image_list images = {0};
    status s = STATUS_OK;
    for (int i = 0; i < args->argument_count && s == STATUS_OK; i++)
        s = image_list_add(&images, args->arguments[i]);
    if (s == STATUS_OK) config_log_warnings(&cfg);
    if (s == STATUS_OK) s = predict_run(&cfg, &images, &job);
    image_list_release(&images);
    config_release(&cfg);
    return s;
}

const cli_command cmd_predict = {
    .name = "predict",
    .summary = "boxes, classes and masks of pictures",
    .usage = "--config FILE --weights FILE --out DIR [--raw-masks] [--no-pictures] [--draw-threshold SCORE] "
             "IMAGE... [KEY VALUE...]",
    .details =
        "IMAGE is a file, a folder (every .jpg, .jpeg and .png in it) or a pattern in quotes. DIR gets "
        "coco_instances_results.json with every detection, and for each image a PNG with those from the draw "
        "threshold on. Category ids are those of the data set where the weights record them, else 1, 2, ...; "
        "image ids are the numbers of the file names where all are numbers, else 1, 2, ... An image that "
        "cannot be read is named and left out; exit 65 if that leaves none. Keys: "
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST, TEST.DETECTIONS_PER_IMAGE, INPUT.MIN_SIZE_TEST, "
        "TEST.AUG.ENABLED and others of `maskrcnn config --keys` marked (evaluation).",
    .examples = {"maskrcnn predict --config configs/mask_rcnn_R_50_FPN_1x.yaml --weights "
                 "model_final.safetensors --out found photo.jpg",
                 "maskrcnn predict --config c.yaml --weights w.safetensors --out found folder 'more/*.png' "
                 "MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.3",
                 "maskrcnn predict --config c.yaml --weights w.safetensors --out found --raw-masks "
                 "--no-pictures folder"},
    .options = options,
    .argument = "IMAGE",
    .min_arguments = 1,
    .max_arguments = CLI_ANY_COUNT,
    .overrides = true,
    .one_process = true,
    .run = run,
};
