/* What a measurement says of its machine, and the median it reports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/host_memory.h"
#include "bench/machine.h"
#include "bench/median.h"

static void median_of_odd_and_even(void **state) {
    (void)state;
    assert_true(median((double[]){3}, 1) == 3);
    assert_true(median((double[]){9, 1, 2}, 3) == 2);
    assert_true(median((double[]){9, 1, 2, 4}, 4) == 3);
}

static void json_has_the_machine(void **state) {
    (void)state;
    static const char *const keys[] = {"\"version\"",
                                       "\"cpu\"",
                                       "\"cores\"",
                                       "\"blas\"",
                                       "\"device\": \"cpu\"",
                                       "\"gemm_gflops\"",
                                       "\"gemm_type\": \"F32\"",
                                       "\"memory_gb_per_s\""};
    machine m;
    device *dev;
    json_writer w;
    assert_int_equal(device_open(&dev, "cpu"), STATUS_OK);
    machine_describe(&m, dev);
    assert_true(m.cores >= 1 && m.threads >= 1 && m.memory_gib > 0);
    assert_true(strlen(m.cpu) > 0 && strlen(m.blas) > 0);
    assert_int_equal(machine_measure(&m, dev, DTYPE_F32, false), STATUS_OK);
    assert_true(m.gemm_gflops > 0.1 && m.gemm_gflops < 1e6);
    assert_true(m.memory_gb_per_s > 0.1 && m.memory_gb_per_s < 1e5);
    json_write_init(&w);
    json_write_begin_object(&w);
    machine_write_json(&w, &m);
    json_write_end_object(&w);
    assert_int_equal(json_write_finish(&w), STATUS_OK);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strstr(w.text, keys[i])) fail_msg("no %s in %s", keys[i], w.text);
    json_write_release(&w);
    device_close(dev);
}

static void memory_is_free(void **state) {
    (void)state;
    assert_true(host_memory_free() > 0);
    assert_true(host_memory_free() <= host_memory_total());
}

static void peak_rss_grows(void **state) {
    (void)state;
    enum { BYTES = 64 << 20 };
    size_t before = host_memory_peak();
    char *block = test_malloc(BYTES);
    memset(block, 1, BYTES);
    assert_true(host_memory_peak() >= before + BYTES / 2);
    test_free(block);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(peak_rss_grows), cmocka_unit_test(memory_is_free),
                                       cmocka_unit_test(median_of_odd_and_even),
                                       cmocka_unit_test(json_has_the_machine)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
