/* `maskrcnn op` from outside: what it reads and writes, exit codes, and that messages name the culprit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/safetensors.h"
#include "run_program.h"

static char folder[] = "/tmp/test_op_command_XXXXXX";
static program_run result;
static const char *const message = result.err;

/* Runs `maskrcnn op` with the words of `line`; returns the exit code, stderr is in `message`. */
static int run(const char *line) {
    char words[2048];
    snprintf(words, sizeof words, "maskrcnn op %s", line);
    for (char *p = words; *p; p++)
        if (*p == ' ') *p = '~';
    run_program(&result, folder, words, 20);
    return result.code;
}

/* An array of a file: spec "name:F32:2,3" and its values: "ramp" (0, 1, 2, ...), or one number for all. */
typedef struct array {
    const char *spec, *fill;
} array;

static safetensors_dtype dtype_named(const char *name) {
    int dtype = 0;
    while (strcmp(safetensors_dtype_name((safetensors_dtype)dtype), name) != 0) dtype++;
    return (safetensors_dtype)dtype;
}

static status append_value(safetensors_writer *w, safetensors_dtype dtype, double value) {
    switch (dtype) {
    case SAFETENSORS_F64:
        return safetensors_writer_append(w, &value, 8);
    case SAFETENSORS_I32:
        return safetensors_writer_append(w, &(int32_t){(int32_t)value}, 4);
    case SAFETENSORS_U8:
        return safetensors_writer_append(w, &(uint8_t){(uint8_t)value}, 1);
    default:
        return safetensors_writer_append(w, &(float){(float)value}, 4);
    }
}

static void write_arrays(const char *path, const array *arrays) {
    safetensors_writer *w;
    assert_int_equal(safetensors_writer_new(&w, path), STATUS_OK);
    safetensors_writer_metadata(w, "made_by", "test");
    int64_t counts[8];
    safetensors_dtype dtypes[8];
    int n = 0;
    for (; arrays[n].spec; n++) {
        char name[64], type[8], sizes[64] = "";
        int64_t shape[SAFETENSORS_MAX_RANK];
        int rank = 0;
        assert_true(sscanf(arrays[n].spec, "%63[^:]:%7[^:]:%63s", name, type, sizes) >= 2);
        counts[n] = 1;
        for (char *next = *sizes ? sizes : NULL, *one; (one = strsep(&next, ","));)
            counts[n] *= shape[rank++] = atoll(one);
        dtypes[n] = dtype_named(type);
        safetensors_writer_declare(w, name, dtypes[n], rank, shape);
    }
    status s = safetensors_writer_begin(w);
    for (int i = 0; i < n; i++)
        for (int64_t k = 0; k < counts[i] && s == STATUS_OK; k++)
            s = append_value(w, dtypes[i],
                             strcmp(arrays[i].fill, "ramp") == 0 ? (double)k : atof(arrays[i].fill));
    assert_int_equal(safetensors_writer_finish(w, s), STATUS_OK);
}

/* `word` stands in the message with no letter, digit or _ beside it. */
static bool names(const char *word) {
    size_t n = strlen(word);
    for (const char *at = message; (at = strstr(at, word)); at++) {
        bool begins = at == message || !(isalnum((unsigned char)at[-1]) || at[-1] == '_');
        if (begins && !(isalnum((unsigned char)at[n]) || at[n] == '_')) return true;
    }
    return false;
}

typedef struct refusal {
    const char *arguments;
    array arrays[6];
    int code;
    const char *named[2];
} refusal;

#define ROI_ATTRS "--attr output_size=2 --attr spatial_scale=0.25 --attr sampling_ratio=2 --attr aligned=0"

#define PACK_ATTRS "--attr height=2 --attr width=2 --attr flip=0 --attr mean=1,2,3 --attr std=1,1,1"

