#include "bench/allreduce_bench.h"

#include "base/clock.h"
#include "base/host_memory.h"
#include "base/log.h"
#include "bench/json_output.h"
#include "bench/machine.h"
#include "bench/median.h"
#include "comm/comm.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_BYTES = 4096, FACTOR = 4, RUNS = 5, MOST_REPETITIONS = 100000 };

static const double run_seconds = 0.05;

typedef struct bench {
    const allreduce_bench_job *job;
    comm *c;
    void *values;     /* [most_bytes] of the device, zeros */
    double *seconds;  /* [ranks], on rank 0 */
    json_writer json; /* of rank 0 */
} bench;

static void sum_once(const bench *b, size_t count, comm_type type) {
    comm_wait(b->c, comm_start_sum(b->c, b->values, count, type));
}

/* Seconds of one sum on the slowest rank; known to rank 0. */
static double run_sums(const bench *b, size_t count, comm_type type, int repetitions) {
    comm_barrier(b->c);
    double start = clock_seconds();
    for (int i = 0; i < repetitions; i++) sum_once(b, count, type);
    device_synchronize(b->job->dev, NULL);
    double mine = (clock_seconds() - start) / repetitions, slowest = 0;
    comm_gather(b->c, b->seconds, &mine, sizeof mine);
    for (int r = 0; comm_rank(b->c) == 0 && r < comm_size(b->c); r++)
        if (b->seconds[r] > slowest) slowest = b->seconds[r];
    return slowest;
}

/* As many as take the time of a run, by what rank 0 has measured; the same on every rank. */
static int32_t agree_repetitions(const bench *b, double seconds) {
    double wanted = seconds > 0 ? run_seconds / seconds + 1 : MOST_REPETITIONS;
    int32_t repetitions = wanted < MOST_REPETITIONS ? (int32_t)wanted : MOST_REPETITIONS;
    comm_broadcast(b->c, &repetitions, sizeof repetitions, 0);
    return repetitions;
}

static void tell_case(bench *b, const char *type, size_t bytes, double seconds) {
    char name[64];
    int ranks = comm_size(b->c);
    double algorithm = 1e-9 * (double)bytes / seconds, bus = algorithm * 2 * (ranks - 1) / ranks;
    printf("%-6s %12zu %12.4f %12.3f %12.3f\n", type, bytes, 1e3 * seconds, algorithm, bus);
    fflush(stdout);
    snprintf(name, sizeof name, "%s_%zu", type, bytes);
    json_writer *w = &b->json;
    json_write_begin_object(w);
    json_output_text(w, "name", name);
    json_output_text(w, "type", type);
    json_output_f64(w, "bytes", (double)bytes);
    json_output_f64(w, "time_ms", 1e3 * seconds);
    json_output_f64(w, "algorithm_gb_per_s", algorithm);
    json_output_f64(w, "bus_gb_per_s", bus);
    json_write_end_object(w);
}

static void run_case(bench *b, comm_type type, size_t bytes) {
    size_t count = bytes / comm_type_size(type);
    double seconds[RUNS];
    run_sums(b, count, type, 1); /* warm-up */
    int repetitions = agree_repetitions(b, run_sums(b, count, type, 1));
    for (int i = 0; i < RUNS; i++) seconds[i] = run_sums(b, count, type, repetitions);
    if (comm_rank(b->c) == 0) tell_case(b, type == COMM_F32 ? "F32" : "BF16", bytes, median(seconds, RUNS));
}

static void run_sizes(bench *b, comm_type type) {
    int64_t most = b->job->most_bytes;
    for (int64_t bytes = LEAST_BYTES; bytes < most; bytes *= FACTOR) run_case(b, type, (size_t)bytes);
    run_case(b, type, (size_t)most);
}

static void begin(bench *b, const machine *m) {
    printf("%d ranks, %s\n", comm_size(b->c), comm_backend_name(b->c));
    if (comm_size(b->c) == 1)
        log_warn("bench", "one rank has nothing to sum with: start it with mpirun -n N");
    machine_print(m, stdout);
    printf("\n%-6s %12s %12s %12s %12s\n", "type", "bytes", "ms", "GB/s", "bus GB/s");
    json_writer *w = &b->json;
    json_write_begin_object(w);
    json_output_text(w, "backend", comm_backend_name(b->c));
    json_output_f64(w, "ranks", comm_size(b->c));
    json_output_text(w, "device", m->device);
    json_write_key(w, "cases");
    json_write_begin_array(w);
}

static status end(bench *b, const machine *m) {
    json_writer *w = &b->json;
    json_write_end_array(w);
    machine_write_json(w, m);
    json_output_f64(w, "peak_rss_mib", (double)host_memory_peak() / 0x1p20);
    json_write_end_object(w);
    return json_output_write(b->job->json, w);
}

static status allocate(bench *b) {
    b->seconds = calloc((size_t)comm_size(b->c), sizeof *b->seconds);
    if (!b->seconds) return error_set(STATUS_OS, "free some memory", "no memory for the times of the ranks");
    RETURN_IF_ERROR(device_alloc(b->job->dev, &b->values, (size_t)b->job->most_bytes, "sums over the ranks"));
    device_fill(b->job->dev, NULL, b->values, 0, (size_t)b->job->most_bytes);
    return STATUS_OK;
}

static status run(bench *b) {
    machine m;
    bool is_first = comm_rank(b->c) == 0;
    status s = is_first ? json_output_check(b->job->json) : STATUS_OK;
    RETURN_IF_ERROR(comm_agree(b->c, s == STATUS_OK ? allocate(b) : s));
    machine_describe(&m, b->job->dev);
    if (is_first) begin(b, &m);
    run_sizes(b, COMM_F32);
    run_sizes(b, COMM_BF16);
    return comm_agree(b->c, is_first ? end(b, &m) : STATUS_OK);
}

status allreduce_bench_run(const allreduce_bench_job *job) {
    bench b = {.job = job};
    RETURN_IF_ERROR(comm_open(&b.c, job->env, job->dev));
    json_write_init(&b.json);
    status s = run(&b);
    json_write_release(&b.json);
    device_free(job->dev, b.values, (size_t)job->most_bytes);
    free(b.seconds);
    comm_close(b.c);
    return s;
}
