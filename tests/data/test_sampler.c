/* The sampler: epochs are permutations, batches do not mix orientations, nothing depends on the way an
 * iteration is reached; sizes after resizing. */
#include "data/coco_test_util.h"

#include "data/sampler.h"

enum { IMAGES = 37, BATCH = 4 };

/* Image i is wide when i % 3 != 0; image 5 has no annotation. */
static dataset *make_dataset(void) {
    char *text = malloc(1 << 16);
    size_t at = (size_t)snprintf(text, 1 << 16, "{\"categories\":[{\"id\":1,\"name\":\"x\"}],\"images\":[");
    for (int i = 0; i < IMAGES; i++)
        at += (size_t)snprintf(text + at, (1 << 16) - at,
                               "%s{\"id\":%d,\"file_name\":\"%d.png\",\"width\":%d,\"height\":40}",
                               i ? "," : "", 100 + i, i, i % 3 ? 60 : 30);
    at += (size_t)snprintf(text + at, (1 << 16) - at, "],\"annotations\":[");
    for (int i = 0; i < IMAGES; i++)
        if (i != 5)
            at += (size_t)snprintf(text + at, (1 << 16) - at,
                                   "%s{\"id\":%d,\"image_id\":%d,\"category_id\":1,\"bbox\":[1,1,9,9],"
                                   "\"segmentation\":[[1,1,9,1,9,9]]}",
                                   i ? "," : "", i, 100 + i);
    snprintf(text + at, (1 << 16) - at, "]}");
    char spec[PATH_MAX];
    snprintf(spec, sizeof spec, "%s:%s", write_text("sampler.json", text), test_folder);
    free(text);
    write_text("0.png", "x");
    const char *specs[] = {spec};
    dataset *data = NULL;
    assert_int_equal(dataset_open(&data, specs, 1, NULL, 0, NULL), STATUS_OK);
    return data;
}

static const int32_t edges[] = {20, 30, 50};

static sampler_options default_options(void) {
    return (sampler_options){.seed = 3,
                             .global_batch = BATCH,
                             .shuffle = true,
                             .aspect_grouping = true,
                             .filter_empty = true,
                             .flip_probability = 0.5f,
                             .short_edges = edges,
                             .short_edge_count = 3,
                             .max_size = 100};
}

static sampler *make_sampler(const dataset *data, const sampler_options *options) {
    sampler *s = NULL;
    assert_int_equal(sampler_new(&s, data, options), STATUS_OK);
    return s;
}

static void test_epochs_are_permutations(void **state) {
    (void)state;
    dataset *data = make_dataset();
    for (int grouping = 0; grouping < 2; grouping++) {
        sampler_options options = default_options();
        options.aspect_grouping = grouping;
        sampler *s = make_sampler(data, &options);
        assert_int_equal(sampler_image_count(s), IMAGES - 1);
        assert_int_equal(sampler_filtered_count(s), 1);
        enum { EPOCHS = 6 };
        int seen[EPOCHS + 2][IMAGES] = {{0}}, moved = 0;
        sampler_item items[BATCH], before = {0, 0};
        for (int64_t i = 0; i < EPOCHS * (IMAGES - 1) / BATCH; i++) {
            sampler_batch(items, s, i);
            for (int k = 0; k < BATCH; k++) {
                assert_true(items[k].epoch <= EPOCHS && items[k].image < IMAGES && items[k].image != 5);
                assert_int_equal(seen[items[k].epoch][items[k].image]++, 0); /* never twice in an epoch */
                moved += items[k].image < before.image;
                before = items[k];
                if (grouping) assert_int_equal(items[k].image % 3 == 0, items[0].image % 3 == 0);
            }
        }
        assert_true(moved > IMAGES);
        int complete = 0; /* all but what waits in the buckets has come by */
        for (int e = 0; e < EPOCHS - 1; e++)
            for (int i = 0; i < IMAGES; i++) complete += seen[e][i];
        assert_true(complete >= (EPOCHS - 1) * (IMAGES - 1) - 2 * (BATCH - 1) &&
                    complete <= (EPOCHS - 1) * (IMAGES - 1));
        sampler_free(s);
    }
    dataset_free(data);
}

