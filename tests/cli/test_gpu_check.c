/* scripts/gpu_check.sh where there is no GPU: that it says so; and, with tests/gpu/gpu_machine.sh in place of the programs it calls, that
 * it goes on after a failed step and reads figures from their logs. The report also of a run that was killed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yajl/yajl_tree.h>

#include "cli/folder_files.h"
#include "cli/run_program.h"

#define SCRIPTS TEST_SOURCE_DIR "/scripts/"

static program_run ran;
static char folder[] = "/tmp/test_gpu_check.XXXXXX";

/* The JSON of the last run in folder `out`; freed by the caller. */
static yajl_val read_json(const char *out) {
    char name[128], error[256];
    snprintf(name, sizeof name, "%s/gpu_check.json", out);
    yajl_val tree = yajl_tree_parse(folder_read(folder, name), error, sizeof error);
    if (!tree) fail_msg("%s: %s", name, error);
    return tree;
}

static double number_of(yajl_val v, const char *a, const char *b) {
    const char *path[] = {a, b, NULL};
    yajl_val found = yajl_tree_get(v, path, yajl_t_number);
    if (!found) fail_msg("no number %s %s", a, b ? b : "");
    return YAJL_GET_DOUBLE(found);
}

static const char *text_of(yajl_val v, const char *a, const char *b) {
    const char *path[] = {a, b, NULL};
    yajl_val found = yajl_tree_get(v, path, yajl_t_string);
    if (!found) fail_msg("no string %s %s", a, b ? b : "");
    return YAJL_GET_STRING(found);
}

static yajl_val find_check(yajl_val tree, const char *name) {
    const char *path[] = {"checks", NULL};
    yajl_val checks = yajl_tree_get(tree, path, yajl_t_array);
    assert_non_null(checks);
    for (size_t i = 0; i < checks->u.array.len; i++)
        if (strcmp(text_of(checks->u.array.values[i], "name", NULL), name) == 0)
            return checks->u.array.values[i];
    fail_msg("no check is called %s", name);
    return NULL;
}

static void expect_in_table(const char *text, const char *line) {
    if (!strstr(text, line)) fail_msg("the table lacks %s\n%s", line, text);
}

static void run(int code, const char *line) {
    run_program(&ran, folder, line, 120.0);
    if (ran.code != code) fail_msg("exit code %d, not %d: %s%s", ran.code, code, ran.out, ran.err);
}

