#include "record/run_status.h"

#include "base/file_util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void state_is_replaced_as_a_whole(void **state) {
    (void)state;
    char folder[] = "/tmp/test_run_status.XXXXXX", path[128], *text;
    size_t size;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/run_status.json", folder);
    assert_int_equal(run_status_write(folder, RUN_STARTING, 0, NULL, NULL), STATUS_OK);
    assert_int_equal(run_status_write(folder, RUN_FAILED, 17, "checkpoints/0000010", "loss is \"nan\""),
                     STATUS_OK);
    assert_int_equal(read_file(&text, &size, path, 1000), STATUS_OK);
    assert_string_equal(text,
                        "{\"state\": \"failed\", \"iteration\": 17, \"checkpoint\": \"checkpoints/0000010\", "
                        "\"reason\": \"loss is \\\"nan\\\"\"}\n");
    free(text);
    assert_int_equal(run_status_write(folder, RUN_DONE, 90000, NULL, NULL), STATUS_OK);
    assert_int_equal(read_file(&text, &size, path, 1000), STATUS_OK);
    assert_string_equal(
        text, "{\"state\": \"done\", \"iteration\": 90000, \"checkpoint\": null, \"reason\": null}\n");
    free(text);
    unlink(path);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left */
    assert_int_equal(run_status_write(folder, RUN_RUNNING, 1, NULL, NULL), STATUS_CANT_CREATE);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(state_is_replaced_as_a_whole)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
