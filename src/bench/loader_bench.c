#include "bench/loader_bench.h"

#include "base/clock.h"
#include "base/host_memory.h"
#include "base/thread_pool.h"
#include "bench/json_output.h"
#include "bench/machine.h"
#include "bench/process_use.h"
#include "image_pack/image_pack.h"
#include "model/canvas_cache.h"
#include "model/forward.h"
#include "setup/model_config.h"
#include "setup/setup.h"
#include "setup/step_batch.h"
#include "setup/train_data.h"

#include <string.h>
#include <unistd.h>

enum { WARM_UP_IMAGES = 64 };

/* Sums over the images of a pass. */
typedef struct pass {
    int64_t images;
    double seconds, wait, fill, transform, worker_cpu, rank_cpu;
    sample_seconds made;
    double pixels;
} pass;

typedef struct bench {
    const loader_bench_job *job;
    train_data data;
    mask_rcnn_spec spec;
    device *dev;
    step_memory memory;
    canvas_cache canvases;
    tape *tapes[CANVAS_CACHE_SIZE]; /* of one image_pack each */
    pass alone, whole;
    int64_t batches; /* of a timed pass */
} bench;

/* The tape that packs batches of this canvas. */
static status packing_tape(tape **out, bench *b, int64_t height, int64_t width) {
    bool is_new;
    int slot = canvas_cache_slot(&b->canvases, height, width, 0, &is_new);
    *out = b->tapes[slot];
    if (!is_new) return STATUS_OK;
    tape_free(b->tapes[slot]);
    tape *t = *out = b->tapes[slot] = tape_new(b->dev, NULL);
    const step_inputs *in = &b->memory.inputs;
    const step_shape *most = &b->memory.largest;
    tensor *bytes = tape_constant(t, "pixels", DTYPE_U8, 1, (int64_t[]){most->pixel_bytes}, in->pixels),
           *table = tape_constant(t, "pixel_table", DTYPE_I32, 2,
                                  (int64_t[]){most->images, IMAGE_PACK_RECORD_INTS}, in->pixel_table);
    tape_keep(t, forward_images(t, &b->spec.pixels, bytes, table, height, width));
    size_t need = tape_plan(t), had = b->memory.arena_bytes;
    RETURN_IF_ERROR(step_memory_reserve(&b->memory, need));
    for (int i = 0; i < CANVAS_CACHE_SIZE; i++)
        if (b->tapes[i] && (i == slot || need > had))
            tape_attach(b->tapes[i], b->memory.arena, b->memory.arena_bytes);
    return STATUS_OK;
}

static void count_samples(pass *p, const loader_batch *batch) {
    for (int i = 0; i < batch->count; i++) {
        const loader_sample *s = &batch->samples[i];
        p->made.read += s->seconds.read;
        p->made.decode += s->seconds.decode;
        p->made.annotations += s->seconds.annotations;
        p->pixels += (double)s->height * s->width;
    }
    p->images += batch->count;
    p->wait += batch->wait_seconds;
}

static status transform(bench *b, pass *p, const loader_batch *batch) {
    int64_t height, width;
    tape *t;
    step_inputs *host;
    step_batch_canvas(&height, &width, batch);
    RETURN_IF_ERROR(packing_tape(&t, b, height, width));
    double start = clock_seconds();
    step_used used = step_batch_fill(&host, &b->memory, batch, b->data.set);
    loader_release_batch(b->data.load);
    double filled = clock_seconds();
    step_memory_bring(&b->memory, &used);
    tape_forward(t);
    device_synchronize(b->dev, NULL);
    p->fill += filled - start;
    p->transform += clock_seconds() - filled;
    return STATUS_OK;
}

/* Adds `sign` times what the processes have computed so far. */
static void add_cpu(pass *p, const bench *b, double sign) {
    for (int i = 0; i < LOADER_MAX_WORKERS && loader_worker_pid(b->data.load, i); i++)
        p->worker_cpu += sign * process_cpu_seconds(loader_worker_pid(b->data.load, i));
    p->rank_cpu += sign * process_cpu_seconds(getpid());
}

