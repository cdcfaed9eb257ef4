#include "train/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file_util.h"
#include "base/json_write.h"
#include "base/log.h"
#include "train/checkpoint_manifest.h"
#include "data/json_pairs.h"

/* Folders that are being written or removed; a run that starts removes them. */
#define TEMPORARY ".tmp_maskrcnn_"
#define FINISHED "iter_"

/* The iteration of a folder name like iter_0000499; -1 for other names. */
static int64_t iteration_of(const char *name) {
    if (strncmp(name, FINISHED, sizeof FINISHED - 1) != 0) return -1;
    const char *digits = name + sizeof FINISHED - 1;
    size_t length = strspn(digits, "0123456789");
    return length >= 7 && length <= 18 && digits[length] == 0 ? strtoll(digits, NULL, 10) : -1;
}

/* Removes a temporary folder: only the files that a checkpoint has, so nothing of anybody else's is ever
 * lost. */
static void remove_temporary(const char *folder) {
    char path[PATH_MAX];
    for (int i = 0; checkpoint_files[i]; i++) {
        static const char *const suffixes[] = {"", ".part"};
        for (int k = 0; k < 2; k++) {
            int length = snprintf(path, sizeof path, "%s/%s%s", folder, checkpoint_files[i], suffixes[k]);
            if (length < PATH_MAX) unlink(path);
        }
    }
    if (path_join(path, folder, "manifest.json") == STATUS_OK) unlink(path);
    if (path_join(path, folder, "manifest.json.part") == STATUS_OK) unlink(path);
    if (rmdir(folder) != 0 && errno != ENOENT)
        log_warn("checkpoint", "cannot remove the unfinished checkpoint %s: %s", folder, strerror(errno));
}

/* Iterations of the finished checkpoints, newest first. */
typedef struct listing {
    int64_t *iterations;
    int count;
} listing;

