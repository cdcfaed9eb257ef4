/* MPI through host memory.
 *
 * Why not MPI_Allreduce: the standard only advises that it gives the same bits in every run, and its
 * algorithm (so the order of additions) changes with the message size; and its blocking form spins a core
 * that the computation needs. Here each rank owns one part of a block: it receives that part from everybody,
 * adds in the order of the ranks, and sends the result to everybody. That moves as few bytes as a ring, 2
 * (n-1)/n of the data, and the order of additions is fixed for each element.
 *
 * Sums of gradients run on a thread of their own with its own communicator, in the order they were begun,
 * while the main thread computes and uses another communicator: hence MPI_THREAD_MULTIPLE. All waiting polls
 * with growing sleeps, since ranks may share cores. */
#include "comm/comm_backend.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/half.h"

#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    QUEUE_SIZE = 1024, /* sums under way at most */
    SCRATCH_ELEMENTS =
        2 * 1024 * 1024, /* received parts of a block, all ranks together; up to 4 bytes each */
    SUM_TILE = 1024,
    GATHER_DOUBLES = 16 * 1024, /* f64 values of a block, all ranks together */
    POLLS_BEFORE_SLEEP = 64,
    FIRST_SLEEP_NS = 5000,
    LONGEST_SLEEP_NS = 100000,
    BROADCAST_BLOCK = 1 << 30, /* MPI counts are ints */
    GATHER_BLOCK = 64 << 20    /* of one rank's bytes at a time */
};

typedef struct queued_sum {
    void *values;
    size_t count;
    comm_type type;    /* never F64 */
    double start, end; /* when it ran */
} queued_sum;

typedef struct comm_mpi {
    comm base;
    MPI_Comm control, sums; /* the main thread's and the sum thread's */
    MPI_Request *requests;  /* 2 x size, the sum thread's */
    char *scratch;          /* size parts, the sum thread's */
    double *gathered;       /* the main thread's */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t begun, finished;
    queued_sum queue[QUEUE_SIZE];
    uint64_t begun_count, finished_count; /* tickets are positions in the order begun */
    bool stopping;
} comm_mpi;

/* Waits without holding a core: the first polls only yield, later ones sleep. */
static void wait_all(int count, MPI_Request *requests) {
    long sleep_ns = FIRST_SLEEP_NS;
    for (int poll = 0;; poll++) {
        int done = 0;
        MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE);
        if (done) return;
        if (poll < POLLS_BEFORE_SLEEP) {
            sched_yield();
            continue;
        }
        nanosleep(&(struct timespec){.tv_nsec = sleep_ns}, NULL);
        if (sleep_ns < LONGEST_SLEEP_NS) sleep_ns *= 2;
    }
}

static void load(float *out, const void *part, size_t first, size_t count, comm_type type) {
    const uint16_t *half = (const uint16_t *)part + first;
    if (type == COMM_F32)
        memcpy(out, (const float *)part + first, count * sizeof *out);
    else
        for (size_t i = 0; i < count; i++)
            out[i] = type == COMM_BF16 ? bfloat16_to_float(half[i]) : float16_to_float(half[i]);
}

static void store(void *part, size_t first, const float *in, size_t count, comm_type type) {
    uint16_t *half = (uint16_t *)part + first;
    if (type == COMM_F32)
        memcpy((float *)part + first, in, count * sizeof *in);
    else
        for (size_t i = 0; i < count; i++)
            half[i] = type == COMM_BF16 ? bfloat16_from_float(in[i]) : float16_from_float(in[i]);
}

/* own = part of rank 0 + part of rank 1 + ..., where this rank's part is `own` itself. */
static void add_parts(const comm_mpi *m, void *own, size_t count, size_t part_bytes, comm_type type) {
    float sum[SUM_TILE], values[SUM_TILE];
    for (size_t at = 0; at < count; at += SUM_TILE) {
        size_t n = count - at < SUM_TILE ? count - at : SUM_TILE;
        for (int r = 0; r < m->base.env.size; r++) {
            const void *part = r == m->base.env.rank ? own : m->scratch + (size_t)r * part_bytes;
            load(r == 0 ? sum : values, part, at, n, type);
            for (size_t i = 0; r > 0 && i < n; i++) sum[i] += values[i];
        }
        store(own, at, sum, n, type);
    }
}

