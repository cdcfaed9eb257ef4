/* `maskrcnn bench train` from outside: what it writes adds up, on one rank and on two, and nothing else is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json_tree.h"
#include "run_program.h"

#define CONFIG TEST_SOURCE_DIR "/configs/quickstart.yaml"
#define SMALL "~INPUT.MIN_SIZE_TRAIN~(64,)~INPUT.MAX_SIZE_TRAIN~96~SEED~3"
#define TWO_RANKS "mpirun~--allow-run-as-root~--oversubscribe~-n~2~"

static char folder[] = "/tmp/test_bench_train_XXXXXX";
static program_run result;

static int run(const char *before, const char *line) {
    char words[4096];
    snprintf(words, sizeof words, "env~TMPDIR=%s/tmp~%smaskrcnn~bench~train~%s", folder, before, line);
    run_program(&result, folder, words, 120);
    return result.code;
}

static int count_files(const char *name) {
    char path[128];
    int count = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* Runs it with `--json f.json`, which must end well and leave only that. */
static yajl_val bench(const char *before, const char *line) {
    char words[2048], path[64];
    snprintf(words, sizeof words, "--json~f.json~--config~" CONFIG "~%s" SMALL, line);
    if (run(before, words) != 0) fail_msg("exit code %d: %s", result.code, result.err);
    assert_int_equal(count_files("tmp"), 0);
    assert_int_equal(count_files(""), 3); /* tmp, data, f.json */
    snprintf(path, sizeof path, "%s/f.json", folder);
    return json_tree_read(path);
}

static void expect_list(yajl_val tree, const char *key, const int *values, int count) {
    int length;
    yajl_val *list = json_tree_list(tree, key, &length);
    assert_int_equal(length, count);
    for (int i = 0; i < count; i++) assert_int_equal(YAJL_GET_INTEGER(list[i]), values[i]);
}

static double sum_of(yajl_val object) {
    double sum = 0;
    assert_true(YAJL_IS_OBJECT(object) && YAJL_GET_OBJECT(object)->len > 0);
    for (size_t i = 0; i < YAJL_GET_OBJECT(object)->len; i++) {
        double value = YAJL_GET_DOUBLE(YAJL_GET_OBJECT(object)->values[i]);
        assert_true(value >= 0);
        sum += value;
    }
    return sum;
}

static void expect_near(const char *what, double actual, double expected) {
    if (!(fabs(actual - expected) <= 0.05 * expected)) fail_msg("%s: %g, not %g", what, actual, expected);
}

static void expect_sums(yajl_val tree, int images) {
    static const char *const stages[] = {"data", "copy", "forward", "backward", "allreduce", "optimizer"};
    double step = json_tree_positive(tree, "step_ms");
    yajl_val all = json_tree_find(tree, "stages_ms");
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        assert_true(json_tree_number(all, stages[i]) >= 0);
    expect_near("the stages", sum_of(all), step);
    expect_near("forward", sum_of(json_tree_find(tree, "forward_ms")), json_tree_number(all, "forward"));
    expect_near("backward", sum_of(json_tree_find(tree, "backward_ms")), json_tree_number(all, "backward"));
    expect_near("images per second", json_tree_positive(tree, "img_per_s"), 1e3 * images / step);
    json_tree_positive(json_tree_find(tree, "forward_ms"), "roi_mask");
    json_tree_positive(json_tree_find(tree, "backward_ms"), "roi_mask");
    json_tree_positive(json_tree_find(tree, "forward_ms"), "backbone");
}

static void generated_pictures_are_trained_on(void **state) {
    (void)state;
    yajl_val tree = bench("", "--synthetic~--warmup~1~--iters~4");
    expect_sums(tree, 4);
    expect_list(tree, "iterations", (int[]){1, 5}, 2);
    expect_list(tree, "batch_shape", (int[]){4, 64, 96, 3}, 4);
    assert_true(json_tree_number(tree, "ranks") == 1);
    json_tree_positive(tree, "peak_rss_mib");
    assert_string_equal(json_tree_text(tree, "device"), "cpu");
    assert_string_equal(json_tree_text(tree, "precision"), "fp32");
    yajl_val counts = json_tree_find(tree, "per_image");
    assert_true(json_tree_positive(counts, "objects") <= 4 && json_tree_positive(counts, "positives") <= 16);
    assert_true(json_tree_positive(counts, "proposals") <= 200 && json_tree_positive(counts, "rois") <= 64);
    assert_string_equal(json_tree_text(json_tree_find(tree, "machine"), "device"), "cpu");
    static const char *const words[] = {"iterations 1-5", "img/s", "backbone", "allreduce", "positives"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) assert_non_null(strstr(result.out, words[i]));
    yajl_tree_free(tree);
}