static void test_any_iteration_alone(void **state) {
    (void)state;
    dataset *data = make_dataset();
    sampler_options options = default_options();
    sampler *s = make_sampler(data, &options);
    sampler_item all[60][BATCH], items[BATCH];
    for (int64_t i = 0; i < 60; i++) sampler_batch(all[i], s, i);
    static const int64_t order[] = {59, 0, 31, 30, 7, 8, 40, 40};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        sampler_batch(items, s, order[i]);
        assert_memory_equal(items, all[order[i]], sizeof items);
    }
    sampler *fresh = make_sampler(data, &options);
    sampler_batch(items, fresh, 45);
    assert_memory_equal(items, all[45], sizeof items);
    sampler_free(fresh);
    options.seed = 4;
    sampler *other = make_sampler(data, &options);
    int different = 0;
    for (int64_t i = 0; i < 60; i++) {
        sampler_batch(items, other, i);
        different += memcmp(items, all[i], sizeof items) != 0;
    }
    assert_true(different > 55);
    sampler_free(other);
    sampler_free(s);
    dataset_free(data);
}

static void test_file_order(void **state) {
    (void)state;
    dataset *data = make_dataset();
    sampler_options options = default_options();
    options.shuffle = options.aspect_grouping = options.filter_empty = false;
    sampler *s = make_sampler(data, &options);
    sampler_item items[BATCH];
    for (int64_t i = 0; i < 30; i++) {
        sampler_batch(items, s, i);
        for (int k = 0; k < BATCH; k++) {
            assert_int_equal(items[k].image, (i * BATCH + k) % IMAGES);
            assert_int_equal(items[k].epoch, (i * BATCH + k) / IMAGES);
        }
    }
    sampler_free(s);
    dataset_free(data);
}

static void test_one_orientation_only(void **state) {
    (void)state;
    const char *text = "{\"categories\":[],\"annotations\":[],\"images\":[{\"id\":1,\"file_name\":\"0.png\","
                       "\"width\":9,\"height\":9}]}";
    char spec[PATH_MAX];
    snprintf(spec, sizeof spec, "%s:%s", write_text("one.json", text), test_folder);
    const char *specs[] = {spec};
    dataset *data = NULL;
    write_text("0.png", "x");
    assert_int_equal(dataset_open(&data, specs, 1, NULL, 0, NULL), STATUS_OK);
    sampler_options options = default_options();
    sampler *s = NULL;
    assert_int_equal(sampler_new(&s, data, &options), STATUS_DATA); /* no annotation: filtered away */
    options.filter_empty = false;
    s = make_sampler(data, &options);
    sampler_item items[BATCH];
    for (int64_t i = 0; i < 5; i++) {
        sampler_batch(items, s, i);
        for (int k = 0; k < BATCH; k++) assert_int_equal(items[k].epoch, i * BATCH + k);
    }
    assert_int_equal(sampler_replacement(s, 0, 0, 0), 0);
    sampler_free(s);
    dataset_free(data);
}

static void test_views(void **state) {
    (void)state;
    dataset *data = make_dataset();
    sampler_options options = default_options();
    sampler *s = make_sampler(data, &options);
    int flips = 0, heights[51] = {0};
    for (uint32_t epoch = 0; epoch < 40; epoch++)
        for (uint32_t image = 0; image < IMAGES; image++) {
            sampler_view view = sampler_view_of(s, image, epoch, 100, 100);
            sampler_view again = sampler_view_of(s, image, epoch, 100, 100);
            assert_true(view.flip == again.flip && view.resized_height == again.resized_height &&
                        view.resized_width == again.resized_width);
            flips += view.flip;
            heights[view.resized_height]++;
        }
    assert_true(flips > 600 && flips < 880); /* 740 expected, deviation 19 */
    assert_int_equal(heights[20] + heights[30] + heights[50], 40 * IMAGES);
    assert_true(heights[20] > 400 && heights[30] > 400 && heights[50] > 400);
    sampler_free(s);

    options.short_edge_range = true;
    options.short_edge_count = 2;
    options.flip_probability = 0;
    s = make_sampler(data, &options);
    memset(heights, 0, sizeof heights);
    for (uint32_t epoch = 0; epoch < 40; epoch++)
        for (uint32_t image = 0; image < IMAGES; image++) {
            sampler_view view = sampler_view_of(s, image, epoch, 100, 100);
            assert_false(view.flip);
            heights[view.resized_height]++;
        }
    for (int h = 0; h <= 50; h++) assert_true((heights[h] > 0) == (h >= 20 && h <= 30));
    int32_t largest_height, largest_width;
    sampler_largest(s, &largest_height, &largest_width);
    assert_int_equal(largest_height, 40); /* 30 x 40 images at short edge 30 */
    assert_int_equal(largest_width, 45);  /* 60 x 40 images */
    sampler_free(s);
    dataset_free(data);
}