/* One block: part r = [r * part, (r + 1) * part) clipped to count belongs to rank r. */
static void sum_block(comm_mpi *m, const queued_sum *block, size_t part, int tag) {
    int size = m->base.env.size, rank = m->base.env.rank, pending = 0;
    size_t width = comm_type_size(block->type), count = block->count;
    MPI_Datatype element = width == 4 ? MPI_FLOAT : MPI_UINT16_T;
    char *values = block->values;
    size_t begin = (size_t)rank * part < count ? (size_t)rank * part : count;
    size_t own_count = begin + part < count ? part : count - begin;
    char *own = values + begin * width;
    for (int step = 1; step < size; step++) { /* each rank begins with another peer */
        int to = (rank + step) % size, from = (rank + size - step) % size;
        size_t first = (size_t)to * part < count ? (size_t)to * part : count;
        size_t length = first + part < count ? part : count - first;
        MPI_Irecv(m->scratch + (size_t)from * part * width, (int)own_count, element, from, tag, m->sums,
                  &m->requests[pending++]);
        MPI_Isend(values + first * width, (int)length, element, to, tag, m->sums, &m->requests[pending++]);
    }
    wait_all(pending, m->requests);
    add_parts(m, own, own_count, part * width, block->type);
    pending = 0;
    for (int step = 1; step < size; step++) {
        int to = (rank + step) % size, from = (rank + size - step) % size;
        size_t first = (size_t)from * part < count ? (size_t)from * part : count;
        size_t length = first + part < count ? part : count - first;
        MPI_Irecv(values + first * width, (int)length, element, from, tag + 1, m->sums,
                  &m->requests[pending++]);
        MPI_Isend(own, (int)own_count, element, to, tag + 1, m->sums, &m->requests[pending++]);
    }
    wait_all(pending, m->requests);
}

/* Tags follow the sum's place in the order, so ranks that begin different sums hang (and are seen to) instead
 * of mixing them. MPI promises tags up to 32767. */
static void sum_range(comm_mpi *m, queued_sum job, uint64_t ticket) {
    if (m->base.env.size == 1) return;
    int tag = (int)(ticket % 16000) * 2;
    size_t ranks = (size_t)m->base.env.size, most = SCRATCH_ELEMENTS / ranks * ranks;
    for (size_t at = 0; at < job.count; at += most) {
        queued_sum block = {.values = (char *)job.values + at * comm_type_size(job.type),
                            .count = job.count - at < most ? job.count - at : most,
                            .type = job.type};
        sum_block(m, &block, (block.count + ranks - 1) / ranks, tag);
    }
}

