/* The names of the files below a folder, read folder by folder when first asked for: telling which of 100,000
 * images exist costs a few directory listings instead of a stat for each (minutes on a network file system). */
#ifndef DATA_FILE_SET_H
#define DATA_FILE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct file_set {
    char *root;
    uint64_t *hashes; /* open addressing, 0 is free; of "folder/name" and of folders that were listed */
    size_t room, count;
} file_set;

/* STATUS_NO_INPUT when `root` is no readable folder. */
status file_set_init(file_set *set, const char *root);
void file_set_release(file_set *set);

/* Whether `relative` (components split by single '/', no "." or "..") is there and no folder. */
status file_set_contains(file_set *set, const char *relative, bool *found);

#endif
