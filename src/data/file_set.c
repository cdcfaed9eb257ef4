#include "data/file_set.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/content_hash.h"

/* 64-bit digests stand for names: a collision would only make a missing file be found missing later, on
 * reading. */
static uint64_t name_hash(const char *folder, size_t folder_size, const char *name, char separator) {
    content_hash h;
    content_hash_init(&h);
    content_hash_update(&h, folder, folder_size);
    content_hash_update(&h, &separator, 1);
    content_hash_update(&h, name, strlen(name));
    uint64_t digest = content_hash_digest(&h);
    return digest ? digest : 1;
}

static bool has(const file_set *set, uint64_t hash) {
    if (!set->room) return false;
    for (size_t at = hash & (set->room - 1); set->hashes[at]; at = (at + 1) & (set->room - 1))
        if (set->hashes[at] == hash) return true;
    return false;
}

static void put(uint64_t *hashes, size_t room, uint64_t hash) {
    size_t at = hash & (room - 1);
    while (hashes[at] && hashes[at] != hash) at = (at + 1) & (room - 1);
    hashes[at] = hash;
}

static status add(file_set *set, uint64_t hash) {
    if (has(set, hash)) return STATUS_OK;
    if (2 * (set->count + 1) > set->room) {
        size_t room = set->room ? 2 * set->room : 1024;
        uint64_t *hashes = calloc(room, sizeof *hashes);
        if (!hashes)
            return error_set(STATUS_OS, "free memory", "no memory for the file names of %s", set->root);
        for (size_t i = 0; i < set->room; i++)
            if (set->hashes[i]) put(hashes, room, set->hashes[i]);
        free(set->hashes);
        set->hashes = hashes;
        set->room = room;
    }
    put(set->hashes, set->room, hash);
    set->count++;
    return STATUS_OK;
}

/* Adds the files of one folder; a folder that is not there has none. */
static status list_folder(file_set *set, const char *folder, size_t folder_size) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/%.*s", set->root, (int)folder_size, folder);
    if (length >= (int)sizeof path) return STATUS_OK;
    DIR *dir = opendir(path);
    if (!dir) return STATUS_OK;
    status s = STATUS_OK;
    for (struct dirent *entry; s == STATUS_OK && (entry = readdir(dir));)
        if (entry->d_type != DT_DIR) s = add(set, name_hash(folder, folder_size, entry->d_name, '/'));
    closedir(dir);
    return s;
}

status file_set_init(file_set *set, const char *root) {
    *set = (file_set){.root = strdup(root)};
    if (!set->root) return error_set(STATUS_OS, "free memory", "no memory for the file names of %s", root);
    DIR *dir = opendir(root);
    if (dir) {
        closedir(dir);
        return STATUS_OK;
    }
    status s = error_set(errno == EACCES ? STATUS_NO_PERMISSION : STATUS_NO_INPUT,
                         "check the path; a dataset is written ANNOTATIONS.json:IMAGE_DIR",
                         "cannot open the image folder %s: %s", root, strerror(errno));
    file_set_release(set);
    return s;
}

void file_set_release(file_set *set) {
    free(set->root);
    free(set->hashes);
    *set = (file_set){0};
}

status file_set_contains(file_set *set, const char *relative, bool *found) {
    const char *slash = strrchr(relative, '/');
    size_t folder_size = slash ? (size_t)(slash - relative) : 0;
    uint64_t listed = name_hash(relative, folder_size, "", '\0');
    if (!has(set, listed)) {
        RETURN_IF_ERROR(list_folder(set, relative, folder_size));
        RETURN_IF_ERROR(add(set, listed));
    }
    *found = has(set, name_hash(relative, folder_size, slash ? slash + 1 : relative, '/'));
    return STATUS_OK;
}
