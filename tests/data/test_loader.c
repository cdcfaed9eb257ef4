/* The loader: the same bytes for any number of workers, ranks and deaths; what a sample holds; bad images; no
 * process is left behind. */
#include "data/coco_test_util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <png.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include "base/content_hash.h"
#include "data/loader.h"
#include "data/shared_ring.h"

enum { IMAGES = 14, ITERATIONS = 30, BATCH = 4 };

static const int32_t edges[] = {24, 30, 41};

static int image_width(int i) {
    return i % 3 ? 40 + i : 30;
}

static int image_height(int i) {
    return i % 3 ? 30 : 40 + 2 * i;
}

static uint8_t pixel(int i, int y, int x, int c) {
    return (uint8_t)(i * 31 + y * 7 + x * 3 + c * 50);
}

static void write_png(const char *name, int i, int height, int width) {
    uint8_t *pixels = malloc((size_t)height * (size_t)width * 3);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++) pixels[(y * width + x) * 3 + c] = pixel(i, y, x, c);
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)width,
                     .height = (png_uint_32)height,
                     .format = PNG_FORMAT_RGB};
    assert_int_equal(png_image_write_to_file(&png, in_folder(name), 0, pixels, 0, NULL), 1);
    free(pixels);
}

/* Object k of image i: 0 a polygon, 1 an RLE of 2 columns, 2 a crowd region, 3 two polygons over the edge. */
static size_t write_object(char *text, size_t room, int i, int k) {
    int h = image_height(i), w = image_width(i), id = 100 * i + k;
    if (k == 1)
        return (size_t)snprintf(text, room,
                                ",{\"id\":%d,\"image_id\":%d,\"category_id\":5,\"bbox\":[2,1,2,%d],"
                                "\"segmentation\":{\"size\":[%d,%d],\"counts\":[%d,%d,1,%d,%d]}}",
                                id, 1000 + i, h - 1, h, w, 2 * h + 1, h - 1, h - 1, (w - 4) * h);
    if (k == 2)
        return (size_t)snprintf(text, room,
                                ",{\"id\":%d,\"image_id\":%d,\"category_id\":5,\"bbox\":[0,0,9,9],"
                                "\"iscrowd\":1,\"segmentation\":{\"size\":[%d,%d],\"counts\":[0,%d]}}",
                                id, 1000 + i, h, w, h * w);
    if (k == 3)
        return (size_t)snprintf(text, room,
                                ",{\"id\":%d,\"image_id\":%d,\"category_id\":2,\"bbox\":[%d,3,9.5,8],"
                                "\"segmentation\":[[%d,3,%d.5,3,%d,11],[20,20,28,20,28,28,20,28]]}",
                                id, 1000 + i, w - 9, w - 9, w, w - 4);
    return (size_t)snprintf(text, room,
                            "%s{\"id\":%d,\"image_id\":%d,\"category_id\":2,\"bbox\":[4.5,6,10,12.25],"
                            "\"segmentation\":[[4.5,6,14.5,6,14.5,18.25,4.5,18.25]]}",
                            i ? "," : "", id, 1000 + i);
}

static const char *write_dataset(void) {
    static char spec[PATH_MAX];
    enum { ROOM = 1 << 16 };
    char *text = malloc(ROOM);
    size_t at = (size_t)snprintf(
        text, ROOM, "{\"categories\":[{\"id\":5,\"name\":\"b\"},{\"id\":2,\"name\":\"a\"}],\"images\":[");
    for (int i = 0; i < IMAGES; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d.png", i);
        at += (size_t)snprintf(text + at, ROOM - at,
                               "%s{\"id\":%d,\"file_name\":\"%s\",\"width\":%d,\"height\":%d}", i ? "," : "",
                               1000 + i, name, image_width(i), image_height(i));
        write_png(name, i, image_height(i), image_width(i));
    }
    at += (size_t)snprintf(text + at, ROOM - at, "],\"annotations\":[");
    for (int i = 0; i < IMAGES; i++)
        for (int k = 0; k < 1 + i % 4; k++) at += write_object(text + at, ROOM - at, i, k);
    snprintf(text + at, ROOM - at, "]}");
    snprintf(spec, sizeof spec, "%s:%s", write_text("loader.json", text), test_folder);
    free(text);
    return spec;
}

