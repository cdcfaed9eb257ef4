#include "cli/raw_masks.h"

#include "base/check.h"
#include "base/file_util.h"
#include "data/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { CHUNK = 1 << 20 };

status raw_masks_open(raw_masks *masks, const char *folder, int side) {
    char path[PATH_MAX];
    *masks = (raw_masks){.fd = -1, .side = side};
    RETURN_IF_ERROR(path_join(path, folder, ".raw_masks.XXXXXX"));
    masks->fd = mkstemp(path);
    if (masks->fd < 0) return error_from_output(errno, "creating a file", folder);
    unlink(path);
    return STATUS_OK;
}

void raw_masks_close(raw_masks *masks) {
    if (masks->fd >= 0) close(masks->fd);
    masks->fd = -1;
}

status raw_masks_add(raw_masks *masks, const detection_list *list) {
    CHECK(list->count == 0 || list->raw_side == masks->side, "masks of %d x %d among those of %d",
          list->raw_side, list->raw_side, masks->side);
    masks->count += list->count;
    size_t bytes = (size_t)list->count * (size_t)masks->side * (size_t)masks->side * sizeof *list->raw_masks;
    return write_all(masks->fd, list->raw_masks, bytes, "raw masks");
}

/* Copies what was collected, piece by piece. */
static status copy_all(safetensors_writer *w, const raw_masks *masks, const char *path) {
    char *buffer = malloc(CHUNK);
    if (!buffer) return error_set(STATUS_OS, "free some memory", "%s: out of memory", path);
    status s = STATUS_OK;
    int64_t left = masks->count * masks->side * masks->side * (int64_t)sizeof(float), at = 0;
    while (left > 0 && s == STATUS_OK) {
        ssize_t got = pread(masks->fd, buffer, (size_t)(left < CHUNK ? left : CHUNK), at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            s = error_set(STATUS_IO, "check the disk", "%s: collected masks cannot be read again", path);
        else
            s = safetensors_writer_append(w, buffer, (size_t)got);
        left -= got;
        at += got;
    }
    free(buffer);
    return s;
}

status raw_masks_finish(raw_masks *masks, const char *path) {
    safetensors_writer *w;
    RETURN_IF_ERROR(safetensors_writer_new(&w, path));
    int64_t shape[] = {masks->count, masks->side, masks->side};
    safetensors_writer_declare(w, "masks", SAFETENSORS_F32, 3, shape);
    status s = safetensors_writer_begin(w);
    if (s == STATUS_OK) s = copy_all(w, masks, path);
    s = safetensors_writer_finish(w, s);
    raw_masks_close(masks);
    return s;
}
