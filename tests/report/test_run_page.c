/* The page of a run, from the files of its folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_util.h"
#include "data/image_read.h"
#include "data/image_write.h"
#include "report/run_record.h"
#include "report/run_report.h"
#include "report/xml_check.h"

static char root[] = "/tmp/test_run_page_XXXXXX";
static char folder[256];

/* A fresh folder for a run; its name is hostile too. */
static void begin_run(const char *name) {
    snprintf(folder, sizeof folder, "%s/%s <b>&'\"", root, name);
    assert_int_equal(mkdir(folder, 0777), 0);
}

static const char *in_folder(const char *name) {
    static char path[PATH_MAX];
    assert_int_equal(path_join(path, folder, name), STATUS_OK);
    return path;
}

static void put(const char *name, const char *text) {
    assert_int_equal(write_file_atomic(in_folder(name), text, strlen(text)), STATUS_OK);
}

static char *page;

/* Writes the report and checks what holds for every one; it is in `page` then. */
static void make_report(void) {
    size_t size;
    free(page);
    if (run_report_write(folder, NULL) != STATUS_OK) fail_msg("%s", error_cause());
    assert_int_equal(read_file(&page, &size, in_folder("report.html"), 32 << 20), STATUS_OK);
    assert_int_equal(strlen(page), size);
    assert_null(xml_fault(page));
    assert_int_equal(strncmp(page, "<!DOCTYPE html>\n<html", 21), 0);
    static const char *const outside[] = {"<script", "<b>&", "<link",   "<iframe", "href",
                                          "@import", "url(", "src=\"h", "src=\"/", " onload=\""};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (strstr(page, outside[i])) fail_msg("holds %s", outside[i]);
    for (const char *at = strstr(page, "://"); at;
         at = strstr(at + 1, "://")) /* names a language, is not loaded */
        assert_int_equal(strncmp(at - 4, "http://www.w3.org/2000/svg\"", 27), 0);
}

#define EXPECT(text)                                                                                         \
    if (!strstr(page, text)) fail_msg("without %s", text)

static void put_metrics(int lines, int period) {
    FILE *file = fopen(in_folder("metrics.json"), "w");
    assert_non_null(file);
    for (int i = 0; i < lines; i++)
        fprintf(file,
                "{\"data_time\": 0.1, \"grad_norm\": 2.5, \"iteration\": %d, \"loss_cls\": 0.5, "
                "\"loss_mask\": 1.0, "
                "\"lr\": 0.01, \"skipped_images\": 2, \"time\": %g, \"total_loss\": 1.5}\n",
                (i + 1) * period - 1, i == 0 ? 10.0 : 0.5);
    assert_int_equal(fclose(file), 0);
}

static const char evaluation_line[] =
    "{\"iteration\": %d, \"dataset\": \"val <i>\", \"images\": 16, \"seconds\": "
    "3.5, \"bbox\": {\"AP\": %g, \"AP50\": "
    "0.5, \"APl\": -1}, \"segm\": {\"AP\": %g, \"AP50\": 0.45, \"APl\": -1}, "
    "\"classes\": [{\"id\": 1, \"name\": "
    "\"<script>alert('x')</script>\", \"bbox\": 0.1, \"segm\": 0.125}, {\"id\": "
    "2, \"name\": \"a \\\" onload=\\\"b\", "
    "\"bbox\": 0.9, \"segm\": 0.75}, {\"id\": 3, \"name\": \"gr\xC3\xB6\xC3\x9F"
    "e\", \"bbox\": -1, \"segm\": -1}], \"validation_loss\": 1.25}\n";

