#include "eval/coco_results.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/check.h"
#include "base/file_util.h"

struct results_writer {
    char path[PATH_MAX], part[PATH_MAX];
    FILE *file;
    json_writer text; /* reused */
    bool any;
};

static status write_mask(json_writer *to, const mask_rle *mask) {
    char *counts;
    RETURN_IF_ERROR(mask_rle_to_string(&counts, mask));
    json_write_key(to, "segmentation");
    json_write_begin_object(to);
    json_write_key(to, "size");
    json_write_begin_array(to);
    json_write_i64(to, mask->height);
    json_write_i64(to, mask->width);
    json_write_end_array(to);
    json_write_key(to, "counts");
    json_write_string(to, counts);
    json_write_end_object(to);
    free(counts);
    return STATUS_OK;
}

status coco_results_format(json_writer *lines, int64_t image_id, const char *file_name,
                           const detection_list *list, const int64_t *class_ids) {
    for (int i = 0; i < list->count; i++) {
        const detection *d = &list->items[i];
        /* In double: width and height are exact, and so is a reader's x + width. */
        const double x1 = d->box[0], y1 = d->box[1], x2 = d->box[2], y2 = d->box[3];
        const double box[4] = {x1, y1, x2 - x1, y2 - y1};
        json_write_begin_object(lines);
        json_write_key(lines, "image_id");
        json_write_i64(lines, image_id);
        if (file_name) {
            json_write_key(lines, "file_name");
            json_write_string(lines, file_name);
        }
        json_write_key(lines, "category_id");
        json_write_i64(lines, class_ids ? class_ids[d->label] : d->label + 1);
        json_write_key(lines, "bbox");
        json_write_begin_array(lines);
        for (int k = 0; k < 4; k++) {
            CHECK(isfinite(box[k]), "detection %d of image %lld has a box that is not finite", i,
                  (long long)image_id);
            json_write_f64(lines, box[k]);
        }
        json_write_end_array(lines);
        CHECK(isfinite(d->score), "detection %d of image %lld has the score %g", i, (long long)image_id,
              (double)d->score);
        json_write_key(lines, "score");
        json_write_f64(lines, (double)d->score);
        if (d->mask.height > 0) RETURN_IF_ERROR(write_mask(lines, &d->mask));
        json_write_end_object(lines);
        json_write_newline(lines);
    }
    return json_write_finish(lines);
}

status results_writer_open(results_writer **out, const char *path) {
    *out = NULL;
    results_writer *w = calloc(1, sizeof *w);
    if (!w) return error_set(STATUS_OS, "free memory", "no memory to write %s", path);
    json_write_init(&w->text);
    if (snprintf(w->path, sizeof w->path, "%s", path) >= (int)sizeof w->path ||
        snprintf(w->part, sizeof w->part, "%s.part", path) >= (int)sizeof w->part) {
        free(w);
        return error_from_output(ENAMETOOLONG, "create", path);
    }
    w->file = fopen(w->part, "we");
    if (!w->file) {
        status s = error_from_output(errno, "create", w->part);
        free(w);
        return s;
    }
    *out = w;
    return STATUS_OK;
}

static status put(results_writer *w, const char *bytes, size_t size) {
    if (fwrite(bytes, 1, size, w->file) == size) return STATUS_OK;
    return error_from_output(errno, "write", w->part);
}

status results_writer_add_lines(results_writer *w, const char *lines, size_t size) {
    for (size_t at = 0; at < size;) {
        const char *end = memchr(lines + at, '\n', size - at);
        CHECK(end, "results end inside a line");
        size_t length = (size_t)(end - lines) - at;
        RETURN_IF_ERROR(put(w, w->any ? ",\n" : "[\n", 2));
        RETURN_IF_ERROR(put(w, lines + at, length));
        w->any = true;
        at += length + 1;
    }
    return STATUS_OK;
}

status results_writer_add(results_writer *w, int64_t image_id, const char *file_name,
                          const detection_list *list, const int64_t *class_ids) {
    status s = coco_results_format(&w->text, image_id, file_name, list, class_ids);
    if (s == STATUS_OK) s = results_writer_add_lines(w, w->text.text, w->text.size);
    w->text.size = 0; /* its memory is kept for the next image */
    return s == STATUS_OK ? s : error_prefix(s, "%s", w->path);
}

void results_writer_cancel(results_writer **writer) {
    results_writer *w = *writer;
    *writer = NULL;
    if (!w) return;
    if (w->file) fclose(w->file);
    unlink(w->part);
    json_write_release(&w->text);
    free(w);
}

status results_writer_finish(results_writer **writer) {
    results_writer *w = *writer;
    status s = w->any ? put(w, "\n]\n", 3) : put(w, "[]\n", 3);
    if (s == STATUS_OK && (fflush(w->file) != 0 || ferror(w->file)))
        s = error_from_output(errno, "write", w->part);
    if (s == STATUS_OK && fsync(fileno(w->file)) != 0) s = error_from_output(errno, "sync", w->part);
    if (fclose(w->file) != 0 && s == STATUS_OK) s = error_from_output(errno, "close", w->part);
    w->file = NULL;
    if (s == STATUS_OK) s = rename_durable(w->part, w->path);
    if (s == STATUS_OK) {
        json_write_release(&w->text);
        free(w);
        *writer = NULL;
    } else {
        results_writer_cancel(writer);
    }
    return s;
}
