/* An op that the user names. */
#ifndef CLI_OP_NAME_H
#define CLI_OP_NAME_H

#include "autograd/op.h"

/* USAGE, with the nearest name or all of them, where there is no such op. */
status op_name_find(const op_def **out, const char *name);

#endif
