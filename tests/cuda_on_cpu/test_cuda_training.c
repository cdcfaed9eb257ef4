/* A short training through step_queue on the fake device, next to the same on the CPU: batches through page-locked memory, steps recorded,
 * reports some steps late, the order of all work, and no wait of the host but where it would run too far ahead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/thread_pool.h"
#include "data/synth.h"
#include "fake_device.h"
#include "setup/setup.h"
#include "train/step_queue.h"

enum { STEPS = 7, LATE = 4 };

static char folder[64];

static void ok(status s) {
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

static void load_config(config *cfg) {
    static char data[160];
    snprintf(data, sizeof data, "%s/annotations.json:%s/images", folder, folder);
    const char *words[] = {"MODEL.RESNETS.DEPTH",
                           "18",
                           "MODEL.RESNETS.STEM_OUT_CHANNELS",
                           "8",
                           "MODEL.RESNETS.RES2_OUT_CHANNELS",
                           "8",
                           "MODEL.RESNETS.STRIDE_IN_1X1",
                           "False",
                           "MODEL.FPN.OUT_CHANNELS",
                           "16",
                           "MODEL.ROI_BOX_HEAD.FC_DIM",
                           "16",
                           "MODEL.ROI_MASK_HEAD.NUM_CONV",
                           "1",
                           "MODEL.ROI_MASK_HEAD.CONV_DIM",
                           "8",
                           "MODEL.ROI_HEADS.NUM_CLASSES",
                           "4",
                           "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE",
                           "16",
                           "MODEL.RPN.BATCH_SIZE_PER_IMAGE",
                           "32",
                           "MODEL.ANCHOR_GENERATOR.SIZES",
                           "[[8], [16], [32], [64], [128]]",
                           "INPUT.MIN_SIZE_TRAIN",
                           "(64,)",
                           "INPUT.MAX_SIZE_TRAIN",
                           "64",
                           "SOLVER.IMS_PER_BATCH",
                           "1",
                           "SOLVER.BASE_LR",
                           "0.001",
                           "SEED",
                           "3",
                           "DATALOADER.NUM_WORKERS",
                           "0",
                           "PRECISION",
                           "fp32",
                           "DATASETS.TRAIN",
                           data};
    ok(config_load(cfg, NULL, (char *const *)words, sizeof words / sizeof *words));
}

/* What the ops of a measured step cost. */
typedef struct step_runs {
    int runs, convolutions;
    double seconds, last_start;
    op_cost cost;
} step_runs;

static void note_run(void *context, const tape_run *run) {
    step_runs *all = context;
    assert_true(run->seconds >= 0 && run->start >= all->last_start);
    all->last_start = run->start;
    all->seconds += run->seconds;
    all->cost.flops += run->cost.flops;
    all->cost.written_bytes += run->cost.written_bytes;
    all->convolutions += strcmp(run->op->name, "conv2d") == 0;
    all->runs++;
}

/* One more step, measured: the host waits for it, and its stages are known. */
static step_runs measure_step(step_queue *q) {
    bool is_mine_alone;
    step_report report;
    step_runs all = {0};
    step_queue_measure(q);
    ok(step_queue_run(q, STEPS, &is_mine_alone));
    assert_true(step_queue_take(q, &report, false));
    assert_non_null(report.graph);
    assert_true(report.height == 64 && report.width == 64);
    double sum = 0;
    for (int i = 0; i < STEP_STAGES; i++) {
        assert_true(report.stages[i] >= 0);
        sum += report.stages[i];
    }
    assert_true(report.stages[STEP_FORWARD] > 0 && report.stages[STEP_BACKWARD] > 0);
    step_queue_take_runs(q, &report, note_run, &all);
    assert_true(all.seconds > 0 && all.seconds <= sum * (1 + 1e-6));
    return all;
}

