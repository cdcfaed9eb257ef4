/* `maskrcnn bench` from outside: that the commands run, and what they write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file_util.h"
#include "run_program.h"

static char folder[] = "/tmp/test_bench_command_XXXXXX";
static program_run result;
static char *json;

/* Runs `maskrcnn bench LINE --json f.json` (words separated by '~'), which must end well, and reads the file. */
static void bench(const char *line) {
    char words[2048], path[64];
    size_t size;
    snprintf(words, sizeof words, "maskrcnn~bench~%s~--json~f.json", line);
    run_program(&result, folder, words, 120);
    if (result.code != 0) fail_msg("bench %s: exit code %d: %s", line, result.code, result.err);
    assert_string_equal(result.err, "");
    free(json);
    snprintf(path, sizeof path, "%s/f.json", folder);
    assert_int_equal(read_file(&json, &size, path, 1 << 20), STATUS_OK);
}

/* What follows `"key": ` behind `from`; fails where there is none. */
static const char *behind(const char *from, const char *key) {
    char text[64];
    snprintf(text, sizeof text, "\"%s\": ", key);
    const char *at = strstr(from, text);
    if (!at) fail_msg("no %s in %s", text, from);
    return at + strlen(text);
}

static void is_positive(const char *from, const char *key) {
    double value = atof(behind(from, key));
    if (!(value > 0 && isfinite(value))) fail_msg("%s is %g", key, value);
}

static void op_has_forward_and_backward(void **state) {
    (void)state;
    bench("op~roi_align~--case~map8_batch8_rois10");
    assert_int_equal(strncmp(behind(json, "op"), "\"roi_align\"", 11), 0);
    const char *cases = behind(json, "cases");
    is_positive(cases, "forward_ms");
    is_positive(cases, "backward_ms");
    is_positive(cases, "forward_gflop");
    is_positive(cases, "forward_peak_share");
    is_positive(behind(json, "machine"), "memory_gb_per_s");
    is_positive(json, "peak_rss_mib");
    assert_int_equal(strncmp(behind(json, "precision"), "\"fp32\"", 6), 0);
    static const char *const kernels[] = {"bands", "reference_f32", "naive_loop"};
    for (int i = 0; i < 3; i++) {
        assert_non_null(strstr(result.out, kernels[i]));
        assert_non_null(strstr(behind(json, "kernels"), kernels[i]));
    }
    assert_null(strstr(result.out, "map8_batch8_rois100")); /* a whole name is one case */
}

static void op_forward_only(void **state) {
    (void)state;
    bench("op~roi_pool~--case~map8_batch8_rois10~--forward-only~--variant~naive_loop");
    is_positive(behind(json, "cases"), "forward_ms");
    assert_int_equal(strncmp(behind(json, "backward_ms"), "null", 4), 0);
    assert_null(strstr(json, "reference_f32"));
}

static void op_without_gradient(void **state) {
    (void)state;
    bench("op~nms~--case~s_2000~--variant~sorted");
    is_positive(behind(json, "cases"), "forward_ms");
    assert_int_equal(strncmp(behind(json, "backward_ms"), "null", 4), 0);
    assert_non_null(strstr(result.out, "boxes_2000"));
}

static void loader_counts_images_and_processes(void **state) {
    (void)state;
    bench("loader~--annotations~shapes/annotations.json~--images~shapes/"
          "images~--workers~2~--epochs~3~SOLVER.IMS_"
          "PER_BATCH~4~INPUT.MIN_SIZE_TRAIN~(64,)~DATALOADER.ASPECT_RATIO_GROUPING~False");
    is_positive(json, "img_per_s");
    is_positive(json, "img_per_s_with_transform");
    assert_int_equal(atoi(behind(json, "images")), 24);
    assert_int_equal(atoi(behind(json, "workers")), 2);
    static const char *const stages[] = {"read", "decode", "annotations", "ring", "transform"};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++)
        assert_true(atof(behind(behind(json, "stages_ms"), stages[i])) >= 0);
    is_positive(behind(json, "stages_ms"), "decode");
    const char *processes = behind(json, "processes");
    int workers = 0;
    for (const char *at = processes; (at = strstr(at, "\"worker\"")); at++, workers++)
        is_positive(at, "rss_mib");
    assert_int_equal(workers, 2);
    assert_non_null(strstr(processes, "\"rank\""));
}

/* In one process, and images without any annotation. */
static void loader_needs_no_annotations(void **state) {
    (void)state;
    char path[64], *text;
    size_t size;
    snprintf(path, sizeof path, "%s/shapes/annotations.json", folder);
    assert_int_equal(read_file(&text, &size, path, 1 << 20), STATUS_OK);
    char *list = strstr(text, "\"annotations\": ["), *next = strstr(text, "\"categories\"");
    assert_non_null(list);
    assert_non_null(next);
    assert_true(next > list);
    snprintf(path, sizeof path, "%s/bare.json", folder);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    fprintf(to, "%.*s\"annotations\": [], %s", (int)(list - text), text, next);
    fclose(to);
    free(text);
    bench("loader~--annotations~bare.json~--images~shapes/"
          "images~--workers~0~SOLVER.IMS_PER_BATCH~2~INPUT.MIN_SIZE_"
          "TRAIN~(64,)");
    assert_int_equal(atoi(behind(json, "images")), 8);
    assert_null(strstr(json, "\"worker\""));
}

static int make_folder(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    run_program(&result, folder, "maskrcnn~synth~--out~shapes~--images~8~--width~64~--height~64", 20);
    return result.code;
}

#define TOY                                                                                                  \
    "--config~" TEST_SOURCE_DIR "/configs/quickstart.yaml~MODEL.WEIGHTS~~MODEL.DEVICE~cpu~INPUT.MIN_SIZE_"   \
    "TEST~64~INPUT.MAX_SIZE_TEST~96"

