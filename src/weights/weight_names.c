#include "weights/weight_names.h"

#include <stdio.h>
#include <string.h>

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

static bool ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static bool is_weight_or_bias(const char *text) {
    return strcmp(text, "weight") == 0 || strcmp(text, "bias") == 0;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* `name` is `start`, one digit, a dot, and weight or bias. */
static bool is_old_block(const char *name, const char *start) {
    size_t n = strlen(start);
    return starts_with(name, start) && is_digit(name[n]) && name[n + 1] == '.' &&
           is_weight_or_bias(name + n + 2);
}

static bool is_bare_resnet(const char *name) {
    return starts_with(name, "conv1.") || starts_with(name, "bn1.") ||
           (starts_with(name, "layer") && name[5] >= '1' && name[5] <= '4' && name[6] == '.');
}

bool weight_name_today(char *out, size_t size, const char *name) {
    static const char conv[] = "rpn.head.conv.", mask[] = "roi_heads.mask_head.mask_fcn";
    int written;
    if (is_old_block(name, "backbone.fpn.inner_blocks.") ||
        is_old_block(name, "backbone.fpn.layer_blocks.")) {
        const char *last = strrchr(name, '.');
        written = snprintf(out, size, "%.*s.0%s", (int)(last - name), name, last);
    } else if (starts_with(name, conv) && is_weight_or_bias(name + sizeof conv - 1)) {
        written = snprintf(out, size, "rpn.head.conv.0.0.%s", name + sizeof conv - 1);
    } else if (is_old_block(name, mask) && name[sizeof mask - 1] != '0') {
        written = snprintf(out, size, "roi_heads.mask_head.%d.0.%s", name[sizeof mask - 1] - '1',
                           name + sizeof mask + 1);
    } else {
        written = snprintf(out, size, "%s%s", is_bare_resnet(name) ? "backbone.body." : "", name);
    }
    return written >= 0 && (size_t)written < size;
}

bool weight_name_is_counter(const char *name) {
    return ends_with(name, ".num_batches_tracked");
}
