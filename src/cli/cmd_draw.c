/* maskrcnn draw: pictures of what training sees. */
#include "cli/cli.h"
#include "comm/rank_env.h"
#include "train/setup.h"
#include "train/train_pictures.h"

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file", .required = true},
    {.name = "out",
     .value = "DIR",
     .help = "folder for the pictures; made where it is missing",
     .required = true},
    {.name = "images", .value = "N", .help = "how many images (two batches)"},
    {0},
};

enum { MOST_IMAGES = 1000000 };

static status draw_training_data(config *cfg, const char *folder, int64_t images) {
    rank_env env;
    RETURN_IF_ERROR(rank_env_read(&env));
    RETURN_IF_ERROR(setup_seed(cfg, &env));
    cfg->DATALOADER_NUM_WORKERS = 0; /* changes no sample, and a few images need none */
    return train_pictures_write(cfg, folder, images);
}

static status run(const cli_args *args) {
    int64_t images;
    config cfg;
    RETURN_IF_ERROR(cli_int(&images, args, "images", 1, MOST_IMAGES, 0));
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    status s = draw_training_data(&cfg, cli_value(args, "out"), images);
    config_release(&cfg);
    return s;
}

const cli_command cmd_draw = {
    .name = "draw",
    .summary = "draws the data as training sees it",
    .usage = "--config FILE --out DIR [--images N] [KEY VALUE...]",
    .details =
        "The first batches of DATASETS.TRAIN, after resizing, flipping, normalising and padding, with the "
        "boxes, classes and masks that the network is trained on: one picture per batch. Dashes end the "
        "image where padding begins.",
    .examples =
        {"maskrcnn draw --config configs/quickstart.yaml --out pictures DATASETS.TRAIN ann.json:images",
         "maskrcnn draw --config configs/quickstart.yaml --out pictures --images 4 DATASETS.TRAIN "
         "ann.json:images SEED 3",
         "maskrcnn draw --config runs/a/config.yaml --out pictures INPUT.RANDOM_FLIP none"},
    .options = options,
    .overrides = true,
    .run = run,
};