static int compare_newest(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Reads the folder of checkpoints; an absent one is empty. With `remove_leftovers`, temporary folders go. */
static status list_checkpoints(listing *list, const char *folder, bool remove_leftovers) {
    *list = (listing){0};
    DIR *dir = opendir(folder);
    if (!dir) {
        if (errno == ENOENT) return STATUS_OK;
        return error_set(STATUS_IO, "check the permissions of OUTPUT_DIR", "cannot read %s: %s", folder,
                         strerror(errno));
    }
    status s = STATUS_OK;
    int capacity = 0;
    for (struct dirent *entry; s == STATUS_OK && (entry = readdir(dir));) {
        char path[PATH_MAX];
        if (remove_leftovers && strncmp(entry->d_name, TEMPORARY, sizeof TEMPORARY - 1) == 0) {
            s = path_join(path, folder, entry->d_name);
            if (s == STATUS_OK) remove_temporary(path);
            continue;
        }
        int64_t iteration = iteration_of(entry->d_name);
        if (iteration < 0) continue;
        if (list->count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            int64_t *grown = realloc(list->iterations, (size_t)capacity * sizeof *grown);
            if (!grown) s = error_set(STATUS_OS, "free some memory", "no memory for a list of checkpoints");
            if (!grown) break;
            list->iterations = grown;
        }
        list->iterations[list->count++] = iteration;
    }
    closedir(dir);
    if (list->count > 1)
        qsort(list->iterations, (size_t)list->count, sizeof *list->iterations, compare_newest);
    return s;
}

static status checkpoints_folder(char path[PATH_MAX], const char *output_dir) {
    return path_join(path, output_dir, "checkpoints");
}

static status checkpoint_path(char path[PATH_MAX], const char *folder, int64_t iteration) {
    char name[32];
    snprintf(name, sizeof name, FINISHED "%07lld", (long long)iteration);
    return path_join(path, folder, name);
}

status checkpoint_prepare(const char *output_dir) {
    char folder[PATH_MAX];
    RETURN_IF_ERROR(checkpoints_folder(folder, output_dir));
    RETURN_IF_ERROR(make_directories(folder));
    listing list;
    status s = list_checkpoints(&list, folder, true);
    free(list.iterations);
    return s;
}

status checkpoint_set_aside(const char *output_dir) {
    enum { MOST_FOLDERS = 10000 };
    char folder[PATH_MAX], pointer[PATH_MAX], aside[PATH_MAX], name[32];
    RETURN_IF_ERROR(checkpoints_folder(folder, output_dir));
    RETURN_IF_ERROR(path_join(pointer, output_dir, "last_checkpoint"));
    listing list;
    status s = list_checkpoints(&list, folder, false);
    free(list.iterations);
    if (s != STATUS_OK || list.count == 0) return s;
    for (int n = 1; n <= MOST_FOLDERS; n++) {
        snprintf(name, sizeof name, "checkpoints_%d", n);
        RETURN_IF_ERROR(path_join(aside, output_dir, name));
        if (access(aside, F_OK) != 0) break;
    }
    RETURN_IF_ERROR(rename_durable(folder, aside));
    unlink(pointer);
    char best[PATH_MAX], best_aside[PATH_MAX];
    RETURN_IF_ERROR(path_join(best, output_dir, CHECKPOINT_BEST));
    RETURN_IF_ERROR(path_join(best_aside, aside, CHECKPOINT_BEST));
    if (rename(best, best_aside) != 0 && errno != ENOENT) return error_from_output(errno, "move", best);
    log_warn("checkpoint",
             "a new run begins in %s, which held the checkpoints of an earlier one (--resume goes on from "
             "them): they were moved to %s",
             output_dir, aside);
    return STATUS_OK;
}

static void write_best(json_writer *json, const checkpoint_best *best) {
    if (!best->number[0]) return;
    json_write_key(json, "best_number");
    json_write_string(json, best->number);
    json_write_key(json, "best_iteration");
    json_write_i64(json, best->iteration);
    json_write_key(json, "best_value");
    json_write_f64(json, best->iteration < 0 ? 0 : best->value);
    json_write_key(json, "evaluations_since_best");
    json_write_i64(json, best->since);
}

/* False when it is damaged; a state of a run that did not evaluate has none. */
static bool read_best(checkpoint_best *best, const json_pairs *pairs) {
    const char *number = json_pairs_get(pairs, "best_number");
    *best = (checkpoint_best){.iteration = -1};
    if (!number) return true;
    snprintf(best->number, sizeof best->number, "%s", number);
    return strlen(number) < sizeof best->number &&
           json_pairs_i64(&best->iteration, pairs, "best_iteration") &&
           json_pairs_f64(&best->value, pairs, "best_value") &&
           json_pairs_i64(&best->since, pairs, "evaluations_since_best") && best->since >= 0;
}

static void write_loss_scale(json_writer *json, const checkpoint_loss_scale *s) {
    if (s->scale <= 0) return;
    json_write_key(json, "loss_scale");
    json_write_f64(json, s->scale);
    json_write_key(json, "loss_scale_good_steps");
    json_write_i64(json, s->good_steps);
    json_write_key(json, "skipped_steps");
    json_write_i64(json, s->skipped_steps);
}

/* False when it is damaged; a state of a run without has none. */
static bool read_loss_scale(checkpoint_loss_scale *s, const json_pairs *pairs) {
    *s = (checkpoint_loss_scale){0};
    if (!json_pairs_get(pairs, "loss_scale")) return true;
    return json_pairs_f64(&s->scale, pairs, "loss_scale") && s->scale > 0 &&
           json_pairs_i64(&s->good_steps, pairs, "loss_scale_good_steps") && s->good_steps >= 0 &&
           json_pairs_i64(&s->skipped_steps, pairs, "skipped_steps") && s->skipped_steps >= 0;
}

static status write_state(const char *folder, const checkpoint_state *state) {
    char path[PATH_MAX], seed[24];
    RETURN_IF_ERROR(path_join(path, folder, "state.json"));
    /* A text, because JSON's numbers end at 2^53 for many readers. */
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)state->seed);
    json_writer json;
    json_write_init(&json);
    json_write_begin_object(&json);
    json_write_key(&json, "iteration");
    json_write_i64(&json, state->iteration);
    json_write_key(&json, "images");
    json_write_i64(&json, state->images);
    json_write_key(&json, "skipped_images");
    json_write_i64(&json, state->skipped_images);
    json_write_key(&json, "seed");
    json_write_string(&json, seed);
    json_write_key(&json, "config_digest");
    json_write_string(&json, state->config_digest);
    write_best(&json, &state->best);
    write_loss_scale(&json, &state->loss_scale);
    json_write_end_object(&json);
    json_write_newline(&json);
    status s = json_write_finish(&json);
    if (s == STATUS_OK) s = write_file_atomic(path, json.text, json.size);
    json_write_release(&json);
    return s;
}