static void whole_run(void **state) {
    (void)state;
    char text[4096];
    begin_run("whole");
    put_metrics(30, 20);
    int at = snprintf(text, sizeof text, evaluation_line, 299, 0.25, 0.375);
    snprintf(text + at, sizeof text - (size_t)at, evaluation_line, 599, 0.3125, 0.3125);
    put("evaluations.json", text);
    put("run_status.json",
        "{\"state\": \"done\", \"iteration\": 600, \"checkpoint\": \"checkpoints/x\", \"reason\": null}");
    put("config.yaml", "DATASETS:\n  TEST: [\"no\"]\n  TRAIN: [\"tr<script>\"]\nSOLVER:\n  IMS_PER_BATCH: "
                       "8\n  MAX_ITER: 600\n");
    put("log.txt", "[11/21 10:00:00 maskrcnn.train]: 2 ranks, 16 images per iteration, seed 1\n"
                   "[11/21 10:00:00 maskrcnn.train]: 1 rank, 8 images per iteration, seed 7\n"
                   "[11/21 10:09:00 maskrcnn.events]: throughput over iterations 100-500: 12.345 img/s "
                   "(12.345 per rank)\n");
    make_report();
    EXPECT("<span class=\"state done\">done</span>");
    EXPECT("<dt>Iterations</dt><dd>600 <small>of 600</small>");
    EXPECT("<dt>Throughput</dt><dd>12.3 img/s <small>iterations 100-500</small>");
    EXPECT("<dt>Ranks</dt><dd>1 <small>8 images per iteration</small>");
    EXPECT(
        "<dt>Box AP</dt><dd>31.25 % <small>best 31.25 at iteration 599</small><small>val &lt;i&gt;</small>");
    EXPECT("<dt>Mask AP</dt><dd>31.25 % <small>best 37.50 at iteration 299</small>");
    EXPECT("<dt>Time in steps</dt><dd>0:08:10 "); /* 20 x 10 s, 580 x 0.5 s */
    EXPECT("<dt>Skipped images</dt><dd>2</dd>");
    EXPECT("tr&lt;script&gt;");
    static const char *const titles[] = {"Total loss",    "Losses",           "Learning rate",   "Throughput",
                                         "Gradient norm", "Waiting for data", "Validation loss", "AP"};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++) {
        snprintf(text, sizeof text, "role=\"img\"><title>%s</title>", titles[i]);
        EXPECT(text);
    }
    EXPECT("<td class=\"name\">bbox</td><td>31.25</td><td>50.00</td><td>n/a</td></tr>");
    EXPECT("<td class=\"name\">segm</td><td>31.25</td><td>45.00</td><td>n/a</td></tr>");
    const char *first = strstr(page, "a &quot; onload=&quot;b</td><td>90.00</td><td>75.00</td>");
    const char *second =
        strstr(page, "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;</td><td>10.00</td><td>12.50</td>");
    const char *third = strstr(page, "gr\xC3\xB6\xC3\x9F"
                                     "e</td><td>n/a</td><td>n/a</td>");
    assert_true(first && second && third && first < second && second < third);
    EXPECT("All 2 evaluations");
    EXPECT("<pre>DATASETS:\n  TEST: [&quot;no&quot;]");
}

static void failed_run_of_three_lines(void **state) {
    (void)state;
    begin_run("failed");
    put_metrics(3, 20);
    put("run_status.json",
        "{\"state\": \"failed\", \"iteration\": 61, \"checkpoint\": null, \"reason\": \"<not> finite\"}");
    put("config.yaml", "SOLVER:\n  IMS_PER_BATCH: 4\n  MAX_ITER: 90000\n");
    make_report();
    EXPECT("<span class=\"state failed\">failed</span>");
    EXPECT("<p class=\"reason failed\">&lt;not&gt; finite</p>");
    EXPECT("<dd>61 <small>of 90000</small>");
    EXPECT("<dd>8 img/s <small>all lines of metrics.json but the first</small>");
    assert_null(strstr(page, "<h2>Scores"));
    assert_null(strstr(page, "<dt>Box AP"));
}

static void absent_files(void **state) {
    (void)state;
    begin_run("absent");
    assert_int_equal(run_report_write(folder, NULL), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "holds no metrics.json"));
    assert_int_not_equal(access(in_folder("report.html"), F_OK), 0);
    put("config.yaml", "SEED: 1\n");
    make_report();
    EXPECT("state unknown");
    EXPECT("metrics.json has no line yet.");
    put_metrics(1, 1);
    make_report();
    EXPECT("<dt>Iterations</dt><dd>1</dd>");
    EXPECT("<circle");
    EXPECT("seconds per iteration"); /* nobody knows the batch */
    assert_int_equal(run_report_write(in_folder("gone"), NULL), STATUS_NO_INPUT);
    assert_non_null(strstr(error_cause(), "gone"));
    assert_int_equal(run_report_write(folder, in_folder("gone/x.html")), STATUS_CANT_CREATE);
}

static void torn_and_foreign_lines(void **state) {
    (void)state;
    begin_run("torn");
    put("metrics.json", "{\"iteration\": 0, \"total_loss\": 3}\n"
                        "{\"iteration\": 1, \"total_loss\": null, \"loss_x\": 1e300}\n"
                        "{\"iteration\": 1, \"total_loss\": 7777}\n" /* not behind the line before */
                        "[1, 2]\n\n{\"iteration\": 1.5}\n{\"iteration\": 2, \"total_loss\": NaN}\n"
                        "{\"iteration\": 3, \"total_loss\": 2}\n{\"iteration\": 4, \"tot");
    put("evaluations.json", "{\"iteration\": 3, \"dataset\": \"a\", \"bbox\": {\"AP\": 0.5}}\n"
                            "{\"dataset\": \"b\"}\n{\"iteration\": 4, \"data");
    put("run_status.json", "{\"state\": ");
    run_record record;
    assert_int_equal(run_record_read(&record, folder), STATUS_OK);
    assert_int_equal(record.metrics.count, 3);
    assert_int_equal(record.metrics.unread_lines, 5);
    assert_true(record.metrics.columns[METRICS_TOTAL_LOSS][0] == 3);
    assert_true(isnan(record.metrics.columns[METRICS_TOTAL_LOSS][1]));
    assert_true(isnan(record.metrics.columns[METRICS_FIRST_LOSS][1]));
    assert_true(record.metrics.columns[METRICS_TOTAL_LOSS][2] == 2);
    assert_int_equal(record.evaluations.count, 1);
    assert_int_equal(record.evaluations.unread_lines, 2);
    assert_int_equal(record.iterations, 4);
    run_record_release(&record);
    make_report();
    EXPECT("metrics.json: 5 lines could not be read");
    EXPECT("evaluations.json: 2 lines could not be read");
    EXPECT("run_status.json: ");
    assert_null(strstr(page, "7777"));
}

