#include "device/device.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

static long resident_pages(void) {
    long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &total, &resident), 2);
    fclose(file);
    return resident;
}

static void memory_is_zeroed_aligned_and_counted(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open(&d, "cpu"), STATUS_OK);
    assert_int_equal(device_get_kind(d), DEVICE_CPU);
    assert_string_equal(device_get_name(d), "cpu");
    void *a, *b, *empty;
    assert_int_equal(device_alloc(d, &a, 10000, "a"), STATUS_OK);
    assert_int_equal(device_alloc(d, &b, 5, "b"), STATUS_OK);
    assert_int_equal(device_alloc(d, &empty, 0, "empty"), STATUS_OK);
    assert_non_null(empty);
    assert_int_equal((uintptr_t)a % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    for (int i = 0; i < 10000; i++) assert_int_equal(((char *)a)[i], 0);
    assert_int_equal(device_memory_used(d), 10005);
    device_free(d, a, 10000);
    assert_int_equal(device_memory_used(d), 5);
    assert_int_equal(device_memory_peak(d), 10005);
    device_fill(d, NULL, b, 7, 5);
    char copy[5];
    device_copy(d, device_get_stream(d, DEVICE_STREAM_COPY), copy, b, 5);
    assert_memory_equal(copy, "\7\7\7\7\7", 5);
    device_copy(d, NULL, NULL, NULL, 0);
    device_free(d, b, 5);
    device_free(d, empty, 0);
    device_free(d, NULL, 123);
    void *host;
    assert_int_equal(device_alloc_host(d, &host, 100, "host"), STATUS_OK);
    assert_int_equal(device_memory_used(d), 0);
    memset(host, 1, 100);
    assert_int_equal(device_pin(d, host, 100, "ring"), STATUS_OK);
    device_unpin(d, host, 100);
    device_free_host(d, host, 100);
    device_close(d);
}

static void reserving_is_free(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open(&d, "cpu"), STATUS_OK);
    size_t bytes = (size_t)64 << 30;
    void *memory;
    long before = resident_pages();
    assert_int_equal(device_alloc(d, &memory, bytes, "arena"), STATUS_OK);
    ((char *)memory)[bytes - 1] = 1;
    assert_true(resident_pages() - before < 4096);
    device_free(d, memory, bytes);
    device_close(d);
}

static void failed_reservation_names_bytes_and_purpose(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open(&d, "cpu"), STATUS_OK);
    void *memory;
    assert_int_equal(device_alloc(d, &memory, SIZE_MAX - 10, "step arena"), STATUS_OS);
    assert_null(memory);
    assert_int_equal(device_alloc(d, &memory, (size_t)1 << 62, "step arena"), STATUS_OS);
    assert_non_null(strstr(error_cause(), "4611686018427387904 bytes for step arena"));
    assert_true(error_remedy()[0] != '\0');
    assert_int_equal(device_memory_used(d), 0);
    device_close(d);
}

static void events_know_their_time(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open(&d, "cpu"), STATUS_OK);
    device_event *from, *to;
    assert_int_equal(device_event_new_timed(d, &from), STATUS_OK);
    assert_int_equal(device_event_new_timed(d, &to), STATUS_OK);
    device_stream *compute = device_get_stream(d, DEVICE_STREAM_COMPUTE),
                  *comm = device_get_stream(d, DEVICE_STREAM_COMM);
    device_event_record(d, from, compute);
    usleep(5000);
    device_event_record(d, to, comm);
    device_event_wait(d, comm, from);
    assert_true(device_event_is_reached(d, to));
    double passed = device_event_milliseconds(d, from, to);
    assert_true(passed >= 4.9 && passed < 60e3);
    device_event_free(d, from);
    device_event_free(d, to);
    device_event_free(d, NULL);
    device_close(d);
}

static uint64_t waits_since(const device *d, uint64_t *before) {
    uint64_t now = device_host_waits(d), passed = now - *before;
    *before = now;
    return passed;
}

