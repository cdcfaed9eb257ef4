/* maskrcnn op: one op on arrays from a file, so that others can check it. */
#include "base/thread_pool.h"
#include "cli/cli.h"
#include "cli/op_file.h"
#include "cli/op_name.h"
#include "device/device.h"

#include <stdlib.h>

static status run(const cli_args *args) {
    const op_def *op;
    RETURN_IF_ERROR(op_name_find(&op, args->arguments[0]));
    const char **attrs = calloc((size_t)args->given_count + 1, sizeof *attrs);
    if (!attrs) return error_set(STATUS_OS, "free some memory", "no memory for the attributes");
    op_file_job job = {.op = op, .attrs = attrs};
    while ((attrs[job.attr_count] = cli_nth_value(args, "attr", job.attr_count))) job.attr_count++;
    const char *device_name = cli_value(args, "device");
    status s = device_open(&job.dev, device_name ? device_name : "cpu");
    if (s == STATUS_OK) {
        thread_pool_start(thread_pool_usable_cores());
        s = op_file_run(cli_value(args, "out"), cli_value(args, "in"), &job);
        thread_pool_stop();
        device_close(job.dev);
    }
    free(attrs);
    return s;
}

static const cli_option options[] = {
    {.name = "in", .value = "FILE", .help = "safetensors file with the inputs, by name", .required = true},
    {.name = "out", .value = "FILE", .help = "safetensors file to write", .required = true},
    {.name = "attr",
     .value = "NAME=VALUE",
     .help = "attribute of the op; lists are comma-separated, booleans 0 or 1",
     .repeated = true},
    {.name = "device", .value = "NAME", .help = "cpu (the default), cuda or cuda:N"},
    {0}};

const cli_command cmd_op = {
    .name = "op",
    .summary = "runs one op on arrays from a file",
    .usage = "NAME --in FILE --out FILE [--attr NAME=VALUE...] [--device NAME]",
    .details = "Arrays are NHWC, convolution weights [K,R,S,C]. Where the file also holds grad_OUTPUT, "
               "backward runs and "
               "grad_INPUT of every differentiable input is written.",
    .examples =
        {"maskrcnn op linear --in x.safetensors --out y.safetensors --attr relu=1",
         "maskrcnn op nms --in boxes.safetensors --out keep.safetensors --attr iou_threshold=0.5",
         "maskrcnn op roi_align --in rois.safetensors --out pooled.safetensors --attr output_size=7 --attr "
         "spatial_scale=0.25 --attr sampling_ratio=2 --attr aligned=0"},
    .options = options,
    .argument = "NAME",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
