/* What `maskrcnn train` refuses, with which exit code, and that the message names the culprit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/train_sandbox.h"

#define TRAIN "maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~out"
#define RANKS(n) "mpirun~--allow-run-as-root~--oversubscribe~--bind-to~none~-n~" #n "~"

static const refusal refusals[] = {
    /* the command line */
    {"maskrcnn~train", 64, {"--config"}, NULL},
    {"maskrcnn~train~--config~none.yaml", 66, {"none.yaml"}, NULL},
    {TRAIN "~--resum", 64, {"--resum"}, "--resume?"},
    {"maskrcnn~train~--resume=yes~--config~tiny.yaml", 64, {"--resume"}, NULL},
    {TRAIN "~--device~tpu", 64, {"--device", "tpu"}, "cuda"},
    {TRAIN "~--device~cuda", 69, {"cuda"}, "cpu"},
    {TRAIN "~MODEL.DEVICE~tpu", 78, {"MODEL.DEVICE", "tpu"}, NULL},
    {TRAIN "~SOLVER.MAX_ITER", 64, {"SOLVER.MAX_ITER"}, "KEY VALUE"},
    {TRAIN "~SOLVER.MAX_ITR~3", 78, {"SOLVER.MAX_ITR"}, "SOLVER.MAX_ITER?"},
    {TRAIN "~SOLVER.MAX_ITER~ten", 78, {"SOLVER.MAX_ITER", "ten"}, NULL},
    {TRAIN "~SOLVER.MAX_ITER~0", 78, {"SOLVER.MAX_ITER", "0"}, NULL},
    {TRAIN "~SOLVER.BASE_LR~nan", 78, {"SOLVER.BASE_LR", "nan"}, NULL},
    {TRAIN "~SOLVER.BASE_LR~-0.1", 78, {"SOLVER.BASE_LR", "-0.1"}, NULL},
    {TRAIN "~SOLVER.STEPS~(20, 10)", 78, {"SOLVER.STEPS", "10"}, NULL},
    {TRAIN "~INPUT.MIN_SIZE_TRAIN~()", 78, {"INPUT.MIN_SIZE_TRAIN"}, NULL},
    {TRAIN "~MODEL.GN_GROUPS~3", 78, {"MODEL.GN_GROUPS"}, NULL},
    {TRAIN "~MODEL.RESNETS.DEPTH~152", 78, {"MODEL.RESNETS.DEPTH", "152"}, "50"},
    {TRAIN "~CPU.THREADS~-1", 78, {"CPU.THREADS"}, NULL},
    {TRAIN "~DATALOADER.NUM_WORKERS~100000", 78, {"DATALOADER.NUM_WORKERS"}, NULL},
    /* the dataset */
    {TRAIN "~DATASETS.TRAIN~()", 78, {"DATASETS.TRAIN"}, "ANNOTATIONS.json:IMAGE_DIR"},
    {TRAIN "~DATASETS.TRAIN~toys", 78, {"toys"}, "toy"},
    {TRAIN "~DATASETS.TRAIN~none.json:toy", 66, {"none.json"}, NULL},
    {TRAIN "~DATASETS.TRAIN~toy.json:nowhere", 66, {"nowhere"}, NULL},
    {TRAIN "~DATASETS.TRAIN~toy.json:vacant", 66, {"vacant", "12 images", "0001.png"}, NULL},
    {TRAIN "~DATASETS.TRAIN~toy.json:tiny.yaml", 66, {"tiny.yaml"}, NULL},
    {TRAIN "~DATASETS.TRAIN~cut.json:toy", 65, {"cut.json", "byte"}, NULL},
    {TRAIN "~DATASETS.TRAIN~list.json:toy", 65, {"list.json"}, NULL},
    {TRAIN "~DATASETS.TRAIN~void.json:toy", 65, {"void.json"}, NULL},
    {TRAIN "~DATASETS.TRAIN~toy:toy.json", 78, {"toy:toy.json"}, "ANNOTATIONS.json:IMAGE_DIR"},
    {TRAIN "~DATASETS.TRAIN~toy/0001.png:toy", 65, {"toy/0001.png"}, NULL},
    {TRAIN "~DATASETS.TRAIN~crowds.json:crowds", 65, {"crowd"}, "DATASETS.CROWD_AS_INSTANCES"},
    {TRAIN "~DATASETS.TRAIN~boxes.json:boxes", 65, {"boxes.json"}, "MODEL.MASK_ON"},
    {TRAIN "~DATASETS.TRAIN~(\"toy\", \"other.json:toy\")", 65, {"other.json"}, "categor"},
    {TRAIN "~MODEL.ROI_HEADS.NUM_CLASSES~2", 78, {"MODEL.ROI_HEADS.NUM_CLASSES", "2", "3"}, NULL},
    /* the weights */
    {TRAIN "~--weights~none.safetensors", 66, {"none.safetensors"}, NULL},
    {TRAIN "~--weights~garbage.safetensors", 65, {"garbage.safetensors"}, NULL},
    {TRAIN "~--weights~empty.safetensors", 65, {"empty.safetensors"}, NULL},
    {TRAIN "~--weights~model.pth", 65, {"model.pth"}, "safetensors"},
    {TRAIN "~--weights~toy", 65, {"toy"}, NULL},
    {TRAIN "~MODEL.WEIGHTS~detectron2://ImageNetPretrained/MSRA/R-50.pkl", 66, {"detectron2://"}, NULL},
    {TRAIN "~--weights~start/model_final.safetensors~MODEL.FPN.OUT_CHANNELS~24",
     65,
     {"backbone.fpn.", "[16", "[24"},
     NULL},
    {TRAIN "~--weights~start/model_final.safetensors~MODEL.RESNETS.STEM_OUT_CHANNELS~12",
     65,
     {"backbone.body.conv1.weight", "[8, 3, 7, 7]", "[12, 3, 7, 7]"},
     NULL},
    /* memory */
    {TRAIN "~SOLVER.IMS_PER_BATCH~1024~INPUT.MIN_SIZE_TRAIN~16384~INPUT.MAX_SIZE_TRAIN~16384",
     78,
     {"a training step would need"},
     "INPUT.MIN_SIZE_TRAIN"},
    /* the output */
    {"maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~toy.json", 73, {"toy.json"}, NULL},
    {"maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~toy.json/out", 73, {"toy.json"}, NULL},
    {"maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~/proc/out", 73, {"/proc/out"}, NULL},
    {"maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~", 73, {"output folder"}, NULL},
};

