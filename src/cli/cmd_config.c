/* maskrcnn config: the configuration as it would be used, with the origin of each value, or the list of keys. */
#include "cli/cli.h"

#include <string.h>

static const cli_option options[] = {
    {.name = "config", .value = "FILE", .help = "configuration file; without it: the defaults"},
    {.name = "out", .value = "FILE", .help = "write it as YAML instead of printing it"},
    {.name = "keys", .help = "list every key with its default and what it does"},
    {0},
};

static void print_keys(void) {
    for (int k = 0; k < CONFIG_KEY_COUNT; k++) {
        const config_key *key = &config_keys[k];
        printf("%s (%s)\n    %s\n", key->name, *key->default_text ? key->default_text : "\"\"",
               key->help ? key->help : "of detectron2; no effect here");
    }
}

static status run(const cli_args *args) {
    if (cli_flag(args, "keys")) {
        print_keys();
        return STATUS_OK;
    }
    config cfg;
    RETURN_IF_ERROR(cli_load_config(&cfg, args));
    config_log_warnings(&cfg);
    const char *out = cli_value(args, "out");
    status s = out ? config_write_yaml(&cfg, out) : config_print(&cfg, stdout);
    config_release(&cfg);
    return s;
}

const cli_command cmd_config = {
    .name = "config",
    .summary = "shows the resolved configuration and each value's origin",
    .usage = "[--config FILE] [--out FILE] [--keys] [KEY VALUE...]",
    .examples = {"maskrcnn config --config configs/mask_rcnn_R_50_FPN_1x.yaml",
                 "maskrcnn config --config configs/quickstart.yaml --out mine.yaml SOLVER.MAX_ITER 1000",
                 "maskrcnn config --keys"},
    .options = options,
    .overrides = true,
    .run = run,
};