static status run_pass(pass *p, bench *b, int64_t batches, bool with_transform) {
    *p = (pass){0};
    add_cpu(p, b, -1);
    double start = clock_seconds();
    for (int64_t i = 0; i < batches; i++) {
        loader_batch batch;
        RETURN_IF_ERROR(loader_next(b->data.load, &batch));
        count_samples(p, &batch);
        if (with_transform)
            RETURN_IF_ERROR(transform(b, p, &batch));
        else
            loader_release_batch(b->data.load);
    }
    p->seconds = clock_seconds() - start;
    add_cpu(p, b, 1);
    return STATUS_OK;
}

/* Both passes, each after a warm-up of its own. */
static status run_passes(bench *b) {
    int64_t batch = b->job->cfg->SOLVER_IMS_PER_BATCH,
            images = sampler_image_count(loader_sampler(b->data.load)),
            warm = images < WARM_UP_IMAGES ? images : WARM_UP_IMAGES;
    b->batches = (b->job->epochs * images + batch - 1) / batch;
    for (int i = 0; i < 2; i++) {
        pass *p = i ? &b->whole : &b->alone;
        RETURN_IF_ERROR(run_pass(p, b, (warm + batch - 1) / batch, i));
        RETURN_IF_ERROR(run_pass(p, b, b->batches, i));
    }
    return STATUS_OK;
}

/* ---- results ---------------------------------------------------------------------------------------------- */

typedef struct row {
    const char *key, *text;
    double ms; /* of one image */
} row;

enum { ROWS = 7 };

static void make_rows(row rows[ROWS], const bench *b) {
    const pass *a = &b->alone, *w = &b->whole;
    double ms = 1e3 / (double)a->images, busy = a->made.read + a->made.decode + a->made.annotations;
    int64_t workers = b->job->cfg->DATALOADER_NUM_WORKERS;
    double available = a->seconds * (double)(workers > 0 ? workers : 1);
    const row all[ROWS] = {
        {"read", "worker: reading the file", ms * a->made.read},
        {"decode", "worker: decoding to RGB", ms * a->made.decode},
        {"annotations", "worker: boxes and masks", ms * a->made.annotations},
        {"ring", "worker: handing over and waiting", ms * (available > busy ? available - busy : 0)},
        {"wait", "step: waiting for the batch", 1e3 * w->wait / (double)w->images},
        {"fill", "step: filling the inputs", 1e3 * w->fill / (double)w->images},
        {"transform", "step: image_pack on the device", 1e3 * w->transform / (double)w->images},
    };
    memcpy(rows, all, sizeof all);
}

static double mib(size_t bytes) {
    return (double)bytes / (1 << 20);
}

/* One line of the table and one object of the JSON. */
static void tell_process(json_writer *w, const char *role, pid_t pid) {
    process_memory m = process_memory_of(pid);
    printf("%-10s %8ld %9.1f %9.1f %9.1f\n", role, (long)pid, mib(m.rss), mib(m.private_bytes), mib(m.share));
    json_write_begin_object(w);
    json_output_text(w, "role", role);
    json_output_f64(w, "pid", pid);
    json_output_f64(w, "rss_mib", mib(m.rss));
    json_output_f64(w, "private_mib", mib(m.private_bytes));
    json_output_f64(w, "pss_mib", mib(m.share));
    json_write_end_object(w);
}

static void tell_processes(json_writer *w, const bench *b) {
    printf("\n%-10s %8s %9s %9s %9s\n", "process", "pid", "RSS MiB", "private", "PSS");
    json_write_key(w, "processes");
    json_write_begin_array(w);
    tell_process(w, "rank", getpid());
    for (int i = 0; i < LOADER_MAX_WORKERS && loader_worker_pid(b->data.load, i); i++)
        tell_process(w, "worker", loader_worker_pid(b->data.load, i));
    if (loader_nursery_pid(b->data.load)) tell_process(w, "nursery", loader_nursery_pid(b->data.load));
    json_write_end_array(w);
}