static dataset *open_dataset(void) {
    const char *specs[] = {write_dataset()};
    dataset *data = NULL;
    assert_int_equal(dataset_open(&data, specs, 1, NULL, 0, NULL), STATUS_OK);
    return data;
}

static loader_options default_options(int workers) {
    return (loader_options){.sampler = {.seed = 11,
                                        .global_batch = BATCH,
                                        .shuffle = true,
                                        .aspect_grouping = true,
                                        .filter_empty = true,
                                        .flip_probability = 0.5f,
                                        .short_edges = edges,
                                        .short_edge_count = 3,
                                        .max_size = 60},
                            .world = 1,
                            .workers = workers,
                            .masks = true,
                            .bad_share = 0.01};
}

static loader *make_loader(const dataset *data, const loader_options *options) {
    loader *l = NULL;
    status s = loader_new(&l, data, options);
    if (s != STATUS_OK) print_message("%s\n", error_cause());
    assert_int_equal(s, STATUS_OK);
    return l;
}

static void hash_sample(content_hash *h, const loader_sample *s) {
    int64_t numbers[] = {s->image_id, s->image,    s->part,           s->epoch,
                         s->height,   s->width,    s->resized_height, s->resized_width,
                         s->flip,     s->replaced, s->objects,        (int64_t)s->mask_blob_bytes};
    content_hash_update(h, numbers, sizeof numbers);
    content_hash_update(h, s->pixels, (size_t)s->height * (size_t)s->width * 3);
    content_hash_update(h, s->boxes, (size_t)s->objects * 4 * sizeof *s->boxes);
    content_hash_update(h, s->labels, (size_t)s->objects * sizeof *s->labels);
    content_hash_update(h, s->annotation_ids, (size_t)s->objects * sizeof *s->annotation_ids);
    content_hash_update(h, s->masks, (size_t)s->objects * sizeof *s->masks);
    content_hash_update(h, s->mask_blob, s->mask_blob_bytes);
}

/* Digest of each sample of `iterations` iterations, this rank's share. */
static void hash_run(uint64_t *digests, loader *l, int iterations, void (*between)(loader *, int)) {
    for (int i = 0; i < iterations; i++) {
        loader_batch batch;
        if (between) between(l, i);
        status s = loader_next(l, &batch);
        if (s != STATUS_OK) print_message("%s\n", error_cause());
        assert_int_equal(s, STATUS_OK);
        for (int k = 0; k < batch.count; k++) {
            content_hash h;
            content_hash_init(&h);
            hash_sample(&h, &batch.samples[k]);
            *digests++ = content_hash_digest(&h);
        }
        loader_release_batch(l);
    }
}

static void expect_same_run(const dataset *data, const loader_options *options, const uint64_t *expected,
                            void (*between)(loader *, int), int64_t restarts) {
    uint64_t digests[ITERATIONS * BATCH];
    loader *l = make_loader(data, options);
    hash_run(digests, l, ITERATIONS, between);
    assert_memory_equal(digests, expected, sizeof digests);
    assert_true(loader_get_stats(l).restarted_workers >= restarts);
    assert_int_equal(loader_get_stats(l).skipped_images, 0);
    loader_free(l);
}

static void kill_one(loader *l, int i) {
    if (i % 2 == 0) kill(loader_worker_pid(l, i % 3), SIGKILL);
}

static void stop_one(loader *l, int i) {
    if (i % 20 == 3) kill(loader_worker_pid(l, i % 3), SIGSTOP);
}

static pid_t parent_of(pid_t pid) {
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    pid_t parent = 0;
    if (file && fgets(line, sizeof line, file)) sscanf(strrchr(line, ')') + 1, " %*c %d", &parent);
    if (file) fclose(file);
    return parent;
}

