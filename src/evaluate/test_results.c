#include "evaluate/test_results.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "eval/coco_results.h"

/* In front of an image's text: lines of detections, or why there are none. */
typedef struct record {
    uint64_t size;
    uint64_t is_bad;
} record;

void test_results_init(test_results *r) {
    *r = (test_results){0};
    json_write_init(&r->lines);
}

void test_results_release(test_results *r) {
    free(r->bytes);
    json_write_release(&r->lines);
    *r = (test_results){0};
}

static status append(test_results *r, const char *text, size_t size, bool is_bad) {
    record head = {.size = size, .is_bad = is_bad};
    size_t need = r->size + sizeof head + size;
    if (need > r->capacity) {
        size_t capacity = need + need / 2 + 4096;
        char *grown = realloc(r->bytes, capacity);
        if (!grown)
            return error_set(STATUS_OS, "free some memory or use more ranks",
                             "out of memory for %zu bytes of detections", capacity);
        r->bytes = grown;
        r->capacity = capacity;
    }
    memcpy(r->bytes + r->size, &head, sizeof head);
    if (size) memcpy(r->bytes + r->size + sizeof head, text, size);
    r->size = need;
    return STATUS_OK;
}

status test_results_add(test_results *r, int64_t image_id, const detection_list *found,
                        const class_map *map) {
    detection_list known = *found;
    known.items = malloc(((size_t)found->count + 1) * sizeof *known.items);
    if (!known.items)
        return error_set(STATUS_OS, "free some memory", "out of memory for %d detections", found->count);
    known.count = 0;
    for (int i = 0; i < found->count; i++)
        if (map->categories[found->items[i].label] >= 0) known.items[known.count++] = found->items[i];
    r->lines.size = 0;
    status s = coco_results_format(&r->lines, image_id, NULL, &known, map->ids);
    free(known.items);
    return s == STATUS_OK ? append(r, r->lines.text, r->lines.size, false) : s;
}

status test_results_add_bad(test_results *r, const char *cause) {
    return append(r, cause, strlen(cause), true);
}

/* All ranks' records, one rank after another. */
typedef struct gathered {
    char *bytes;
    size_t *sizes; /* [ranks] */
} gathered;

static status gather(gathered *all, const test_results *r, comm *c) {
    int ranks = comm_size(c);
    bool is_first = comm_rank(c) == 0;
    *all = (gathered){0};
    if (is_first) all->sizes = calloc((size_t)ranks, sizeof *all->sizes);
    status s = is_first && !all->sizes ? error_set(STATUS_OS, "free some memory",
                                                   "out of memory for the sizes of %d ranks", ranks)
                                       : STATUS_OK;
    RETURN_IF_ERROR(comm_agree(c, s));
    comm_gather(c, all->sizes, &r->size, sizeof r->size);
    size_t total = 1;
    for (int rank = 0; is_first && rank < ranks; rank++) total += all->sizes[rank];
    if (is_first && !(all->bytes = malloc(total)))
        s = error_set(STATUS_OS, "free some memory",
                      "out of memory for the detections of all ranks, %zu bytes", total);
    RETURN_IF_ERROR(comm_agree(c, s));
    comm_gather_bytes(c, all->bytes, all->sizes, r->bytes, r->size);
    return STATUS_OK;
}

static status write_records(int64_t *bad_images, results_writer *w, const char *bytes, const size_t *ends,
                            size_t *at, int ranks, int64_t images) {
    for (int64_t i = 0; i < images; i++) {
        int rank = (int)(i % ranks);
        record head;
        CHECK(at[rank] + sizeof head <= ends[rank], "rank %d sent too few images", rank);
        memcpy(&head, bytes + at[rank], sizeof head);
        const char *text = bytes + at[rank] + sizeof head;
        at[rank] += sizeof head + head.size;
        CHECK(at[rank] <= ends[rank], "rank %d sent half an image", rank);
        if (head.is_bad) {
            log_warn("evaluation", "bad image, it counts as one without detections: %.*s", (int)head.size,
                     text);
            ++*bad_images;
        } else {
            RETURN_IF_ERROR(results_writer_add_lines(w, text, head.size));
        }
    }
    return STATUS_OK;
}

static status write_file(int64_t *bad_images, const gathered *all, int ranks, int64_t images,
                         const char *path) {
    results_writer *w;
    size_t *at = calloc(2 * (size_t)ranks, sizeof *at), *ends = at ? at + ranks : NULL;
    if (!at) return error_set(STATUS_OS, "free some memory", "out of memory for %d ranks", ranks);
    for (int rank = 0; rank < ranks; rank++) {
        at[rank] = rank > 0 ? ends[rank - 1] : 0;
        ends[rank] = at[rank] + all->sizes[rank];
    }
    status s = results_writer_open(&w, path);
    if (s == STATUS_OK) {
        s = write_records(bad_images, w, all->bytes, ends, at, ranks, images);
        if (s == STATUS_OK)
            s = results_writer_finish(&w);
        else
            results_writer_cancel(&w);
    }
    free(at);
    return s;
}

status test_results_write(int64_t *bad_images, const test_results *r, comm *c, int64_t images,
                          const char *path) {
    gathered all;
    *bad_images = 0;
    status s = gather(&all, r, c);
    if (s == STATUS_OK && comm_rank(c) == 0) s = write_file(bad_images, &all, comm_size(c), images, path);
    free(all.bytes);
    free(all.sizes);
    return s;
}