status checkpoint_read_state(checkpoint_state *state, const char *folder) {
    char path[PATH_MAX];
    RETURN_IF_ERROR(path_join(path, folder, "state.json"));
    char *text;
    size_t size;
    RETURN_IF_ERROR(read_file(&text, &size, path, JSON_PAIRS_MAX_BYTES));
    json_pairs pairs;
    status s = json_pairs_parse(&pairs, path, text, size);
    free(text);
    if (s == STATUS_OK) {
        const char *seed = json_pairs_get(&pairs, "seed"), *digest = json_pairs_get(&pairs, "config_digest");
        char *end = NULL;
        *state = (checkpoint_state){0};
        errno = 0;
        if (seed) state->seed = strtoull(seed, &end, 10);
        bool is_good =
            seed && *seed && !*end && !errno && digest && strlen(digest) < sizeof state->config_digest &&
            json_pairs_i64(&state->iteration, &pairs, "iteration") &&
            json_pairs_i64(&state->images, &pairs, "images") &&
            json_pairs_i64(&state->skipped_images, &pairs, "skipped_images") && state->iteration >= 0 &&
            read_best(&state->best, &pairs) && read_loss_scale(&state->loss_scale, &pairs);
        if (is_good)
            strcpy(state->config_digest, digest);
        else
            s = error_set(
                STATUS_DATA, "resume from another checkpoint",
                "%s: iteration, images, skipped_images, seed, config_digest or part of what is said of "
                "the best checkpoint or of the loss scale is missing",
                path);
    }
    json_pairs_release(&pairs);
    return s;
}

/* Writes all files of a checkpoint into `folder` and makes them durable. */
static status write_files(const char *folder, const checkpoint_source *source,
                          const checkpoint_state *state) {
    char path[PATH_MAX];
    RETURN_IF_ERROR(make_directories(folder));
    RETURN_IF_ERROR(path_join(path, folder, "weights.safetensors"));
    RETURN_IF_ERROR(weights_save(path, source->store, source->cfg, source->classes, state->iteration));
    RETURN_IF_ERROR(path_join(path, folder, "momentum.safetensors"));
    RETURN_IF_ERROR(weights_save_momentum(path, source->store, state->iteration));
    RETURN_IF_ERROR(write_state(folder, state));
    RETURN_IF_ERROR(manifest_write(folder));
    return sync_directory(folder);
}

/* Takes a checkpoint out of the list in one step, then removes it. */
static void remove_checkpoint(const char *folder, int64_t iteration) {
    char path[PATH_MAX], name[48], temporary[PATH_MAX];
    snprintf(name, sizeof name, TEMPORARY "old_%07lld", (long long)iteration);
    if (checkpoint_path(path, folder, iteration) != STATUS_OK ||
        path_join(temporary, folder, name) != STATUS_OK)
        return;
    if (rename(path, temporary) == 0)
        remove_temporary(temporary);
    else
        log_warn("checkpoint", "cannot remove the old checkpoint %s: %s", path, strerror(errno));
}

/* Keeps the newest `keep` checkpoints up to this iteration, and the best (-1: there is none). Later ones, of a run that this one went back
 * behind, are not this run's to remove. */
static void remove_old(const char *folder, int64_t iteration, int64_t best, int keep) {
    listing list;
    int seen = 0;
    if (list_checkpoints(&list, folder, false) == STATUS_OK && keep > 0)
        for (int i = 0; i < list.count; i++)
            if (list.iterations[i] <= iteration && ++seen > keep && list.iterations[i] != best)
                remove_checkpoint(folder, list.iterations[i]);
    free(list.iterations);
}

/* Puts the written folder into its place. If one of the same iteration is there (a run that resumed from an
 * older one comes by again), the two change places in one step, so that there is always one. */
