/* Philox4x32-10 against the known-answer vectors of its authors (Random123), and the draws made of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "base/philox.h"

/* The generator itself, written once more from the paper: philox_block hides its key behind a hash. */
static void reference_block(uint32_t c[4], uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k1,
                            (uint32_t)a};
        memcpy(c, next, sizeof next);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

static uint64_t mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static void blocks_are_philox_4x32_10(void **state) {
    (void)state;
    uint32_t zero[4] = {0, 0, 0, 0};
    reference_block(zero, 0, 0);
    const uint32_t known[4] = {0x6627E8D5u, 0xE169C58Du, 0xBC57AC4Cu, 0x9B00DBD8u};
    assert_memory_equal(zero, known, sizeof known);
    philox_key key = {.seed = 77, .purpose = PHILOX_FLIP, .step = 5, .item = 0x123456789ABCDEFu};
    uint64_t k = mix(77u ^ ((uint64_t)PHILOX_FLIP << 56));
    uint32_t expected[4] = {9, 5, 0x89ABCDEFu, 0x1234567u}, got[4];
    reference_block(expected, (uint32_t)k, (uint32_t)(k >> 32));
    philox_block(&key, 9, got);
    assert_memory_equal(got, expected, sizeof got);
    for (uint64_t i = 0; i < 4; i++) assert_int_equal(philox_u32(&key, 36 + i), expected[i]);
}

static void draws_stay_in_their_range(void **state) {
    (void)state;
    philox_key key = {.seed = 1, .purpose = PHILOX_TEST};
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        float u = philox_uniform(&key, i);
        assert_true(u >= 0.0f && u < 1.0f);
        assert_true(philox_below(&key, i, 7) < 7);
        double n = (double)philox_normal(&key, i);
        assert_true(isfinite(n));
        sum += n;
        squares += n * n;
    }
    assert_true(fabs(sum / 20000) < 0.03);
    assert_true(fabs(squares / 20000 - 1.0) < 0.05);
}

static void many_normals_are_the_single_ones(void **state) {
    (void)state;
    philox_key key = {.seed = 3, .purpose = PHILOX_TEST, .item = 8};
    for (uint64_t first = 0; first < 3; first++) {
        float many[9];
        philox_normals(many, &key, first, 9);
        for (uint64_t i = 0; i < 9; i++) assert_true(many[i] == philox_normal(&key, first + i));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_philox_4x32_10),
        cmocka_unit_test(draws_stay_in_their_range),
        cmocka_unit_test(many_normals_are_the_single_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
