/* `maskrcnn report`, and the page that `maskrcnn train` leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/train_sandbox.h"
#include "report/xml_check.h"

static program_run ran;

static void run_report(int code, const char *rest) {
    char line[1024];
    snprintf(line, sizeof line, "maskrcnn~report~%s", rest);
    run_program(&ran, sandbox_folder(), line, 20.0);
    if (ran.code != code) fail_msg("exit code %d, not %d: %s", ran.code, code, ran.err);
}

static void expect_page(const char *name, const char *const *words) {
    char *page = sandbox_read(name, NULL);
    assert_null(xml_fault(page));
    for (; *words; words++)
        if (!strstr(page, *words)) fail_msg("%s is without %s", name, *words);
    free(page);
}
#define EXPECT_PAGE(name, ...) expect_page(name, (const char *const[]){__VA_ARGS__, NULL})

static void train_leaves_a_page(void **state) {
    (void)state;
    sandbox_train_well(2, "run", "~SOLVER.MAX_ITER~10");
    EXPECT_PAGE("run/report.html", "<span class=\"state done\">done</span>", "<dd>10 <small>of 10</small>",
                "<dt>Ranks</dt><dd>2 <small>4 images per iteration</small>", "loss_rpn_loc",
                "<h3>Learning rate</h3>", "MAX_ITER: 10");
    assert_int_equal(count_lines(sandbox_run.out, "wrote run/report.html"), 1);
}

static void failure_is_told(void **state) {
    (void)state;
    assert_int_equal(sandbox_train(0, "bad", "~SOLVER.BASE_LR~1e30"), 79);
    EXPECT_PAGE("bad/report.html", "<span class=\"state failed\">failed</span>", "not finite");
    assert_non_null(strstr(sandbox_run.err, "not finite")); /* the report has not covered the run's error */
    assert_non_null(strstr(sandbox_run.err, "SOLVER.BASE_LR"));
}

static void page_that_cannot_be_written_is_no_failure(void **state) {
    (void)state;
    assert_int_equal(mkdir(sandbox_path("held"), 0777), 0);
    assert_int_equal(mkdir(sandbox_path("held/report.html"), 0777), 0);
    sandbox_train_well(0, "held", "~SOLVER.MAX_ITER~1");
    assert_non_null(strstr(sandbox_run.err, "no report of this run: "));
    char *status = sandbox_read("held/run_status.json", NULL);
    assert_non_null(strstr(status, "\"done\""));
    free(status);
}

static void command_writes_the_page(void **state) {
    (void)state;
    assert_int_equal(unlink(sandbox_path("run/report.html")), 0);
    run_report(0, "run");
    assert_string_equal(ran.out, "wrote run/report.html\n");
    EXPECT_PAGE("run/report.html", "state done");
    run_report(0, "run~--out~other.html");
    assert_string_equal(ran.out, "wrote other.html\n");
    EXPECT_PAGE("other.html", "state done");
}

static void culprits_are_named(void **state) {
    (void)state;
    sandbox_refuse(&(refusal){"maskrcnn~report~gone", 66, {"gone"}, "OUTPUT_DIR"});
    sandbox_refuse(&(refusal){"maskrcnn~report~toy", 66, {"toy", "metrics.json"}, "OUTPUT_DIR"});
    sandbox_refuse(&(refusal){"maskrcnn~report~tiny.yaml", 66, {"tiny.yaml"}, "OUTPUT_DIR"});
    sandbox_refuse(&(refusal){"maskrcnn~report~run~--out~no/such/x.html", 73, {"no/such/x.html"}, NULL});
    sandbox_refuse(&(refusal){"maskrcnn~report", 64, {"DIR"}, NULL});
}

static int make_data(void **state) {
    if (sandbox_make(state) != 0) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 8});
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(train_leaves_a_page),
        cmocka_unit_test(failure_is_told),
        cmocka_unit_test(page_that_cannot_be_written_is_no_failure),
        cmocka_unit_test(command_writes_the_page),
        cmocka_unit_test(culprits_are_named),
    };
    return cmocka_run_group_tests(tests, make_data, sandbox_remove);
}