static void waits_of_the_host_are_counted(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open(&d, "cpu"), STATUS_OK);
    assert_true(device_is_host_accessible(d));
    uint64_t before = 0;
    assert_int_equal(waits_since(d, &before), 0);
    char *a, *b, *locked, *pinned = calloc(1, 100), *pageable = calloc(1, 100);
    assert_int_equal(device_alloc(d, (void **)&a, 100, "a"), STATUS_OK);
    assert_int_equal(device_alloc(d, (void **)&b, 100, "b"), STATUS_OK);
    assert_int_equal(device_alloc_host(d, (void **)&locked, 100, "locked"), STATUS_OK);
    assert_int_equal(device_pin(d, pinned, 100, "pinned"), STATUS_OK);
    device_event *event;
    assert_int_equal(device_event_new(d, &event), STATUS_OK);
    assert_int_equal(waits_since(d, &before), 4);

    device_fill(d, NULL, a, 1, 100);
    device_copy(d, NULL, b + 10, a, 90);
    device_copy(d, NULL, locked, b, 100);
    device_copy(d, NULL, a, pinned + 99, 1);
    device_copy(d, NULL, pageable, a, 0);
    device_event_record(d, event, NULL);
    device_event_wait(d, device_get_stream(d, DEVICE_STREAM_COPY), event);
    assert_true(device_event_is_reached(d, event));
    assert_int_equal(waits_since(d, &before), 0);
    assert_int_equal(a[0], 0);
    assert_int_equal(locked[99], 1);

    device_copy(d, NULL, pageable, a, 100);
    assert_int_equal(waits_since(d, &before), 1);
    device_copy(d, NULL, b, pageable, 100);
    assert_int_equal(waits_since(d, &before), 1);
    device_synchronize(d, NULL);
    assert_int_equal(waits_since(d, &before), 1);
    device_event_synchronize(d, event);
    assert_int_equal(waits_since(d, &before), 1);

    device_event_free(d, event);
    device_unpin(d, pinned, 100);
    assert_int_equal(waits_since(d, &before), 1);
    device_copy(d, NULL, a, pinned, 100); /* pageable again */
    assert_int_equal(waits_since(d, &before), 1);
    device_free_host(d, locked, 100);
    device_free(d, a, 100);
    device_free(d, b, 100);
    assert_int_equal(waits_since(d, &before), 3);
    free(pinned);
    free(pageable);
    device_close(d);
}

static void the_cpu_cannot_capture(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open(&d, "cpu"), STATUS_OK);
    assert_false(device_can_capture(d));
    device_graph_free(d, NULL);
    device_close(d);
}

static void unknown_and_missing_devices_are_explained(void **state) {
    (void)state;
    device *d;
    assert_int_equal(device_open(&d, "tpu"), STATUS_USAGE);
    assert_null(d);
    assert_non_null(strstr(error_cause(), "tpu"));
    static const char *const wrong[] = {
        "", "CPU", "cpu:1", "cudax", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda:1234"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(device_open(&d, wrong[i]), STATUS_USAGE);
    char plugin[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", plugin, sizeof plugin - 64);
    assert_true(length > 0);
    plugin[length] = '\0';
    strcpy(strrchr(plugin, '/'), "/libmaskrcnn_cuda.so");
    if (access(plugin, F_OK) == 0) return; /* a machine with the plug-in: its own tests cover it */
    assert_int_equal(device_open(&d, "cuda"), STATUS_NO_DEVICE);
    assert_non_null(strstr(error_cause(), "libmaskrcnn_cuda.so"));
    assert_non_null(strstr(error_remedy(), "ENABLE_CUDA"));
    assert_int_equal(device_open(&d, "cuda:3"), STATUS_NO_DEVICE);
    FILE *file = fopen(plugin, "we");
    assert_non_null(file);
    fputs("this is no library", file);
    fclose(file);
    status result = device_open(&d, "cuda");
    unlink(plugin);
    assert_int_equal(result, STATUS_NO_DEVICE);
    assert_non_null(strstr(error_cause(), "cannot load"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zeroed_aligned_and_counted),
        cmocka_unit_test(reserving_is_free),
        cmocka_unit_test(failed_reservation_names_bytes_and_purpose),
        cmocka_unit_test(events_know_their_time),
        cmocka_unit_test(waits_of_the_host_are_counted),
        cmocka_unit_test(the_cpu_cannot_capture),
        cmocka_unit_test(unknown_and_missing_devices_are_explained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