/* A bundle whose programs are the stand-in, and folders for PATH: system/ has the machine's own. */
static void make_machine(void) {
    static const char *const names[] = {"bundle/bin/maskrcnn", "bundle/bin/test_gpu_ops", "system/nvidia-smi",
                                        "system/mpirun", "system/compute-sanitizer"};
    static const char *const folders[] = {"bundle", "bundle/bin", "system"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        mkdir(folder_path(folder, folders[i]), 0777);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (symlink(TEST_SOURCE_DIR "/tests/gpu/gpu_machine.sh", folder_path(folder, names[i])) != 0)
            fail_msg("cannot link %s", names[i]);
}

static void a_machine_without_a_gpu_is_told(void **state) {
    (void)state;
    run(77, "env~CUDA_VISIBLE_DEVICES=~" SCRIPTS "gpu_check.sh~--bundle~bundle~--out~none");
    assert_non_null(strstr(ran.out, "skipped: no GPU: CUDA_VISIBLE_DEVICES is empty"));
    yajl_val tree = read_json("none");
    assert_int_equal(number_of(tree, "skipped", NULL), 1);
    assert_int_equal(number_of(tree, "passed", NULL), 0);
    yajl_tree_free(tree);
}

static void wrong_calls_are_refused(void **state) {
    (void)state;
    run(64, SCRIPTS "gpu_check.sh~--fast");
    assert_non_null(strstr(ran.err, "usage: gpu_check.sh"));
    run(64,
        SCRIPTS "gpu_check.sh~--bundle~bundle~--out~system"); /* a folder that holds something else stays */
    assert_int_equal(access(folder_path(folder, "system/mpirun"), F_OK), 0);
    run(64, SCRIPTS "gpu_check.sh~--bundle~system");
    assert_non_null(strstr(ran.err, "give --bundle DIR"));
}

static void expect_speeds(yajl_val tree) {
    yajl_val check = find_check(tree, "r50_batch_2_bf16");
    assert_string_equal(text_of(check, "status", NULL), "passed");
    assert_true(number_of(check, "figures", "img_per_s") ==
                160.0); /* 2 / 0.0125, the median without the first third */
    assert_true(number_of(check, "figures", "step_ms") == 12.5);
    assert_true(number_of(check, "figures", "data_ms") == 1.0);
    assert_true(number_of(check, "figures", "iterations") == 60);
    assert_true(number_of(check, "figures", "img_per_s_100_to_500") == 171.25);
    assert_true(number_of(check, "figures", "step_MiB") == 1178);
    assert_non_null(strstr(text_of(check, "command", NULL), "SOLVER.IMS_PER_BATCH 2 PRECISION bf16"));
    check = find_check(tree, "small_bf16_ranks_2");
    assert_non_null(strstr(text_of(check, "command", NULL), "mpirun -n 2 --bind-to none"));
    assert_true(number_of(check, "figures", "img_per_s") == 320.0);
    check = find_check(tree, "times_r50_batch_2_bf16");
    assert_true(number_of(check, "figures", "conv2d forward_ms") == 2.25);
    assert_true(number_of(check, "figures", "conv2d backward_ms") == 2.625);
    assert_true(number_of(check, "figures", "sgd_step forward_ms") == 0.25);
}

static void expect_failures(yajl_val tree) {
    yajl_val check = find_check(tree, "r50_batch_12_tf32");
    assert_string_equal(text_of(check, "status", NULL), "failed");
    assert_string_equal(text_of(check, "note", NULL),
                        "exit code 79: maskrcnn: error: the loss is \"nan\" \\ not finite");
    check = find_check(tree, "r50_batch_2_tf32");
    assert_string_equal(text_of(check, "status", NULL), "failed");
    assert_non_null(strstr(text_of(check, "note", NULL), "figures expected"));
    check = find_check(tree, "ops_tf32"); /* there is a GPU: no reason to skip */
    assert_string_equal(text_of(check, "status", NULL), "failed");
    assert_non_null(strstr(text_of(check, "note", NULL), "no libmaskrcnn_cuda.so"));
    assert_string_equal(text_of(find_check(tree, "torchvision"), "status", NULL), "skipped");
}

static void every_step_is_run_and_read(void **state) {
    (void)state;
    char line[1024];
    snprintf(
        line, sizeof line,
        "env~CUDA_VISIBLE_DEVICES=0~PYTHON=/bin/false~PATH=%s/system:/usr/local/bin:/usr/bin:/bin~" SCRIPTS
        "gpu_check.sh~--quick~--bundle~bundle~--out~out",
        folder);
    run(1, line);
    yajl_val tree = read_json("out");
    assert_int_equal(number_of(tree, "failed", NULL), 3);
    expect_speeds(tree);
    expect_failures(tree);
    yajl_val check = find_check(tree, "env");
    assert_string_equal(text_of(check, "figures", "cuDNN"), "9.13.0");
    assert_string_equal(text_of(check, "figures", "driver"), "570.86.15");
    assert_true(number_of(find_check(tree, "data_small"), "figures", "images") == 128);
    check = find_check(tree, "ops");
    assert_true(number_of(check, "figures", "cases") == 49);
    assert_true(number_of(check, "figures", "most_of_tolerance") == 0.75);
    assert_string_equal(text_of(check, "figures", "most_of_tolerance_by"), "linear bf16");
    assert_true(number_of(find_check(tree, "sanitizer_memcheck"), "figures", "errors") == 0);
    assert_true(number_of(find_check(tree, "sanitizer_racecheck"), "figures", "hazards") == 0);
    yajl_tree_free(tree);
    const char *table = folder_read(folder, "out/gpu_check.md");
    expect_in_table(table, "| r50_batch_2_bf16 | passed | ");
    expect_in_table(table,
                    "| `bin/maskrcnn train --config configs/quickstart.yaml --weights '' --device cuda ");
    expect_in_table(table, "img_per_s 160.00; step_ms 12.50; ");
    expect_in_table(table, "| conv2d | 2.250 | 2.625 |");
    assert_non_null(strstr(ran.out, "| conv2d | 2.250 | 2.625 |"));
}

static void a_killed_run_has_a_report(void **state) {
    (void)state;
    mkdir(folder_path(folder, "killed"), 0777);
    folder_write(folder, "killed/gpu_check.jsonl",
                 "{\"name\": \"r50_batch_2_bf16\", \"status\": \"passed\", "
                 "\"seconds\": 12.0, \"figures\": {\"img_per_s\": 180.0}, "
                 "\"note\": \"\", \"command\": \"a | b\"}\n"
                 "{\"name\": \"torchvision_batch_2_bf16\", \"status\": \"passed\", "
                 "\"seconds\": 3.0, \"figures\": {\"img_per_s\": 45.0, "
                 "\"torch\": \"2.15\"}, \"note\": \"\", \"command\": \"t\"}\n"
                 "{\"name\": \"r50_batch_12_bf16\", \"status\": \"pas");
    run(0, SCRIPTS "gpu_check_report.sh~killed");
    assert_string_equal(ran.out, "2 passed, 0 failed, 0 skipped\n");
    yajl_val tree = read_json("killed");
    assert_int_equal(number_of(tree, "passed", NULL), 2);
    assert_string_equal(text_of(find_check(tree, "r50_batch_2_bf16"), "command", NULL), "a | b");
    yajl_tree_free(tree);
    const char *table = folder_read(folder, "killed/gpu_check.md");
    expect_in_table(table, "| r50_batch_2_bf16 | passed | 12.0 | img_per_s 180.0 | `a \\| b` |\n");
    expect_in_table(table, "| batch 2, bf16 | 180.0 | 45.0 | 4.00x |\n");
}

/* With a step that would take a minute: the run ends at once, the step too, and what was done before is in the report. */
static void a_stopped_run_ends_its_step(void **state) {
    (void)state;
    mkdir(folder_path(folder, "slow"), 0777);
    mkdir(folder_path(folder, "slow/bin"), 0777);
    folder_write(folder, "slow/bin/maskrcnn",
                 "#!/bin/sh\n[ \"$1\" = env ] || { echo $$ >step_pid; exec sleep 60; }\n");
    assert_int_equal(chmod(folder_path(folder, "slow/bin/maskrcnn"), 0777), 0);
    char line[1024];
    snprintf(line, sizeof line,
             "env~CUDA_VISIBLE_DEVICES=0~PATH=%s/system:/usr/local/bin:/usr/bin:/bin~timeout~3~" SCRIPTS
             "gpu_check.sh~--quick~--bundle~slow~--out~stopped",
             folder);
    run(124, line);
    if (ran.seconds > 20) fail_msg("it took %.1f s to stop", ran.seconds);
    yajl_val tree = read_json("stopped");
    find_check(tree, "env");
    yajl_tree_free(tree);
    int pid = atoi(folder_read(folder, "step_pid"));
    assert_true(pid > 1);
    for (int i = 0; i < 200 && kill(pid, 0) == 0; i++) usleep(50000);
    assert_int_not_equal(kill(pid, 0), 0);
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return 1;
    make_machine();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    char line[512];
    snprintf(line, sizeof line, "rm~-rf~%s", folder);
    run_program(&ran, "/tmp", line, 20.0);
    return ran.code;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_machine_without_a_gpu_is_told), cmocka_unit_test(wrong_calls_are_refused),
        cmocka_unit_test(every_step_is_run_and_read),      cmocka_unit_test(a_killed_run_has_a_report),
        cmocka_unit_test(a_stopped_run_ends_its_step),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
