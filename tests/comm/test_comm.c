/* ranks: 1 2 4 */
#include "comm/comm.h"

#include "base/half.h"
#include "base/philox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static comm *world;
static int rank, size;

static float value_of(int of_rank, size_t i) {
    philox_key key = {.seed = 5, .purpose = PHILOX_TEST, .item = (uint64_t)of_rank};
    return philox_normal(&key, i) * (i % 3 == 0 ? 1e6f : 1.0f);
}

static float *own_values(size_t count) {
    float *values = malloc((count + 1) * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) values[i] = value_of(rank, i);
    values[count] = 123.0f;
    return values;
}

/* The promised order of additions, in float. */
static void check_sum(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++) {
        float sum = value_of(0, i);
        for (int r = 1; r < size; r++) sum += value_of(r, i);
        if (values[i] != sum)
            fail_msg("element %zu: %.9g instead of %.9g", i, (double)values[i], (double)sum);
    }
    assert_true(values[count] == 123.0f);
}

static void sums_are_added_in_rank_order(void **state) {
    (void)state;
    static const size_t counts[] = {0, 1, 2, 3, 5, 1000, 12345};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        float *values = own_values(counts[k]);
        comm_allreduce_sum_f32(world, values, counts[k]);
        check_sum(values, counts[k]);
        free(values);
    }
}

/* More than one block (2 Mi floats) with a tail that does not fill the parts. */
static void a_large_sum_goes_in_blocks(void **state) {
    (void)state;
    size_t count = ((size_t)4 << 20) + 4097;
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) values[i] = (float)((i % 1000) + (size_t)rank);
    comm_allreduce_sum_f32(world, values, count);
    for (size_t i = 0; i < count; i++) {
        float expected = (float)((i % 1000) * (size_t)size + (size_t)(size * (size - 1) / 2));
        if (values[i] != expected)
            fail_msg("element %zu: %g instead of %g", i, (double)values[i], (double)expected);
    }
    free(values);
}

static void begun_sums_run_beside_other_collectives(void **state) {
    (void)state;
    enum { SUMS = 5, COUNT = 70001 };
    float *values[SUMS];
    comm_request requests[SUMS];
    for (int k = 0; k < SUMS; k++) {
        values[k] = own_values(COUNT);
        requests[k] = comm_start_sum(world, values[k], COUNT, COMM_F32);
        double number = rank + 1;
        comm_allreduce_sum_f64(world, &number, 1);
        assert_true(number == size * (size + 1) / 2);
    }
    for (int k = SUMS - 1; k >= 0; k--) {
        comm_wait(world, requests[k]);
        check_sum(values[k], COUNT);
        free(values[k]);
    }
}

/* Added as float in the order of the ranks, rounded once at the end. */
static void sums_of_16_bits_are_rounded_once(void **state) {
    (void)state;
    enum { COUNT = 3 * 1024 + 5 };
    static uint16_t values[COUNT + 1];
    for (int k = 0; k < 2; k++) {
        uint16_t (*from)(float) = k ? bfloat16_from_float : float16_from_float;
        float (*to)(uint16_t) = k ? bfloat16_to_float : float16_to_float;
        for (size_t i = 0; i < COUNT; i++) values[i] = from(value_of(rank, i) / 1e3f);
        values[COUNT] = 77;
        comm_wait(world, comm_start_sum(world, values, COUNT, k ? COMM_BF16 : COMM_F16));
        for (size_t i = 0; i < COUNT; i++) {
            float sum = to(from(value_of(0, i) / 1e3f));
            for (int r = 1; r < size; r++) sum += to(from(value_of(r, i) / 1e3f));
            assert_int_equal(values[i], from(sum));
        }
        assert_int_equal(values[COUNT], 77);
    }
}