static void *sum_thread(void *argument) {
    comm_mpi *m = argument;
    prctl(PR_SET_NAME, "comm");
    prctl(PR_SET_TIMERSLACK, 1000UL); /* or each short sleep lasts 50 us longer */
    pthread_mutex_lock(&m->lock);
    for (;;) {
        while (m->finished_count == m->begun_count && !m->stopping) pthread_cond_wait(&m->begun, &m->lock);
        if (m->finished_count == m->begun_count) break;
        uint64_t ticket = m->finished_count;
        queued_sum job = m->queue[ticket % QUEUE_SIZE];
        pthread_mutex_unlock(&m->lock);
        job.start = clock_seconds();
        sum_range(m, job, ticket);
        job.end = clock_seconds();
        pthread_mutex_lock(&m->lock);
        m->queue[ticket % QUEUE_SIZE] = job;
        m->finished_count++;
        pthread_cond_broadcast(&m->finished);
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

static comm_request mpi_start_sum(comm *c, void *values, size_t count, comm_type type) {
    comm_mpi *m = (comm_mpi *)c;
    CHECK(type != COMM_F64, "sums of doubles are not begun in the background");
    pthread_mutex_lock(&m->lock);
    CHECK(m->begun_count - m->finished_count < QUEUE_SIZE, "%d sums under way", QUEUE_SIZE);
    comm_request request = {m->begun_count++};
    m->queue[request.ticket % QUEUE_SIZE] = (queued_sum){.values = values, .count = count, .type = type};
    pthread_cond_signal(&m->begun);
    pthread_mutex_unlock(&m->lock);
    return request;
}

static void mpi_wait(comm *c, comm_request request) {
    comm_mpi *m = (comm_mpi *)c;
    pthread_mutex_lock(&m->lock);
    CHECK(request.ticket < m->begun_count, "wait for a sum that was never begun");
    while (m->finished_count <= request.ticket) pthread_cond_wait(&m->finished, &m->lock);
    pthread_mutex_unlock(&m->lock);
}

static bool mpi_is_done(comm *c, comm_request request) {
    comm_mpi *m = (comm_mpi *)c;
    pthread_mutex_lock(&m->lock);
    bool done = m->finished_count > request.ticket;
    pthread_mutex_unlock(&m->lock);
    return done;
}

static bool mpi_sum_span(comm *c, comm_request request, double *start, double *end) {
    comm_mpi *m = (comm_mpi *)c;
    pthread_mutex_lock(&m->lock);
    CHECK(request.ticket < m->finished_count && m->begun_count - request.ticket <= QUEUE_SIZE,
          "when did a sum run that is under way or long past?");
    *start = m->queue[request.ticket % QUEUE_SIZE].start;
    *end = m->queue[request.ticket % QUEUE_SIZE].end;
    pthread_mutex_unlock(&m->lock);
    return true;
}

/* Few values: everybody gets everybody's and adds them in the order of the ranks. */
static void mpi_sum_f64(comm *c, double *values, size_t count) {
    comm_mpi *m = (comm_mpi *)c;
    size_t ranks = (size_t)c->env.size, block = GATHER_DOUBLES / ranks;
    if (ranks == 1) return; /* it may be a GPU's memory */
    if (block == 0) block = 1;
    for (size_t at = 0; at < count; at += block) {
        size_t n = count - at < block ? count - at : block;
        MPI_Request request;
        MPI_Iallgather(values + at, (int)n, MPI_DOUBLE, m->gathered, (int)n, MPI_DOUBLE, m->control,
                       &request);
        wait_all(1, &request);
        memcpy(values + at, m->gathered, n * sizeof *values);
        for (size_t r = 1; r < ranks; r++)
            for (size_t i = 0; i < n; i++) values[at + i] += m->gathered[r * n + i];
    }
}

static void mpi_max_i32(comm *c, int32_t *values, size_t count) {
    MPI_Request request;
    CHECK(count < BROADCAST_BLOCK, "maximum of %zu values", count);
    MPI_Iallreduce(MPI_IN_PLACE, values, (int)count, MPI_INT32_T, MPI_MAX, ((comm_mpi *)c)->control,
                   &request);
    wait_all(1, &request);
}

static void mpi_broadcast(comm *c, void *bytes, size_t size, int root) {
    for (size_t at = 0; at < size; at += BROADCAST_BLOCK) {
        size_t n = size - at < BROADCAST_BLOCK ? size - at : BROADCAST_BLOCK;
        MPI_Request request;
        MPI_Ibcast((char *)bytes + at, (int)n, MPI_BYTE, root, ((comm_mpi *)c)->control, &request);
        wait_all(1, &request);
    }
}

static void mpi_barrier(comm *c) {
    MPI_Request request;
    MPI_Ibarrier(((comm_mpi *)c)->control, &request);
    wait_all(1, &request);
}

static void mpi_gather(comm *c, void *out, const void *record, size_t record_size) {
    CHECK(record_size < BROADCAST_BLOCK, "record of %zu bytes", record_size);
    MPI_Request request;
    MPI_Igather(record, (int)record_size, MPI_BYTE, out, (int)record_size, MPI_BYTE, 0,
                ((comm_mpi *)c)->control, &request);
    wait_all(1, &request);
}

/* Rank 0 takes one rank after another, so that it needs no room but `out`. */
static void mpi_gather_bytes(comm *c, void *out, const size_t *sizes, const void *bytes, size_t size) {
    MPI_Comm control = ((comm_mpi *)c)->control;
    MPI_Request request;
    if (c->env.rank != 0) {
        for (size_t at = 0; at < size; at += GATHER_BLOCK) {
            size_t n = size - at < GATHER_BLOCK ? size - at : GATHER_BLOCK;
            MPI_Isend((const char *)bytes + at, (int)n, MPI_BYTE, 0, 0, control, &request);
            wait_all(1, &request);
        }
        return;
    }
    if (size) memcpy(out, bytes, size);
    char *to = (char *)out + size;
    for (int rank = 1; rank < c->env.size; to += sizes[rank++]) {
        for (size_t at = 0; at < sizes[rank]; at += GATHER_BLOCK) {
            size_t n = sizes[rank] - at < GATHER_BLOCK ? sizes[rank] - at : GATHER_BLOCK;
            MPI_Irecv(to + at, (int)n, MPI_BYTE, rank, 0, control, &request);
            wait_all(1, &request);
        }
    }
}

static void mpi_abort(comm *c, int exit_code) {
    (void)c;
    MPI_Abort(MPI_COMM_WORLD, exit_code);
}

static void abort_hook(void) {
    MPI_Abort(MPI_COMM_WORLD, STATUS_INTERNAL);
}

static void release(comm_mpi *m) {
    free(m->requests);
    free(m->scratch);
    free(m->gathered);
    free(m);
}

static void mpi_close(comm *c) {
    comm_mpi *m = (comm_mpi *)c;
    pthread_mutex_lock(&m->lock);
    CHECK(m->finished_count == m->begun_count, "comm closed with %llu sums under way",
          (unsigned long long)(m->begun_count - m->finished_count));
    m->stopping = true;
    pthread_cond_signal(&m->begun);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    mpi_barrier(c); /* MPI_Finalize spins while it waits for the others; this one sleeps */
    MPI_Comm_free(&m->sums);
    MPI_Comm_free(&m->control);
    check_set_abort_hook(NULL);
    MPI_Finalize();
    release(m);
}

static const comm_ops mpi_ops = {
    .name = "mpi",
    .close = mpi_close,
    .sum_f64 = mpi_sum_f64,
    .start_sum = mpi_start_sum,
    .wait = mpi_wait,
    .is_done = mpi_is_done,
    .sum_span = mpi_sum_span,
    .max_i32 = mpi_max_i32,
    .broadcast = mpi_broadcast,
    .barrier = mpi_barrier,
    .gather = mpi_gather,
    .gather_bytes = mpi_gather_bytes,
    .abort = mpi_abort,
};

/* Open MPI's settings for our use, where the user has not set them: idle loops inside it yield; and where a
 * container forbids process_vm_readv (a read of our own memory shows it), ranks of a node copy through shared
 * memory instead. */
static void prepare_environment(void) {
    setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    char from = 1, to = 0;
    struct iovec local = {&to, 1}, remote = {&from, 1};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1)
        setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
}

static status start_mpi(const rank_env *env) {
    int initialized = 0, provided = 0, rank = -1, size = -1;
    MPI_Initialized(&initialized);
    CHECK(!initialized, "MPI is started once per process");
    prepare_environment();
    MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided);
    check_set_abort_hook(abort_hook);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank != env->rank || size != env->size)
        return error_set(
            STATUS_NO_DEVICE,
            "start the program with the mpirun of the MPI it was built with, or with srun --mpi=pmix",
            "%s says rank %d of %d, but MPI says rank %d of %d", env->launcher, env->rank, env->size, rank,
            size);
    if (provided < MPI_THREAD_MULTIPLE)
        return error_set(STATUS_NO_DEVICE, "use an MPI that supports MPI_THREAD_MULTIPLE (Open MPI, MPICH)",
                         "this MPI lacks MPI_THREAD_MULTIPLE (it gives level %d)", provided);
    return STATUS_OK;
}

