/* Wrong command lines end within 20 s with the documented exit code, and stderr has one line of cause, which names the
 * culprit, and one of remedy. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/run_program.h"

#define NO_ADVICE ""

static char folder[] = "/tmp/test_wrong_invocations_XXXXXX";

typedef struct invocation {
    const char *line; /* words separated by '~' */
    int code;
    const char *culprit; /* in the cause */
    const char *advice;  /* in the remedy */
} invocation;

#define TRAIN                                                                                                \
    "maskrcnn~train~--config~" TEST_SOURCE_DIR "/configs/quickstart.yaml~OUTPUT_DIR~run~SOLVER.MAX_ITER~1"
#define TRAIN_ON_SHAPES TRAIN "~DATASETS.TRAIN~shapes/annotations.json:shapes/images"
#define TWO_RANKS "mpirun~--allow-run-as-root~--oversubscribe~-n~2~" TEST_PROGRAM

static const invocation invocations[] = {
    {"maskrcnn", 64, "no command", "--help"},
    {"maskrcnn~", 64, "unknown command", "--help"},
    {"maskrcnn~confg", 64, "confg", "config?"},
    {"maskrcnn~--confg", 64, "--confg", "COMMAND"},
    {"maskrcnn~help~confg", 64, "confg", "config?"},
    {"maskrcnn~bench~opp", 64, "bench opp", "bench op?"},
    {"maskrcnn~help~bench~nothing", 64, "bench nothing", "maskrcnn bench --help"},
    {"maskrcnn~bench", 64, "no command", "maskrcnn bench --help"},
    {"maskrcnn~bench~--json~f", 64, "--json", NO_ADVICE},
    {"maskrcnn~bench~predict~--config~" TEST_SOURCE_DIR
     "/configs/quickstart.yaml~--synthetic~--size~40000x40000",
     64, "40000x40000", "smaller"},
    {"maskrcnn~bench~op", 64, "NAME", "maskrcnn bench op --help"},
    {"maskrcnn~bench~op~nsm", 64, "nsm", "nms?"},
    {"maskrcnn~bench~op~nms~--case~nothing", 64, "nothing", "--case"},
    {"maskrcnn~bench~op~nms~--variant~nothing", 64, "nothing", "--variant"},
    {"maskrcnn~bench~op~nms~--precision~bf16", 64, "bf16", "--device cuda"},
    {"maskrcnn~bench~op~nms~--threads~0", 64, "--threads", NO_ADVICE},
    {"maskrcnn~bench~op~nms~--case~2000~--json~no/such/file.json", 73, "no/such", NO_ADVICE},
    {"maskrcnn~bench~loader~--annotations~shapes/annotations.json", 64, "--images", NO_ADVICE},
    {"maskrcnn~bench~loader~--annotations~none.json~--images~shapes/images", 66, "none.json", NO_ADVICE},
    {"maskrcnn~bench~loader~--annotations~shapes/annotations.json~--images~shapes/images~--epochs~0", 64,
     "--epochs", NO_ADVICE},
    {"maskrcnn~bench~loader~--annotations~shapes/annotations.json~--images~shapes/images~--workers~x", 78,
     "DATALOADER.NUM_WORKERS", NO_ADVICE},
    {"maskrcnn~bench~predict~--config~" TEST_SOURCE_DIR "/configs/quickstart.yaml", 64, "--synthetic",
     NO_ADVICE},
    {"maskrcnn~bench~predict~--config~none.yaml~--synthetic", 66, "none.yaml", NO_ADVICE},
    {"maskrcnn~bench~predict~--synthetic", 64, "--config", NO_ADVICE},
    {"maskrcnn~bench~predict~--config~" TEST_SOURCE_DIR "/configs/quickstart.yaml~--synthetic~--size~800", 64,
     "--size 800", "800x1333"},
    {"maskrcnn~bench~predict~--config~" TEST_SOURCE_DIR
     "/configs/quickstart.yaml~--synthetic~--weights~none.safetensors",
     66, "none.safetensors", NO_ADVICE},
    {"maskrcnn~bench~eval~--annotations~gt.json", 64, "--results", NO_ADVICE},
    {"maskrcnn~bench~eval~--annotations~none.json~--results~dt.json", 66, "none.json", NO_ADVICE},
    {"maskrcnn~bench~eval~--annotations~a~--results~b~--keep~c", 64, "--keep", NO_ADVICE},
    {"maskrcnn~bench~eval~--keep~none/kept", 73, "none/kept", NO_ADVICE},
    {"maskrcnn~bench~eval~--iters~0", 64, "--iters", NO_ADVICE},
    {"maskrcnn~bench~eval~--iou-type~mask", 64, "mask", "bbox|segm"},
    {"maskrcnn~bench~allreduce~--max-kib~1", 64, "--max-kib", NO_ADVICE},
    {"maskrcnn~bench~allreduce~--device~tpu", 64, "tpu", "cpu|cuda"},
    {"maskrcnn~config~--confg~c.yaml", 64, "--confg", "--config?"},
    {"maskrcnn~config~-c~c.yaml", 64, "-c", NO_ADVICE},
    {"maskrcnn~config~--config", 64, "--config", NO_ADVICE},
    {"maskrcnn~config~--config~--out~x", 64, "--config", NO_ADVICE},
    {"maskrcnn~config~--keys=yes", 64, "--keys", NO_ADVICE},
    {"maskrcnn~config~--out~a~--out~b", 64, "--out", NO_ADVICE},
    {"maskrcnn~env~SEED~1", 64, "SEED", NO_ADVICE},
    {"maskrcnn~config~SOLVER.MAX_ITER", 64, "SOLVER.MAX_ITER", "KEY VALUE"},
    {"maskrcnn~config~--config~none.yaml", 66, "none.yaml", NO_ADVICE},
    {"maskrcnn~config~--config~.", 66, "is a folder", NO_ADVICE},
    {"maskrcnn~config~--config~no_base.yaml", 66, "gone.yaml", NO_ADVICE},
    {"maskrcnn~config~--config~cycle.yaml", 78, "cycle.yaml", NO_ADVICE},
    {"maskrcnn~config~--config~misspelt.yaml", 78, "misspelt.yaml:2: unknown key SOLVER.MAX_ITERS",
     "SOLVER.MAX_ITER?"},
    {"maskrcnn~config~--config~type.yaml", 78, "type.yaml:2: SOLVER.MAX_ITER = soon", NO_ADVICE},
    {"maskrcnn~config~--config~twice.yaml", 78, "twice.yaml:2: SEED stands twice", NO_ADVICE},
    {"maskrcnn~config~--config~garbage.yaml", 78, "garbage.yaml", NO_ADVICE},
    {"maskrcnn~config~--config~deep.yaml", 78, "deep.yaml", NO_ADVICE},
    {"maskrcnn~config~SOLVER.MAX_ITERS~3", 78, "SOLVER.MAX_ITERS", "SOLVER.MAX_ITER?"},
    {"maskrcnn~config~SOLVER.MAX_ITER=x", 78, "SOLVER.MAX_ITER = x", NO_ADVICE},
    {"maskrcnn~config~SEED~-1~INPUT.FORMAT~HSV", 78, "INPUT.FORMAT = HSV", NO_ADVICE},
    {"maskrcnn~config~--out~no/such/folder/c.yaml", 73, "no/such/folder/c.yaml", NO_ADVICE},
    {"maskrcnn~config~--config~line\nbreak\x1B.yaml", 66, "line?break?.yaml", NO_ADVICE},
    {"maskrcnn~train", 64, "--config FILE is missing", NO_ADVICE},
    {"maskrcnn~train~--config~none.yaml", 66, "none.yaml", NO_ADVICE},
    {TRAIN_ON_SHAPES "~--wieghts~x", 64, "--wieghts", "--weights?"},
    {TRAIN_ON_SHAPES "~--device~abacus", 64, "--device abacus", "cpu|cuda"},
    {"maskrcnn~op~sigmoid~--in~none.safetensors~--out~o~--device~cuda", 69, "device cuda", "--device cpu"},
    {TRAIN_ON_SHAPES "~--device~cuda", 69, "cuda", "--device cpu"},
    {TRAIN "~DATASETS.TRAIN~()", 78, "DATASETS.TRAIN", "ANNOTATIONS.json:IMAGE_DIR"},
    {TRAIN "~DATASETS.TRAIN~nosuch", 78, "nosuch", "ANNOTATIONS.json:IMAGE_DIR"},
    {TRAIN "~DATASETS.TRAIN~gone.json:shapes/images", 66, "gone.json", NO_ADVICE},
    {TRAIN "~DATASETS.TRAIN~shapes/annotations.json:gone", 66, "gone", NO_ADVICE},
    {TRAIN "~DATASETS.TRAIN~cut.json:shapes/images", 65, "cut.json", NO_ADVICE},
    {TRAIN "~DATASETS.TRAIN~garbage.yaml:shapes/images", 65, "garbage.yaml", NO_ADVICE},
    {TRAIN_ON_SHAPES "~--weights~gone.safetensors", 66, "gone.safetensors", NO_ADVICE},
    {TRAIN_ON_SHAPES "~--weights~garbage.safetensors", 65, "garbage.safetensors", NO_ADVICE},
    {TRAIN_ON_SHAPES "~--weights~torch.pth", 65, "torch.pth", "convert"},
    {TRAIN_ON_SHAPES "~MODEL.WEIGHTS~detectron2://R-50.pkl", 66, "detectron2://R-50.pkl", "--weights"},
    {TRAIN_ON_SHAPES "~OUTPUT_DIR~twice.yaml", 73, "twice.yaml", NO_ADVICE},
    {TRAIN_ON_SHAPES "~OUTPUT_DIR~/proc/x", 73, "/proc/x", NO_ADVICE},
    {TRAIN_ON_SHAPES "~MODEL.ROI_HEADS.NUM_CLASSES~2", 78, "MODEL.ROI_HEADS.NUM_CLASSES", NO_ADVICE},
    {TWO_RANKS "~train~--config~" TEST_SOURCE_DIR "/configs/quickstart.yaml~SOLVER.IMS_PER_BATCH~3", 78,
     "SOLVER.IMS_PER_BATCH", "multiple"},
    {TWO_RANKS "~train~--config~none.yaml", 66, "none.yaml", NO_ADVICE},
    {"maskrcnn~trace~--config~misspelt.yaml~--out~t", 78, "SOLVER.MAX_ITERS", NO_ADVICE},
    {"maskrcnn~trace~--config~type.yaml", 64, "--out", NO_ADVICE},
    {"maskrcnn~op~--in~a~--out~b", 64, "NAME is missing", NO_ADVICE},
    {"maskrcnn~op~nmss~--in~a~--out~b", 64, "nmss", "nms?"},
    {"maskrcnn~op~nms~--in~gone.safetensors~--out~b", 66, "gone.safetensors", NO_ADVICE},
    {"maskrcnn~info~gone", 66, "gone", NO_ADVICE},
    {"maskrcnn~info~garbage.safetensors", 65, "garbage.safetensors", NO_ADVICE},
    {"maskrcnn~convert~garbage.safetensors", 64, "is missing", NO_ADVICE},
    {"maskrcnn~synth~--out~twice.yaml~--images~2", 73, "twice.yaml", NO_ADVICE},
    {"maskrcnn~synth~--out~x~--images~0", 64, "--images 0", NO_ADVICE},
};

