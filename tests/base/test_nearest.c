/* Edit distance and "did you mean". */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/nearest.h"

static void test_distance(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        size_t distance;
    } cases[] = {
        {"", "", 0},       {"abc", "", 3},    {"", "abc", 3},           {"abc", "abc", 0},
        {"abc", "ABC", 0}, {"abc", "abd", 1}, {"abc", "abcd", 1},       {"abc", "bc", 1},
        {"abc", "acb", 1}, {"ca", "abc", 3},  {"kitten", "sitting", 3}, {"train", "trian", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(edit_distance(cases[i].a, cases[i].b), cases[i].distance);
        assert_int_equal(edit_distance(cases[i].b, cases[i].a), cases[i].distance);
    }
    char longer[400], other[400];
    memset(longer, 'a', sizeof longer - 1);
    memset(other, 'a', sizeof other - 1);
    longer[sizeof longer - 1] = other[sizeof other - 1] = '\0';
    other[300] = 'b'; /* behind what is compared */
    other[100] = 'b';
    assert_int_equal(edit_distance(longer, other), 1);
}

static const char *best(const char *name) {
    static const char *const candidates[] = {"SOLVER.MAX_ITER", "SOLVER.BASE_LR", "MODEL.RPN.NMS_THRESH",
                                             "train", "op"};
    nearest n;
    nearest_init(&n, name);
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) nearest_try(&n, candidates[i]);
    return nearest_result(&n);
}

static void test_nearest(void **state) {
    (void)state;
    assert_string_equal(best("SOLVER.MAX_ITERS"), "SOLVER.MAX_ITER");
    assert_string_equal(best("MAX_ITER"), "SOLVER.MAX_ITER");
    assert_string_equal(best("base_rl"), "SOLVER.BASE_LR");
    assert_string_equal(best("trian"), "train");
    assert_string_equal(best("opp"), "op");
    assert_null(best("o")); /* one letter is all of it */
    assert_null(best(""));
    assert_null(best("xy"));
    assert_null(best("entirely_different"));
    nearest n;
    nearest_init(&n, "name");
    assert_null(nearest_result(&n));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_distance), cmocka_unit_test(test_nearest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
