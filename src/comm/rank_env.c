#include "comm/rank_env.h"

#include "base/clock.h"
#include "base/content_hash.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RANKS = 1 << 20 };

/* Value of a variable in [0, MAX_RANKS], -1 if it is not set. */
static status read_number(int *out, const char *name) {
    const char *text = getenv(name);
    *out = -1;
    if (!text) return STATUS_OK;
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (end == text || *end || errno || value < 0 || value > MAX_RANKS)
        return error_set(STATUS_USAGE, "start the program with mpirun or srun, or unset the variable",
                         "%s=%s is not a number of ranks", name, text);
    *out = (int)value;
    return STATUS_OK;
}

/* The first of the names that is set (-1: none); NULL ends the list. */
static status read_first(int *out, const char *const *names) {
    *out = -1;
    for (; *names && *out < 0; names++) RETURN_IF_ERROR(read_number(out, *names));
    return STATUS_OK;
}

/* Tasks on node `node` of a list such as "2(x3),1": how SLURM writes tasks per node. 0 if it cannot be read. */
static int slurm_tasks_of_node(const char *list, int node) {
    while (list && *list) {
        char *end;
        long tasks = strtol(list, &end, 10), nodes = 1;
        if (end == list || tasks <= 0 || tasks > MAX_RANKS) return 0;
        if (strncmp(end, "(x", 2) == 0) {
            nodes = strtol(end + 2, &end, 10);
            if (nodes <= 0 || *end != ')') return 0;
            end++;
        }
        if (node < nodes) return (int)tasks;
        node -= (int)nodes;
        list = *end == ',' ? end + 1 : NULL;
    }
    return 0;
}

static status read_slurm_local_size(int *out) {
    int node;
    RETURN_IF_ERROR(read_number(&node, "SLURM_NODEID"));
    const char *list = getenv("SLURM_STEP_TASKS_PER_NODE");
    *out = slurm_tasks_of_node(list ? list : getenv("SLURM_TASKS_PER_NODE"), node < 0 ? 0 : node);
    if (*out == 0) *out = -1;
    return STATUS_OK;
}

static status read_launcher(rank_env *out) {
    RETURN_IF_ERROR(read_number(&out->rank, "OMPI_COMM_WORLD_RANK"));
    if (out->rank >= 0) {
        out->launcher = "Open MPI";
        RETURN_IF_ERROR(read_number(&out->size, "OMPI_COMM_WORLD_SIZE"));
        RETURN_IF_ERROR(read_number(&out->local_rank, "OMPI_COMM_WORLD_LOCAL_RANK"));
        return read_number(&out->local_size, "OMPI_COMM_WORLD_LOCAL_SIZE");
    }
    RETURN_IF_ERROR(read_first(&out->rank, (const char *const[]){"PMIX_RANK", "PMI_RANK", NULL}));
    if (out->rank >= 0) {
        out->launcher = "PMI";
        RETURN_IF_ERROR(read_first(&out->size, (const char *const[]){"PMI_SIZE", "SLURM_NTASKS", NULL}));
        RETURN_IF_ERROR(
            read_first(&out->local_rank,
                       (const char *const[]){"MPI_LOCALRANKID", "PMI_LOCAL_RANK", "SLURM_LOCALID", NULL}));
        RETURN_IF_ERROR(
            read_first(&out->local_size, (const char *const[]){"MPI_LOCALNRANKS", "PMI_LOCAL_SIZE", NULL}));
        return out->local_size < 0 ? read_slurm_local_size(&out->local_size) : STATUS_OK;
    }
    RETURN_IF_ERROR(read_number(&out->rank, "SLURM_PROCID"));
    if (out->rank < 0) return STATUS_OK;
    RETURN_IF_ERROR(read_number(&out->size, "SLURM_NTASKS"));
    if (out->size < 0) { /* a batch script outside srun: one process */
        out->rank = -1;
        return STATUS_OK;
    }
    out->launcher = "SLURM";
    RETURN_IF_ERROR(read_number(&out->local_rank, "SLURM_LOCALID"));
    return read_slurm_local_size(&out->local_size);
}

static void name_job(rank_env *out) {
    static const char *const names[] = {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID",
                                        "SLURM_JOB_ID"};
    const char *job = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !job; i++) job = getenv(names[i]);
    if (job)
        snprintf(out->job, sizeof out->job, "%s", job);
    else
        snprintf(out->job, sizeof out->job, "parent-%d", (int)getppid());
}