static void kill_nursery(loader *l, int i) {
    if (i == 5) assert_int_equal(kill(parent_of(loader_worker_pid(l, 0)), SIGKILL), 0);
}

static void test_same_bytes(void **state) {
    (void)state;
    dataset *data = open_dataset();
    uint64_t expected[ITERATIONS * BATCH];
    loader_options options = default_options(0);
    loader *l = make_loader(data, &options);
    hash_run(expected, l, ITERATIONS, NULL);
    loader_free(l);
    for (int workers = 0; workers <= 3; workers++) {
        options = default_options(workers);
        options.prefetch_batches = 1 + workers;
        expect_same_run(data, &options, expected, NULL, 0);
    }
    options = default_options(3);
    expect_same_run(data, &options, expected, kill_one, 5);
    options.stall_seconds = 0.5;
    expect_same_run(data, &options, expected, stop_one, 1);
    options.stall_seconds = 0;
    expect_same_run(data, &options, expected, kill_nursery, 1);
    options.masks = false;
    uint64_t digests[ITERATIONS * BATCH];
    l = make_loader(data, &options);
    hash_run(digests, l, ITERATIONS, NULL);
    assert_true(memcmp(digests, expected, sizeof digests) != 0);
    loader_free(l);
    dataset_free(data);
}

static void test_ranks_and_resume(void **state) {
    (void)state;
    dataset *data = open_dataset();
    uint64_t expected[ITERATIONS * BATCH], digests[ITERATIONS * BATCH];
    loader_options options = default_options(0);
    loader *l = make_loader(data, &options);
    hash_run(expected, l, ITERATIONS, NULL);
    loader_free(l);
    for (int world = 2; world <= 4; world *= 2)
        for (int rank = 0; rank < world; rank++) {
            options = default_options(1);
            options.world = world;
            options.rank = rank;
            l = make_loader(data, &options);
            hash_run(digests, l, ITERATIONS, NULL);
            int share = BATCH / world;
            for (int i = 0; i < ITERATIONS; i++)
                assert_memory_equal(digests + i * share, expected + i * BATCH + rank * share,
                                    (size_t)share * sizeof *digests);
            loader_free(l);
        }
    for (int workers = 0; workers < 3; workers += 2) {
        options = default_options(workers);
        l = make_loader(data, &options);
        static const int starts[] = {17, 3, 0, 29};
        for (int i = 0; i < 4; i++) {
            assert_int_equal(loader_start_at(l, starts[i]), STATUS_OK);
            hash_run(digests, l, 1, NULL);
            assert_memory_equal(digests, expected + starts[i] * BATCH, BATCH * sizeof *digests);
        }
        loader_free(l);
    }
    dataset_free(data);
}

