/* The built plug-in on any machine: it loads without a driver, uses nothing that a program lacks, has the kernels of every .cu
 * file, refuses another version of the device table, and says why there is no device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "autograd/op.h"
#include "device/device_backend.h"

#include <dlfcn.h>

static void *plugin;

/* Every symbol is bound at once: one that this program (linked like maskrcnn itself) lacks fails the load. */
static int load(void **state) {
    (void)state;
    plugin = dlopen(TEST_PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (!plugin) fprintf(stderr, "%s\n", dlerror());
    return plugin ? 0 : -1;
}

static void find(void *function, const char *name) {
    void *symbol = dlsym(plugin, name);
    assert_non_null(symbol);
    memcpy(function, &symbol, sizeof symbol);
}

static void has_the_kernels_of_every_file(void **state) {
    (void)state;
    const op_kernel *const *(*kernels_of)(const char *op_name);
    find(&kernels_of, "cuda_kernels_find");
    static const char *const names[] = {
#define OP(name) #name,
#include "cuda_ops.def"
#undef OP
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const op_kernel *const *kernels = kernels_of(names[i]);
        assert_non_null(kernels);
        assert_non_null(kernels[0]);
        assert_non_null(kernels[0]->forward);
        const op_def *op = op_find(names[i]);
        assert_non_null(op);
        if (op->differentiable) assert_non_null(kernels[0]->backward);
    }
    assert_null(kernels_of("no_such_op"));
}

static void exports_nothing_else(void **state) {
    (void)state;
    assert_null(dlsym(plugin, "nccl_api_load"));
    assert_null(dlsym(plugin, "cuda_describe"));
}

static void refuses_another_version(void **state) {
    (void)state;
    device_plugin_open_function open_function;
    find(&open_function, DEVICE_PLUGIN_OPEN_NAME);
    device *d = NULL;
    assert_int_equal(open_function(&d, 0, DEVICE_PLUGIN_VERSION + 1), STATUS_NO_DEVICE);
    assert_null(d);
    assert_non_null(
        strstr(error_cause(), "version")); /* the plug-in speaks through this program's error_set */
}

typedef struct rows {
    int count;
    char text[4096];
} rows;

static void add_row(void *context, const char *name, const char *value) {
    rows *r = context;
    size_t at = strlen(r->text);
    snprintf(r->text + at, sizeof r->text - at, "%s: %s\n", name, value);
    r->count++;
}

static void describes_what_it_finds(void **state) {
    (void)state;
    device_plugin_describe_function describe;
    find(&describe, DEVICE_PLUGIN_DESCRIBE_NAME);
    static rows r;
    assert_int_equal(describe(add_row, &r, DEVICE_PLUGIN_VERSION - 1), STATUS_NO_DEVICE);
    assert_int_equal(r.count, 0);
    assert_int_equal(describe(add_row, &r, DEVICE_PLUGIN_VERSION), STATUS_OK);
    static const char *const expected[] = {"CUDA: ",  "NVIDIA driver: ", "GPU",
                                           "cuDNN: ", "cublasLt: ",      "NCCL: "};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_non_null(strstr(r.text, expected[i]));
}

/* A card that is not there: without a driver that is the reason. */
static void says_why_there_is_no_card(void **state) {
    (void)state;
    device_plugin_open_function open_function;
    find(&open_function, DEVICE_PLUGIN_OPEN_NAME);
    device *d = NULL;
    status s = open_function(&d, 999, DEVICE_PLUGIN_VERSION);
    assert_int_equal(s, STATUS_NO_DEVICE);
    assert_null(d);
    assert_non_null(strstr(error_cause(), "device cuda"));
    assert_true(strstr(error_cause(), "driver") || strstr(error_cause(), "cards"));
    assert_true(error_remedy()[0] != '\0');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_kernels_of_every_file), cmocka_unit_test(exports_nothing_else),
        cmocka_unit_test(refuses_another_version),       cmocka_unit_test(describes_what_it_finds),
        cmocka_unit_test(says_why_there_is_no_card),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