static void two_ranks_share_a_batch(void **state) {
    (void)state;
    yajl_val tree = bench(TWO_RANKS, "--synthetic~--warmup~1~--iters~4");
    expect_sums(tree, 4);
    assert_true(json_tree_number(tree, "ranks") == 2);
    expect_list(tree, "batch_shape", (int[]){2, 64, 96, 3}, 4);
    int ranks;
    json_tree_list(tree, "per_rank", &ranks);
    assert_int_equal(ranks, 2);
    json_tree_positive(tree, "allreduce_total_ms");
    json_tree_positive(json_tree_find(tree, "stages_ms"), "allreduce");
    assert_string_equal(json_tree_text(tree, "sums_over"), "mpi");
    yajl_tree_free(tree);
}

static void a_dataset_is_trained_on(void **state) {
    (void)state;
    yajl_val tree = bench("", "--warmup~0~--iters~3~DATASETS.TRAIN~data/annotations.json:data/images");
    expect_sums(tree, 4);
    expect_list(tree, "iterations", (int[]){0, 3}, 2);
    assert_true(YAJL_IS_FALSE(json_tree_find(tree, "synthetic")));
    yajl_tree_free(tree);
}

/* Pictures of training, files of an evaluation. */
static void killed_runs_leave_nothing(void **state) {
    (void)state;
    static const char *const lines[] = {"train~--config~" CONFIG "~--synthetic~--iters~1000000" SMALL,
                                        "eval~--synthetic~1000000"};
    for (int k = 0; k < 2; k++) {
        char words[1024];
        snprintf(words, sizeof words, "env~TMPDIR=%s/tmp~maskrcnn~bench~%s", folder, lines[k]);
        run_program(&result, folder, words, 3);
        assert_int_equal(result.code, RUN_TIMED_OUT);
        for (int i = 0; i < 100 && count_files("tmp") > 0; i++) usleep(100000);
        assert_int_equal(count_files("tmp"), 0);
    }
}

/* The default learning rate makes this one infinite; generated pictures are looked at without learning. */
static void losses_that_are_not_finite_end_it(void **state) {
    (void)state;
    assert_int_equal(run("",
                         "--config~" CONFIG "~--warmup~0~--iters~40~SOLVER.BASE_LR~1e20~SOLVER.WARMUP_ITERS~0"
                         "~DATASETS.TRAIN~data/annotations.json:data/images" SMALL),
                     79);
    assert_non_null(strstr(result.err, "not finite"));
    yajl_val tree = bench("", "--synthetic~--warmup~0~--iters~4~SOLVER.BASE_LR~1e20~SOLVER.WARMUP_ITERS~0");
    yajl_tree_free(tree);
}

static void wrong_calls_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *line, *word;
        int code;
    } calls[] = {{"--synthetic", "--config", 64},
                 {"--config~" CONFIG "~--iters~0", "--iters", 64},
                 {"--config~" CONFIG "~--iters~x", "--iters", 64},
                 {"--config~missing.yaml~--synthetic", "missing.yaml", 66},
                 {"--config~" CONFIG "~--synthetic~--json~no/f.json", "no/f.json", 73},
                 {"--config~" CONFIG "~DATASETS.TRAIN~nothing", "nothing", 78},
                 {"--config~" CONFIG "~DATASETS.TRAIN~()", "DATASETS.TRAIN", 78},
                 {"--config~" CONFIG "~--synthetic~--weights~none.safetensors", "none.safetensors", 66}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int code = run("", calls[i].line);
        if (code != calls[i].code || !strstr(result.err, calls[i].word) || result.seconds > 20)
            fail_msg("%s: exit code %d in %.1f s: %s", calls[i].line, code, result.seconds, result.err);
        assert_int_equal(count_files("tmp"), 0);
    }
}

static int make_folder(void **state) {
    (void)state;
    char path[64];
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/tmp", folder);
    if (mkdir(path, 0777) != 0) return -1;
    run_program(&result, folder, "maskrcnn~synth~--out~data~--images~6~--width~96~--height~64", 60);
    return result.code;
}

static int remove_folder(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generated_pictures_are_trained_on),
        cmocka_unit_test(two_ranks_share_a_batch),
        cmocka_unit_test(a_dataset_is_trained_on),
        cmocka_unit_test(losses_that_are_not_finite_end_it),
        cmocka_unit_test(killed_runs_leave_nothing),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
