/* `maskrcnn train --weights` with the weights of another class list, and with a file that says nothing of itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"
#include "train_sandbox.h"

/* A learning rate that changes no weight. */
#define STILL "~SOLVER.MAX_ITER~1~SOLVER.BASE_LR~1e-30"
#define FROM_START "~--weights~start/model_final.safetensors"
#define SCORE "roi_heads.box_predictor.cls_score.weight"
#define BOX "roi_heads.box_predictor.bbox_pred.weight"
#define MASK "roi_heads.mask_predictor.mask_fcn_logits.weight"

static char *was; /* the toy data set's annotations */

static void ok(status s) {
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

/* Writes NAME.json: the toy data set with its three categories named anew. */
static void write_renamed(const char *name, const char *const names[3]) {
    static const char *const old[] = {"\"rectangle\"", "\"diamond\"", "\"octagon\""};
    char *text = calloc(strlen(was) + 400, 1), *to = text;
    assert_non_null(text);
    for (const char *from = was; *from;) {
        int k = 0;
        while (k < 3 && strncmp(from, old[k], strlen(old[k])) != 0) k++;
        if (k == 3) {
            *to++ = *from++;
        } else {
            to += sprintf(to, "\"%s\"", names[k]);
            from += strlen(old[k]);
        }
    }
    sandbox_write(name, text, strlen(text));
    free(text);
}

/* Compares blocks of `rows` rows of a tensor of two runs: block `to` of OUT is block `from` of start, unless `from` is -1:
 * then it is another. */
static void assert_blocks(const char *out, const char *tensor, int rows, const int from[4]) {
    safetensors *a, *b;
    ok(safetensors_open(&a, sandbox_path("start/model_final.safetensors")));
    ok(safetensors_open(&b, sandbox_path("%s/model_final.safetensors", out)));
    const safetensors_tensor *x = safetensors_find(a, tensor), *y = safetensors_find(b, tensor);
    assert_non_null(x);
    assert_non_null(y);
    assert_int_equal(x->bytes, y->bytes);
    size_t block = x->bytes / (size_t)x->shape[0] * (size_t)rows;
    for (int to = 0; to < 4; to++) {
        int source = from[to] < 0 ? to : from[to];
        bool is_equal = memcmp((const char *)y->data + (size_t)to * block,
                               (const char *)x->data + (size_t)source * block, block) == 0;
        if (is_equal != (from[to] >= 0)) fail_msg("%s: block %d of %s", out, to, tensor);
    }
    safetensors_close(a);
    safetensors_close(b);
}

static void test_rows_follow_names(void **state) {
    (void)state;
    write_renamed("turned.json", (const char *const[]){"octagon", "Rectangle", "kite"});
    sandbox_train_well(0, "turned_out", STILL FROM_START "~DATASETS.TRAIN~turned.json:toy");
    assert_true(HAS_LINE(sandbox_run.out, "start anew", "cls_score", "bbox_pred", "mask_fcn_logits"));
    assert_true(HAS_LINE(sandbox_run.out, "2 of 3 classes copied by name: octagon, Rectangle"));
    assert_true(HAS_LINE(sandbox_run.out, "does not have, start anew: kite"));
    const int turned[] = {0, 3, 1, -1};
    assert_blocks("turned_out", SCORE, 1, turned);
    assert_blocks("turned_out", MASK, 1, turned);
    assert_blocks("turned_out", BOX, 4, turned);
}

static void test_other_names_start_anew(void **state) {
    (void)state;
    const int anew[] = {-1, -1, -1, -1};
    write_renamed("other.json", (const char *const[]){"cup", "kite", "ring"});
    sandbox_train_well(0, "other_out", STILL FROM_START "~DATASETS.TRAIN~other.json:toy");
    assert_true(HAS_LINE(sandbox_run.out, "none of the same name", "start anew", "cls_score"));
    assert_blocks("other_out", SCORE, 1, anew);
    sandbox_train_well(0, "never_out",
                       STILL FROM_START "~DATASETS.TRAIN~turned.json:toy~MODEL.COPY_CLASS_ROWS~False");
    assert_true(HAS_LINE(sandbox_run.out, "MODEL.COPY_CLASS_ROWS", "start anew", "cls_score"));
    assert_blocks("never_out", SCORE, 1, anew);
}

/* Writes NAME: one tensor of zeros, and nothing said of it. */
static void write_silent(const char *name, const char *tensor, int rank, const int64_t *shape) {
    safetensors_writer *w;
    int64_t count = 1;
    for (int i = 0; i < rank; i++) count *= shape[i];
    float *zeros = calloc((size_t)count, sizeof *zeros);
    assert_non_null(zeros);
    ok(safetensors_writer_new(&w, sandbox_path("%s", name)));
    safetensors_writer_metadata(w, "format", "pt");
    safetensors_writer_declare(w, tensor, SAFETENSORS_F32, rank, shape);
    status s = safetensors_writer_begin(w);
    if (s == STATUS_OK) s = safetensors_writer_append(w, zeros, (size_t)count * sizeof *zeros);
    ok(safetensors_writer_finish(w, s));
    free(zeros);
}

/* torchvision's rows are category ids: more of them than the data set has classes. */
static void test_rows_without_names_are_warned_of(void **state) {
    (void)state;
    write_silent("many.safetensors", SCORE, 2, (int64_t[]){6, 32});
    sandbox_train_well(0, "many_out", STILL "~--weights~many.safetensors~MODEL.ROI_HEADS.NUM_CLASSES~5");
    assert_true(HAS_LINE(sandbox_run.err, "WARNING", "does not name its 5 classes", "--class-names"));
    write_silent("as_many.safetensors", SCORE, 2, (int64_t[]){4, 32});
    sandbox_train_well(0, "as_many_out", STILL "~--weights~as_many.safetensors");
    assert_false(HAS_LINE(sandbox_run.err, "WARNING", "does not name"));
}

/* An ImageNet backbone as torchvision and timm save it. */
static void test_silent_files_are_warned_of(void **state) {
    (void)state;
    write_silent("bare.safetensors", "conv1.weight", 4, (int64_t[]){8, 3, 7, 7});
    sandbox_train_well(0, "bare_out", STILL "~--weights~bare.safetensors");
    assert_true(HAS_LINE(sandbox_run.err, "WARNING", "bare.safetensors", "INPUT.FORMAT RGB",
                         "MODEL.PIXEL_MEAN \"[123.675, 116.28, 103.53]\""));
    assert_false(HAS_LINE(sandbox_run.err, "WARNING", "STRIDE_IN_1X1")); /* a ResNet-18 has no choice */
    sandbox_train_well(0, "told_out",
                       STILL
                       "~--weights~bare.safetensors~INPUT.FORMAT~RGB~MODEL.PIXEL_MEAN~[123.675, 116.28, "
                       "103.53]~MODEL.PIXEL_STD~[58.395, 57.12, 57.375]");
    assert_false(HAS_LINE(sandbox_run.err, "WARNING", "bare.safetensors"));
}

static int make(void **state) {
    size_t size;
    if (sandbox_make(state)) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 6});
    was = sandbox_read("toy.json", &size);
    sandbox_train_well(0, "start", "~SOLVER.MAX_ITER~2");
    return 0;
}

static int clean(void **state) {
    free(was);
    return sandbox_remove(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_follow_names),
        cmocka_unit_test(test_other_names_start_anew),
        cmocka_unit_test(test_rows_without_names_are_warned_of),
        cmocka_unit_test(test_silent_files_are_warned_of),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
