/* ranks: 1 2 4 */
#include "base/clock.h"
#include "comm/grad_buckets.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static comm *world;
static device *cpu;
static int rank, size;

/* Parameters of odd sizes that start at multiples of 16, as in the parameter store; the third is frozen. */
enum { PARAMS = 7, FLOATS = 16 * 700 };
static const grad_range table[PARAMS] = {{"a", 0, 100},    {"b", 112, 4000},  {"frozen", 0, 0},
                                         {"c", 4112, 1},   {"d", 4128, 1000}, {"e", 5136, 3333},
                                         {"f", 8480, 2700}};

static float start_value(int of_rank, size_t i) {
    return (float)(i % 97) + 0.125f * (float)of_rank;
}

static bool in_parameter(size_t i) {
    for (int p = 0; p < PARAMS; p++)
        if (i >= table[p].offset && i < table[p].offset + table[p].count) return true;
    return false;
}

static void check_sums(const float *gradients) {
    for (size_t i = 0; i < FLOATS; i++) {
        float sum = start_value(0, i);
        for (int r = 1; r < size; r++) sum += start_value(r, i);
        if (in_parameter(i) && gradients[i] != sum)
            fail_msg("gradient %zu is %g, not %g", i, (double)gradients[i], (double)sum);
    }
}

static void sums_are_equal_for_every_bucket_size(void **state) {
    (void)state;
    static const size_t bytes[] = {1, 16000, 24000, 25 << 20};
    static const int buckets[] = {6, 5, 3, 1};
    float *gradients = malloc(FLOATS * sizeof *gradients);
    for (int k = 0; k < 4; k++) {
        grad_buckets *b;
        assert_int_equal(
            grad_buckets_new(&b, world, &(grad_buffer){gradients, COMM_F32}, table, PARAMS, bytes[k]),
            STATUS_OK);
        assert_int_equal(grad_buckets_count(b), buckets[k]);
        for (int step = 0; step < 2; step++) {
            for (size_t i = 0; i < FLOATS; i++) gradients[i] = start_value(rank, i);
            grad_buckets_begin(b);
            static const int order[] = {5, 6, 0, 4, 3, 1}; /* not the order of the buckets */
            for (int i = 0; i < 6; i++) grad_buckets_ready(b, order[i]);
            grad_bucket_times times = grad_buckets_finish(b);
            assert_int_equal(times.buckets, buckets[k]);
            assert_true(times.exposed_seconds >= 0);
            check_sums(gradients);
        }
        grad_buckets_free(b);
    }
    free(gradients);
}

/* While "backward" (a sleep) goes on, the buckets that are complete are summed already. */
static void sums_run_before_finish(void **state) {
    (void)state;
    float *gradients = malloc(FLOATS * sizeof *gradients);
    for (size_t i = 0; i < FLOATS; i++) gradients[i] = start_value(rank, i);
    grad_buckets *b;
    assert_int_equal(grad_buckets_new(&b, world, &(grad_buffer){gradients, COMM_F32}, table, PARAMS, 24000),
                     STATUS_OK);
    static const size_t sizes[] = {4 * 2700, 4 * (5136 + 3333 - 4112), 4 * 4112};
    grad_buckets_measure(b, cpu, NULL);
    double begin = clock_seconds();
    grad_buckets_begin(b);
    for (int i = PARAMS - 1; i >= 3; i--) grad_buckets_ready(b, i);
    nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    grad_buckets_ready(b, 1);
    grad_buckets_ready(b, 0);
    grad_bucket_times times = grad_buckets_finish(b);
    assert_int_equal(times.buckets, 3);
    assert_true(times.hidden >= 1);
    check_sums(gradients);
    double before = begin;
    for (int k = 0; k < 3; k++) { /* one after the other, the last one after the sleep */
        grad_bucket_span span = grad_buckets_span(b, k);
        assert_int_equal(span.bytes, sizes[k]);
        if (size == 1) continue;
        assert_true(span.start >= before && span.seconds > 0);
        before = span.start + span.seconds;
        if (k != 1) assert_true((span.start > begin + 1) == (k == 2));
    }
    assert_true(before <= clock_seconds());
    grad_buckets_free(b);
    free(gradients);
}

/* Runs `misuse` in a child without MPI, and finds `message` in what its CHECK printed. */
static void must_abort(void (*misuse)(grad_buckets *), const char *message) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], 2);
        static float gradients[FLOATS];
        grad_buckets *b;
        if (grad_buckets_new(&b, NULL, &(grad_buffer){gradients, COMM_F32}, table, PARAMS, 24000) !=
            STATUS_OK)
            _exit(1);
        grad_buckets_begin(b);
        misuse(b);
        _exit(0);
    }
    close(ends[1]);
    char text[4096];
    size_t at = 0;
    for (ssize_t got; (got = read(ends[0], text + at, sizeof text - 1 - at)) > 0;) at += (size_t)got;
    text[at] = '\0';
    close(ends[0]);
    int end;
    waitpid(child, &end, 0);
    assert_true(WIFSIGNALED(end) && WTERMSIG(end) == SIGABRT);
    if (!strstr(text, message)) fail_msg("the check does not say `%s`: %s", message, text);
}

static void forget_one(grad_buckets *b) {
    for (int i = 0; i < PARAMS; i++)
        if (i != 2 && i != 4) grad_buckets_ready(b, i);
    grad_buckets_finish(b);
}

static void ready_twice(grad_buckets *b) {
    grad_buckets_ready(b, 5);
    grad_buckets_ready(b, 5);
}

static void ready_frozen(grad_buckets *b) {
    grad_buckets_ready(b, 2);
}

static void misuse_names_the_parameter(void **state) {
    (void)state;
    must_abort(forget_one, "gradient of d never became ready");
    must_abort(ready_twice, "gradient of e is ready twice");
    must_abort(ready_frozen, "frozen parameter frozen is ready");
}

int main(void) {
    /* Forks, so before MPI starts; like the others it must not depend on the number of ranks. */
    const struct CMUnitTest without_mpi[] = {cmocka_unit_test(misuse_names_the_parameter)};
    setenv("CMOCKA_TEST_ABORT", "1",
           1); /* a failure on one rank must end the others, not leave them waiting */
    if (cmocka_run_group_tests(without_mpi, NULL, NULL)) return 1;
    rank_env env;
    if (rank_env_read(&env) != STATUS_OK || device_open(&cpu, "cpu") != STATUS_OK) return 1;
    if (comm_open(&world, &env, cpu) != STATUS_OK) {
        rank_env_report_error(&env);
        return 1;
    }
    rank = comm_rank(world);
    size = comm_size(world);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_equal_for_every_bucket_size),
        cmocka_unit_test(sums_run_before_finish),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(world);
    device_close(cpu);
    return failed;
}