/* `eval --config` with weights that do not say where they come from. */
static void scores_of_weights_from_elsewhere(void **state) {
    (void)state;
    begin_run("elsewhere");
    put("evaluations.json",
        "{\"iteration\": -1, \"dataset\": \"val\", \"images\": 7, \"bbox\": {\"AP\": 0.5}}\n");
    make_report();
    EXPECT("<h3>val <small>iteration unknown, 7 images</small></h3>");
    EXPECT("<dd>50.00 %<small>val</small>");
    put("evaluations.json", "{\"iteration\": 4, \"dataset\": \"val\", \"bbox\": {\"AP\": 0.25}}\n"
                            "{\"iteration\": 9, \"dataset\": \"val\", \"bbox\": {\"AP\": 0.375}}\n"
                            "{\"iteration\": -1, \"dataset\": \"val\", \"bbox\": {\"AP\": 0.5}}\n");
    make_report();
    EXPECT("<small>best 50.00</small>");
    EXPECT("<tr><td></td>");
    EXPECT("<title>AP</title>");
    assert_null(strstr(page, "could not be read"));
    assert_null(strstr(page, "iteration -1"));
}

static void long_run(void **state) {
    (void)state;
    begin_run("long");
    put_metrics(20000, 1);
    put("config.yaml", "SOLVER:\n  IMS_PER_BATCH: 4\n");
    make_report();
    assert_true(strlen(page) < 300000);
    EXPECT("<dd>8 img/s <small>iterations 100-500</small>");
    EXPECT("<dt>Iterations</dt><dd>20000</dd>");
}

static void pictures_are_inside(void **state) {
    (void)state;
    enum { SIDE = 1600 };
    char name[64];
    begin_run("pictures");
    put("config.yaml", "SEED: 1\n");
    assert_int_equal(mkdir(in_folder("pictures"), 0777), 0);
    uint8_t *pixels = malloc(SIDE * SIDE * 3);
    uint32_t noise = 1;
    for (int i = 0; i < SIDE * SIDE * 3; i++)
        pixels[i] = (uint8_t)((noise = noise * 1664525u + 1013904223u) >> 24);
    assert_int_equal(image_write_png(in_folder("pictures/a <i>\"'&.png"), pixels, 4, 3), STATUS_OK);
    assert_int_equal(image_write_png(in_folder("pictures/b.png"), pixels, SIDE, SIDE), STATUS_OK);
    put("pictures/c.png", "no picture");
    put("pictures/d.txt", "no picture");
    assert_int_equal(mkdir(in_folder("pictures/e.png"), 0777), 0);
    assert_int_equal(mkfifo(in_folder("pictures/f.png"), 0666), 0);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "pictures/z%d.png", i);
        assert_int_equal(image_write_png(in_folder(name), pixels, 2, 2), STATUS_OK);
    }
    free(pixels);
    make_report();
    EXPECT("alt=\"a &lt;i&gt;&quot;&#39;&amp;.png\" src=\"data:image/png;base64,iVBORw0KGgo");
    EXPECT("alt=\"b.png\" src=\"data:image/jpeg;base64,/9j/");
    EXPECT("Left out: c.png: ");
    EXPECT("e.png: not a file");
    EXPECT("f.png: not a file");
    EXPECT("The first 12 of 13 pictures.");
    EXPECT("alt=\"z6.png\"");
    assert_null(strstr(page, "alt=\"z7.png\""));
    assert_null(strstr(page, "d.txt"));
    assert_true(strlen(page) < 4 << 20); /* noise is the worst that a JPEG can be given */
}

static int make_root(void **state) {
    (void)state;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

static int remove_root(void **state) {
    (void)state;
    free(page);
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_run),
        cmocka_unit_test(failed_run_of_three_lines),
        cmocka_unit_test(absent_files),
        cmocka_unit_test(torn_and_foreign_lines),
        cmocka_unit_test(scores_of_weights_from_elsewhere),
        cmocka_unit_test(long_run),
        cmocka_unit_test(pictures_are_inside),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