static status place(const char *folder, const char *temporary, const char *path, int64_t iteration) {
    if (access(path, F_OK) != 0) return rename_durable(temporary, path);
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
        remove_temporary(temporary);
        return sync_directory(folder);
    }
    remove_checkpoint(folder, iteration);
    return rename_durable(temporary, path);
}

static status publish(const char *folder, const char *temporary, const checkpoint_source *source,
                      const checkpoint_state *state) {
    char path[PATH_MAX], pointer[PATH_MAX], text[48];
    RETURN_IF_ERROR(checkpoint_path(path, folder, state->iteration));
    RETURN_IF_ERROR(place(folder, temporary, path, state->iteration));
    RETURN_IF_ERROR(path_join(pointer, source->cfg->OUTPUT_DIR, "last_checkpoint"));
    int size = snprintf(text, sizeof text, "checkpoints/" FINISHED "%07lld\n", (long long)state->iteration);
    RETURN_IF_ERROR(write_file_atomic(pointer, text, (size_t)size));
    log_info("checkpoint", "saved %s", path);
    remove_old(folder, state->iteration, state->best.number[0] ? state->best.iteration : -1, source->keep);
    return STATUS_OK;
}

static status save(const checkpoint_source *source, const checkpoint_state *state) {
    char folder[PATH_MAX], temporary[PATH_MAX], name[48];
    RETURN_IF_ERROR(checkpoints_folder(folder, source->cfg->OUTPUT_DIR));
    snprintf(name, sizeof name, TEMPORARY FINISHED "%07lld", (long long)state->iteration);
    RETURN_IF_ERROR(path_join(temporary, folder, name));
    status s = write_files(temporary, source, state);
    if (s == STATUS_OK) s = publish(folder, temporary, source, state);
    if (s != STATUS_OK && access(temporary, F_OK) == 0) remove_temporary(temporary);
    return s;
}

status checkpoint_save(const checkpoint_source *source, const checkpoint_state *state, bool is_final) {
    status s = save(source, state);
    if (s == STATUS_OK) return STATUS_OK;
    error_prefix(s, "checkpoint after iteration %lld", (long long)state->iteration);
    if (is_final) return error_set(STATUS_IO, error_remedy(), "%s", error_cause());
    log_warn("checkpoint", "%s; training goes on without this checkpoint (%s)", error_cause(),
             error_remedy());
    return STATUS_OK;
}

status checkpoint_verify(const char *path) {
    return manifest_verify(path);
}

status checkpoint_find_latest(char *path, const char *output_dir) {
    path[0] = 0;
    char folder[PATH_MAX];
    RETURN_IF_ERROR(checkpoints_folder(folder, output_dir));
    listing list;
    status s = list_checkpoints(&list, folder, false);
    bool is_found = false;
    for (int i = 0; s == STATUS_OK && i < list.count && !is_found; i++) {
        s = checkpoint_path(path, folder, list.iterations[i]);
        if (s != STATUS_OK) break;
        is_found = checkpoint_verify(path) == STATUS_OK;
        if (!is_found)
            log_warn("checkpoint", "%s cannot be used, an older one is tried: %s", path, error_cause());
    }
    if (s == STATUS_OK && list.count > 0 && !is_found)
        s = error_set(STATUS_DATA, "move the folder away to start anew, or bring back a good checkpoint",
                      "%s: none of the %d checkpoints can be used (the oldest: %s)", folder, list.count,
                      error_cause());
    free(list.iterations);
    if (!is_found) path[0] = 0;
    return s;
}

status checkpoint_load(param_store *store, checkpoint_state *state, const char *path, const config *cfg,
                       const weights_classes *classes) {
    char file[PATH_MAX];
    weights_report report;
    RETURN_IF_ERROR(checkpoint_verify(path));
    RETURN_IF_ERROR(checkpoint_read_state(state, path));
    RETURN_IF_ERROR(path_join(file, path, "weights.safetensors"));
    RETURN_IF_ERROR(weights_load(&report, store, file, cfg, classes, WEIGHTS_EXACT));
    RETURN_IF_ERROR(path_join(file, path, "momentum.safetensors"));
    RETURN_IF_ERROR(weights_load_momentum(store, file));
    return STATUS_OK;
}
