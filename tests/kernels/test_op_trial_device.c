/* Trials of ops whose kernels run in another device's memory: here the CPU's, as if it were elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "autograd/grad_check.h"
#include "autograd/op_trial.h"
#include "base/thread_pool.h"
#include "device/device.h"

static device *cpu;
static bool overflows;

static void forward(const op_call *call) {
    assert_true(device_memory_used(cpu) > 0); /* the copies are there while a kernel runs */
    call->op->cpu->forward(call);
    tensor *out = call->out[0];
    if (overflows) ((uint8_t *)out->data)[tensor_bytes(out)] = 0;
}
static void backward(const op_call *call) {
    assert_true(device_memory_used(cpu) > 0);
    call->op->cpu->backward(call);
}
static size_t scratch_bytes(const op_call *call, bool is_backward) {
    return call->op->cpu->scratch_bytes ? call->op->cpu->scratch_bytes(call, is_backward) : 0;
}
static const op_kernel elsewhere = {
    .name = "elsewhere", .forward = forward, .backward = backward, .scratch_bytes = scratch_bytes};

static int failures_of(const char *op, double slack) {
    const op_kernel *kernels[] = {&elsewhere, NULL};
    static op_def f32_only; /* the CPU has no 16-bit kernels */
    FILE *report = tmpfile();
    assert_non_null(report);
    f32_only = *op_find(op);
    f32_only.half_inputs = 0;
    op_trial_use_device(cpu);
    int failures = grad_check_kernels(&f32_only, kernels, &(grad_check_options){.slack = slack}, report);
    op_trial_use_device(NULL);
    fclose(report);
    assert_int_equal(device_memory_used(cpu), 0);
    return failures;
}

/* Gradients, shared gradient memory, counted rows, scratch, integers with a count among the outputs. */
static void test_equals_host(void **state) {
    (void)state;
    static const char *const ops[] = {"linear", "add", "softmax_cross_entropy", "roi_align_fpn", "nms"};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) assert_int_equal(failures_of(ops[i], 1), 0);
}

static void test_guards_are_there(void **state) {
    (void)state;
    overflows = true;
    assert_true(failures_of("add", 1) > 0);
    overflows = false;
}

static void test_slack(void **state) {
    (void)state;
    assert_true(failures_of("linear", 1e-6) > 0);
    assert_int_equal(failures_of("linear", 0), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equals_host),
                                       cmocka_unit_test(test_guards_are_there), cmocka_unit_test(test_slack)};
    if (device_open(&cpu, "cpu") != STATUS_OK) return 1;
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    thread_pool_stop();
    device_close(cpu);
    return failures;
}
