/* The images that arguments name: files, folders (every JPEG and PNG in them, by name), patterns with * ? [...]. */
#ifndef DATA_IMAGE_LIST_H
#define DATA_IMAGE_LIST_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

enum { IMAGE_LIST_LIMIT = 1 << 24 };

typedef struct image_list {
    char **paths; /* [count] */
    int count, capacity;
} image_list;

/* Adds what `argument` names, in this order: a file of this very name, whatever its ending; a folder's files that end in
 * .jpg, .jpeg or .png (either case), sorted by name, not those of folders in it; what the pattern matches, sorted, without
 * folders. NO_INPUT: there is no such file, or no image in the folder. NO_PERMISSION, OS, DATA (too many). */
status image_list_add(image_list *list, const char *argument);
void image_list_release(image_list *list);

/* The file's name without folders and without its ending: "7" for "a/7.jpg". Returns `stem`, cut off at `size`. */
const char *image_list_stem(char *stem, size_t size, const image_list *list, int index);

/* Whether no two have the same stem. OS. */
status image_list_stems_differ(bool *differ, const image_list *list);

/* An id for each image: the number its stem is, where every stem is digits alone and no two give the same number; else its
 * place in the list, from 1. ids [count]. OS. */
status image_list_ids(int64_t *ids, const image_list *list);

#endif