static void test_replacements(void **state) {
    (void)state;
    dataset *data = make_dataset();
    sampler_options options = default_options();
    sampler *s = make_sampler(data, &options);
    int different = 0;
    for (uint32_t image = 0; image < IMAGES; image++) {
        if (image == 5) continue;
        for (uint32_t attempt = 0; attempt < 20; attempt++) {
            uint32_t other = sampler_replacement(s, image, 2, attempt);
            assert_true(other != image && other != 5 && other < IMAGES);
            assert_int_equal(other % 3 == 0, image % 3 == 0);
            assert_int_equal(other, sampler_replacement(s, image, 2, attempt));
            different += other != sampler_replacement(s, image, 3, attempt);
        }
    }
    assert_true(different > 500);
    sampler_free(s);
    dataset_free(data);
}

static void test_resize_rules(void **state) {
    (void)state;
    static const struct {
        resize_rule rule;
        int32_t height, width, edge, max, out_height, out_width;
    } cases[] = {
        /* computed with detectron2's and torchvision's own code */
        {RESIZE_RULE_DETECTRON2, 480, 640, 800, 1333, 800, 1067},
        {RESIZE_RULE_DETECTRON2, 640, 480, 800, 1333, 1067, 800},
        {RESIZE_RULE_DETECTRON2, 426, 640, 800, 1333, 800, 1202},
        {RESIZE_RULE_DETECTRON2, 333, 500, 800, 1333, 800, 1201},
        {RESIZE_RULE_DETECTRON2, 240, 640, 800, 1333, 500, 1333},
        {RESIZE_RULE_DETECTRON2, 375, 500, 640, 1333, 640, 853},
        {RESIZE_RULE_DETECTRON2, 1, 2000, 800, 1333, 1, 1333},
        {RESIZE_RULE_DETECTRON2, 100, 100, 50, 40, 40, 40},
        {RESIZE_RULE_TORCHVISION, 480, 640, 800, 1333, 800, 1066},
        {RESIZE_RULE_TORCHVISION, 426, 640, 800, 1333, 800, 1201},
        {RESIZE_RULE_TORCHVISION, 240, 640, 800, 1333, 499, 1333},
        {RESIZE_RULE_TORCHVISION, 375, 500, 640, 1333, 640, 853},
        {RESIZE_RULE_TORCHVISION, 1, 2000, 800, 1333, 1, 1333},
        {RESIZE_RULE_DETECTRON2, 50, 60, 100, 0, 100, 120},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t h, w;
        resize_rule_apply(&h, &w, cases[i].rule, cases[i].height, cases[i].width, cases[i].edge,
                          cases[i].max);
        if (h != cases[i].out_height || w != cases[i].out_width)
            print_message("case %zu: %d x %d\n", i, h, w);
        assert_int_equal(h, cases[i].out_height);
        assert_int_equal(w, cases[i].out_width);
    }
}

static void test_bad_options(void **state) {
    (void)state;
    dataset *data = make_dataset();
    static const int32_t falling[] = {30, 20}, zero[] = {0};
    sampler *s = NULL;
    sampler_options options = default_options();
    options.global_batch = 0;
    assert_int_equal(sampler_new(&s, data, &options), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "SOLVER.IMS_PER_BATCH"));
    options = default_options();
    options.short_edges = falling;
    options.short_edge_count = 2;
    options.short_edge_range = true;
    assert_int_equal(sampler_new(&s, data, &options), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "INPUT.MIN_SIZE_TRAIN"));
    options.short_edge_range = false;
    options.short_edges = zero;
    options.short_edge_count = 1;
    assert_int_equal(sampler_new(&s, data, &options), STATUS_CONFIG);
    assert_null(s);
    dataset_free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_epochs_are_permutations),
        cmocka_unit_test(test_any_iteration_alone),
        cmocka_unit_test(test_file_order),
        cmocka_unit_test(test_one_orientation_only),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_replacements),
        cmocka_unit_test(test_resize_rules),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