static void tell_rates(json_writer *w, const bench *b) {
    const config *cfg = b->job->cfg;
    double alone = (double)b->alone.images / b->alone.seconds,
           whole = (double)b->whole.images / b->whole.seconds,
           pixels = 1e-6 * b->alone.pixels / (double)b->alone.images;
    printf("%lld images of %.2f megapixels, batches of %lld, %lld workers\n", (long long)b->alone.images,
           pixels, (long long)cfg->SOLVER_IMS_PER_BATCH, (long long)cfg->DATALOADER_NUM_WORKERS);
    double ms = 1e3 / (double)b->alone.images;
    printf(
        "loader alone          %9.1f img/s; CPU time of an image: %.2f ms of workers, %.2f ms of the rank\n",
        alone, ms * b->alone.worker_cpu, ms * b->alone.rank_cpu);
    printf("with the transform    %9.1f img/s\n\n", whole);
    json_output_f64(w, "img_per_s", alone);
    json_output_f64(w, "img_per_s_with_transform", whole);
    json_output_f64(w, "worker_cpu_ms", ms * b->alone.worker_cpu);
    json_output_f64(w, "rank_cpu_ms", ms * b->alone.rank_cpu);
    json_output_f64(w, "images", (double)b->alone.images);
    json_output_f64(w, "dataset_images", sampler_image_count(loader_sampler(b->data.load)));
    json_output_f64(w, "workers", (double)cfg->DATALOADER_NUM_WORKERS);
    json_output_f64(w, "batch", (double)cfg->SOLVER_IMS_PER_BATCH);
    json_output_f64(w, "epochs", b->job->epochs);
    json_output_f64(w, "megapixels_per_image", pixels);
    json_output_f64(w, "skipped_images", (double)loader_get_stats(b->data.load).skipped_images);
}

static void tell_stages(json_writer *w, const bench *b) {
    row rows[ROWS];
    make_rows(rows, b);
    printf("%-34s %10s\n", "stage", "ms/image");
    json_write_key(w, "stages_ms");
    json_write_begin_object(w);
    for (int i = 0; i < ROWS; i++) {
        printf("%-34s %10.3f\n", rows[i].text, rows[i].ms);
        json_output_f64(w, rows[i].key, rows[i].ms);
    }
    json_write_end_object(w);
}

static status tell(const bench *b) {
    machine m;
    json_writer w;
    machine_describe(&m, b->dev);
    machine_print(&m, stdout);
    json_write_init(&w);
    json_write_begin_object(&w);
    tell_rates(&w, b);
    tell_stages(&w, b);
    tell_processes(&w, b);
    machine_write_json(&w, &m);
    json_output_f64(&w, "peak_rss_mib", mib(host_memory_peak()));
    json_write_end_object(&w);
    status s = json_output_write(b->job->json, &w);
    json_write_release(&w);
    return s;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

static status run_on_device(bench *b) {
    step_shape largest;
    RETURN_IF_ERROR(step_batch_largest(&largest, b->data.load, (int)b->job->cfg->SOLVER_IMS_PER_BATCH));
    status s = step_memory_init(&b->memory, b->dev, &largest);
    if (s == STATUS_OK) s = run_passes(b);
    if (s == STATUS_OK) s = tell(b);
    device_synchronize(b->dev, NULL);
    for (int i = 0; i < CANVAS_CACHE_SIZE; i++) tape_free(b->tapes[i]);
    step_memory_release(&b->memory);
    return s;
}

static status run_on_data(bench *b) {
    RETURN_IF_ERROR(setup_device(&b->dev, b->job->cfg, 0));
    thread_pool_start(setup_thread_count(b->job->cfg, 1));
    status s = run_on_device(b);
    thread_pool_stop();
    device_close(b->dev);
    return s;
}

status loader_bench_run(const loader_bench_job *job) {
    bench b = {.job = job};
    RETURN_IF_ERROR(json_output_check(job->json));
    RETURN_IF_ERROR(model_spec_from_config(&b.spec, job->cfg));
    status s = train_data_open_images(&b.data, job->cfg);
    if (s == STATUS_OK) s = run_on_data(&b);
    train_data_close(&b.data);
    return s;
}
