/* The op command on a device whose memory the host may not touch: the same files as on the CPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "cli/op_file.h"
#include "data/safetensors.h"
#include "fake_device.h"

enum { BOXES = 6 };

static char in[64], cpu_out[64], cuda_out[64];

static void ok(status s) {
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

static void write_file(const char *const *names, const int64_t (*shapes)[2], const float *const *values,
                       int count) {
    safetensors_writer *w;
    ok(safetensors_writer_new(&w, in));
    for (int i = 0; i < count; i++)
        safetensors_writer_declare(w, names[i], SAFETENSORS_F32, shapes[i][1] ? 2 : 1, shapes[i]);
    status s = safetensors_writer_begin(w);
    for (int i = 0; i < count && s == STATUS_OK; i++)
        s = safetensors_writer_append(
            w, values[i], (size_t)(shapes[i][0] * (shapes[i][1] ? shapes[i][1] : 1)) * sizeof(float));
    ok(safetensors_writer_finish(w, s));
}

static void run(const char *op, const char *out, device *dev) {
    op_file_job job = {.op = op_find(op),
                       .attrs = (const char *const[]){"iou_threshold=0.5"},
                       .attr_count = strcmp(op, "nms") == 0,
                       .dev = dev};
    ok(op_file_run(out, in, &job));
}

/* Both files hold the same tensors of the same bytes. */
static void compare_files(int expected) {
    safetensors *a, *b;
    ok(safetensors_open(&a, cpu_out));
    ok(safetensors_open(&b, cuda_out));
    assert_int_equal(safetensors_count(a), expected);
    assert_int_equal(safetensors_count(b), expected);
    for (int64_t i = 0; i < expected; i++) {
        const safetensors_tensor *x = safetensors_at(a, i), *y = safetensors_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->bytes, y->bytes);
        assert_memory_equal(x->data, y->data, x->bytes);
    }
    safetensors_close(a);
    safetensors_close(b);
}

static void run_both(const char *op, int expected) {
    device *cpu, *fake = fake_device_open();
    ok(device_open(&cpu, "cpu"));
    run(op, cpu_out, cpu);
    run(op, cuda_out, fake);
    assert_int_equal(fake_device_get_counts(fake).calls, strcmp(op, "nms") == 0 ? 1 : 2);
    assert_null(fake_device_take_problem(fake));
    device_close(fake);
    device_close(cpu);
    compare_files(expected);
}

/* Rows that only the device counts. */
static void boxes_are_kept_as_on_the_cpu(void **state) {
    (void)state;
    static const float boxes[BOXES][4] = {{0, 0, 10, 10},     {1, 0, 11, 10}, {40, 0, 50, 10},
                                          {40, 0, 50, 10.5f}, {90, 0, 95, 5}, {0, 1, 10, 11}};
    static const float scores[BOXES] = {0.5f, 0.9f, 0.3f, 0.4f, 0.1f, 0.2f};
    write_file((const char *const[]){"boxes", "scores"}, (const int64_t[][2]){{BOXES, 4}, {BOXES, 0}},
               (const float *const[]){boxes[0], scores}, 2);
    run_both("nms", 2);
}

static void gradients_are_as_on_the_cpu(void **state) {
    (void)state;
    static const float x[4] = {1, 2, 3, 4}, y[4] = {0.5f, -7, 0, 8}, d[4] = {1, 0.25f, -3, 2};
    write_file((const char *const[]){"a", "b", "grad_y"}, (const int64_t[][2]){{2, 2}, {2, 2}, {2, 2}},
               (const float *const[]){x, y, d}, 3);
    run_both("add", 3);
}

int main(void) {
    snprintf(in, sizeof in, "cuda_op_file_in_%d", (int)getpid());
    snprintf(cpu_out, sizeof cpu_out, "cuda_op_file_cpu_%d", (int)getpid());
    snprintf(cuda_out, sizeof cuda_out, "cuda_op_file_cuda_%d", (int)getpid());
    const struct CMUnitTest tests[] = {cmocka_unit_test(boxes_are_kept_as_on_the_cpu),
                                       cmocka_unit_test(gradients_are_as_on_the_cpu)};
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(in);
    unlink(cpu_out);
    unlink(cuda_out);
    return failures;
}
