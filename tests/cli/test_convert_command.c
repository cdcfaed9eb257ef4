/* `maskrcnn convert`: today's names, float32, metadata kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/safetensors.h"
#include "run_program.h"

static char folder[] = "/tmp/test_convert_command_XXXXXX";
static program_run result;

static void write_old(const char *twin) {
    safetensors_writer *w;
    assert_int_equal(safetensors_writer_new(&w, "in.safetensors"), STATUS_OK);
    safetensors_writer_metadata(w, "input_order", "RGB");
    safetensors_writer_declare(w, "rpn.head.conv.bias", SAFETENSORS_F64, 1, (int64_t[]){2});
    safetensors_writer_declare(w, "bn1.num_batches_tracked", SAFETENSORS_I64, 0, NULL);
    safetensors_writer_declare(w, "conv1.weight", SAFETENSORS_F32, 1, (int64_t[]){1});
    safetensors_writer_declare(w, twin, SAFETENSORS_F32, 1, (int64_t[]){1});
    status s = safetensors_writer_begin(w);
    if (s == STATUS_OK) s = safetensors_writer_append(w, (double[]){0.1, -2}, 16);
    if (s == STATUS_OK) s = safetensors_writer_append(w, (int64_t[]){5}, 8);
    if (s == STATUS_OK) s = safetensors_writer_append(w, (float[]){7, 8}, 8);
    assert_int_equal(safetensors_writer_finish(w, s), STATUS_OK);
}

static void writes_todays_names(void **state) {
    (void)state;
    write_old("fc.bias");
    run_program(&result, folder, "maskrcnn~convert~in.safetensors~out.safetensors", 20);
    if (result.code != 0) fail_msg("%s", result.err);
    assert_non_null(strstr(result.out, "2 tensors written, 2 left out"));
    safetensors *f;
    assert_int_equal(safetensors_open(&f, "out.safetensors"), STATUS_OK);
    assert_int_equal(safetensors_count(f), 2);
    assert_string_equal(safetensors_metadata(f, "input_order"), "RGB");
    assert_string_equal(safetensors_metadata(f, "format"), "pt");
    const safetensors_tensor *t = safetensors_find(f, "rpn.head.conv.0.0.bias");
    assert_non_null(t);
    assert_int_equal(t->dtype, SAFETENSORS_F32);
    const float expected[] = {0.1f, -2};
    assert_memory_equal(t->data, expected, 8);
    assert_non_null(safetensors_find(f, "backbone.body.conv1.weight"));
    safetensors_close(f);
    unlink("out.safetensors");
}

static void refuses_what_it_cannot_read(void **state) {
    (void)state;
    write_old("rpn.head.conv.0.0.bias");
    run_program(&result, folder, "maskrcnn~convert~in.safetensors~out.safetensors", 20);
    assert_int_equal(result.code, 65);
    assert_non_null(strstr(result.err, "rpn.head.conv.bias and rpn.head.conv.0.0.bias"));
    run_program(&result, folder, "maskrcnn~convert~absent.pth~out.safetensors", 20);
    assert_int_equal(result.code, 66);
    run_program(&result, folder, "maskrcnn~convert~in.safetensors", 20);
    assert_int_equal(result.code, 64);
    assert_int_not_equal(access("out.safetensors", F_OK), 0);
    unlink("in.safetensors");
}

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) ? chdir(folder) : -1;
}

static int tear_down(void **state) {
    (void)state;
    return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_todays_names),
        cmocka_unit_test(refuses_what_it_cannot_read),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
