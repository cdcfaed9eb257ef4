/* Reading a JSON file that a command wrote; what is not as it should be fails the test. */
#ifndef TESTS_CLI_JSON_TREE_H
#define TESTS_CLI_JSON_TREE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <yajl/yajl_tree.h>

#include "base/file_util.h"

/* Released by yajl_tree_free. */
static inline yajl_val json_tree_read(const char *path) {
    char *text;
    size_t size;
    assert_int_equal(read_file(&text, &size, path, 16 << 20), STATUS_OK);
    yajl_val tree = yajl_tree_parse(text, NULL, 0);
    assert_non_null(tree);
    free(text);
    return tree;
}

static inline yajl_val json_tree_find(yajl_val tree, const char *key) {
    yajl_val value = yajl_tree_get(tree, (const char *[]){key, NULL}, yajl_t_any);
    if (!value) fail_msg("no %s", key);
    return value;
}

static inline double json_tree_number(yajl_val tree, const char *key) {
    yajl_val value = json_tree_find(tree, key);
    if (!YAJL_IS_NUMBER(value) || !isfinite(YAJL_GET_DOUBLE(value))) fail_msg("%s is no number", key);
    return YAJL_GET_DOUBLE(value);
}

static inline double json_tree_positive(yajl_val tree, const char *key) {
    double value = json_tree_number(tree, key);
    if (!(value > 0)) fail_msg("%s is %g", key, value);
    return value;
}

static inline const char *json_tree_text(yajl_val tree, const char *key) {
    yajl_val value = json_tree_find(tree, key);
    if (!YAJL_IS_STRING(value)) fail_msg("%s is no text", key);
    return YAJL_GET_STRING(value);
}

/* Its length goes to *count. */
static inline yajl_val *json_tree_list(yajl_val tree, const char *key, int *count) {
    yajl_val value = json_tree_find(tree, key);
    if (!YAJL_IS_ARRAY(value)) fail_msg("%s is no list", key);
    *count = (int)YAJL_GET_ARRAY(value)->len;
    return YAJL_GET_ARRAY(value)->values;
}

#endif
