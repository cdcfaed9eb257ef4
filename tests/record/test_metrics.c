#include "record/metrics.h"

#include "base/file_util.h"
#include "base/log.h"

#include <limits.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

static const char *const losses[] = {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"};
static char folder[64];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/test_metrics.XXXXXX");
    if (!mkdtemp(folder)) return -1;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/log.txt", folder);
    return log_open(path) == STATUS_OK ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    log_close();
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* Contents of a file of the folder; freed by the caller. */
static char *contents(const char *name) {
    char path[PATH_MAX], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (read_file(&text, &size, path, 1 << 24) != STATUS_OK) fail_msg("%s", error_cause());
    return text;
}

static void store(const char *name, const char *text) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(write_file_atomic(path, text, strlen(text)), STATUS_OK);
}

static metrics *open_metrics(int64_t start, int64_t end, int64_t period) {
    metrics_options options = {.output_dir = folder,
                               .loss_names = losses,
                               .loss_count = 5,
                               .start_iteration = start,
                               .max_iterations = end,
                               .log_period = period,
                               .images_per_batch = 8,
                               .ranks = 2};
    metrics *m;
    if (metrics_open(&m, &options) != STATUS_OK) fail_msg("%s", error_cause());
    return m;
}

/* Numbers that binary fractions hold exactly, so that sums and medians print short. */
static metrics_step step_at(int64_t iteration) {
    double i = (double)iteration;
    return (metrics_step){.iteration = iteration,
                          .losses = {1 + i, 0.5, 0.25, 0.125, 2 * i},
                          .lr = 0.01,
                          .grad_norm = i / 4,
                          .time = iteration < 2 ? 100 : 0.5,
                          .data_time = 0.25 * (double)(iteration % 2),
                          .rank_data_time = 0.125,
                          .skipped_images = iteration / 2};
}

static void run(int64_t start, int64_t end, int64_t max, int64_t period) {
    metrics *m = open_metrics(start, max, period);
    for (int64_t i = start; i < end; i++) {
        metrics_step step = step_at(i);
        metrics_add(m, &step);
    }
    if (end == max) metrics_log_summary(m);
    metrics_close(m);
}

static void lines_of_period_one_hold_each_iteration(void **state) {
    (void)state;
    run(0, 3, 3, 1);
    char *text = contents("metrics.json");
    assert_string_equal(text, "{\"data_time\": 0, \"eta_seconds\": 200, \"grad_norm\": 0, \"iteration\": 0, "
                              "\"loss_box_reg\": 0.5, \"loss_cls\": 1, "
                              "\"loss_mask\": 0.25, \"loss_rpn_cls\": 0.125, \"loss_rpn_loc\": 0, \"lr\": "
                              "0.01, \"rank_data_time\": 0.125, "
                              "\"skipped_images\": 0, \"time\": 100, \"total_loss\": 1.875}\n"
                              "{\"data_time\": 0.25, \"eta_seconds\": 100, \"grad_norm\": 0.25, "
                              "\"iteration\": 1, \"loss_box_reg\": 0.5, \"loss_cls\": 2, "
                              "\"loss_mask\": 0.25, \"loss_rpn_cls\": 0.125, \"loss_rpn_loc\": 2, \"lr\": "
                              "0.01, \"rank_data_time\": 0.125, "
                              "\"skipped_images\": 0, \"time\": 100, \"total_loss\": 4.875}\n"
                              "{\"data_time\": 0, \"eta_seconds\": 0, \"grad_norm\": 0.5, \"iteration\": 2, "
                              "\"loss_box_reg\": 0.5, \"loss_cls\": 3, "
                              "\"loss_mask\": 0.25, \"loss_rpn_cls\": 0.125, \"loss_rpn_loc\": 4, \"lr\": "
                              "0.01, \"rank_data_time\": 0.125, "
                              "\"skipped_images\": 1, \"time\": 0.5, \"total_loss\": 7.875}\n");
    free(text);
}

static void assert_matches(const char *text, const char *pattern) {
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE), 0);
    int missed = regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    if (missed) fail_msg("no line matches %s in\n%s", pattern, text);
}

static void longer_periods_show_medians(void **state) {
    (void)state;
    run(0, 50, 50, 20);
    char *text = contents("metrics.json");
    /* The last of 20, 40 and 50 iterations; medians over 0..19, 20..39 and 30..49. */
    assert_non_null(strstr(text, "\"iteration\": 19, \"loss_box_reg\": 0.5, \"loss_cls\": 10.5,"));
    assert_non_null(strstr(text, "\"iteration\": 39, \"loss_box_reg\": 0.5, \"loss_cls\": 30.5,"));
    assert_non_null(strstr(text, "\"iteration\": 49, \"loss_box_reg\": 0.5, \"loss_cls\": 40.5,"));
    assert_non_null(strstr(text, "\"skipped_images\": 24, \"time\": 0.5, \"total_loss\": 120.375}\n"));
    int lines = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++) lines++;
    assert_int_equal(lines, 3);
    free(text);
    text = contents("log.txt");
    assert_matches(
        text,
        "^\\[[0-9]{2}/[0-9]{2} [0-9:]{8} maskrcnn\\.events\\]:  eta: 0:00:05  iter: 39  total_loss: 90\\.38  "
        "loss_cls: 30\\.5  loss_box_reg: 0\\.5  loss_mask: 0\\.25  loss_rpn_cls: 0\\.125  loss_rpn_loc: 59   "
        " "
        "time: 0\\.5000  last_time: 0\\.5000  data_time: 0\\.1250  last_data_time: 0\\.2500   lr: 0\\.01  "
        "max_mem: [0-9]+M$");
    assert_matches(text, "\\]: Overall training speed: 48 iterations in 0:00:24 \\(0\\.5000 s / it\\)$");
    assert_matches(text, "\\]: Total training time: 0:00:0[0-9] \\(0:00:00 on hooks\\)$");
    assert_null(strstr(text, "throughput"));
    free(text);
}