status rank_env_read(rank_env *out) {
    *out = (rank_env){.rank = -1, .size = -1, .local_rank = -1, .local_size = -1};
    RETURN_IF_ERROR(read_launcher(out));
    if (out->rank < 0) {
        *out = (rank_env){.rank = 0, .size = 1, .local_rank = 0, .local_size = 1};
        return STATUS_OK;
    }
    if (out->size < 0)
        return error_set(STATUS_USAGE, "start the program with mpirun or srun --mpi=pmix",
                         "%s tells rank %d, but not how many ranks there are", out->launcher, out->rank);
    if (out->local_size < 0) out->local_size = out->size;
    if (out->local_rank < 0) out->local_rank = out->rank % (out->local_size ? out->local_size : 1);
    if (out->rank >= out->size || out->local_size > out->size || out->local_rank >= out->local_size)
        return error_set(STATUS_USAGE, "start the program with mpirun or srun",
                         "%s tells rank %d of %d, on this node %d of %d", out->launcher, out->rank, out->size,
                         out->local_rank, out->local_size);
    name_job(out);
    return STATUS_OK;
}

/* Longest time that ranks with the same error wait for each other. */
enum { MEETING_MS = 2000 };

/* The place where the ranks of this node meet that have the same error to report: an abstract socket, which needs no folder
 * and goes away with the process that made it. */
static socklen_t name_meeting(struct sockaddr_un *out, const rank_env *env, const char *text) {
    uint64_t hash = content_hash_of(text, strlen(text));
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int length = snprintf(out->sun_path + 1, sizeof out->sun_path - 1, "maskrcnn/%s/%016llx", env->job,
                          (unsigned long long)hash);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

/* Until the descriptor has something to tell, or the time is over. */
static bool wait_on(int fd, double deadline) {
    double left = deadline - clock_seconds();
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return left > 0 && poll(&one, 1, (int)(1e3 * left)) > 0;
}

/* The launcher ends all ranks when the first one leaves. So the one that spoke stays until the others know that it is said, and
 * they stay until it has gone. Descriptors are left to the process's end. */
static void receive_others(const rank_env *env, int fd) {
    double deadline = clock_seconds() + 1e-3 * MEETING_MS;
    for (int others = 1; others < env->local_size && wait_on(fd, deadline); others++)
        if (accept4(fd, NULL, NULL, SOCK_CLOEXEC) < 0) return;
}

static void wait_for_speaker(int fd, const struct sockaddr_un *address, socklen_t length) {
    double deadline = clock_seconds() + 1e-3 * MEETING_MS;
    while (connect(fd, (const struct sockaddr *)address, length) != 0) {
        if (clock_seconds() > deadline) return; /* it has gone meanwhile */
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    wait_on(fd, deadline);
}

/* One line, whatever the text holds: a file name may have line breaks or escape sequences in it. */
static void copy_line(char *out, size_t size, const char *text) {
    snprintf(out, size, "%s", text);
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7F) *p = '?';
}

static void print_error(const rank_env *env) {
    fflush(stdout);
    char cause[2048], remedy[2048], rank[32] = "";
    copy_line(cause, sizeof cause, error_cause());
    copy_line(remedy, sizeof remedy, error_remedy());
    if (env->size > 1) snprintf(rank, sizeof rank, "rank %d: ", env->rank);
    /* In one write: stderr has no buffer, and other ranks write too. */
    fprintf(stderr, "maskrcnn: error: %s%s\n%s%s%s", rank, cause, remedy[0] ? "maskrcnn: remedy: " : "",
            remedy, remedy[0] ? "\n" : "");
    fflush(stderr);
}

void rank_env_report_error(const rank_env *env) {
    if (env->size == 1) {
        if (error_cause()[0]) print_error(env);
        return;
    }
    struct sockaddr_un address;
    socklen_t length = name_meeting(&address, env, error_cause());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, length) != 0 && errno == EADDRINUSE) {
        wait_for_speaker(fd, &address, length);
        return;
    }
    if (error_cause()[0]) print_error(env);
    if (fd >= 0 && listen(fd, env->local_size) == 0) receive_others(env, fd);
}