static void test_refusals(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) sandbox_refuse(&refusals[i]);
}

/* On several ranks the job ends as a whole, and what is wrong on all of them is said once. */
static void test_refusals_of_ranks(void **state) {
    (void)state;
    static const refusal on_ranks[] = {
        {RANKS(2) TRAIN "~SOLVER.IMS_PER_BATCH~3", 78, {"SOLVER.IMS_PER_BATCH", "3", "2 ranks"}, "multiple"},
        {RANKS(4) TRAIN "~SOLVER.IMS_PER_BATCH~2", 78, {"SOLVER.IMS_PER_BATCH", "2", "4 ranks"}, "multiple"},
        {RANKS(2) TRAIN "~DATASETS.TRAIN~none.json:toy", 66, {"none.json"}, NULL},
        {RANKS(2) TRAIN "~--weights~garbage.safetensors", 65, {"garbage.safetensors"}, NULL},
        {RANKS(2) "maskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~toy.json", 73, {"toy.json"}, NULL},
    };
    for (size_t i = 0; i < sizeof on_ranks / sizeof *on_ranks; i++) sandbox_refuse(&on_ranks[i]);
}

/* What the remedies of the table say works. */
static void test_remedies(void **state) {
    (void)state;
    sandbox_train_well(
        0, "crowds_out",
        "~SOLVER.MAX_ITER~2~DATASETS.TRAIN~crowds.json:crowds~DATASETS.CROWD_AS_INSTANCES~True");
    sandbox_train_well(0, "boxes_out",
                       "~SOLVER.MAX_ITER~2~DATASETS.TRAIN~boxes.json:boxes~MODEL.MASK_ON~False");
    sandbox_train_well(0, "both_out", "~SOLVER.MAX_ITER~2~DATASETS.TRAIN~(\"toy\", \"sparse.json:sparse\")");
    assert_true(HAS_LINE(sandbox_run.out, "4 images"));
    /* Predictors of another number of classes start anew, and are named. */
    sandbox_train_well(
        0, "more_out",
        "~SOLVER.MAX_ITER~2~--weights~start/model_final.safetensors~MODEL.ROI_HEADS.NUM_CLASSES~5");
    assert_true(HAS_LINE(sandbox_run.out, "start anew", "cls_score", "bbox_pred", "mask_fcn_logits"));
}

static void write_text(const char *name, const char *text) {
    sandbox_write(name, text, strlen(text));
}

static int make(void **state) {
    if (sandbox_make(state)) return -1;
    toy_dataset_write(sandbox_folder(), "toy", &(toy_options){.images = 12});
    toy_dataset_write(sandbox_folder(), "crowds", &(toy_options){.images = 4, .kind = TOY_CROWDS});
    toy_dataset_write(sandbox_folder(), "boxes", &(toy_options){.images = 4, .kind = TOY_BOXES_ONLY});
    toy_dataset_write(sandbox_folder(), "sparse", &(toy_options){.images = 4, .empty_from = 2});
    size_t size;
    char *json = sandbox_read("toy.json", &size);
    sandbox_write("cut.json", json, size / 2);
    free(json);
    write_text("list.json", "[1, 2, 3]\n");
    write_text("void.json", "{\"images\": [], \"annotations\": [], \"categories\": []}\n");
    write_text("other.json",
               "{\"images\": [{\"id\": 1, \"file_name\": \"0001.png\", \"width\": 64, \"height\": 64}],"
               "\"annotations\": [], \"categories\": [{\"id\": 1, \"name\": \"cat\"}]}\n");
    write_text("garbage.safetensors", "this is no weights file, whatever its name says\n");
    write_text("empty.safetensors", "");
    sandbox_write("model.pth", "PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0archive/data.pkl", 32);
    if (mkdir(sandbox_path("vacant"), 0777)) return -1;
    sandbox_train_well(0, "start", "~SOLVER.MAX_ITER~1");
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_refusals_of_ranks),
        cmocka_unit_test(test_remedies),
    };
    return cmocka_run_group_tests(tests, make, sandbox_remove);
}
