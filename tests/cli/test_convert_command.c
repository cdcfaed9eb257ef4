/* `maskrcnn convert`: today's names, float32, metadata kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
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

/* Class scores of two classes and the background, with metadata. */
static void write_detector(void) {
    safetensors_writer *w;
    assert_int_equal(safetensors_writer_new(&w, "detector.safetensors"), STATUS_OK);
    safetensors_writer_metadata(w, "class_names", "[\"old\"]");
    safetensors_writer_metadata(w, "class_ids", "[1]");
    safetensors_writer_metadata(w, "norm", "FrozenBN");
    safetensors_writer_declare(w, "roi_heads.box_predictor.cls_score.weight", SAFETENSORS_F32, 2,
                               (int64_t[]){3, 1});
    safetensors_writer_declare(w, "rpn.head.conv.bias", SAFETENSORS_F32, 1, (int64_t[]){1});
    status s = safetensors_writer_begin(w);
    if (s == STATUS_OK) s = safetensors_writer_append(w, (float[]){1, 2, 3, 4}, 16);
    assert_int_equal(safetensors_writer_finish(w, s), STATUS_OK);
}

static void assert_class_names(const char *expected) {
    safetensors *f;
    if (result.code != 0) fail_msg("%s", result.err);
    assert_int_equal(safetensors_open(&f, "named.safetensors"), STATUS_OK);
    assert_string_equal(safetensors_metadata(f, "class_names"), expected);
    assert_null(safetensors_metadata(f, "class_ids"));
    assert_string_equal(safetensors_metadata(f, "norm"), "FrozenBN");
    safetensors_close(f);
    unlink("named.safetensors");
}

static void write_text(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

#define NAME_IT "maskrcnn~convert~detector.safetensors~named.safetensors~--class-names~"

static void records_class_names(void **state) {
    (void)state;
    write_detector();
    run_program(&result, folder, NAME_IT "date, red fig", 20);
    assert_class_names("[\"date\", \"red fig\"]");
    assert_non_null(strstr(result.out, "Faster R-CNN"));
    assert_non_null(strstr(result.out, "before 0.13"));
    assert_non_null(strstr(result.out, "2 classes and the background, named by --class-names"));
    write_text("names.txt", "__background__\r\ndate\r\n\n caf\xc3\xa9, \"black\" \n");
    run_program(&result, folder, NAME_IT "names.txt", 20);
    assert_class_names("[\"date\", \"caf\xc3\xa9, \\\"black\\\"\"]");
    run_program(&result, folder, NAME_IT "date", 20);
    assert_int_equal(result.code, 65);
    assert_non_null(strstr(result.err, "gives 1 names, but the file has 2 classes"));
    run_program(&result, folder, NAME_IT "date,,fig", 20);
    assert_int_equal(result.code, 64);
    write_text("names.txt", "\n\n");
    run_program(&result, folder, NAME_IT "names.txt", 20);
    assert_int_equal(result.code, 64);
    write_text("names.txt", "date\n\xff\n");
    run_program(&result, folder, NAME_IT "names.txt", 20);
    assert_int_equal(result.code, 64);
    write_old("fc.bias");
    run_program(&result, folder, "maskrcnn~convert~in.safetensors~named.safetensors~--class-names~a", 20);
    assert_int_equal(result.code, 65);
    assert_non_null(strstr(result.err, "cls_score"));
    assert_int_not_equal(access("named.safetensors", F_OK), 0);
    write_old("proposal_generator.rpn_head.conv.weight");
    run_program(&result, folder, "maskrcnn~convert~in.safetensors~named.safetensors", 20);
    assert_int_equal(result.code, 65);
    assert_non_null(strstr(result.err, "scripts/convert_weights.py"));
    unlink("names.txt");
    unlink("in.safetensors");
    unlink("detector.safetensors");
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
        cmocka_unit_test(records_class_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
