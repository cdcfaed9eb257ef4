/* Attributes of an op from texts: `stride=2`, `weights=10,10,5,5`, `normalizer=512.0`, `relu=1`, `order=BGR`. */
#ifndef CLI_OP_ATTRS_H
#define CLI_OP_ATTRS_H

#include "autograd/op.h"

/* Fills `params` (op->params_size bytes) from `count` texts NAME=VALUE; absent ones get their fallback. Lists
 * are comma-separated, booleans 0 or 1. USAGE: no such attribute, twice, no such value, or a required one
 * missing. */
status op_attrs_parse(void *params, const op_def *op, const char *const *texts, int count);

#endif
