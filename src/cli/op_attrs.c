#include "cli/op_attrs.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/nearest.h"

static bool is_order(const op_attr *attr) {
    return strcmp(attr->name, "order") == 0;
}

/* Channel orders have names too: where each channel comes from in RGB. */
static const char *order_text(const op_attr *attr, const char *value) {
    if (!is_order(attr)) return value;
    return strcasecmp(value, "RGB") == 0 ? "0,1,2" : strcasecmp(value, "BGR") == 0 ? "2,1,0" : value;
}

static status bad_value(const op_def *op, const op_attr *attr, const char *value, const char *expected) {
    return error_set(STATUS_USAGE,
                     "write it as --attr NAME=VALUE; lists are comma-separated, booleans 0 or 1",
                     "%s: attribute %s: \"%.100s\" is not %s", op->name, attr->name, value, expected);
}

/* One finite number at *text, which ends at a comma or the end; moves *text to that place. */
static bool parse_number(double *out, const char **text) {
    char *end;
    *out = strtod(*text, &end);
    bool is_good = end != *text && (*end == 0 || *end == ',') && isfinite(*out);
    *text = end;
    return is_good;
}

static status parse_list(double *out, const op_def *op, const op_attr *attr, const char *value) {
    const char *at = value;
    for (int i = 0; i < attr->count; i++) {
        bool is_last = i == attr->count - 1;
        if (!parse_number(&out[i], &at) || *at != (is_last ? 0 : ',')) {
            char expected[64];
            snprintf(expected, sizeof expected, "%sa list of %d numbers",
                     is_order(attr) ? "RGB, BGR or " : "", attr->count);
            return bad_value(op, attr, value, expected);
        }
        at++;
    }
    return STATUS_OK;
}

static status parse_value(void *params, const op_def *op, const op_attr *attr, const char *given) {
    const char *value = order_text(attr, given), *end = value;
    void *member = (char *)params + attr->offset;
    double number;
    if (attr->type == ATTR_FLOAT_LIST) return parse_list(member, op, attr, value);
    bool is_number = parse_number(&number, &end) && *end == 0;
    switch (attr->type) {
    case ATTR_INT:
        if (!is_number || number != trunc(number) || fabs(number) > INT_MAX)
            return bad_value(op, attr, value, "a whole number");
        *(int *)member = (int)number;
        return STATUS_OK;
    case ATTR_BOOL:
        if (!is_number || (number != 0 && number != 1)) return bad_value(op, attr, value, "0 or 1");
        *(bool *)member = number != 0;
        return STATUS_OK;
    default:
        if (!is_number) return bad_value(op, attr, value, "a number");
        *(double *)member = number;
        return STATUS_OK;
    }
}

static status unknown_attr(const op_def *op, const char *name) {
    nearest near;
    nearest_init(&near, name);
    for (const op_attr *a = op->attrs; a && a->name; a++) nearest_try(&near, a->name);
    const char *best = nearest_result(&near);
    error_set(STATUS_USAGE, "leave it out", "%s has no attribute %s", op->name, name);
    if (best) error_set_remedy("did you mean %s?", best);
    return STATUS_USAGE;
}

static void set_fallback(void *params, const op_attr *attr) {
    void *member = (char *)params + attr->offset;
    switch (attr->type) {
    case ATTR_INT:
        *(int *)member = (int)attr->fallback;
        return;
    case ATTR_BOOL:
        *(bool *)member = attr->fallback != 0;
        return;
    case ATTR_FLOAT:
        *(double *)member = attr->fallback;
        return;
    case ATTR_FLOAT_LIST:
        return; /* always required */
    }
}

static const char *value_of(const char *text, const char *name) {
    size_t n = strlen(name);
    return strncmp(text, name, n) == 0 && text[n] == '=' ? text + n + 1 : NULL;
}

/* Every text has the form NAME=VALUE with a name the op knows. */
static status check_names(const op_def *op, const char *const *texts, int count) {
    for (int i = 0; i < count; i++) {
        char name[64];
        size_t length = strcspn(texts[i], "=");
        if (!texts[i][length] || length >= sizeof name)
            return error_set(STATUS_USAGE, "write it as --attr NAME=VALUE", "%s: --attr %.100s has no value",
                             op->name, texts[i]);
        memcpy(name, texts[i], length);
        name[length] = 0;
        bool is_known = false;
        for (const op_attr *a = op->attrs; a && a->name; a++)
            is_known = is_known || strcmp(a->name, name) == 0;
        if (!is_known) return unknown_attr(op, name);
    }
    return STATUS_OK;
}

status op_attrs_parse(void *params, const op_def *op, const char *const *texts, int count) {
    memset(params, 0, op->params_size);
    RETURN_IF_ERROR(check_names(op, texts, count));
    for (const op_attr *a = op->attrs; a && a->name; a++) {
        const char *value = NULL;
        for (int i = 0; i < count; i++) {
            const char *given = value_of(texts[i], a->name);
            if (given && value)
                return error_set(STATUS_USAGE, "give it once", "%s: attribute %s stands twice", op->name,
                                 a->name);
            if (given) value = given;
        }
        if (value)
            RETURN_IF_ERROR(parse_value(params, op, a, value));
        else if (a->required || a->type == ATTR_FLOAT_LIST)
            return error_set(STATUS_USAGE, "add --attr NAME=VALUE", "%s: attribute %s is missing", op->name,
                             a->name);
        else
            set_fallback(params, a);
    }
    return STATUS_OK;
}
