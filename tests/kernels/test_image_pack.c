/* Resizing must be Pillow's to the last bit: tests/golden/pillow_resize.bin, made with scripts/make_golden.py
 * pillow_resize (which says what it holds). That the kernels agree with each other is test_ops' business. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file_util.h"
#include "image_pack/image_pack.h"

static void run(tensor *y, tensor *image, tensor *table, const image_pack_params *params) {
    op_call call = {.op = &image_pack_op, .params = params, .in = {image, table}, .out = {y}};
    assert_int_equal(op_infer(&call), STATUS_OK);
    assert_int_equal(image_pack_op.validate(&call), STATUS_OK);
    y->data = malloc(tensor_bytes(y));
    const op_kernel *kernel = op_cpu_kernel(&call);
    call.scratch = aligned_alloc(64, (kernel->scratch_bytes(&call, false) + 63) / 64 * 64);
    kernel->forward(&call);
    free(call.scratch);
}

static void equals_pillow(void **state) {
    (void)state;
    char *file;
    size_t size;
    assert_int_equal(read_file(&file, &size, TEST_SOURCE_DIR "/tests/golden/pillow_resize.bin", 1 << 20),
                     STATUS_OK);
    int cases = 0;
    for (size_t at = 0; at < size; cases++) {
        int32_t sides[4];
        memcpy(sides, file + at, sizeof sides);
        at += sizeof sides;
        tensor image = tensor_make("image", DTYPE_U8, 3, (int64_t[]){sides[0], sides[1], 3}, file + at),
               y = {0};
        at += tensor_bytes(&image);
        const uint8_t *expected = (const uint8_t *)file + at;
        size_t count = (size_t)sides[2] * (size_t)sides[3] * 3;
        at += count;
        image_pack_params params = {
            .height = sides[2], .width = sides[3], .antialias = true, .std = {1, 1, 1}, .order = {0, 1, 2}};
        run(&y, &image, NULL, &params);
        for (size_t i = 0; i < count; i++)
            if (tensor_f32(&y)[i] != (float)expected[i])
                fail_msg("case %d: value %zu is %g, not %d", cases, i, (double)tensor_f32(&y)[i],
                         expected[i]);
        free(y.data);
    }
    assert_int_equal(cases, 10);
    free(file);
}

/* 2x1 pixels to 4x1, worked out by hand: s = 0 (-0.25 clamped), 0.25, 0.75, 1 (1.25, upper neighbour
 * clamped). */
static void plain_numbers_flip_and_order(void **state) {
    (void)state;
    uint8_t pixels[6] = {0, 40, 80, 100, 200, 240};
    tensor image = tensor_make("image", DTYPE_U8, 3, (int64_t[]){1, 2, 3}, pixels), y = {0};
    image_pack_params params = {
        .height = 1, .width = 4, .flip = true, .mean = {10, 20, 30}, .std = {2, 4, 5}, .order = {2, 1, 0}};
    run(&y, &image, NULL, &params);
    static const float blue[] = {240, 200, 120, 80}, green[] = {200, 160, 80, 40}, red[] = {100, 75, 25, 0};
    for (int x = 0; x < 4; x++) {
        assert_float_equal(tensor_f32(&y)[3 * x], (blue[x] - 10) / 2, 1e-5);
        assert_float_equal(tensor_f32(&y)[3 * x + 1], (green[x] - 20) / 4, 1e-5);
        assert_float_equal(tensor_f32(&y)[3 * x + 2], (red[x] - 30) / 5, 1e-5);
    }
    free(y.data);
}

static void refuses_what_does_not_fit(void **state) {
    (void)state;
    uint8_t pixels[64 * 3] = {0};
    image_pack_record record = {.height = 8, .width = 8, .resized_height = 4, .resized_width = 4};
    tensor image = tensor_make("image", DTYPE_U8, 1, (int64_t[]){sizeof pixels}, pixels), y;
    tensor table = tensor_make("table", DTYPE_I32, 2, (int64_t[]){1, 8}, &record);
    image_pack_params params = {.canvas_height = 4, .canvas_width = 4, .std = {1, 1, 1}, .order = {0, 1, 2}};
    op_call call = {.op = &image_pack_op, .params = &params, .in = {&image, &table}, .out = {&y}};
    assert_int_equal(op_infer(&call), STATUS_OK);
    assert_int_equal(image_pack_op.validate(&call), STATUS_OK);
    const struct {
        int field;
        int32_t value;
    } bad[] = {{0, 1}, {0, -1}, {1, 9}, {1, 0}, {2, 65537}, {3, 5}, {4, 0}, {5, 2}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t *field = (int32_t *)&record + bad[i].field, saved = *field;
        *field = bad[i].value;
        assert_int_equal(image_pack_op.validate(&call), STATUS_DATA);
        assert_non_null(strstr(error_cause(), "table"));
        *field = saved;
    }
    params.order[1] = 3;
    assert_int_not_equal(op_infer(&call), STATUS_OK);
    params.order[1] = 1;
    params.std[2] = 0;
    assert_int_not_equal(op_infer(&call), STATUS_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_pillow),
        cmocka_unit_test(plain_numbers_flip_and_order),
        cmocka_unit_test(refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
