/* Which slot a canvas gets, and who makes room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "model/canvas_cache.h"

static void a_canvas_keeps_its_slot(void **state) {
    (void)state;
    canvas_cache cache = {0};
    bool is_new;
    int a = canvas_cache_slot(&cache, 64, 96, 0, &is_new);
    assert_true(is_new);
    int b = canvas_cache_slot(&cache, 96, 64, 0, &is_new);
    assert_true(is_new && b != a);
    int c = canvas_cache_slot(&cache, 64, 96, 1, &is_new);
    assert_true(is_new && c != a && c != b);
    assert_int_equal(canvas_cache_slot(&cache, 64, 96, 0, &is_new), a);
    assert_false(is_new);
}

static void the_least_recently_used_makes_room(void **state) {
    (void)state;
    canvas_cache cache = {0};
    bool is_new;
    int slots[CANVAS_CACHE_SIZE];
    for (int i = 0; i < CANVAS_CACHE_SIZE; i++) slots[i] = canvas_cache_slot(&cache, 32 * i, 32, 0, &is_new);
    canvas_cache_slot(&cache, 0, 32, 0, &is_new); /* now 1 is the oldest */
    assert_int_equal(canvas_cache_slot(&cache, 5, 5, 0, &is_new), slots[1]);
    assert_true(is_new);
    assert_int_equal(canvas_cache_slot(&cache, 0, 32, 0, &is_new), slots[0]);
    assert_false(is_new);
    assert_int_equal(canvas_cache_slot(&cache, 32, 32, 0, &is_new), slots[2]);
    assert_true(is_new);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_canvas_keeps_its_slot),
        cmocka_unit_test(the_least_recently_used_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