/* Boxes, labels and masks of one sample against what the annotation file says. */
static void check_sample(const loader_sample *s, bool bitmap_masks) {
    int i = (int)s->image;
    assert_int_equal(s->image_id, 1000 + i);
    assert_true(s->height == image_height(i) && s->width == image_width(i));
    for (int y = 0; y < s->height; y++)
        for (int x = 0; x < s->width; x++)
            for (int c = 0; c < 3; c++)
                assert_int_equal(s->pixels[(y * s->width + x) * 3 + c], pixel(i, y, x, c));
    double sx = (double)s->resized_width / s->width, sy = (double)s->resized_height / s->height;
    static const int kinds[4][3] = {
        {0, 0, 0}, {0, 1, 0}, {0, 1, 0}, {0, 1, 3}}; /* the crowd region (2) is left out */
    assert_int_equal(s->objects, i % 4 == 0 ? 1 : i % 4 == 3 ? 3 : 2);
    for (int n = 0; n < s->objects; n++) {
        int kind = kinds[i % 4][n];
        double box[4] = {4.5, 6, 14.5, 18.25};
        if (kind == 1) memcpy(box, (double[4]){2, 1, 4, s->height}, sizeof box);
        if (kind == 3) memcpy(box, (double[4]){s->width - 9, 3, s->width, 11}, sizeof box);
        double x1 = box[0] * sx, x2 = box[2] * sx;
        const float *got = s->boxes + 4 * n;
        assert_true(fabs(got[0] - (s->flip ? s->resized_width - x2 : x1)) < 1e-4 &&
                    fabs(got[2] - (s->flip ? s->resized_width - x1 : x2)) < 1e-4);
        assert_true(fabs(got[1] - box[1] * sy) < 1e-4 && fabs(got[3] - box[3] * sy) < 1e-4);
        assert_int_equal(s->labels[n], kind == 1 ? 1 : 0); /* category 2 is label 0, 5 is 1 */
        assert_int_equal(s->annotation_ids[n], 100 * i + kind);
        gt_mask_view view;
        assert_int_equal(gt_mask_read(&view, &s->masks[n], s->mask_blob, s->mask_blob_bytes), STATUS_OK);
        assert_int_equal(view.kind, kind == 1 || bitmap_masks ? GT_MASK_BITMAP : GT_MASK_POLYGON);
        if (kind == 1)
            for (int y = 0; y < s->height; y++)
                for (int x = 0; x < s->width; x++)
                    assert_int_equal(gt_mask_bit(&view, x, y), y >= 1 && x >= 2 && x < 4);
        else if (bitmap_masks && kind == 0)
            for (int y = 0; y < s->height; y++)
                for (int x = 0; x < s->width; x++) /* pixels well inside and well outside */
                    if (x > 6 && x < 13 && y > 7 && y < 16)
                        assert_true(gt_mask_bit(&view, x, y));
                    else if (x < 3 || x > 15 || y < 5 || y > 19)
                        assert_false(gt_mask_bit(&view, x, y));
                    else
                        continue;
        else if (!bitmap_masks) {
            assert_int_equal(view.parts, kind == 3 ? 2 : 1);
            gt_mask_part part = gt_mask_next_part(&view.data);
            assert_int_equal(part.points, kind == 3 ? 3 : 4);
            assert_true(part.xy[0] == (float)box[0] && part.xy[1] == (float)box[1]);
        }
    }
}

static void test_samples(void **state) {
    (void)state;
    dataset *data = open_dataset();
    for (int bitmap = 0; bitmap < 2; bitmap++) {
        loader_options options = default_options(2);
        options.bitmap_masks = bitmap;
        loader *l = make_loader(data, &options);
        int flips = 0, seen[IMAGES] = {0};
        for (int i = 0; i < ITERATIONS; i++) {
            loader_batch batch;
            assert_int_equal(loader_next(l, &batch), STATUS_OK);
            assert_int_equal(batch.iteration, i);
            assert_int_equal(batch.count, BATCH);
            assert_true(batch.wait_seconds >= 0);
            for (int k = 0; k < BATCH; k++) {
                check_sample(&batch.samples[k], bitmap);
                flips += batch.samples[k].flip;
                seen[batch.samples[k].image]++;
            }
            loader_release_batch(l);
        }
        assert_true(flips > 30 && flips < 90);
        for (int i = 0; i < IMAGES; i++) assert_true(seen[i] > 3);
        loader_free(l);
    }
    dataset_free(data);
}

/* Runs until an error or `iterations` are done. */
static status run(loader *l, int iterations, int *replaced, bool forbidden[IMAGES]) {
    for (int i = 0; i < iterations; i++) {
        loader_batch batch;
        RETURN_IF_ERROR(loader_next(l, &batch));
        for (int k = 0; k < batch.count; k++) {
            const loader_sample *s = &batch.samples[k];
            *replaced += s->replaced;
            assert_false(forbidden[s->image]);
            assert_int_equal(s->pixels[0], pixel((int)s->image, 0, 0, 0));
        }
        loader_release_batch(l);
    }
    return STATUS_OK;
}