static status no_memory(void) {
    return error_set(STATUS_OS, "free some memory", "no memory for the communication buffers");
}

/* Signals belong to the main thread, so the thread starts with all of them blocked. */
static int start_thread(comm_mpi *m) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failed = pthread_create(&m->thread, NULL, sum_thread, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

status comm_mpi_host_open(comm **out, const rank_env *env, device *d) {
    *out = NULL;
    comm_mpi *m = calloc(1, sizeof *m);
    if (!m) return no_memory();
    size_t ranks = (size_t)env->size;
    m->base = (comm){.ops = &mpi_ops, .env = *env, .device = d};
    m->requests = malloc(2 * ranks * sizeof *m->requests);
    m->scratch = malloc((SCRATCH_ELEMENTS + ranks) * sizeof(float));
    m->gathered = malloc((GATHER_DOUBLES + ranks) * sizeof *m->gathered);
    status result = m->requests && m->scratch && m->gathered ? start_mpi(env) : no_memory();
    if (result != STATUS_OK) {
        release(m);
        return result;
    }
    MPI_Comm_dup(MPI_COMM_WORLD, &m->control);
    MPI_Comm_dup(MPI_COMM_WORLD, &m->sums);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->begun, NULL);
    pthread_cond_init(&m->finished, NULL);
    int failed = start_thread(m);
    CHECK(!failed, "cannot start the communication thread");
    *out = &m->base;
    return STATUS_OK;
}
