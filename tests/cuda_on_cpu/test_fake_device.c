/* The fake device itself: right orders of copy, compute and comm work pass, and each seeded mistake is found and names both
 * places. Every test moves numbers through staging memory, a copy, sigmoid and a copy back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "autograd/op.h"
#include "device/device.h"
#include "fake_device.h"

enum { COUNT = 48, BYTES = COUNT * sizeof(float) };

typedef struct bench {
    device *d;
    device_stream *copy, *comm;
    device_event *copied, *computed;
    float *staging, *result; /* page-locked */
    float *x, *y;            /* on the device */
    tensor in, out;
    op_call call;
    const op_kernel *kernel;
} bench;

static void open_bench(bench *b) {
    memset(b, 0, sizeof *b);
    b->d = fake_device_open();
    b->copy = device_get_stream(b->d, DEVICE_STREAM_COPY);
    b->comm = device_get_stream(b->d, DEVICE_STREAM_COMM);
    assert_int_equal(device_event_new(b->d, &b->copied), STATUS_OK);
    assert_int_equal(device_event_new(b->d, &b->computed), STATUS_OK);
    assert_int_equal(device_alloc_host(b->d, (void **)&b->staging, BYTES, "staging"), STATUS_OK);
    assert_int_equal(device_alloc_host(b->d, (void **)&b->result, BYTES, "result"), STATUS_OK);
    assert_int_equal(device_alloc(b->d, (void **)&b->x, BYTES, "x"), STATUS_OK);
    assert_int_equal(device_alloc(b->d, (void **)&b->y, BYTES, "y"), STATUS_OK);
    b->in = tensor_make("x", DTYPE_F32, 1, (int64_t[]){COUNT}, b->x);
    b->out = tensor_make("y", DTYPE_F32, 1, (int64_t[]){COUNT}, b->y);
    b->call = (op_call){.op = op_find("sigmoid"),
                        .in = {&b->in},
                        .out = {&b->out},
                        .stream = device_get_stream(b->d, DEVICE_STREAM_COMPUTE)};
    b->kernel = device_find_kernel(b->d, "sigmoid");
    assert_non_null(b->kernel);
}

static void close_bench(bench *b) {
    assert_null(fake_device_take_problem(b->d));
    device_free(b->d, b->x, BYTES);
    device_free(b->d, b->y, BYTES);
    device_free_host(b->d, b->staging, BYTES);
    device_free_host(b->d, b->result, BYTES);
    device_event_free(b->d, b->copied);
    device_event_free(b->d, b->computed);
    device_close(b->d);
}

static void stage(bench *b, float value) {
    fake_device_host_access(b->d, "the loader", b->staging, BYTES, true);
    for (int i = 0; i < COUNT; i++) b->staging[i] = value;
}

/* Staging to device on the copy stream, sigmoid behind it. */
static void upload_and_compute(bench *b, bool with_event) {
    device_copy(b->d, b->copy, b->x, b->staging, BYTES);
    device_event_record(b->d, b->copied, b->copy);
    if (with_event) device_event_wait(b->d, NULL, b->copied);
    b->kernel->forward(&b->call);
    device_event_record(b->d, b->computed, NULL);
}

static void download(bench *b) {
    device_copy(b->d, NULL, b->result, b->y, BYTES);
    device_synchronize(b->d, NULL);
    fake_device_host_access(b->d, "the reader", b->result, BYTES, false);
}

static void expect_problem(bench *b, const char *first, const char *second) {
    const char *problem = fake_device_take_problem(b->d);
    assert_non_null(problem);
    if (!strstr(problem, first) || !strstr(problem, second))
        fail_msg("expected '%s' and '%s' in: %s", first, second, problem);
}

