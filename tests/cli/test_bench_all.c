/* scripts/bench_all.sh in its smallest mode, with a stand-in for the Python that has the peers: that every measurement runs, and what
 * the page is made of; that a run goes on where it was stopped; what is said where a peer is missing or fails. */
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

#include "cli/folder_files.h"
#include "cli/run_program.h"

#define BENCH_ALL TEST_SOURCE_DIR "/scripts/bench_all.sh"
#define RUN                                                                                                  \
    BENCH_ALL "~--annotations~data/annotations.json~--images~data/images~--program~maskrcnn~--python~./"     \
              "peers~--check~--out~out~--page~page.md"

static program_run ran;
static char folder[] = "/tmp/test_bench_all.XXXXXX";

/* What the peers' scripts print, figures chosen; faster-coco-eval is missing; the loader fails where there is a file `fail`. */
static const char stand_in[] =
    "#!/bin/sh\n"
    "case \"$1 $2\" in\n"
    "'-c '*faster_coco_eval*) echo 'no faster-coco-eval here' >&2; exit 1 ;;\n"
    "'-c '*) exit 0 ;;\n"
    "*_step.py*) echo 'noise'; echo '{\"img_per_s\": 0.0001, \"step_ms\": 8000, \"step_ms_median\": 8000, "
    "\"peak_rss_mib\": 1e6, \"rois\": 512, \"positives\": 9, \"torch\": \"9.9\"}' ;;\n"
    "*_loader.py*) [ ! -e fail ] || { echo 'Error: no loader today' >&2; exit 3; }; echo "
    "'{\"img_per_s\": 0.5, \"img_per_s_with_transform\": 0.25}' ;;\n"
    "*_ops.py*) echo '{\"cases\": [{\"name\": \"map8_batch8_rois100\", \"forward_ms\": 5000, "
    "\"backward_ms\": 6000}, {\"name\": \"boxes_2000\", \"forward_ms\": 7000, \"backward_ms\": null}]}' ;;\n"
    "*_eval.py*) echo '{\"seconds\": 99, \"peak_rss_mib\": 1234, \"AP\": 2, \"library\": \"pycocotools\", "
    "\"version\": \"8.8\"}' ;;\n"
    "*) exec python3 \"$@\" ;;\n"
    "esac\n";

static const char *const headings[] = {"## One run: machine, versions, commands",
                                       "## A training step on the CPU",
                                       "### 64x96, batch 1",
                                       "### 48x80, batch 2",
                                       "## The floor of a step",
                                       "## RoIAlign and NMS",
                                       "## Loading data",
                                       "## Scoring a results file",
                                       "## Prediction",
                                       "## Where the time goes in each model",
                                       "## Sums over ranks",
                                       "## Ranks on one machine",
                                       "<!-- bench_all.sh: to here -->",
                                       "## Mine"};

static void run(int code, const char *line) {
    run_program(&ran, folder, line, 800.0);
    if (ran.code != code) fail_msg("exit code %d, not %d: %s%s", ran.code, code, ran.out, ran.err);
}

static void expect(const char *text, const char *part) {
    if (!strstr(text, part)) fail_msg("'%s' is not in\n%s", part, text);
}

static void every_section_is_written(void **state) {
    (void)state;
    folder_write(folder, "page.md",
                 "# Mine\n\n<!-- bench_all.sh: from here, x -->\nan older run\n<!-- bench_all.sh: to here "
                 "-->\n\n## Mine\n");
    run(0, RUN);
    expect(ran.out, "left out: faster_coco_eval: no faster-coco-eval here");
    expect(ran.out, " 0 failed; ");
    const char *page = folder_read(folder, "page.md"), *at = page;
    static const char start[] = "# Mine\n\n<!-- bench_all.sh: from here on ";
    assert_int_equal(strncmp(page, start, sizeof start - 1), 0);
    assert_null(strstr(page, "an older run"));
    assert_null(strstr(page, "Not measured"));
    for (size_t i = 0; i < sizeof headings / sizeof *headings; i++) {
        const char *found = strstr(at, headings[i]);
        if (!found) fail_msg("%s is missing, or not in its place:\n%s", headings[i], page);
        at = found;
    }
}

static void peers_are_compared(void **state) {
    (void)state;
    const char *page = folder_read(folder, "page.md");
    expect(page, "| detectron2 | 0.0001 img/s | 8 s | 8 s - 8 s | 1000000 MiB | 512, 9 | ");
    expect(page, "x (goal 1.5x) | 0.00x (at most 0.6x) |");
    expect(page, "x (goal 1.8x) | 0.00x (at most 0.5x) |");
    expect(page, " | 11 s | ");                        /* RoIAlign forward and backward */
    expect(page, " | 7 s | ");                         /* NMS */
    expect(page, " | 0.25 img/s | ");                  /* the loader with the transform */
    expect(page, " | 99 s | ");                        /* scoring */
    expect(page, "Largest difference of an AP: 2.\n"); /* ours is below 0.5 */
    expect(page, "Without comparison: faster-coco-eval was not there (no faster-coco-eval here).");
    expect(page, "| peers | pycocotools 8.8, PyTorch 9.9 |");
    expect(page, "PYTHON scripts/peers/detectron2_step.py --annotations OUT/images.json --images IMAGES ");
    expect(
        page,
        "build/maskrcnn bench train --warmup 0 --iters 1 --config configs/mask_rcnn_R_50_FPN_noaug_1x.yaml ");
    assert_null(strstr(page, folder));
}

