/* maskrcnn bench: a group of commands, one for each part of the program that can be timed. */
#include "cli/cli.h"

extern const cli_command cmd_bench_train, cmd_bench_predict, cmd_bench_eval, cmd_bench_loader, cmd_bench_op,
    cmd_bench_allreduce;

static const cli_command *const members[] = {&cmd_bench_train,
                                             &cmd_bench_predict,
                                             &cmd_bench_eval,
                                             &cmd_bench_loader,
                                             &cmd_bench_op,
                                             &cmd_bench_allreduce,
                                             NULL};

const cli_command cmd_bench = {
    .name = "bench",
    .summary = "measures speed and memory of a part of the program",
    .usage = "COMMAND [OPTIONS] [KEY VALUE...]",
    .details = "Each prints a table and, with --json FILE, writes the numbers with the machine they were "
               "taken on. What is measured runs as it does in the command that uses it.",
    .examples = {"maskrcnn bench op roi_align", "maskrcnn bench op conv2d --forward-only --json conv.json",
                 "maskrcnn bench loader --annotations a.json --images images --workers 2"},
    .members = members,
};