static void a_right_order_passes(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    assert_int_equal(device_get_kind(b.d), DEVICE_CUDA);
    assert_false(device_is_host_accessible(b.d));
    uint64_t waits = device_host_waits(b.d);
    for (int round = 0; round < 3; round++) {
        if (round > 0) device_event_synchronize(b.d, b.copied); /* staging is free again */
        stage(&b, (float)round);
        if (round > 0) device_event_wait(b.d, b.copy, b.computed); /* x is free again */
        upload_and_compute(&b, true);
    }
    assert_int_equal(device_host_waits(b.d) - waits, 2);
    download(&b);
    for (int i = 0; i < COUNT; i++) assert_true(fabsf(b.result[i] - 1 / (1 + expf(-2))) < 1e-6f);
    fake_device_counts counts = fake_device_get_counts(b.d);
    assert_int_equal(counts.calls, 3);
    assert_int_equal(counts.copies, 4);
    assert_int_equal(counts.fills, 0);
    close_bench(&b);
}

static void a_missing_event_between_copy_and_compute_is_found(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    stage(&b, 1);
    upload_and_compute(&b, false);
    expect_problem(&b, "op sigmoid (forward of y): x reads 192 bytes on the compute stream",
                   "copy writes on the copy stream");
    device_synchronize(b.d, NULL);
    device_event_synchronize(b.d, b.copied);
    close_bench(&b);
}

static void memory_overwritten_before_it_was_read_is_found(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    stage(&b, 1);
    upload_and_compute(&b, true);
    device_event_synchronize(b.d, b.copied);
    stage(&b, 2);
    upload_and_compute(&b, true); /* nothing makes this copy wait for sigmoid's read of x */
    expect_problem(&b, "copy writes 192 bytes on the copy stream",
                   "op sigmoid (forward of y): x reads on the compute stream");
    download(&b);
    close_bench(&b);
}

static void staging_memory_reused_too_early_is_found(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    stage(&b, 1);
    upload_and_compute(&b, true);
    stage(&b, 2);
    expect_problem(&b, "the loader writes 192 bytes by the host", "copy reads on the copy stream");
    assert_false(device_event_is_reached(b.d, b.copied)); /* a step later it is */
    assert_true(device_event_is_reached(b.d, b.copied));
    stage(&b, 3);
    close_bench(&b);
}

static void a_result_read_too_early_is_found(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    stage(&b, 1);
    upload_and_compute(&b, true);
    device_copy(b.d, NULL, b.result, b.y, BYTES);
    fake_device_host_access(b.d, "the reader", b.result, 4, false);
    expect_problem(&b, "the reader reads 4 bytes by the host", "copy writes on the compute stream");
    close_bench(&b);
}

/* A sum over ranks on the comm stream, between the op that makes the gradient and the one that uses it. */
static void run_sum(bench *b, bool wait_before, bool wait_behind) {
    device_fill(b->d, NULL, b->x, 0, BYTES);
    device_event_record(b->d, b->computed, NULL);
    if (wait_before) device_event_wait(b->d, b->comm, b->computed);
    fake_device_access(b->d, b->comm, "sum over ranks", b->x, BYTES, true);
    device_event_record(b->d, b->copied, b->comm);
    if (wait_behind) device_event_wait(b->d, NULL, b->copied);
    b->kernel->forward(&b->call);
}

static void missing_waits_around_a_sum_are_found(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    run_sum(&b, true, true);
    assert_null(fake_device_take_problem(b.d));
    run_sum(&b, false, true);
    expect_problem(&b, "sum over ranks writes 192 bytes on the comm stream",
                   "fill writes on the compute stream");
    assert_null(fake_device_take_problem(b.d));
    run_sum(&b, true, false);
    expect_problem(&b, "x reads 192 bytes on the compute stream", "sum over ranks writes on the comm stream");
    device_synchronize(b.d, b.comm);
    close_bench(&b);
}

/* Parts of a buffer have their own history. */
static void ranges_are_told_apart(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    device_fill(b.d, b.copy, b.x, 1, BYTES / 2);
    device_fill(b.d, b.comm, b.x + COUNT / 2, 2, BYTES / 2);
    assert_null(fake_device_take_problem(b.d));
    device_fill(b.d, b.copy, b.x + COUNT / 2 - 1, 3, 8);
    expect_problem(&b, "fill writes 8 bytes on the copy stream",
                   "fill writes on the comm stream: nothing orders the two (bytes 4 to 8 of them)");
    device_synchronize(b.d, b.comm); /* and so all that is queued from here on */
    device_fill(b.d, b.copy, b.x, 4, BYTES);
    close_bench(&b);
}