/* Frozen norms do not spoil a random start: without src/bench/random_model.h it is 7 or 8. */
static void random_weights_leave_proposals(void **state) {
    (void)state;
    const char *key = "\"proposals\": ",
               *at = strstr(folder_read(folder, "out/results/train_large.ours.1.json"), key);
    assert_non_null(at);
    double proposals = atof(at + strlen(key));
    if (proposals < 25) fail_msg("%g proposals an image of at most 30", proposals);
}

/* Without two of its results, and with a peer that now fails. */
static void a_run_goes_on(void **state) {
    (void)state;
    assert_int_equal(unlink(folder_path(folder, "out/results/nms.ours.1.json")), 0);
    assert_int_equal(unlink(folder_path(folder, "out/results/loader.peer_pytorch.1.json")), 0);
    folder_write(folder, "fail", "");
    run(1, RUN "~--resume");
    expect(ran.out, "nms.ours.1 ");
    expect(ran.out, "failed: exit code 3: Error: no loader today");
    assert_null(strstr(ran.out, "train_large"));
    const char *page = folder_read(folder, "page.md");
    expect(page, "Without comparison: PyTorch failed: exit code 3: Error: no loader today.");
    expect(page, "| boxes_2000 | forward | ");
    run(64, RUN "~--resume~--runs~2");
    expect(ran.err, "was made with other settings: mode check runs 1 ");
    unlink(folder_path(folder, "fail"));
    run(0, RUN "~--resume");
}

static void wrong_calls_are_refused(void **state) {
    (void)state;
    run(64, BENCH_ALL "~--annotations~data/annotations.json");
    expect(ran.err, "usage: bench_all.sh");
    run(64, BENCH_ALL "~--annotations~none.json~--images~data/images");
    expect(ran.err, "none.json is not there");
    run(64,
        BENCH_ALL "~--annotations~data/annotations.json~--images~data/images~--program~maskrcnn~--runs~0");
    expect(ran.err, "--runs 0");
    run(64,
        BENCH_ALL "~--annotations~data/annotations.json~--images~data/images~--program~maskrcnn~--out~data");
    expect(ran.err, "data is there, and not a folder of this script");
    assert_int_equal(access(folder_path(folder, "data/annotations.json"), F_OK), 0);
    run(64, BENCH_ALL
        "~--annotations~data/annotations.json~--images~data/images~--program~maskrcnn~--page~none.md");
    expect(ran.err, "none.md is not there");
    run(77, BENCH_ALL "~--annotations~data/annotations.json~--images~data/images~--python~/bin/false");
    expect(ran.out, "skipped: /bin/false is no Python");
}

/* The page keeps what it has where the marks are missing. */
static void a_page_without_marks_stays(void **state) {
    (void)state;
    folder_write(folder, "other.md", "# Other\n");
    run(1, "python3~-B~" TEST_SOURCE_DIR "/scripts/bench_page.py~out~--page~other.md");
    expect(ran.err, "other.md: the marks are not there");
    assert_string_equal(folder_read(folder, "other.md"), "# Other\n");
    run(1, "python3~-B~" TEST_SOURCE_DIR "/scripts/bench_page.py~out~--page~none.md");
    assert_string_equal(ran.err, "none.md: No such file or directory\n");
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return 1;
    folder_write(folder, "peers", stand_in);
    if (chmod(folder_path(folder, "peers"), 0777) != 0) return 1;
    run_program(&ran, folder, "maskrcnn~synth~--out~data~--images~8~--seed~1~--width~96~--height~64", 60.0);
    return ran.code;
}

static int tear_down(void **state) {
    (void)state;
    char line[512];
    snprintf(line, sizeof line, "rm~-rf~%s", folder);
    run_program(&ran, "/tmp", line, 20.0);
    return ran.code;
}

int main(void) {
    if (system("bash -c true && python3 -c ''") != 0) {
        puts("skipped: bash or python3 is not installed");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_section_is_written),       cmocka_unit_test(peers_are_compared),
        cmocka_unit_test(random_weights_leave_proposals), cmocka_unit_test(a_run_goes_on),
        cmocka_unit_test(wrong_calls_are_refused),        cmocka_unit_test(a_page_without_marks_stays),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
