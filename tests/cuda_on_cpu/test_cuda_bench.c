/* `bench op` on a device whose memory the host may not touch: data, events and kernels in an order that a GPU can keep. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "bench/op_timer.h"
#include "fake_device.h"

static void time_case(device *dev, const op_def *op, const op_case *c, dtype storage) {
    const op_kernel *kernel = device_find_variant(dev, op->name, 0);
    op_timer *t;
    op_timer_options options = {.storage = storage, .backward = true, .seconds = 1e-3};
    if (op_timer_new(&t, dev, op, c, &options) != STATUS_OK) fail_msg("%s: %s", op->name, error_cause());
    for (int backward = 0; backward <= op_timer_has_backward(t); backward++) {
        double seconds = -1;
        if (op_timer_seconds(&seconds, t, kernel, backward) != STATUS_OK)
            fail_msg("%s: %s", op->name, error_cause());
        assert_true(seconds >= 0);
    }
    op_timer_free(t);
    const char *problem = fake_device_take_problem(dev);
    if (problem) fail_msg("%s, %s: %s", op->name, c->name, problem);
}

/* Every op that has a kernel, on its first test case. */
static void ops_run_in_order(void **state) {
    (void)state;
    device *dev = fake_device_open();
    int timed = 0;
    for (int i = 0; i < op_count(); i++) {
        const op_def *op = op_at(i);
        if (!device_find_variant(dev, op->name, 0)) continue;
        time_case(dev, op, &op->cases[0], DTYPE_F32);
        if (op_has_half(op)) time_case(dev, op, &op->cases[0], DTYPE_BF16);
        timed++;
    }
    assert_true(timed > 20);
    device_close(dev);
}

static void memory_is_given_back(void **state) {
    (void)state;
    device *dev = fake_device_open();
    const op_def *op = op_find("linear");
    size_t before = device_memory_used(dev);
    time_case(dev, op, &op->cases[0], DTYPE_F32);
    assert_int_equal(device_memory_used(dev), before);
    device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ops_run_in_order),
                                       cmocka_unit_test(memory_is_given_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
