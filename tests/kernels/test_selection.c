/* The helpers that order and choose: radix sort of scores, heap of samples, float threshold of NMS. */
#include "nms_greedy.h"
#include "radix_sort.h"
#include "sample_heap.h"

#include "base/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <cmocka.h>

enum { COUNT = 1000 };

static void keys_rise_where_scores_fall(void **state) {
    (void)state;
    static const float falling[] = {INFINITY, 3e38f, 7.0f,  1.0000001f, 1.0f,      1e-40f, 0.0f,
                                    -1e-40f,  -1.0f, -5.0f, -3e38f,     -INFINITY, NAN};
    for (size_t i = 1; i < sizeof falling / sizeof *falling; i++)
        assert_true(radix_key_descending(falling[i - 1]) < radix_key_descending(falling[i]));
    assert_true(radix_key_descending(-0.0f) == radix_key_descending(0.0f));
    assert_true(radix_key_descending(-NAN) == radix_key_descending(NAN));
}

static void sort_is_stable(void **state) {
    (void)state;
    static const uint32_t masks[] = {0xffffffffu, 0x7u, 0xff00ff00u, 0u};
    philox_key random = {.seed = 1, .purpose = PHILOX_TEST};
    for (size_t m = 0; m < sizeof masks / sizeof *masks; m++) {
        uint32_t keys[COUNT], spare_keys[COUNT], original[COUNT];
        int32_t values[COUNT], spare_values[COUNT];
        for (int i = 0; i < COUNT; i++) {
            original[i] = keys[i] = philox_u32(&random, (uint64_t)i) & masks[m];
            values[i] = i;
        }
        radix_sort((radix_buffer){keys, values}, (radix_buffer){spare_keys, spare_values}, COUNT);
        bool seen[COUNT] = {false};
        for (int i = 0; i < COUNT; i++) {
            assert_true(original[values[i]] == keys[i] && !seen[values[i]]);
            seen[values[i]] = true;
            assert_true(i == 0 || keys[i - 1] < keys[i] ||
                        (keys[i - 1] == keys[i] && values[i - 1] < values[i]));
        }
    }
    radix_sort((radix_buffer){NULL, NULL}, (radix_buffer){NULL, NULL}, 0);
}

/* Rank of candidate i by (key, index). */
static int rank_of(const uint32_t *keys, int i) {
    int rank = 0;
    for (int k = 0; k < COUNT; k++) rank += keys[k] < keys[i] || (keys[k] == keys[i] && k < i);
    return rank;
}

static void heap_keeps_the_smallest(void **state) {
    (void)state;
    static const int capacities[] = {0, 1, 2, 37, COUNT - 1, COUNT, COUNT + 5};
    uint32_t keys[COUNT];
    sample items[COUNT + 5];
    philox_key random = {.seed = 2, .purpose = PHILOX_TEST};
    for (int i = 0; i < COUNT; i++) keys[i] = philox_u32(&random, (uint64_t)i) >> 25; /* many equal ones */
    for (size_t c = 0; c < sizeof capacities / sizeof *capacities; c++) {
        for (int shrunk = 0; shrunk < 2; shrunk++) {
            int wanted = capacities[c] < COUNT ? capacities[c] : COUNT;
            sample_heap heap = {.items = items, .capacity = capacities[c]};
            for (int i = COUNT - 1; i >= 0; i--) sample_heap_push(&heap, sample_make(keys[i], i, 3 * i));
            if (shrunk) sample_heap_shrink(&heap, wanted /= 2);
            sample_heap_sort_by_index(&heap);
            assert_int_equal(heap.count, wanted);
            for (int64_t i = 0; i < heap.count; i++) {
                assert_true(rank_of(keys, items[i].index) < wanted);
                assert_true(items[i].match == 3 * items[i].index &&
                            (i == 0 || items[i - 1].index < items[i].index));
            }
        }
    }
}

static void threshold_is_the_float_below(void **state) {
    (void)state;
    static const double thresholds[] = {0, 0.1, 0.3, 0.5, 0.7, 1, 0.3 - 1e-12, 0.5 + 1e-12};
    for (size_t i = 0; i < sizeof thresholds / sizeof *thresholds; i++) {
        float t = nms_float_threshold(thresholds[i]), above = nextafterf(t, 2.0f);
        assert_true((double)t <= thresholds[i] && (double)above > thresholds[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_rise_where_scores_fall),
        cmocka_unit_test(sort_is_stable),
        cmocka_unit_test(heap_keeps_the_smallest),
        cmocka_unit_test(threshold_is_the_float_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