static const refusal refusals[] = {
    /* the command line */
    {"no_such_op --in in --out out", {{NULL, NULL}}, 64, {"no_such_op"}},
    {"lineal --in in --out out", {{NULL, NULL}}, 64, {"linear"}},
    {"linear --in absent.safetensors --out out", {{NULL, NULL}}, 66, {"absent"}},
    {"linear --out out", {{NULL, NULL}}, 64, {"--in"}},
    {"--in in --out out", {{NULL, NULL}}, 64, {"NAME"}},
    {"linear --in in --out out --device gpu7", {{NULL, NULL}}, 64, {"gpu7"}},
    {"linear --in in --out out --attr rleu=1", {{"x:F32:2,3", "1"}, {"weight:F32:2,3", "1"}}, 64, {"relu"}},
    {"linear --in in --out out --attr relu", {{"x:F32:2,3", "1"}, {"weight:F32:2,3", "1"}}, 64, {"relu"}},
    {"linear --in in --out out --attr relu=2", {{"x:F32:2,3", "1"}, {"weight:F32:2,3", "1"}}, 64, {"relu"}},
    {"linear --in in --out out --attr relu=1 --attr relu=1",
     {{"x:F32:2,3", "1"}, {"weight:F32:2,3", "1"}},
     64,
     {"relu"}},
    {"group_norm --in in --out out --attr groups=two --attr eps=1e-5",
     {{"x:F32:1,2,2,4", "1"}},
     64,
     {"groups"}},
    {"group_norm --in in --out out --attr groups=1.5 --attr eps=1e-5",
     {{"x:F32:1,2,2,4", "1"}},
     64,
     {"groups"}},
    {"group_norm --in in --out out --attr groups=2 --attr eps=nan", {{"x:F32:1,2,2,4", "1"}}, 64, {"eps"}},
    /* missing, of another dtype, rank or size */
    {"linear --in in --out out", {{"weight:F32:2,3", "1"}}, 65, {"x"}},
    {"linear --in in --out out", {{"x:F32:2,3", "1"}}, 65, {"weight"}},
    {"linear --in in --out out", {{"x:F64:2,3", "1"}, {"weight:F32:2,3", "1"}}, 65, {"x"}},
    {"linear --in in --out out", {{"x:I32:2,3", "1"}, {"weight:I32:2,3", "1"}}, 65, {"x"}},
    {"linear --in in --out out", {{"x:F32:6", "1"}, {"weight:F32:2,3", "1"}}, 65, {"x"}},
    {"linear --in in --out out", {{"x:F32:1,1,1,1,2,3", "1"}, {"weight:F32:2,3", "1"}}, 65, {"x"}},
    {"linear --in in --out out", {{"x:F32:2,4", "1"}, {"weight:F32:2,3", "1"}}, 65, {"x", "weight"}},
    {"linear --in in --out out",
     {{"x:F32:2,3", "1"}, {"weight:F32:2,3", "1"}, {"bias:F32:3", "1"}},
     65,
     {"bias", "weight"}},
    {"linear --in in --out out",
     {{"x:F32:2,3", "1"}, {"weight:F32:2,3", "1"}, {"grad_y:F32:3,2", "1"}},
     65,
     {"grad_y", "y"}},
    {"linear --in in --out out",
     {{"x:F32:2,3", "1"}, {"weight:F32:2,3", "1"}, {"grad_y:F64:2,2", "1"}},
     65,
     {"grad_y"}},
    {"linear --in in --out out", {{"x:F32:4294967296,0", "1"}, {"weight:F32:4294967296,0", "1"}}, 65, {"x"}},
    {"linear --in in --out out", {{"x:F32:2147483647,0", "1"}, {"weight:F32:2147483647,0", "1"}}, 65, {"y"}},
    {"conv2d --in in --out out --attr stride=1 --attr pad=0 --attr dilation=1 --attr relu=0",
     {{"x:F32:1,4,4,3", "1"}, {"weight:F32:2,3,3,4", "1"}},
     65,
     {"x", "weight"}},
    {"conv2d --in in --out out --attr stride=0 --attr pad=0 --attr dilation=1 --attr relu=0",
     {{"x:F32:1,4,4,3", "1"}, {"weight:F32:2,3,3,3", "1"}},
     65,
     {"stride"}},
    {"conv2d --in in --out out --attr stride=1 --attr pad=-1 --attr dilation=1 --attr relu=0",
     {{"x:F32:1,4,4,3", "1"}, {"weight:F32:2,3,3,3", "1"}},
     65,
     {"pad"}},
    {"conv2d --in in --out out --attr stride=1 --attr pad=0 --attr dilation=1 --attr relu=0",
     {{"x:F32:1,2,2,3", "1"}, {"weight:F32:2,3,3,3", "1"}},
     65,
     {"x", "weight"}},
    {"conv2d --in in --out out --attr stride=1 --attr pad=0 --attr dilation=1 --attr relu=0",
     {{"x:F32:1,4,4,3", "1"}, {"weight:F32:2,3,3,3", "1"}, {"residual:F32:1,4,4,2", "1"}},
     65,
     {"residual", "x"}},
    {"conv2d_transpose --in in --out out --attr stride=2 --attr pad=0 --attr relu=0",
     {{"x:F32:1,4,4,3", "1"}, {"weight:F32:4,2,2,5", "1"}, {"bias:F32:5", "1"}},
     65,
     {"x", "weight"}},
    {"group_norm --in in --out out --attr groups=3 --attr eps=1e-5 --attr relu=0",
     {{"x:F32:1,2,2,4", "1"}, {"weight:F32:4", "1"}, {"bias:F32:4", "1"}},
     65,
     {"groups"}},
    {"frozen_batch_norm --in in --out out --attr eps=0 --attr relu=0",
     {{"x:F32:1,2,2,4", "1"},
      {"weight:F32:4", "1"},
      {"bias:F32:4", "1"},
      {"running_mean:F32:4", "0"},
      {"running_var:F32:3", "1"}},
     65,
     {"running_var", "x"}},
    {"nms --in in --out out --attr iou_threshold=0.5",
     {{"boxes:F32:3,4", "ramp"}, {"scores:F32:2", "1"}},
     65,
     {"boxes", "scores"}},
    {"nms --in in --out out --attr iou_threshold=0.5",
     {{"boxes:F32:3,5", "ramp"}, {"scores:F32:3", "1"}},
     65,
     {"boxes"}},
    {"nms --in in --out out --attr iou_threshold=0.5",
     {{"boxes:F32:3,4", "ramp"}, {"scores:F32:3", "1"}, {"groups:F32:3", "1"}},
     65,
     {"groups"}},
    {"nms --in in --out out --attr iou_threshold=0.5",
     {{"boxes:F32:3,4", "ramp"}, {"scores:F32:3", "1"}, {"groups:I32:4", "1"}},
     65,
     {"groups", "boxes"}},
    {"box_encode --in in --out out --attr weights=1,1,1",
     {{"boxes:F32:3,4", "ramp"}, {"reference:F32:3,4", "1"}},
     64,
     {"weights"}},
    {"box_encode --in in --out out --attr weights=1,1,1,1,1",
     {{"boxes:F32:3,4", "ramp"}, {"reference:F32:3,4", "1"}},
     64,
     {"weights"}},
    {"box_encode --in in --out out",
     {{"boxes:F32:3,4", "ramp"}, {"reference:F32:3,4", "1"}},
     64,
     {"weights"}},
    {"box_encode --in in --out out --attr weights=1,1,1,1",
     {{"boxes:F32:3,4", "ramp"}, {"reference:F32:2,4", "1"}},
     65,
     {"boxes", "reference"}},
    {"box_decode --in in --out out --attr weights=1,1,1,1",
     {{"deltas:F32:3,4", "ramp"}, {"reference:F32:2,4", "1"}},
     65,
     {"deltas", "reference"}},
    {"roi_align --in in --out out " ROI_ATTRS, {{"x:F32:2,4,4,3", "1"}, {"rois:F32:1,5", "2"}}, 65, {"rois"}},
    {"roi_align --in in --out out " ROI_ATTRS,
     {{"x:F32:2,4,4,3", "1"}, {"rois:F32:1,5", "-1"}},
     65,
     {"rois"}},
    {"roi_align --in in --out out " ROI_ATTRS,
     {{"x:F32:2,4,4,3", "1"}, {"rois:F32:1,5", "0.5"}},
     65,
     {"rois"}},
    {"roi_align --in in --out out " ROI_ATTRS,
     {{"x:F32:2,4,4,3", "1"}, {"rois:F32:1,5", "nan"}},
     65,
     {"rois"}},
    {"roi_align --in in --out out " ROI_ATTRS, {{"x:F32:2,4,4,3", "1"}, {"rois:F32:2,4", "0"}}, 65, {"rois"}},
    {"roi_align --in in --out out " ROI_ATTRS, {{"x:F32:0,4,4,3", "1"}, {"rois:F32:1,5", "0"}}, 65, {"rois"}},
    {"roi_align --in in --out out --attr output_size=0 --attr spatial_scale=0.25 --attr sampling_ratio=2 "
     "--attr aligned=0",
     {{"x:F32:2,4,4,3", "1"}, {"rois:F32:1,5", "0"}},
     65,
     {"output_size"}},
    {"roi_pool --in in --out out --attr output_size=2 --attr spatial_scale=1",
     {{"x:F32:2,4,4,3", "1"}, {"rois:F32:1,5", "1e9"}},
     65,
     {"rois"}},
    {"roi_align_fpn --in in --out out --attr output_size=2 --attr sampling_ratio=2 --attr aligned=0",
     {{"p2:F32:1,8,8,2", "1"},
      {"p3:F32:1,4,4,2", "1"},
      {"p4:F32:1,2,2,2", "1"},
      {"p5:F32:2,1,1,2", "1"},
      {"rois:F32:1,5", "0"}},
     65,
     {"p5", "p2"}},
    {"roi_align_fpn --in in --out out --attr output_size=2 --attr sampling_ratio=2 --attr aligned=0",
     {{"p2:F32:1,8,8,2", "1"},
      {"p3:F32:1,4,4,2", "1"},
      {"p4:F32:1,2,2,2", "1"},
      {"p5:F32:1,1,1,2", "1"},
      {"rois:F32:1,5", "7"}},
     65,
     {"rois"}},
    {"softmax_cross_entropy --in in --out out --attr normalizer=2",
     {{"logits:F32:2,3", "0"}, {"labels:I32:2", "3"}},
     65,
     {"labels"}},
    {"softmax_cross_entropy --in in --out out --attr normalizer=2",
     {{"logits:F32:2,3", "0"}, {"labels:I32:2", "-2"}},
     65,
     {"labels"}},
    {"softmax_cross_entropy --in in --out out --attr normalizer=2",
     {{"logits:F32:2,3", "0"}, {"labels:F32:2", "1"}},
     65,
     {"labels"}},
    {"softmax_cross_entropy --in in --out out --attr normalizer=2",
     {{"logits:F32:2,3", "0"}, {"labels:I32:3", "1"}},
     65,
     {"labels", "logits"}},
    {"softmax_cross_entropy --in in --out out",
     {{"logits:F32:2,3", "0"}, {"labels:I32:2", "1"}},
     64,
     {"normalizer"}},
    {"sigmoid_bce --in in --out out --attr normalizer=2",
     {{"logits:F32:3", "0"}, {"targets:F32:2", "1"}, {"weights:F32:3", "1"}},
     65,
     {"targets", "logits"}},
    {"sigmoid_bce --in in --out out --attr normalizer=2",
     {{"logits:F32:3", "0"}, {"targets:F32:3", "1"}, {"weights:F32:3", "1"}, {"grad_loss:F32:1", "1"}},
     65,
     {"grad_loss", "loss"}},
    {"smooth_l1 --in in --out out --attr beta=1 --attr normalizer=2",
     {{"pred:F32:3,4", "0"}, {"target:F32:3,4", "1"}, {"weights:F32:4", "1"}},
     65,
     {"weights", "pred"}},
    {"upsample_add --in in --out out",
     {{"top:F32:1,2,2,3", "0"}, {"lateral:F32:1,4,5,3", "1"}},
     65,
     {"lateral", "top"}},
    {"max_pool2d --in in --out out --attr kernel=0 --attr stride=1 --attr pad=0",
     {{"x:F32:1,4,4,2", "0"}},
     65,
     {"kernel"}},
    {"max_pool2d --in in --out out --attr kernel=3 --attr stride=2", {{"x:F32:4,4,2", "0"}}, 65, {"x"}},
    {"image_pack --in in --out out --attr order=BGR " PACK_ATTRS, {{"image:F32:4,4,3", "0"}}, 65, {"image"}},
    {"image_pack --in in --out out --attr order=BGR " PACK_ATTRS, {{"image:U8:4,4,1", "0"}}, 65, {"image"}},
    {"image_pack --in in --out out --attr order=BGR " PACK_ATTRS, {{"image:U8:4,4", "0"}}, 65, {"image"}},
    {"image_pack --in in --out out --attr order=BGR " PACK_ATTRS, {{"image:U8:0,4,3", "0"}}, 65, {"image"}},
    {"image_pack --in in --out out --attr order=GRB " PACK_ATTRS,
     {{"image:U8:4,4,3", "0"}},
     64,
     {"order", "RGB"}},
    {"image_pack --in in --out out --attr order=0,1,7 " PACK_ATTRS, {{"image:U8:4,4,3", "0"}}, 65, {"order"}},
};