static void a_graph_runs_when_it_is_launched(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    stage(&b, 1);
    assert_true(device_can_capture(b.d));
    device_capture_begin(b.d);
    device_event_record(b.d, b.computed, NULL);
    device_event_wait(b.d, b.copy, b.computed);
    upload_and_compute(&b, true);
    device_graph *graph;
    assert_int_equal(device_capture_end(b.d, &graph), STATUS_OK);
    assert_int_equal(fake_device_get_counts(b.d).calls, 0);
    for (int round = 0; round < 2; round++) {
        device_graph_launch(b.d, graph);
        download(&b);
        for (int i = 0; i < COUNT; i++)
            assert_true(fabsf(b.result[i] - 1 / (1 + expf(-1 - (float)round))) < 1e-6f);
        stage(&b, 2);
    }
    assert_int_equal(fake_device_get_counts(b.d).calls, 2);
    assert_int_equal(fake_device_get_counts(b.d).graphs, 2);
    device_graph_free(b.d, graph);
    close_bench(&b);
}

static void streams_that_do_not_join_a_recording_are_found(void **state) {
    (void)state;
    bench b;
    device_graph *graph;
    open_bench(&b);
    stage(&b, 1);
    device_event_record(b.d, b.copied, b.copy);
    device_capture_begin(b.d);
    device_event_wait(b.d, NULL, b.copied);
    expect_problem(&b, "recording: a wait for an event of outside", "on the compute stream");
    device_fill(b.d, b.comm, b.y, 0, BYTES);
    expect_problem(&b, "recording: work that takes no part in it", "on the comm stream");
    device_event_record(b.d, b.computed, b.comm);
    expect_problem(&b, "recording: an event that takes no part in it", "on the comm stream");
    device_event_is_reached(b.d, b.copied);
    expect_problem(&b, "recording: the host asks for an event", "");
    device_event_record(b.d, b.computed, NULL);
    device_event_wait(b.d, b.copy, b.computed);
    device_fill(b.d, b.copy, b.x, 0, BYTES);
    device_event_record(b.d, b.copied, b.copy);
    device_fill(b.d, b.copy, b.x, 0, BYTES);
    device_event_wait(b.d, NULL, b.copied);
    assert_null(fake_device_take_problem(b.d));
    assert_int_equal(device_capture_end(b.d, &graph), STATUS_OK);
    expect_problem(&b, "recording: it ends before the compute stream waits for the work",
                   "on the copy stream");
    device_event_wait(b.d, NULL, b.copied);
    expect_problem(&b, "a wait for an event of a recording", "on the compute stream");
    device_event_synchronize(b.d, b.copied);
    expect_problem(&b, "the host asks for an event of a recording", "");
    device_graph_free(b.d, graph);
    close_bench(&b);
}

static void timed_events_count_the_work_between(void **state) {
    (void)state;
    bench b;
    open_bench(&b);
    device_event *from, *to;
    assert_int_equal(device_event_new_timed(b.d, &from), STATUS_OK);
    assert_int_equal(device_event_new_timed(b.d, &to), STATUS_OK);
    device_event_record(b.d, from, NULL);
    b.kernel->forward(&b.call);
    b.kernel->forward(&b.call);
    device_event_record(b.d, to, NULL);
    assert_true(fabs(device_event_milliseconds(b.d, from, to) - 3) < 1e-9);
    device_event_free(b.d, from);
    device_event_free(b.d, to);
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_order_passes),
        cmocka_unit_test(a_missing_event_between_copy_and_compute_is_found),
        cmocka_unit_test(memory_overwritten_before_it_was_read_is_found),
        cmocka_unit_test(staging_memory_reused_too_early_is_found),
        cmocka_unit_test(a_result_read_too_early_is_found),
        cmocka_unit_test(missing_waits_around_a_sum_are_found),
        cmocka_unit_test(ranges_are_told_apart),
        cmocka_unit_test(a_graph_runs_when_it_is_launched),
        cmocka_unit_test(streams_that_do_not_join_a_recording_are_found),
        cmocka_unit_test(timed_events_count_the_work_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
