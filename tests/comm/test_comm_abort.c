/* How a job ends when one rank fails: this program runs itself under mpirun, as `test_comm_abort MODE`. */
#include "comm/comm.h"

#include "base/check.h"
#include "device/device_backend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static int child(const char *mode) {
    rank_env env;
    device *cpu;
    comm *c;
    if (rank_env_read(&env) != STATUS_OK || device_open(&cpu, "cpu") != STATUS_OK) return 1;
    if (strcmp(mode, "before") == 0 && env.rank == 1) {
        status code = error_set(STATUS_NO_INPUT, "give another", "file of one rank is missing");
        rank_env_report_error(&env);
        device_close(cpu);
        return code;
    }
    if (strcmp(mode, "devices") == 0) cpu->host_accessible = env.rank != 1; /* as if it had found a GPU */
    status opened = comm_open(&c, &env, cpu);
    if (opened != STATUS_OK) {
        rank_env_report_error(&env);
        device_close(cpu);
        return opened;
    }
    if (strcmp(mode, "agree") == 0) {
        error_clear();
        status mine =
            env.rank == 1 ? error_set(STATUS_DATA, "give another", "file of one rank is bad") : STATUS_OK;
        status code = comm_agree(c, mine);
        rank_env_report_error(&env);
        comm_close(c);
        device_close(cpu);
        return code;
    }
    if (env.rank == 1 && strcmp(mode, "abort") == 0) {
        fputs("rank 1 stops here\n", stderr);
        comm_abort(c, STATUS_NON_FINITE);
    }
    CHECK(env.rank != 1, "deliberate");
    float value = 1;
    comm_wait(c, comm_start_sum(c, &value, 1, COMM_F32)); /* never comes */
    return 0;
}

/* Runs `before` (a launcher or settings), this program, `mode`; returns the exit code, `out` gets what it said. */
static int run(const char *before, const char *mode, char *out, size_t size) {
    char self[512], command[1024];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    snprintf(command, sizeof command, "%s timeout 20 '%s' %s 2>&1", before, self, mode);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t at = fread(out, 1, size - 1, pipe);
    out[at] = '\0';
    return WEXITSTATUS(pclose(pipe));
}

static const char two_ranks[] = "timeout 30 mpirun --allow-run-as-root --oversubscribe -n 2";

static void check(const char *before, const char *mode, int code, const char *message) {
    char text[16384];
    int got = run(before, mode, text, sizeof text);
    if (got != code) fail_msg("%s: exit code %d instead of %d; it said:\n%s", mode, got, code, text);
    const char *found = strstr(text, message);
    if (!found || strstr(found + 1, message)) fail_msg("%s: not once: %s\nit said:\n%s", mode, message, text);
}

static void failure_before_mpi(void **state) {
    (void)state;
    check(two_ranks, "before", STATUS_NO_INPUT,
          "rank 1: file of one rank is missing\nmaskrcnn: remedy: give another\n");
}

static void failure_that_all_know(void **state) {
    (void)state;
    check(two_ranks, "agree", STATUS_DATA, "rank 1: file of one rank is bad\n");
}

static void failure_of_one_rank(void **state) {
    (void)state;
    check(two_ranks, "abort", STATUS_NON_FINITE, "rank 1 stops here");
}

static void failed_check_ends_the_job(void **state) {
    (void)state;
    check(two_ranks, "check", STATUS_INTERNAL, "internal error: deliberate");
}

/* Each rank says so, but the first that ends may take the other with it. */
static void ranks_on_unlike_devices(void **state) {
    (void)state;
    char text[16384];
    assert_int_equal(run(two_ranks, "devices", text, sizeof text), STATUS_NO_DEVICE);
    if (!strstr(text, "some ranks compute on a GPU and others, as they find none, on the CPU"))
        fail_msg("it said:\n%s", text);
}

/* A launcher of another MPI: each process would train alone. */
static void launcher_that_mpi_does_not_know(void **state) {
    (void)state;
    check("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=0 "
          "OMPI_COMM_WORLD_LOCAL_SIZE=2",
          "open", STATUS_NO_DEVICE, "Open MPI says rank 0 of 2, but MPI says rank 0 of 1");
}

int main(int argc, char **argv) {
    if (argc == 2) return child(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failure_before_mpi),      cmocka_unit_test(failure_that_all_know),
        cmocka_unit_test(failure_of_one_rank),     cmocka_unit_test(failed_check_ends_the_job),
        cmocka_unit_test(ranks_on_unlike_devices), cmocka_unit_test(launcher_that_mpi_does_not_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