static void refuses_with_the_culprits_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const refusal *r = &refusals[i];
        write_arrays("in", r->arrays);
        int code = run(r->arguments);
        if (code != r->code)
            fail_msg("case %zu, op %s: exit %d, expected %d: %s", i, r->arguments, code, r->code, message);
        for (int k = 0; k < 2; k++)
            if (r->named[k] && !names(r->named[k]))
                fail_msg("case %zu, op %s: \"%s\" does not name %s", i, r->arguments, message, r->named[k]);
        assert_true(strstr(message, "remedy") != NULL);
        assert_int_not_equal(access("out", F_OK), 0);
    }
    unlink("in");
}

static void damaged_input_is_refused(void **state) {
    (void)state;
    FILE *file = fopen("in", "wb");
    assert_non_null(file);
    fputs("{\"x\": 1}", file);
    fclose(file);
    assert_int_equal(run("linear --in in --out out"), 65);
    assert_true(names("in"));
    assert_int_equal(run("linear --in . --out out"), 65);
    unlink("in");
}

static const safetensors_tensor *expect(const safetensors *f, const char *name, const char *shape) {
    const safetensors_tensor *t = safetensors_find(f, name);
    if (!t) fail_msg("%s was not written", name);
    char text[SAFETENSORS_SHAPE_TEXT];
    assert_string_equal(safetensors_shape_text(text, t->shape, t->rank), shape);
    assert_int_equal(t->dtype, SAFETENSORS_F32);
    return t;
}

