#include "comm/rank_env.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static const char *const launcher_variables[] = {"OMPI_COMM_WORLD_RANK",
                                                 "OMPI_COMM_WORLD_SIZE",
                                                 "OMPI_COMM_WORLD_LOCAL_RANK",
                                                 "OMPI_COMM_WORLD_LOCAL_SIZE",
                                                 "PMIX_RANK",
                                                 "PMIX_NAMESPACE",
                                                 "PMI_RANK",
                                                 "PMI_SIZE",
                                                 "PMI_JOBID",
                                                 "PMI_LOCAL_RANK",
                                                 "PMI_LOCAL_SIZE",
                                                 "MPI_LOCALRANKID",
                                                 "MPI_LOCALNRANKS",
                                                 "OMPI_MCA_ess_base_jobid",
                                                 "SLURM_PROCID",
                                                 "SLURM_NTASKS",
                                                 "SLURM_LOCALID",
                                                 "SLURM_NODEID",
                                                 "SLURM_JOB_ID",
                                                 "SLURM_TASKS_PER_NODE",
                                                 "SLURM_STEP_TASKS_PER_NODE"};

static int clear_environment(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof launcher_variables / sizeof *launcher_variables; i++)
        unsetenv(launcher_variables[i]);
    return 0;
}

static void set(const char *name, const char *value) {
    assert_int_equal(setenv(name, value, 1), 0);
}

static void check(int rank, int size, int local_rank, int local_size, const char *launcher) {
    rank_env env;
    assert_int_equal(rank_env_read(&env), STATUS_OK);
    assert_int_equal(env.rank, rank);
    assert_int_equal(env.size, size);
    assert_int_equal(env.local_rank, local_rank);
    assert_int_equal(env.local_size, local_size);
    if (launcher)
        assert_string_equal(env.launcher, launcher);
    else
        assert_null(env.launcher);
}

static void one_rank_without_launcher(void **state) {
    (void)state;
    check(0, 1, 0, 1, NULL);
    set("SLURM_PROCID", "0"); /* inside a batch script, not under srun */
    check(0, 1, 0, 1, NULL);
}

static void open_mpi(void **state) {
    (void)state;
    set("OMPI_COMM_WORLD_RANK", "5"), set("OMPI_COMM_WORLD_SIZE", "8");
    set("OMPI_COMM_WORLD_LOCAL_RANK", "1"), set("OMPI_COMM_WORLD_LOCAL_SIZE", "4");
    set("SLURM_PROCID", "0"), set("SLURM_NTASKS", "2"), set("PMIX_RANK", "7"); /* Open MPI's own come first */
    check(5, 8, 1, 4, "Open MPI");
}

static void pmi_and_slurm(void **state) {
    (void)state;
    set("SLURM_PROCID", "6"), set("SLURM_NTASKS", "7"), set("SLURM_LOCALID", "1");
    set("SLURM_NODEID", "2"), set("SLURM_TASKS_PER_NODE", "2(x2),3");
    check(6, 7, 1, 3, "SLURM");
    set("SLURM_STEP_TASKS_PER_NODE", "3,2(x2)");
    check(6, 7, 1, 2, "SLURM");
    set("SLURM_STEP_TASKS_PER_NODE", "nonsense");
    check(6, 7, 1, 7, "SLURM");
    set("PMIX_RANK", "4");
    check(4, 7, 1, 7, "PMI");
    unsetenv("PMIX_RANK");
    set("PMI_RANK", "1"), set("PMI_SIZE", "3"), set("MPI_LOCALRANKID", "0"), set("MPI_LOCALNRANKS", "2");
    check(1, 3, 0, 2, "PMI");
}

static void nonsense_is_refused(void **state) {
    (void)state;
    rank_env env;
    set("OMPI_COMM_WORLD_RANK", "3");
    assert_int_equal(rank_env_read(&env), STATUS_USAGE); /* no size */
    set("OMPI_COMM_WORLD_SIZE", "3");
    assert_int_equal(rank_env_read(&env), STATUS_USAGE); /* rank 3 of 3 */
    set("OMPI_COMM_WORLD_RANK", "1x");
    assert_int_equal(rank_env_read(&env), STATUS_USAGE);
    assert_non_null(strstr(error_cause(), "OMPI_COMM_WORLD_RANK=1x"));
    set("OMPI_COMM_WORLD_RANK", "99999999999999999999");
    assert_int_equal(rank_env_read(&env), STATUS_USAGE);
}

/* Runs rank_env_report_error in `count` processes of one job, the last of several 0.8 s late; returns what they wrote to stderr
 * together. */
static void report_from(int count, bool same_text, char *out, size_t out_size) {
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    for (int i = 0; i < count; i++) {
        if (fork()) continue;
        dup2(pipe_ends[1], 2);
        rank_env env = {.rank = i, .size = count, .local_size = count, .launcher = "Open MPI"};
        snprintf(env.job, sizeof env.job, "test-%d", (int)getppid());
        error_set(STATUS_DATA, "repair it", "bad file %d", same_text ? 0 : i);
        if (count > 1 && i == count - 1) nanosleep(&(struct timespec){.tv_nsec = 800000000}, NULL);
        rank_env_report_error(&env);
        _exit(0);
    }
    close(pipe_ends[1]);
    size_t at = 0;
    for (ssize_t got; (got = read(pipe_ends[0], out + at, out_size - 1 - at)) > 0;) at += (size_t)got;
    out[at] = '\0';
    close(pipe_ends[0]);
    while (wait(NULL) > 0) {
    }
}

static int occurrences(const char *text, const char *part) {
    int count = 0;
    for (const char *p = strstr(text, part); p; p = strstr(p + 1, part)) count++;
    return count;
}

static void control_characters_are_masked(void **state) {
    (void)state;
    char text[4096];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    if (fork() == 0) {
        dup2(ends[1], 2);
        error_set(STATUS_DATA, NULL, "bad\nname\x1b[2J\x7f");
        rank_env_report_error(&(rank_env){.size = 1});
        _exit(0);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], text, sizeof text - 1);
    text[got > 0 ? got : 0] = '\0';
    assert_string_equal(text, "maskrcnn: error: bad?name?[2J?\n");
    close(ends[0]);
    wait(NULL);
}

static void one_cause_is_said_once(void **state) {
    (void)state;
    char text[4096];
    report_from(4, true, text, sizeof text);
    assert_int_equal(occurrences(text, "bad file 0\nmaskrcnn: remedy: repair it\n"), 1);
    report_from(3, false, text, sizeof text);
    assert_int_equal(occurrences(text, "bad file"), 3);
    assert_int_equal(occurrences(text, "maskrcnn: error: rank 2: bad file 2\n"), 1);
    report_from(1, true, text, sizeof text);
    assert_string_equal(text, "maskrcnn: error: bad file 0\nmaskrcnn: remedy: repair it\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_rank_without_launcher, clear_environment),
        cmocka_unit_test_setup(open_mpi, clear_environment),
        cmocka_unit_test_setup(pmi_and_slurm, clear_environment),
        cmocka_unit_test_setup(nonsense_is_refused, clear_environment),
        cmocka_unit_test_setup(control_characters_are_masked, clear_environment),
        cmocka_unit_test_setup(one_cause_is_said_once, clear_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
