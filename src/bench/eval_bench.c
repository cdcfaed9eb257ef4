#include "bench/eval_bench.h"

#include "base/clock.h"
#include "base/file_util.h"
#include "base/host_memory.h"
#include "base/thread_pool.h"
#include "bench/eval_pair.h"
#include "bench/json_output.h"
#include "bench/machine.h"
#include "bench/median.h"
#include "bench/scratch_folder.h"
#include "eval/eval_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LOAD_TRUTH, LOAD_RESULTS, STAGES_OF_TYPE, GROUP = 0, MATCH, AVERAGE, STAGES };

typedef struct type_result {
    double stage_ms[STAGES], total_ms, ap;
} type_result;

typedef struct bench {
    const eval_bench_job *job;
    scratch_folder folder;
    char annotations[PATH_MAX], results[PATH_MAX];
    double *seconds; /* [LOAD_TRUTH, LOAD_RESULTS, then STAGES of each type][iterations] */
    double load_ms[STAGES_OF_TYPE];
    type_result types[COCO_IOU_TYPES];
    coco_scores sizes; /* of a run: its counts */
} bench;

static double *series(const bench *b, int place) {
    return b->seconds + (size_t)place * (size_t)b->job->iterations;
}

static status score_once(bench *b, int iteration) {
    const eval_bench_job *job = b->job;
    coco_truth *truth;
    coco_scores scores[COCO_IOU_TYPES];
    coco_eval_options options = coco_eval_defaults;
    memcpy(options.types, job->types, sizeof options.types);
    double start = clock_seconds();
    RETURN_IF_ERROR(coco_truth_open(&truth, b->annotations));
    series(b, LOAD_TRUTH)[iteration] = clock_seconds() - start;
    status s = coco_eval_results(scores, truth, b->results, &options);
    coco_truth_free(truth);
    for (int t = 0; t < COCO_IOU_TYPES && s == STATUS_OK; t++) {
        if (!job->types[t]) continue;
        const double stages[STAGES] = {scores[t].seconds.group, scores[t].seconds.match,
                                       scores[t].seconds.average};
        for (int k = 0; k < STAGES; k++) series(b, STAGES_OF_TYPE + t * STAGES + k)[iteration] = stages[k];
        series(b, LOAD_RESULTS)[iteration] = scores[t].seconds.read;
        b->types[t].ap = scores[t].numbers[COCO_AP];
        b->sizes = scores[t];
        coco_scores_release(&scores[t]);
    }
    return s;
}

static void take_medians(bench *b) {
    int n = b->job->iterations;
    for (int i = 0; i < STAGES_OF_TYPE; i++) b->load_ms[i] = 1e3 * median(series(b, i), n);
    for (int t = 0; t < COCO_IOU_TYPES; t++) {
        type_result *r = &b->types[t];
        r->total_ms = b->load_ms[LOAD_TRUTH] + b->load_ms[LOAD_RESULTS];
        for (int k = 0; k < STAGES; k++) {
            r->stage_ms[k] = 1e3 * median(series(b, STAGES_OF_TYPE + t * STAGES + k), n);
            r->total_ms += r->stage_ms[k];
        }
    }
}

static void tell_type(json_writer *w, const bench *b, coco_iou_type type) {
    const type_result *r = &b->types[type];
    double per_s = 1e3 / r->total_ms, images = (double)b->sizes.images * per_s,
           detections = (double)b->sizes.detections * per_s;
    printf("%-5s %10.1f %10.1f %10.1f %10.1f %10.0f %12.0f   %.4f\n", coco_iou_type_name(type),
           r->stage_ms[GROUP], r->stage_ms[MATCH], r->stage_ms[AVERAGE], r->total_ms, images, detections,
           r->ap);
    json_write_begin_object(w);
    json_output_text(w, "type", coco_iou_type_name(type));
    json_output_f64(w, "AP", r->ap);
    json_write_key(w, "stages_ms");
    json_write_begin_object(w);
    json_output_f64(w, "group", r->stage_ms[GROUP]);
    json_output_f64(w, "match", r->stage_ms[MATCH]);
    json_output_f64(w, "average", r->stage_ms[AVERAGE]);
    json_write_end_object(w);
    json_output_f64(w, "total_ms", r->total_ms);
    json_output_f64(w, "images_per_s", images);
    json_output_f64(w, "detections_per_s", detections);
    json_write_end_object(w);
}

