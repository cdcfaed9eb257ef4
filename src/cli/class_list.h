/* Class names from the command line. */
#ifndef CLI_CLASS_LIST_H
#define CLI_CLASS_LIST_H

#include "base/status.h"

typedef struct class_list {
    int count;
    char **names; /* in `text` */
    char *text;
} class_list;

/* `given` is a text file with a name on each line, or, where there is no such file, "A,B,C". Spaces around names and empty
 * lines are dropped, and so is a first name "__background__". USAGE: no name, an empty one between commas, or no UTF-8;
 * codes of read_file. Release it also after a failure. */
status class_list_read(class_list *out, const char *given);
void class_list_release(class_list *list);

#endif
