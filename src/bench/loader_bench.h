/* `bench loader`: how fast training data come, through the loader that training uses. First the loader alone (workers read,
 * decode, pack annotations; samples are handed over and let go), then with what a step does to a batch before it computes: filling
 * the inputs, and image_pack on the device (resize, flip, normalise, pad). */
#ifndef BENCH_LOADER_BENCH_H
#define BENCH_LOADER_BENCH_H

#include "config/config.h"

typedef struct loader_bench_job {
    const config
        *cfg;   /* DATASETS.TRAIN, DATALOADER.NUM_WORKERS, SOLVER.IMS_PER_BATCH, INPUT.*, MODEL.DEVICE */
    int epochs; /* passes over the images, timed; before them up to 64 images warm up */
    const char *json; /* file to write; NULL: none */
} loader_bench_job;

/* Prints a table and writes
 *
 *   {"img_per_s", "images", "dataset_images", "workers", "batch", "epochs", "img_per_s_with_transform", "worker_cpu_ms", "rank_cpu_ms",
 *    "stages_ms": {"read", "decode", "annotations", "ring", "wait", "fill", "transform"}, "skipped_images",
 *    "megapixels_per_image", "processes": [{"role", "pid", "rss_mib", "private_mib", "pss_mib"}, ...], "machine": {...},
 *    "peak_rss_mib"}
 *
 * Times are of one image. read, decode and annotations are work of a worker; ring is what is left of the workers' time: handing over,
 * and waiting for requests or for a core; transform runs on the device after filling. The CPU times are those of the loader alone:
 * what it takes also where other programs hold the cores. img_per_s is the loader alone;
 * images are those that were timed, whole batches. Call it before
 * threads, MPI or a device are started: the loader forks. Codes of config, data and device. */
status loader_bench_run(const loader_bench_job *job);

#endif