static void double_sums_have_equal_bits_everywhere(void **state) {
    (void)state;
    size_t count = 20001; /* more than one block */
    double *values = malloc(count * sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = (double)value_of(rank, i) / 3.0;
    comm_host_sum_f64(world, values, count);
    for (size_t i = 0; i < count; i++) {
        double sum = (double)value_of(0, i) / 3.0;
        for (int r = 1; r < size; r++) sum += (double)value_of(r, i) / 3.0;
        assert_memory_equal(&values[i], &sum, sizeof sum);
    }
    free(values);
}

/* It may be that of a GPU. */
static void one_rank_touches_no_memory(void **state) {
    (void)state;
    if (size > 1) return;
    comm_allreduce_sum_f64(world, (double *)16, 3);
    comm_wait(world, comm_start_sum(world, (float *)16, 3, COMM_F32));
}

static void small_collectives(void **state) {
    (void)state;
    int32_t numbers[3] = {rank, -rank, 7};
    comm_allreduce_max_i32(world, numbers, 3);
    assert_int_equal(numbers[0], size - 1);
    assert_int_equal(numbers[1], 0);
    assert_int_equal(numbers[2], 7);
    for (int root = 0; root < size; root++) {
        char text[32] = "nothing";
        if (rank == root) snprintf(text, sizeof text, "from %d", root);
        comm_broadcast(world, text, sizeof text, root);
        char expected[32];
        snprintf(expected, sizeof expected, "from %d", root);
        assert_string_equal(text, expected);
    }
    struct record {
        int rank;
        double time;
    } mine = {rank, 0.5 * rank}, all[4] = {0};
    comm_gather(world, rank == 0 ? all : NULL, &mine, sizeof mine);
    for (int r = 0; rank == 0 && r < size; r++) {
        assert_int_equal(all[r].rank, r);
        assert_true(all[r].time == 0.5 * r);
    }
    comm_barrier(world);
}

static unsigned char byte_of(int of_rank, size_t i) {
    return (unsigned char)(philox_below(&(philox_key){.seed = 9, .purpose = PHILOX_TEST}, i, 251) +
                           (uint32_t)of_rank);
}

/* Rank r brings sizes[r] bytes; some bring none, one more than a block of 64 MiB. */
static void check_gathered(const size_t sizes[4]) {
    size_t total = 0, mine = sizes[rank];
    for (int r = 0; r < size; r++) total += sizes[r];
    unsigned char *bytes = malloc(mine + 1), *all = malloc(rank == 0 ? total + 1 : 1);
    assert_non_null(bytes);
    assert_non_null(all);
    for (size_t i = 0; i<mine; i += mine> 4096 ? 4096 : 1) bytes[i] = byte_of(rank, i);
    all[rank == 0 ? total : 0] = 77;
    comm_gather_bytes(world, rank == 0 ? all : NULL, rank == 0 ? sizes : NULL, bytes, mine);
    const unsigned char *at = all;
    for (int r = 0; rank == 0 && r < size; at += sizes[r++])
        for (size_t i = 0; i<sizes[r]; i += sizes[r]> 4096 ? 4096 : 1) assert_int_equal(at[i], byte_of(r, i));
    assert_int_equal(all[rank == 0 ? total : 0], 77);
    free(bytes);
    free(all);
}

static void bytes_are_gathered_in_rank_order(void **state) {
    (void)state;
    check_gathered((const size_t[4]){5, 0, 1000, 3});
    check_gathered((const size_t[4]){0, 4096, 0, 0});
    check_gathered((const size_t[4]){0, 0, 0, 0});
    check_gathered((const size_t[4]){17, ((size_t)64 << 20) + 12289, 1, 2});
}

static void ranks_agree_on_the_first_failure(void **state) {
    (void)state;
    assert_int_equal(comm_agree(world, STATUS_OK), STATUS_OK);
    status mine = STATUS_OK;
    error_clear();
    if (rank == size - 1) mine = error_set(STATUS_DATA, "", "last rank's trouble");
    assert_int_equal(comm_agree(world, mine), STATUS_DATA);
    assert_string_equal(error_cause(), rank == size - 1 ? "last rank's trouble" : "");
    mine = error_set(rank == 0 ? STATUS_NO_INPUT : STATUS_IO, "", "trouble of %d", rank);
    assert_int_equal(comm_agree(world, mine), STATUS_NO_INPUT);
    assert_string_equal(error_cause(), rank == 0 ? "trouble of 0" : "");
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Ranks share cores with the computation of others: who waits must sleep. */
static void waiting_costs_no_core(void **state) {
    (void)state;
    comm_barrier(world);
    double before = cpu_seconds();
    if (rank == 0) nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    float one = 1.0f;
    comm_wait(world, comm_start_sum(world, &one, 1, COMM_F32));
    assert_true(one == (float)size);
    if (rank == 0) nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    comm_barrier(world);
    assert_true(cpu_seconds() - before < 0.3);
}

int main(void) {
    setenv("CMOCKA_TEST_ABORT", "1",
           1); /* a failure on one rank must end the others, not leave them waiting */
    rank_env env;
    device *cpu;
    if (rank_env_read(&env) != STATUS_OK || device_open(&cpu, "cpu") != STATUS_OK) return 1;
    if (comm_open(&world, &env, cpu) != STATUS_OK) {
        rank_env_report_error(&env);
        return 1;
    }
    rank = comm_rank(world);
    size = comm_size(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_added_in_rank_order),
        cmocka_unit_test(a_large_sum_goes_in_blocks),
        cmocka_unit_test(begun_sums_run_beside_other_collectives),
        cmocka_unit_test(sums_of_16_bits_are_rounded_once),
        cmocka_unit_test(double_sums_have_equal_bits_everywhere),
        cmocka_unit_test(one_rank_touches_no_memory),
        cmocka_unit_test(small_collectives),
        cmocka_unit_test(bytes_are_gathered_in_rank_order),
        cmocka_unit_test(ranks_agree_on_the_first_failure),
        cmocka_unit_test(waiting_costs_no_core),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(world);
    device_close(cpu);
    return failed;
}