static void forward_alone_writes_no_gradients(void **state) {
    (void)state;
    write_arrays("in", (const array[]){{"x:F32:2,3", "ramp"},
                                       {"weight:F32:2,3", "1"},
                                       {"bias:F32:2", "0.5"},
                                       {"other:I32:3", "ramp"},
                                       {NULL, NULL}});
    if (run("linear --in in --out out --attr relu=1 --device cpu") != 0) fail_msg("%s", message);
    safetensors *f;
    assert_int_equal(safetensors_open(&f, "out"), STATUS_OK);
    assert_int_equal(safetensors_count(f), 1);
    float y[4];
    memcpy(y, expect(f, "y", "[2, 2]")->data, sizeof y);
    assert_true(y[0] == 3.5f && y[1] == 3.5f && y[2] == 12.5f && y[3] == 12.5f);
    safetensors_close(f);
    unlink("in");
    unlink("out");
}

static void no_rows_give_empty_outputs_and_zero_gradients(void **state) {
    (void)state;
    write_arrays("in", (const array[]){{"x:F32:0,3", "0"},
                                       {"weight:F32:2,3", "1"},
                                       {"bias:F32:2", "1"},
                                       {"grad_y:F32:0,2", "0"},
                                       {NULL, NULL}});
    if (run("linear --in in --out out --attr relu=0") != 0) fail_msg("%s", message);
    safetensors *f;
    assert_int_equal(safetensors_open(&f, "out"), STATUS_OK);
    expect(f, "y", "[0, 2]");
    expect(f, "grad_x", "[0, 3]");
    const float zeros[6] = {0};
    assert_memory_equal(expect(f, "grad_weight", "[2, 3]")->data, zeros, 24);
    assert_memory_equal(expect(f, "grad_bias", "[2]")->data, zeros, 8);
    safetensors_close(f);
    unlink("in");
    unlink("out");
}

static void output_that_cannot_be_written(void **state) {
    (void)state;
    write_arrays("in", (const array[]){{"x:F32:2,3", "ramp"}, {"weight:F32:2,3", "1"}, {NULL, NULL}});
    assert_int_equal(run("linear --in in --out no/such/folder/out"), 73);
    assert_true(strstr(message, "no/such/folder/out") != NULL);
    unlink("in");
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
        cmocka_unit_test(refuses_with_the_culprits_name),
        cmocka_unit_test(damaged_input_is_refused),
        cmocka_unit_test(forward_alone_writes_no_gradients),
        cmocka_unit_test(no_rows_give_empty_outputs_and_zero_gradients),
        cmocka_unit_test(output_that_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