/* Reports of STEPS iterations, in order. */
static step_runs train(step_report reports[STEPS], bool on_gpu) {
    config cfg;
    rank_env env = {.size = 1, .local_size = 1};
    train_data data;
    device *dev = NULL;
    comm *c;
    mask_rcnn model;
    schedule rates;
    load_config(&cfg);
    ok(schedule_init(&rates, &cfg));
    ok(train_data_open(&data, &cfg, &env));
    if (on_gpu)
        dev = fake_device_open();
    else
        ok(device_open(&dev, "cpu"));
    ok(comm_open(&c, &env, dev));
    ok(setup_model(&model, &cfg, dev, true, "", &data.classes, WEIGHTS_START));
    step_queue *q;
    step_queue_spec spec = {
        .cfg = &cfg, .dev = dev, .c = c, .model = &model, .data = &data, .rates = &rates, .images = 1};
    ok(step_queue_new(&q, &spec));
    int taken = 0;
    for (int i = 0; i < STEPS; i++) {
        bool is_mine_alone;
        uint64_t waits = device_host_waits(dev);
        ok(step_queue_run(q, i, &is_mine_alone));
        /* The fake device is always late: for the page-locked memory of the batch before the last, and for a report, the host asks
         * again and again; it waits nowhere. */
        if (on_gpu) assert_int_equal(device_host_waits(dev), waits);
        while (step_queue_take(q, &reports[taken], false)) taken++;
        assert_int_equal(taken, on_gpu ? (i < LATE ? 0 : i + 1 - LATE) : i + 1);
    }
    if (on_gpu) assert_int_equal(fake_device_get_counts(dev).graphs, STEPS - 1);
    while (step_queue_take(q, &reports[taken], true)) taken++;
    assert_int_equal(taken, STEPS);
    step_runs runs = measure_step(q);
    fake_device_counts counts = on_gpu ? fake_device_get_counts(dev) : (fake_device_counts){0};
    assert_int_equal(counts.open_ranges, 0);
    if (on_gpu) assert_true(counts.ranges > 2 * (uint64_t)runs.runs); /* of each op its layer's and its own */
    if (on_gpu) assert_int_equal(counts.graphs, STEPS - 1);           /* it is not queued as a recording */
    step_queue_free(q);
    mask_rcnn_release(&model);
    comm_close(c);
    train_data_close(&data);
    config_release(&cfg);
    const char *problem = on_gpu ? fake_device_take_problem(dev) : NULL;
    if (problem) fail_msg("%s", problem);
    device_close(dev);
    return runs;
}

static void training_equals_the_cpus(void **state) {
    (void)state;
    static step_report cpu[STEPS], cuda[STEPS];
    step_runs on_cpu = train(cpu, false), on_gpu = train(cuda, true);
    assert_true(on_cpu.runs == on_gpu.runs && on_cpu.convolutions == on_gpu.convolutions);
    assert_true(on_cpu.convolutions > 50 && on_cpu.cost.flops > 1e7);
    /* The same counts of rows, so the same costs. */
    assert_true(on_cpu.cost.flops == on_gpu.cost.flops);
    assert_true(on_cpu.cost.written_bytes == on_gpu.cost.written_bytes);
    for (int i = 0; i < STEPS; i++) {
        assert_true(cuda[i].iteration == i && cuda[i].lr == cpu[i].lr);
        assert_false(cuda[i].gradients.is_stopped || cuda[i].gradients.is_skipped);
        if (!(fabs(cuda[i].total - cpu[i].total) < 1e-3 * cpu[i].total))
            fail_msg("iteration %d: total loss %.9g, not %.9g", i, cuda[i].total, cpu[i].total);
        if (!(fabs(cuda[i].gradients.norm / cpu[i].gradients.norm - 1) < 0.01))
            fail_msg("iteration %d: norm %.9g, not %.9g", i, cuda[i].gradients.norm, cpu[i].gradients.norm);
        assert_true((cuda[i].graph == NULL) && (cpu[i].graph != NULL));
    }
    assert_true(cpu[0].total > 1 && cpu[STEPS - 1].total != cpu[0].total);
}

static int make_data(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "cuda_training_data_%d", (int)getpid());
    synth_options options = {.width = 64, .height = 64};
    return synth_dataset(folder, 4, 1, &options) == STATUS_OK ? 0 : -1;
}

static int remove_data(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(training_equals_the_cpus)};
    thread_pool_start(1);
    int failures = cmocka_run_group_tests(tests, make_data, remove_data);
    thread_pool_stop();
    return failures;
}
