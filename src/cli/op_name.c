#include "cli/op_name.h"

#include "base/nearest.h"

#include <stdio.h>

static status unknown_op(const char *name) {
    char list[1024];
    size_t used = 0;
    nearest near;
    nearest_init(&near, name);
    for (int i = 0; i < op_count() && used < sizeof list; i++) {
        nearest_try(&near, op_at(i)->name);
        used += (size_t)snprintf(list + used, sizeof list - used, i ? ", %s" : "%s", op_at(i)->name);
    }
    const char *best = nearest_result(&near);
    error_set(STATUS_USAGE, NULL, "unknown op %.100s", name);
    error_set_remedy(best ? "did you mean %s?" : "the ops are %s", best ? best : list);
    return STATUS_USAGE;
}

status op_name_find(const op_def **out, const char *name) {
    *out = op_find(name);
    return *out ? STATUS_OK : unknown_op(name);
}
