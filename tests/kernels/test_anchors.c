#include "anchors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static anchor_spec fpn_spec(anchor_rounding rounding) {
    anchor_spec spec = {.levels = 5, .rounding = rounding};
    for (int l = 0; l < 5; l++) {
        spec.n_sizes[l] = 1;
        spec.n_ratios[l] = 3;
        spec.sizes[l][0] = 32 << l;
        for (int r = 0; r < 3; r++) spec.ratios[l][r] = 0.5 * (1 << r);
        spec.strides[l] = 4 << l;
    }
    return spec;
}

static void assert_box(const float *box, float x1, float y1, float x2, float y2) {
    assert_float_equal(box[0], x1, 1e-4);
    assert_float_equal(box[1], y1, 1e-4);
    assert_float_equal(box[2], x2, 1e-4);
    assert_float_equal(box[3], y2, 1e-4);
}

static void an_image_of_800_x_1344_has_268569_anchors(void **state) {
    (void)state;
    anchor_spec spec = fpn_spec(ANCHOR_EXACT);
    assert_true(anchor_spec_valid(&spec, 800, 1344));
    anchor_grid grid = anchor_grid_make(&spec, 800, 1344);
    assert_int_equal(grid.count, 268569);
    assert_int_equal(grid.level[4].height, 13);
    assert_int_equal(grid.level[4].width, 21);
    float box[4];
    anchor_box(box, &grid, 0);
    assert_box(box, -22.627417f, -11.313708f, 22.627417f, 11.313708f);
    anchor_box(box, &grid, 336 * 3 + 4); /* row 1, column 1, ratio 1 */
    assert_box(box, 4 - 16, 4 - 16, 4 + 16, 4 + 16);
    anchor_box(box, &grid, 268568); /* the last: row 12, column 20 of P6, ratio 2 */
    assert_box(box, 1280 - 181.01934f, 768 - 362.03867f, 1280 + 181.01934f, 768 + 362.03867f);
    anchor_box(box, &grid, grid.level[1].first);
    assert_box(box, -45.254834f, -22.627417f, 45.254834f, 22.627417f);
}

static void corners_are_rounded_half_to_even_and_spaced_by_the_canvas(void **state) {
    (void)state;
    static const float widths[5][3] = {
        {46, 32, 22}, {90, 64, 46}, {182, 128, 90}, {362, 256, 182}, {724, 512, 362}};
    anchor_spec spec = fpn_spec(ANCHOR_ROUND_CORNERS);
    spec.stride_from_canvas = true;
    anchor_grid grid = anchor_grid_make(&spec, 800, 1344);
    for (int l = 0; l < 5; l++) {
        for (int r = 0; r < 3; r++) {
            float w = widths[l][r], h = widths[l][2 - r];
            assert_box(grid.level[l].base[r], -w / 2, -h / 2, w / 2, h / 2);
        }
    }
    assert_true(grid.level[4].stride_y == 61.0f && grid.level[4].stride_x == 64.0f &&
                grid.level[0].stride_y == 4.0f);
}

static void detectron_s_anchors_are_quantised_and_centred_on_the_cell(void **state) {
    (void)state;
    static const float sizes[5][3][2] = {{{48, 24}, {32, 32}, {24, 48}},
                                         {{88, 48}, {64, 64}, {48, 96}},
                                         {{184, 96}, {128, 128}, {88, 176}},
                                         {{360, 176}, {256, 256}, {184, 368}},
                                         {{728, 368}, {512, 512}, {360, 720}}};
    anchor_spec spec = fpn_spec(ANCHOR_ROUND_DETECTRON);
    anchor_grid grid = anchor_grid_make(&spec, 128, 128);
    for (int l = 0; l < 5; l++) {
        float centre = (float)(2 << l);
        for (int r = 0; r < 3; r++) {
            float w = sizes[l][r][0] / 2, h = sizes[l][r][1] / 2;
            assert_box(grid.level[l].base[r], centre - w, centre - h, centre + w, centre + h);
        }
    }
}

static void an_offset_moves_the_first_centre(void **state) {
    (void)state;
    anchor_spec spec = fpn_spec(ANCHOR_EXACT);
    spec.offset = 0.5;
    anchor_grid grid = anchor_grid_make(&spec, 64, 64);
    float box[4];
    anchor_box(box, &grid, grid.level[2].first + 1);
    assert_box(box, 8 - 64, 8 - 64, 8 + 64, 8 + 64);
}

static void several_sizes_of_a_level_follow_the_framework_s_order(void **state) {
    (void)state;
    anchor_spec spec = {.levels = 1,
                        .n_sizes = {2},
                        .n_ratios = {2},
                        .sizes = {{16, 32}},
                        .ratios = {{1, 4}},
                        .strides = {8}};
    anchor_grid exact = anchor_grid_make(&spec, 64, 64);
    spec.rounding = ANCHOR_ROUND_CORNERS;
    anchor_grid corners = anchor_grid_make(&spec, 64, 64);
    assert_box(exact.level[0].base[1], -4, -16, 4, 16); /* size 16, ratio 4 */
    assert_box(exact.level[0].base[2], -16, -16, 16, 16);
    assert_box(corners.level[0].base[1], -16, -16, 16, 16); /* ratio 1, size 32 */
    assert_box(corners.level[0].base[2], -4, -16, 4, 16);
}

static void bad_specs_are_refused(void **state) {
    (void)state;
    anchor_spec good = fpn_spec(ANCHOR_EXACT), bad;
    assert_true(anchor_spec_valid(&good, 64, 64));
    assert_false(anchor_spec_valid(&good, 0, 64));
    assert_false(anchor_spec_valid(&good, 64, 1 << 21));
    assert_false(anchor_spec_valid(&good, 1 << 20, 1 << 20)); /* more than 2^31 anchors */
    bad = good, bad.levels = 6;
    assert_false(anchor_spec_valid(&bad, 64, 64));
    bad = good, bad.levels = 0;
    assert_false(anchor_spec_valid(&bad, 64, 64));
    bad = good, bad.n_ratios[3] = 2;
    assert_false(anchor_spec_valid(&bad, 64, 64));
    bad = good, bad.sizes[1][0] = 0;
    assert_false(anchor_spec_valid(&bad, 64, 64));
    bad = good, bad.ratios[4][2] = -1;
    assert_false(anchor_spec_valid(&bad, 64, 64));
    bad = good, bad.strides[2] = 0;
    assert_false(anchor_spec_valid(&bad, 64, 64));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_of_800_x_1344_has_268569_anchors),
        cmocka_unit_test(corners_are_rounded_half_to_even_and_spaced_by_the_canvas),
        cmocka_unit_test(detectron_s_anchors_are_quantised_and_centred_on_the_cell),
        cmocka_unit_test(an_offset_moves_the_first_centre),
        cmocka_unit_test(several_sizes_of_a_level_follow_the_framework_s_order),
        cmocka_unit_test(bad_specs_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