static void tell_head(json_writer *w, const bench *b) {
    printf("%llu images, %llu objects, %llu detections; annotations read in %.1f ms, results in %.1f ms\n\n",
           (unsigned long long)b->sizes.images, (unsigned long long)b->sizes.objects,
           (unsigned long long)b->sizes.detections, b->load_ms[LOAD_TRUTH], b->load_ms[LOAD_RESULTS]);
    printf("%-5s %10s %10s %10s %10s %10s %12s   %s\n", "type", "group ms", "match ms", "average ms",
           "total ms", "images/s", "detections/s", "AP");
    json_output_f64(w, "images", (double)b->sizes.images);
    json_output_f64(w, "objects", (double)b->sizes.objects);
    json_output_f64(w, "detections", (double)b->sizes.detections);
    json_output_f64(w, "iterations", b->job->iterations);
    json_output_f64(w, "load_annotations_ms", b->load_ms[LOAD_TRUTH]);
    json_output_f64(w, "load_results_ms", b->load_ms[LOAD_RESULTS]);
}

static status tell(const bench *b) {
    machine m;
    json_writer w;
    machine_describe(&m, NULL);
    machine_print(&m, stdout);
    json_write_init(&w);
    json_write_begin_object(&w);
    tell_head(&w, b);
    json_write_key(&w, "types");
    json_write_begin_array(&w);
    for (int t = 0; t < COCO_IOU_TYPES; t++)
        if (b->job->types[t]) tell_type(&w, b, (coco_iou_type)t);
    json_write_end_array(&w);
    machine_write_json(&w, &m);
    json_output_f64(&w, "peak_rss_mib", (double)host_memory_peak() / 0x1p20);
    json_write_end_object(&w);
    status s = json_output_write(b->job->json, &w);
    json_write_release(&w);
    return s;
}

/* Where the files are; made up ones lie in a folder of their own, which goes away again where it is not named. */
static status find_files(bench *b) {
    const eval_bench_job *job = b->job;
    if (job->annotations) {
        snprintf(b->annotations, sizeof b->annotations, "%s", job->annotations);
        snprintf(b->results, sizeof b->results, "%s", job->results);
        return STATUS_OK;
    }
    if (!job->keep) RETURN_IF_ERROR(scratch_folder_make(&b->folder));
    const char *folder = job->keep ? job->keep : b->folder.path;
    if (job->keep && mkdir(folder, 0777) != 0 && errno != EEXIST)
        return error_set(STATUS_CANT_CREATE, "name another folder with --keep", "%s: %s", folder,
                         strerror(errno));
    RETURN_IF_ERROR(path_join(b->annotations, folder, "annotations.json"));
    RETURN_IF_ERROR(path_join(b->results, folder, "results.json"));
    return eval_pair_write(b->annotations, b->results, job->synthetic_images);
}

static status score(bench *b) {
    for (int i = 0; i < b->job->iterations; i++) RETURN_IF_ERROR(score_once(b, i));
    take_medians(b);
    return tell(b);
}

/* Threads come behind the scratch folder, which forks. */
static status run(bench *b) {
    RETURN_IF_ERROR(json_output_check(b->job->json));
    RETURN_IF_ERROR(find_files(b));
    thread_pool_start(thread_pool_usable_cores());
    status s = score(b);
    thread_pool_stop();
    return s;
}

status eval_bench_run(const eval_bench_job *job) {
    bench *b = calloc(1, sizeof *b);
    double *seconds =
        calloc((size_t)job->iterations * (STAGES_OF_TYPE + COCO_IOU_TYPES * STAGES), sizeof *seconds);
    status s = STATUS_OK;
    if (!b || !seconds) {
        s = error_set(STATUS_OS, "use fewer iterations", "bench eval: no memory for %d iterations",
                      job->iterations);
    } else {
        b->job = job;
        b->seconds = seconds;
        s = run(b);
        scratch_folder_remove(&b->folder);
    }
    free(seconds);
    free(b);
    return s;
}