static void resume_repeats_no_line(void **state) {
    (void)state;
    run(0, 4, 10, 1);
    char *whole = contents("metrics.json");
    run(2, 6, 10, 1);
    char *text = contents("metrics.json");
    const char *second_line_end = strchr(strchr(whole, '\n') + 1, '\n');
    assert_memory_equal(text, whole, (size_t)(second_line_end - whole) + 1);
    int64_t expected = 0;
    for (const char *p = text; (p = strstr(p, "\"iteration\": ")); p++)
        assert_int_equal(strtol(p + 13, NULL, 10), expected++);
    assert_int_equal(expected, 6);
    free(text);
    free(whole);
}

static void torn_and_foreign_lines_are_cut(void **state) {
    (void)state;
    store("metrics.json", "{\"iteration\": 0, \"lr\": 1}\n"
                          "garbage\n"
                          "{\"iteration\": x}\n"
                          "{\"iteration\": 1, \"lr\": 1}\n"
                          "{\"iteration\": 2, \"l");
    run(2, 2, 10, 1);
    char *text = contents("metrics.json");
    assert_string_equal(text, "{\"iteration\": 0, \"lr\": 1}\n{\"iteration\": 1, \"lr\": 1}\n");
    free(text);
    text = contents("log.txt");
    assert_matches(text, "metrics\\.json: cut 3 lines that do not come before iteration 2$");
    free(text);
}

static void throughput_is_told_at_iteration_500(void **state) {
    (void)state;
    metrics *m = open_metrics(0, 600, 20);
    for (int64_t i = 0; i < 600; i++) {
        metrics_step step = step_at(i);
        step.time = i < 100 || i >= 500 ? 50 : i % 2 ? 0.25 : 0.75;
        if (i == 499) {
            char *before = contents("log.txt");
            assert_null(strstr(before, "throughput"));
            free(before);
        }
        metrics_add(m, &step);
    }
    metrics_close(m);
    char *text = contents("log.txt");
    assert_matches(text, "\\]: throughput over iterations 100-500: 16\\.000 img/s \\(8\\.000 per rank\\)$");
    free(text);
}

static void throughput_of_a_resumed_run(void **state) {
    (void)state;
    run(300, 501, 501, 1000);
    char *text = contents("log.txt");
    assert_matches(text, "throughput over iterations 300-500: 16\\.000 img/s");
    free(text);
}

/* A disk that fills up in the middle of a line: training goes on, and no torn line stays. */
static void failed_write_leaves_whole_lines(void **state) {
    (void)state;
    metrics *m = open_metrics(0, 10, 1);
    metrics_step step = step_at(0);
    metrics_add(m, &step);
    char *before = contents("metrics.json");
    struct rlimit unlimited, tight;
    getrlimit(RLIMIT_FSIZE, &unlimited);
    tight = unlimited;
    tight.rlim_cur = strlen(before) + 100;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &tight);
    step = step_at(1);
    metrics_add(m, &step);
    setrlimit(RLIMIT_FSIZE, &unlimited);
    char *after = contents("metrics.json");
    assert_string_equal(after, before);
    free(after);
    step = step_at(2);
    metrics_add(m, &step);
    after = contents("metrics.json");
    assert_int_equal(strncmp(after, before, strlen(before)), 0);
    assert_int_equal(strncmp(after + strlen(before), "{\"data_time\": 0, ", 17), 0);
    free(after);
    free(before);
    metrics_close(m);
}

static void unusable_folder_is_reported(void **state) {
    (void)state;
    metrics_options options = {.output_dir = "/proc/nowhere",
                               .loss_names = losses,
                               .loss_count = 5,
                               .max_iterations = 1,
                               .log_period = 1,
                               .ranks = 1};
    metrics *m;
    assert_int_equal(metrics_open(&m, &options), STATUS_CANT_CREATE);
    assert_non_null(strstr(error_cause(), "/proc/nowhere/metrics.json"));
    assert_null(m);
}

static void durations_are_pythons(void **state) {
    (void)state;
    char text[48];
    metrics_format_duration(text, 20509.9);
    assert_string_equal(text, "5:41:49");
    metrics_format_duration(text, 0.3);
    assert_string_equal(text, "0:00:00");
    metrics_format_duration(text, 86401);
    assert_string_equal(text, "1 day, 0:00:01");
    metrics_format_duration(text, 3 * 86400 + 36000);
    assert_string_equal(text, "3 days, 10:00:00");
}

static void peak_memory_grows(void **state) {
    (void)state;
    double before = metrics_peak_memory_mib();
    size_t bytes = (size_t)(before + 64) << 20;
    char *block = malloc(bytes);
    for (size_t i = 0; i < bytes; i += 4096) ((volatile char *)block)[i] = 1;
    assert_true(metrics_peak_memory_mib() >= before + 60);
    free(block);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IN_FOLDER(lines_of_period_one_hold_each_iteration),
        IN_FOLDER(longer_periods_show_medians),
        IN_FOLDER(resume_repeats_no_line),
        IN_FOLDER(torn_and_foreign_lines_are_cut),
        IN_FOLDER(throughput_is_told_at_iteration_500),
        IN_FOLDER(throughput_of_a_resumed_run),
        IN_FOLDER(failed_write_leaves_whole_lines),
        cmocka_unit_test(unusable_folder_is_reported),
        cmocka_unit_test(durations_are_pythons),
        cmocka_unit_test(peak_memory_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