/* Two ranks see every image of the file once, bad ones as themselves; and again after loader_start_at(0). */
static void test_kept_bad_images(void **state) {
    (void)state;
    for (int workers = 0; workers < 3; workers += 2) {
        dataset *data = open_dataset();
        write_png("7.png", 7, image_height(7) + 1, image_width(7));
        write_text("9.png", "this is no picture");
        loader_options options = default_options(workers);
        options.sampler.global_batch = options.world = 2;
        options.sampler.shuffle = options.sampler.aspect_grouping = options.sampler.filter_empty = false;
        options.sampler.flip_probability = 0.0f;
        options.keep_bad = true;
        options.bad_share = 0;
        for (options.rank = 0; options.rank < 2; options.rank++) {
            loader *l = make_loader(data, &options);
            for (int round = 0; round < 2; round++) {
                assert_int_equal(loader_start_at(l, 0), STATUS_OK);
                for (int i = options.rank; i < IMAGES; i += 2) {
                    loader_batch batch;
                    assert_int_equal(loader_next(l, &batch), STATUS_OK);
                    const loader_sample *s = &batch.samples[0];
                    bool bad = i == 7 || i == 9;
                    assert_int_equal(s->image, i);
                    assert_int_equal(s->image_id, 1000 + i);
                    assert_false(s->replaced || s->flip);
                    assert_int_equal(s->pixels != NULL, !bad);
                    assert_int_equal(s->cause != NULL, bad);
                    if (bad) {
                        assert_int_equal(s->objects, 0);
                        assert_int_equal(s->height, image_height(i));
                        assert_non_null(strstr(s->cause, i == 7 ? "7.png" : "9.png"));
                    }
                    loader_release_batch(l);
                }
            }
            assert_int_equal(loader_get_stats(l).skipped_images, 0);
            loader_free(l);
        }
        dataset_free(data);
    }
}

static void test_bad_images(void **state) {
    (void)state;
    uint64_t expected[ITERATIONS * BATCH], digests[ITERATIONS * BATCH];
    for (int workers = 0; workers < 4; workers += 3) {
        dataset_free(open_dataset());
        unlink(in_folder("4.png")); /* missing */
        dataset *data = NULL;
        const char *json = in_folder("loader.json");
        char spec[2 * PATH_MAX];
        snprintf(spec, sizeof spec, "%s:%s", json, test_folder);
        const char *specs[] = {spec};
        assert_int_equal(dataset_open(&data, specs, 1, NULL, 0, NULL), STATUS_OK);
        assert_int_equal(dataset_missing_count(data, NULL), 1);
        assert_true(dataset_image_missing(data, 4));
        write_png("7.png", 7, image_height(7) + 1, image_width(7)); /* another size than the JSON says */
        bool forbidden[IMAGES] = {[4] = true, [7] = true};
        loader_options options = default_options(workers);
        loader *l = make_loader(data, &options);
        int replaced = 0;
        assert_int_equal(run(l, ITERATIONS, &replaced, forbidden), STATUS_OK); /* two are never too many */
        loader_stats stats = loader_get_stats(l);
        assert_int_equal(stats.bad_images, 2);
        assert_int_equal(stats.tried_images, IMAGES);
        assert_int_equal(stats.skipped_images, replaced);
        assert_true(replaced >= 8);
        loader_free(l);
        l = make_loader(data, &options);
        hash_run(workers ? digests : expected, l, ITERATIONS, NULL);
        loader_free(l);

        write_text("9.png", "this is no picture"); /* the third: 3 of 14 > 1 % */
        forbidden[9] = true;
        l = make_loader(data, &options);
        assert_int_equal(run(l, 100, &replaced, forbidden), STATUS_DATA);
        assert_non_null(strstr(error_cause(), "4.png"));
        assert_non_null(strstr(error_cause(), "7.png"));
        assert_non_null(strstr(error_cause(), "9.png"));
        assert_non_null(strstr(error_remedy(), "DATALOADER.MAX_BAD_IMAGE_SHARE"));
        loader_free(l);
        options.bad_share = 0.5;
        l = make_loader(data, &options);
        assert_int_equal(run(l, ITERATIONS, &replaced, forbidden), STATUS_OK);
        loader_free(l);

        for (int i = 0; i < IMAGES; i++) { /* all of them */
            char name[32];
            snprintf(name, sizeof name, "%d.png", i);
            write_text(name, "");
        }
        options.bad_share = 1;
        l = make_loader(data, &options);
        assert_int_equal(run(l, ITERATIONS, &replaced, forbidden), STATUS_DATA);
        loader_free(l);
        dataset_free(data);
    }
    assert_memory_equal(digests, expected, sizeof digests);
}

