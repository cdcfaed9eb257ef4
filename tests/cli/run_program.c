#include "cli/run_program.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static pid_t start(char **words, const char *folder, const int out[2], const int err[2]) {
    posix_spawn_file_actions_t actions;
    pid_t pid = 0;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    posix_spawn_file_actions_addchdir_np(&actions, folder);
    int problem = posix_spawnp(&pid, words[0], &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (problem) fail_msg("%s: %s", words[0], strerror(problem));
    return pid;
}

/* Appends what the pipe holds to `text`; what does not fit is read and dropped. 0 at the end of file. */
static int take(int fd, char *text, size_t size) {
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n <= 0) return 0;
    size_t have = strlen(text), room = size - 1 - have;
    size_t take_bytes = (size_t)n < room ? (size_t)n : room;
    memcpy(text + have, bytes, take_bytes);
    text[have + take_bytes] = '\0';
    return 1;
}

/* Watches a program's pipes until both are closed or time is up; kills it when `path` is there. */
static void collect(program_run *run, pid_t pid, int out, int err, const char *path, double until) {
    struct pollfd ends[2] = {{.fd = out, .events = POLLIN}, {.fd = err, .events = POLLIN}};
    while (ends[0].fd >= 0 || ends[1].fd >= 0) {
        double left = until - now();
        if (path && access(path, F_OK) == 0) {
            kill(pid, SIGKILL);
            path = NULL;
        }
        if (left <= 0) return;
        poll(ends, 2, path ? 1 : (int)(left * 1000) + 1);
        if (ends[0].revents && !take(out, run->out, sizeof run->out)) ends[0].fd = -1;
        if (ends[1].revents && !take(err, run->err, sizeof run->err)) ends[1].fd = -1;
    }
}

static pid_t await_end(pid_t pid, int *state, double until) {
    pid_t ended = waitpid(pid, state, WNOHANG);
    while (ended == 0 && now() < until) {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        ended = waitpid(pid, state, WNOHANG);
    }
    return ended;
}

void run_program_until(program_run *run, const char *folder, const char *line, const char *path,
                       double limit_seconds) {
    char text[16384], full[4096], *words[RUN_MOST_WORDS + 1] = {NULL}, *rest = text;
    int n = 0, out[2], err[2], state = 0;
    assert_true(snprintf(text, sizeof text, "%s", line) < (int)sizeof text);
    while (rest && n < RUN_MOST_WORDS) {
        words[n] = strsep(&rest, "~");
        if (strcmp(words[n], "maskrcnn") == 0) words[n] = (char *)TEST_PROGRAM;
        n++;
    }
    if (path) snprintf(full, sizeof full, "%s/%s", folder, path);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    memset(run, 0, sizeof *run);
    double begin = now();
    pid_t pid = start(words, folder, out, err);
    close(out[1]);
    close(err[1]);
    collect(run, pid, out[0], err[0], path ? full : NULL, begin + limit_seconds);
    if (await_end(pid, &state, begin + limit_seconds) == 0) {
        kill(pid, SIGTERM); /* which mpirun passes on */
        if (await_end(pid, &state, now() + 3) == 0) {
            kill(pid, SIGKILL);
            waitpid(pid, &state, 0);
        }
        run->code = RUN_TIMED_OUT;
    } else {
        run->code = WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
    }
    run->seconds = now() - begin;
    close(out[0]);
    close(err[0]);
}

void run_program(program_run *run, const char *folder, const char *line, double limit_seconds) {
    run_program_until(run, folder, line, NULL, limit_seconds);
}