/* The stages of a prediction make up the step. */
static void stages_add_up(const char *from) {
    static const char *const stages[] = {"preprocess", "backbone", "rpn", "roi", "mask_post"};
    double sum = 0, step = atof(behind(from, "step_ms"));
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        double ms = atof(behind(behind(from, "stages_ms"), stages[i]));
        assert_true(ms >= 0);
        sum += ms;
    }
    if (!(sum > 0.5 * step && sum < 1.05 * step)) fail_msg("stages of %g ms, a step of %g ms", sum, step);
}

static void predict_of_drawn_images(void **state) {
    (void)state;
    bench("predict~--synthetic~--warmup~1~--iters~2~--size~96x64~--size~64x160~" TOY);
    is_positive(json, "img_per_s");
    is_positive(json, "detections");
    stages_add_up(json);
    const char *sizes = behind(json, "sizes");
    assert_int_equal(strncmp(behind(sizes, "image"), "[96, 64]", 8), 0);
    assert_int_equal(strncmp(behind(sizes, "resized"), "[96, 64]", 8), 0);
    assert_non_null(strstr(sizes, "[64, 160]"));
    assert_int_equal(strncmp(behind(json, "iterations"), "[1, 2]", 6), 0);
    assert_int_equal(strncmp(behind(json, "precision"), "\"fp32\"", 6), 0);
    assert_int_equal(strncmp(behind(json, "raw_masks"), "false", 5), 0);
    assert_non_null(strstr(result.out, "mask post"));
}

static void predict_of_a_file_with_raw_masks(void **state) {
    (void)state;
    bench("predict~--iters~2~--raw-masks~shapes/images/000001.jpg~" TOY);
    is_positive(json, "img_per_s");
    stages_add_up(json);
    assert_int_equal(strncmp(behind(json, "resized"), "[64, 64]", 8), 0);
    assert_int_equal(strncmp(behind(json, "raw_masks"), "true", 4), 0);
}

static void eval_of_made_up_files(void **state) {
    (void)state;
    bench("eval~--synthetic~20~--iters~2");
    assert_int_equal(atoi(behind(json, "images")), 20);
    is_positive(json, "objects");
    is_positive(json, "load_results_ms");
    const char *boxes = strstr(behind(json, "types"), "\"bbox\""), *masks = strstr(json, "\"segm\"");
    assert_non_null(boxes);
    assert_non_null(masks);
    const char *const types[] = {boxes, masks};
    for (int i = 0; i < 2; i++) {
        double ap = atof(behind(types[i], "AP"));
        assert_true(ap > 0.05 && ap < 0.9);
        is_positive(types[i], "detections_per_s");
        is_positive(behind(types[i], "stages_ms"), "match");
    }
}

static void made_up_files_can_be_kept(void **state) {
    (void)state;
    bench("eval~--synthetic~20~--iters~1~--iou-type~segm~--keep~kept");
    double ap = atof(behind(json, "AP")), objects = atof(behind(json, "objects"));
    bench("eval~--iters~1~--iou-type~segm~--annotations~kept/annotations.json~--results~kept/results.json");
    assert_true(atof(behind(json, "AP")) == ap);
    assert_true(atof(behind(json, "objects")) == objects);
}

static void eval_of_files(void **state) {
    (void)state;
    bench("eval~--iou-type~bbox~--iters~1~--annotations~" TEST_SOURCE_DIR
          "/tests/golden/eval_mixed_gt.json~--results~" TEST_SOURCE_DIR "/tests/golden/eval_mixed_dt.json");
    is_positive(json, "images");
    assert_null(strstr(json, "\"segm\""));
}

static void allreduce_of_two_ranks(void **state) {
    (void)state;
    char path[64];
    size_t size;
    run_program(&result, folder,
                "mpirun~--allow-run-as-root~--oversubscribe~-n~2~" TEST_PROGRAM
                "~bench~allreduce~--max-kib~64~--json~f.json",
                120);
    if (result.code != 0) fail_msg("exit code %d: %s", result.code, result.err);
    free(json);
    snprintf(path, sizeof path, "%s/f.json", folder);
    assert_int_equal(read_file(&json, &size, path, 1 << 20), STATUS_OK);
    assert_int_equal(atoi(behind(json, "ranks")), 2);
    static const char *const names[] = {"\"F32_4096\"",  "\"F32_16384\"",  "\"F32_65536\"",
                                        "\"BF16_4096\"", "\"BF16_16384\"", "\"BF16_65536\""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *one = strstr(json, names[i]);
        if (!one) fail_msg("no %s in %s", names[i], json);
        is_positive(one, "time_ms");
        double algorithm = atof(behind(one, "algorithm_gb_per_s")), bus = atof(behind(one, "bus_gb_per_s"));
        assert_true(algorithm > 0 && fabs(bus - algorithm) <= 1e-6 * bus); /* two ranks: 2 (n - 1) / n is 1 */
    }
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static int remove_folder(void **state) {
    (void)state;
    free(json);
    return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(op_has_forward_and_backward),
        cmocka_unit_test(op_forward_only),
        cmocka_unit_test(op_without_gradient),
        cmocka_unit_test(loader_counts_images_and_processes),
        cmocka_unit_test(loader_needs_no_annotations),
        cmocka_unit_test(predict_of_drawn_images),
        cmocka_unit_test(predict_of_a_file_with_raw_masks),
        cmocka_unit_test(eval_of_made_up_files),
        cmocka_unit_test(made_up_files_can_be_kept),
        cmocka_unit_test(eval_of_files),
        cmocka_unit_test(allreduce_of_two_ranks),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
