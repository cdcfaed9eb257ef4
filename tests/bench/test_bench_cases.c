/* Every op has cases for `bench op`, with names of their own, that it accepts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "bench/op_timer.h"

/* With room for one byte a case is refused only after its shapes were found good. */
static void shapes_are_accepted(void **state) {
    (void)state;
    device *dev;
    assert_int_equal(device_open(&dev, "cpu"), STATUS_OK);
    for (int i = 0; i < op_count(); i++) {
        const op_def *op = op_at(i);
        assert_true(op->n_bench_cases > 0);
        for (int k = 0; k < op->n_bench_cases; k++) {
            op_timer *t;
            op_timer_options options = {.storage = DTYPE_F32, .backward = true, .limit = 1};
            status s = op_timer_new(&t, dev, op, &op->bench_cases[k], &options);
            if (s != STATUS_OS || !strstr(error_cause(), "half of the free memory"))
                fail_msg("%s, %s: %s", op->name, op->bench_cases[k].name, error_cause());
        }
    }
    device_close(dev);
}

static void names_differ(void **state) {
    (void)state;
    for (int i = 0; i < op_count(); i++)
        for (int k = 0; k < op_at(i)->n_bench_cases; k++)
            for (int j = 0; j < k; j++)
                assert_string_not_equal(op_at(i)->bench_cases[k].name, op_at(i)->bench_cases[j].name);
}

static void grid_is_complete(void **state) {
    (void)state;
    static const char *const ops[] = {"roi_pool", "roi_align"};
    for (int i = 0; i < 2; i++) {
        const op_def *op = op_find(ops[i]);
        int found = 0;
        for (int k = 0; k < op->n_bench_cases; k++) {
            const op_case *c = &op->bench_cases[k];
            found += strncmp(c->name, "map", 3) == 0 && c->in[0].shape[1] == c->in[0].shape[2];
        }
        assert_int_equal(found, 27);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes_are_accepted), cmocka_unit_test(names_differ),
                                       cmocka_unit_test(grid_is_complete)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