static bool has_open(const char *pid, const char *file) {
    char path[PATH_MAX], target[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    bool found = false;
    for (struct dirent *entry; dir && !found && (entry = readdir(dir));) {
        snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        found = strcmp(target, file) == 0;
    }
    if (dir) closedir(dir);
    return found;
}

/* A process that kills whoever opens the file, as soon as it is opened. */
static pid_t start_killer(const char *file) {
    int watch = inotify_init1(IN_CLOEXEC);
    assert_true(watch >= 0 && inotify_add_watch(watch, file, IN_OPEN) >= 0);
    pid_t killer = fork();
    assert_true(killer >= 0);
    if (killer > 0) {
        close(watch);
        return killer;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char events[4096];
    while (read(watch, events, sizeof events) > 0) {
        DIR *all = opendir("/proc");
        for (struct dirent *entry; all && (entry = readdir(all));)
            if (isdigit((unsigned char)entry->d_name[0]) && has_open(entry->d_name, file))
                kill((pid_t)atoi(entry->d_name), SIGKILL);
        if (all) closedir(all);
    }
    _exit(0);
}

/* A file that kills its readers: three workers are lost on it, then the run ends and names it. */
static void test_deadly_image(void **state) {
    (void)state;
    dataset *data = open_dataset();
    char file[PATH_MAX];
    assert_non_null(realpath(in_folder("3.png"), file));
    assert_int_equal(truncate(file, 256 << 20), 0); /* long to read, so that the killer is in time */
    pid_t killer = start_killer(file);
    loader_options options = default_options(2);
    loader *l = make_loader(data, &options);
    int replaced = 0;
    bool forbidden[IMAGES] = {false};
    status s = run(l, ITERATIONS, &replaced, forbidden);
    kill(killer, SIGKILL);
    waitpid(killer, NULL, 0);
    unlink(file);
    assert_int_equal(s, STATUS_DATA);
    assert_non_null(strstr(error_cause(), "3.png"));
    assert_true(loader_get_stats(l).restarted_workers >= 3);
    loader_free(l);
    dataset_free(data);
}

static bool is_gone(pid_t pid) {
    char path[64], line[512], kind = 'Z';
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    if (!file) return true;
    if (fgets(line, sizeof line, file)) sscanf(strrchr(line, ')') + 1, " %c", &kind);
    fclose(file);
    return kind == 'Z' || kind == 'X';
}

static void rest(void) {
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static int open_files_of(pid_t pid) {
    char path[64];
    int count = -2; /* "." and ".." */
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

static bool gone_within(pid_t pid, double seconds) {
    for (double waited = 0; waited < seconds; waited += 0.01) {
        if (is_gone(pid)) return true;
        rest();
    }
    return false;
}

static void test_no_process_is_left(void **state) {
    (void)state;
    dataset *data = open_dataset();
    loader_options options = default_options(3);
    pid_t pids[4];
    loader *l = make_loader(data, &options);
    for (int w = 0; w < 3; w++) pids[w] = loader_worker_pid(l, w);
    pids[3] = parent_of(pids[0]);
    for (int i = 0; i < 4; i++) {
        assert_false(is_gone(pids[i]));
        kill(pids[i], SIGTERM); /* mpirun and Ctrl-C reach every process: only the rank decides */
        kill(pids[i], SIGINT);
        kill(pids[i], SIGUSR1);
    }
    loader_batch batch;
    assert_int_equal(loader_next(l, &batch), STATUS_OK);
    assert_int_equal(loader_get_stats(l).restarted_workers, 0);
    for (int w = 0; w < 3;
         w++) { /* stdin, stdout, stderr and the socket are all it has, as soon as it runs */
        int count = open_files_of(pids[w]);
        for (int waited = 0; count > 4 && waited < 500; waited++, count = open_files_of(pids[w])) rest();
        assert_in_range(count, 1, 4);
    }
    loader_free(l);
    for (int i = 0; i < 4; i++) assert_true(is_gone(pids[i]));

    /* the rank is killed: all of them go with it */
    int pipe_ends[2];
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
    pid_t rank = fork();
    if (rank == 0) {
        l = make_loader(data, &options);
        for (int w = 0; w < 3; w++) pids[w] = loader_worker_pid(l, w);
        pids[3] = parent_of(pids[0]);
        if (write(pipe_ends[1], pids, sizeof pids) != sizeof pids) _exit(1);
        for (;;) pause();
    }
    assert_int_equal(read(pipe_ends[0], pids, sizeof pids), sizeof pids);
    for (int i = 0; i < 4; i++) assert_false(is_gone(pids[i]));
    kill(rank, SIGKILL);
    for (int i = 0; i < 4; i++) assert_true(gone_within(pids[i], 5));
    assert_int_equal(waitpid(rank, NULL, 0), rank);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    dataset_free(data);
}

static void test_bad_options(void **state) {
    (void)state;
    dataset *data = open_dataset();
    loader *l = NULL;
    loader_options options = default_options(1);
    options.world = 3;
    assert_int_equal(loader_new(&l, data, &options), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "SOLVER.IMS_PER_BATCH"));
    options = default_options(LOADER_MAX_WORKERS + 1);
    assert_int_equal(loader_new(&l, data, &options), STATUS_CONFIG);
    assert_non_null(strstr(error_cause(), "DATALOADER.NUM_WORKERS"));
    assert_null(l);
    dataset_free(data);
}

/* Sizes that annotations only claim must not fill the node's memory: an image beyond the decoder's limit gets no room
 * (it cannot be read anyway), and a ring that the node can hardly hold is refused before anything is taken. */
static void test_claimed_sizes(void **state) {
    (void)state;
    dataset_free(open_dataset());
    char spec[2 * PATH_MAX];
    snprintf(
        spec, sizeof spec, "%s:%s",
        write_text(
            "claims.json",
            "{\"categories\":[{\"id\":1,\"name\":\"a\"}],\"images\":["
            "{\"id\":1,\"file_name\":\"0.png\",\"width\":60000,\"height\":60000},"
            "{\"id\":2,\"file_name\":\"1.png\",\"width\":60000,\"height\":50000}],\"annotations\":["
            "{\"id\":1,\"image_id\":1,\"category_id\":1,\"bbox\":[1,1,9,9],\"segmentation\":[[1,1,9,1,9,9]]},"
            "{\"id\":2,\"image_id\":2,\"category_id\":1,\"bbox\":[1,1,9,9],\"segmentation\":[[1,1,9,1,9,9]]}]"
            "}"),
        test_folder);
    const char *specs[] = {spec};
    dataset *data = NULL;
    assert_int_equal(dataset_open(&data, specs, 1, NULL, 0, NULL), STATUS_OK);
    loader_options options = default_options(0);
    loader *l = make_loader(data, &options);
    assert_true(loader_get_limits(l).pixel_bytes == 0);
    loader_batch batch;
    assert_int_equal(loader_next(l, &batch), STATUS_DATA);
    assert_non_null(strstr(error_cause(), ".png"));
    loader_free(l);
    dataset_free(data);

    shared_ring ring;
    assert_int_equal(shared_ring_init(&ring, 4, (size_t)1 << 44), STATUS_OS);
    assert_non_null(strstr(error_cause(), "a quarter of the"));
    shared_ring_release(&ring);
}

/* Real photos with EXIF turns: the annotations may have been made on the upright picture or on the stored
 * one. */
static void test_exif(void **state) {
    (void)state;
    const char *folder = shared_data("exif_orientation");
    if (!folder) skip();
    char text[4096], spec[2 * PATH_MAX];
    size_t at =
        (size_t)snprintf(text, sizeof text, "{\"categories\":[{\"id\":1,\"name\":\"x\"}],\"images\":[");
    for (int i = 0; i < 2; i++)
        at += (size_t)snprintf(text + at, sizeof text - at,
                               "%s{\"id\":%d,\"file_name\":\"Landscape_6.jpg\",\"width\":%d,\"height\":%d}",
                               i ? "," : "", i, i ? 1200 : 1800, i ? 1800 : 1200);
    snprintf(text + at, sizeof text - at, "],\"annotations\":[]}");
    snprintf(spec, sizeof spec, "%s:%s", write_text("exif.json", text), folder);
    const char *specs[] = {spec};
    dataset *data = NULL;
    assert_int_equal(dataset_open(&data, specs, 1, NULL, 0, NULL), STATUS_OK);
    loader_options options = default_options(0);
    options.sampler.shuffle = options.sampler.aspect_grouping = options.sampler.filter_empty = false;
    options.sampler.global_batch = 2;
    loader *l = make_loader(data, &options);
    loader_batch batch;
    assert_int_equal(loader_next(l, &batch), STATUS_OK);
    assert_int_equal(loader_get_stats(l).bad_images, 0);
    const loader_sample *upright = &batch.samples[0], *stored = &batch.samples[1];
    assert_true(upright->height == 1200 && upright->width == 1800 && stored->height == 1800 &&
                stored->width == 1200);
    /* orientation 6: the stored picture has to be turned clockwise to be upright */
    for (int r = 0; r < 1800; r += 7)
        for (int c = 0; c < 1200; c += 7)
            assert_memory_equal(stored->pixels + (r * 1200 + c) * 3,
                                upright->pixels + (c * 1800 + (1799 - r)) * 3, 3);
    loader_free(l);
    dataset_free(data);
}

static void test_real_data(void **state) {
    (void)state;
    static const struct {
        const char *folder, *json, *images;
    } sets[] = {{"coco_subset_val80", "instances_val2017.json", "val2017"},
                {"fruits_nuts", "trainval.json", "images"},
                {"terrain_jpeg_png", "combined_coco.json", "."}};
    static const int32_t sizes[] = {640, 800};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        const char *folder = shared_data(sets[i].folder);
        if (!folder) continue;
        char spec[3 * PATH_MAX];
        snprintf(spec, sizeof spec, "%s/%s:%s/%s", folder, sets[i].json, folder, sets[i].images);
        const char *specs[] = {spec};
        dataset *data = NULL;
        assert_int_equal(dataset_open(&data, specs, 1, NULL, 0, NULL), STATUS_OK);
        assert_int_equal(dataset_missing_count(data, NULL), 0);
        uint64_t expected[4 * BATCH], digests[4 * BATCH];
        for (int bitmap = 0; bitmap < 2; bitmap++)
            for (int workers = 0; workers <= 2; workers += 2) {
                loader_options options = default_options(workers);
                options.sampler.short_edges = sizes;
                options.sampler.short_edge_count = 2;
                options.sampler.max_size = 1333;
                options.bitmap_masks = bitmap;
                loader *l = make_loader(data, &options);
                hash_run(workers ? digests : expected, l, 4, NULL);
                assert_int_equal(loader_get_stats(l).bad_images, 0);
                loader_free(l);
                if (workers) assert_memory_equal(digests, expected, sizeof digests);
            }
        dataset_free(data);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_ranks_and_resume),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_bad_images),
        cmocka_unit_test(test_kept_bad_images),
        cmocka_unit_test(test_deadly_image),
        cmocka_unit_test(test_no_process_is_left),
        cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_claimed_sizes),
        cmocka_unit_test(test_exif),
        cmocka_unit_test(test_real_data),
    };
    return cmocka_run_group_tests(tests, make_test_folder, remove_test_folder);
}
