/* maskrcnn draw: pictures of what training sees and of what a model finds. */
#include "cli/cli.h"
#include "comm/rank_env.h"
#include "evaluate/prediction_pictures.h"
#include "setup/setup.h"
#include "train/train_pictures.h"

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "out",
     .value = "DIR",
     .help = "folder for the pictures; made where it is missing",
     .required = true},
    {.name = "weights",
     .value = "FILE",
     .help = "safetensors file of a model: draw what it finds, beside the ground truth"},
    {.name = "images", .value = "N", .help = "how many images (two batches; with --weights 16)"},
    {.name = "draw-threshold",
     .value = "SCORE",
     .help = "lowest score of a prediction that is drawn, 0 to 1; default 0.5"},
    {.name = "device", .value = "NAME", .help = "cpu or cuda, for --weights", .choices = "cpu|cuda"},
    {0},
};

enum { MOST_IMAGES = 1000000, PREDICTIONS = 16 };

static status draw_training_data(config *cfg, const char *folder, int64_t images) {
    rank_env env;
    RETURN_IF_ERROR(rank_env_read(&env));
    RETURN_IF_ERROR(setup_seed(cfg, &env));
    return train_pictures_write(cfg, folder, images);
}

static status draw_predictions(config *cfg, const cli_args *args, int64_t images, double least_score) {
    if (cfg->DATASETS_TEST.count == 0) { /* the training data, then */
        config_strings none = cfg->DATASETS_TEST;
        cfg->DATASETS_TEST = cfg->DATASETS_TRAIN;
        cfg->DATASETS_TRAIN = none;
    }
    cfg->TEST_VALIDATION_LOSS = false;
    return prediction_pictures_write(cfg, cli_value(args, "out"), images ? images : PREDICTIONS, least_score);
}

static status run(const cli_args *args) {
    int64_t images;
    double least_score;
    config cfg;
    RETURN_IF_ERROR(cli_int(&images, args, "images", 1, MOST_IMAGES, 0));
    RETURN_IF_ERROR(cli_fraction(&least_score, args, "draw-threshold", 0.5));
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    cfg.DATALOADER_NUM_WORKERS = 0; /* changes no sample, and a few images need none */
    status s = cli_value(args, "weights") ? draw_predictions(&cfg, args, images, least_score)
                                          : draw_training_data(&cfg, cli_value(args, "out"), images);
    config_release(&cfg);
    return s;
}

const cli_command cmd_draw = {
    .name = "draw",
    .summary = "draws the data as training sees it, or what a model finds",
    .usage = "--config FILE --out DIR [--weights FILE] [--images N] [--draw-threshold SCORE] [KEY VALUE...]",
    .details =
        "Without --weights: the first batches of DATASETS.TRAIN, after resizing, flipping, normalising and "
        "padding, with the boxes, classes and masks that the network is trained on; a picture for each "
        "batch. "
        "Dashes end the image where padding begins. With --weights: the first images of DATASETS.TEST (or of "
        "DATASETS.TRAIN where there is none), ground truth beside predictions. Hatched regions are crowds.",
    .examples =
        {"maskrcnn draw --config configs/quickstart.yaml --out pictures DATASETS.TRAIN ann.json:images",
         "maskrcnn draw --config configs/quickstart.yaml --out pictures --images 4 DATASETS.TRAIN "
         "ann.json:images INPUT.RANDOM_FLIP none",
         "maskrcnn draw --config runs/a/config.yaml --weights runs/a/model_final.safetensors --out "
         "pictures"},
    .options = options,
    .overrides = true,
    .one_process = true,
    .run = run,
};
