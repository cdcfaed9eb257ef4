/* `maskrcnn bench` from outside: that the commands run, and what they write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    bench("op~roi_align~--case~map8_batch8_rois100~--threads~1");
    assert_int_equal(strncmp(behind(json, "op"), "\"roi_align\"", 11), 0);
    const char *cases = behind(json, "cases");
    is_positive(cases, "forward_ms");
    is_positive(cases, "backward_ms");
    is_positive(cases, "forward_gflop");
    is_positive(cases, "forward_peak_share");
    is_positive(behind(json, "machine"), "memory_gb_per_s");
    is_positive(json, "peak_rss_mib");
    static const char *const kernels[] = {"bands", "reference_f32", "naive_loop"};
    for (int i = 0; i < 3; i++) {
        assert_non_null(strstr(result.out, kernels[i]));
        assert_non_null(strstr(behind(json, "kernels"), kernels[i]));
    }
    assert_non_null(strstr(result.out, "map8_batch8_rois1000"));
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
    bench("op~nms~--case~boxes_2000~--variant~sorted");
    is_positive(behind(json, "cases"), "forward_ms");
    assert_int_equal(strncmp(behind(json, "backward_ms"), "null", 4), 0);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char path[64];
    snprintf(path, sizeof path, "%s/f.json", folder);
    unlink(path);
    free(json);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(op_has_forward_and_backward),
        cmocka_unit_test(op_forward_only),
        cmocka_unit_test(op_without_gradient),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