static void write_text(const char *name, const char *text, int times) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < times; i++) fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static const struct {
    const char *name, *text;
    int times;
} files[] = {
    {"no_base.yaml", "_BASE_: gone.yaml\n", 1},
    {"cycle.yaml", "_BASE_: cycle.yaml\n", 1},
    {"misspelt.yaml", "SOLVER:\n  MAX_ITERS: 3\n", 1},
    {"type.yaml", "SOLVER:\n  MAX_ITER: soon\n", 1},
    {"twice.yaml", "SEED: 1\n", 2},
    {"garbage.yaml",
     "\x7F"
     "ELF\x02\x01\x01\n",
     1},
    {"deep.yaml", "[", 100000},
    {"cut.json", "{\"images\": [{\"id\": 1, \"file_name\": \"a", 1},
    {"garbage.safetensors", "garbage ", 100},
    {"torch.pth", "PK\x03\x04 data ", 10},
};

/* Exactly one line that starts with `label`; returns what follows it, cut off at its end. */
static const char *labelled_line(char *err, const char *label, const invocation *c) {
    char *found = strstr(err, label);
    if (!found || strstr(found + 1, label)) fail_msg("%s: not one line \"%s...\":\n%s", c->line, label, err);
    char *text = found + strlen(label);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static void test_wrong(void **state) {
    (void)state;
    static program_run run;
    static char err[sizeof run.err];
    for (size_t i = 0; i < sizeof invocations / sizeof *invocations; i++) {
        const invocation *c = &invocations[i];
        run_program(&run, folder, c->line, 20.0);
        if (run.code != c->code)
            fail_msg("%s: exit code %d, expected %d:\n%s", c->line, run.code, c->code, run.err);
        memcpy(err, run.err, sizeof err);
        const char *cause = labelled_line(err, "maskrcnn: error: ", c);
        if (!strstr(cause, c->culprit))
            fail_msg("%s: the cause does not name %s:\n%s", c->line, c->culprit, run.err);
        memcpy(err, run.err, sizeof err);
        const char *remedy = labelled_line(err, "maskrcnn: remedy: ", c);
        if (!*remedy || !strstr(remedy, c->advice))
            fail_msg("%s: the remedy lacks \"%s\":\n%s", c->line, c->advice, run.err);
    }
}

static void test_right(void **state) {
    (void)state;
    static program_run run;
    static const char *const lines[] = {
        "maskrcnn~--help",
        "maskrcnn~-h",
        "maskrcnn~help",
        "maskrcnn~--version",
        "maskrcnn~env",
        "maskrcnn~env~--help",
        "maskrcnn~help~config",
        "maskrcnn~config~--nonsense~--help",
        "maskrcnn~config",
        "maskrcnn~config~--keys",
        "maskrcnn~config~SEED~-1~MODEL.WEIGHTS~--x~DATASETS.TEST~()",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        run_program(&run, folder, lines[i], 20.0);
        if (run.code != 0) fail_msg("%s: exit code %d:\n%s", lines[i], run.code, run.err);
        assert_string_equal(run.err, "");
        assert_true(strlen(run.out) > 10);
    }
    run_program(&run, folder, "maskrcnn~env", 20.0);
    assert_true(strstr(run.out, "MPI") && strstr(run.out, "BLAS") && strstr(run.out, "CUDA"));
    run_program(&run, folder, "maskrcnn~config~CUDNN_BENCHMARK~True", 20.0);
    assert_int_equal(run.code, 0);
    assert_non_null(strstr(run.err, "CUDNN_BENCHMARK = True has no effect"));
}

/* The resolved configuration of a preset is a configuration that resolves to itself. */
static void test_config_round_trip(void **state) {
    (void)state;
    static program_run run, again;
    run_program(&run, folder,
                "maskrcnn~config~--config~" TEST_SOURCE_DIR "/configs/quickstart.yaml~--out~resolved.yaml",
                20.0);
    assert_int_equal(run.code, 0);
    run_program(&run, folder, "maskrcnn~config~--config~resolved.yaml~--out~resolved_again.yaml", 20.0);
    assert_int_equal(run.code, 0);
    run_program(&again, folder, "cmp~resolved.yaml~resolved_again.yaml", 20.0);
    assert_int_equal(again.code, 0);
}

static int make_files(void **state) {
    (void)state;
    if (!mkdtemp(folder)) return -1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        write_text(files[i].name, files[i].text, files[i].times);
    static program_run run;
    run_program(&run, folder, "maskrcnn~synth~--out~shapes~--images~4", 20.0);
    return run.code;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info, (void)kind, (void)place;
    return remove(path);
}

static int remove_files(void **state) {
    (void)state;
    return nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_config_round_trip),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
