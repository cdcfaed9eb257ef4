/* maskrcnn report: a run as one HTML page. */
#include "cli/cli.h"

#include <stdio.h>

#include "report/run_report.h"

static const cli_option options[] = {
    {.name = "out", .value = "FILE", .help = "where the page goes; report.html in DIR otherwise"},
    {0},
};

static status run(const cli_args *args) {
    const char *folder = args->arguments[0], *out = cli_value(args, "out");
    RETURN_IF_ERROR(run_report_write(folder, out));
    if (out)
        printf("wrote %s\n", out);
    else
        printf("wrote %s/report.html\n", folder);
    return STATUS_OK;
}

const cli_command cmd_report = {
    .name = "report",
    .summary = "a run as one HTML page: curves, scores, pictures",
    .usage = "DIR [--out FILE]",
    .details =
        "DIR is the OUTPUT_DIR of a run, which may still be going on. The page shows its state, losses, "
        "learning rate, throughput, COCO scores, the pictures in DIR/pictures and the configuration. It "
        "needs nothing besides: no network, no script. train writes it too when it ends.",
    .examples = {"maskrcnn report output/quickstart/run", "maskrcnn report output/run --out run.html",
                 "maskrcnn report ."},
    .options = options,
    .argument = "DIR",
    .min_arguments = 1,
    .max_arguments = 1,
    .one_process = true,
    .run = run,
};
