/* `maskrcnn plans`: every convolution of a training step gets a plan for four GPUs that are not here. Skipped where cuDNN is not
 * installed. `test_plans_command --all`: also every canvas of the 1x recipe with 1, 2, 8 and 12 images, and every precision with
 * each (half an hour). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_plans_command_XXXXXX";
static char printed[1 << 20];
static int all;

/* Public figures of the cards: name, compute capability times 10, multiprocessors, shared memory, memory, clocks, L2. */
static const struct gpu {
    const char *file, *name;
    int capability, processors, shared;
    long long memory, clock_khz, memory_khz, l2;
} gpus[] = {
    {"h200.json", "NVIDIA H200", 900, 132, 232448, 150754820096, 1980000, 3201000, 62914560},
    {"h100.json", "NVIDIA H100 80GB HBM3", 900, 132, 232448, 85520809984, 1980000, 2619000, 52428800},
    {"a100.json", "NVIDIA A100-SXM4-80GB", 800, 108, 166912, 85198045184, 1410000, 1593000, 41943040},
    {"b200.json", "NVIDIA B200", 1000, 148, 232448, 191510183936, 1965000, 3996000, 132644864},
};

static void write_gpu(const struct gpu *g) {
    FILE *file = fopen(g->file, "w");
    assert_non_null(file);
    fprintf(
        file,
        "{\"deviceName\": \"%s\", \"deviceVer\": %d, \"driverVer\": 13000, \"cudaDeviceId\": 0,\n"
        "\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], \"regsPerBlock\": "
        "65536,\n"
        "\"multiProcessorCount\": %d, \"warpSize\": 32, \"maxSharedMemoryPerBlock\": 49152,\n"
        "\"maxSharedMemoryPerBlockOptin\": %d, \"reservedSharedMemoryPerBlock\": 1024, "
        "\"maxRegistersPerSM\": 65536,\n"
        "\"maxCtasPerSM\": 32, \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": 2048, \"pciDeviceId\": 0,\n"
        "\"isTccDriver\": 0, \"supportCoopLaunch\": 1, \"totalGlobalMem\": %lld, \"smClockRateKHz\": %lld,\n"
        "\"memClockRateKHz\": %lld, \"l2CacheSize\": %lld}\n",
        g->name, g->capability, g->processors, g->shared, g->memory, g->clock_khz, g->memory_khz, g->l2);
    assert_int_equal(fclose(file), 0);
}

/* Exit code of `maskrcnn plans`; both outputs are in `printed`. */
static int plans(const char *gpu, const char *arguments) {
    char line[1024];
    snprintf(line, sizeof line,
             "%s plans --config %s/configs/mask_rcnn_R_50_FPN_1x.yaml --device-json %s --out cache %s 2>&1",
             TEST_PROGRAM, TEST_SOURCE_DIR, gpu, arguments);
    FILE *pipe = popen(line, "r");
    assert_non_null(pipe);
    printed[fread(printed, 1, sizeof printed - 1, pipe)] = 0;
    int how = pclose(pipe);
    assert_true(WIFEXITED(how));
    return WEXITSTATUS(how);
}

/* What has no plan without a driver: sums with a residual or an earlier gradient, which cuDNN compiles at run time; they also
 * stand in the list without the sum. */
static void check_missing(void) {
    char *rest = NULL;
    for (char *line = strtok_r(printed, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "no plan: ", 9) == 0 && !strstr(line, " add")) fail_msg("%s", line);
    }
}

static void make(const struct gpu *g, const char *arguments) {
    write_gpu(g);
    int code = plans(g->file, arguments);
    if (code != 0) fail_msg("exit code %d:\n%s", code, printed);
    const char *summary = strstr(printed, " plans of ");
    assert_non_null(summary);
    while (summary > printed && summary[-1] != '\n') summary--;
    printf("%s: %s", arguments, summary);
    int made = 0, wanted = 0;
    assert_int_equal(sscanf(summary, "%d plans of %d", &made, &wanted), 2);
    assert_true(made > 50 && made <= wanted);
    check_missing();
}

static void test_every_convolution_has_a_plan(void **state) {
    (void)state;
    make(&gpus[0], "--canvas 800x1344 --ranks 8 --precision bf16");
    make(&gpus[1], "--canvas 1344x800 --precision fp16 SOLVER.IMS_PER_BATCH 12");
    make(&gpus[2], "--canvas 800x1088 --ranks 16 --precision tf32");
    make(&gpus[3], "--canvas 800x1344 --precision bf16 SOLVER.IMS_PER_BATCH 8");
    if (!all) return;
    static const char *const others[] = {"fp16", "tf32", "fp32"};
    static const int images[] = {1, 2, 8, 12};
    char arguments[128];
    for (int g = 0; g < 4; g++) {
        for (int n = 0; n < 4; n++) { /* all canvases */
            snprintf(arguments, sizeof arguments, "--precision bf16 SOLVER.IMS_PER_BATCH %d", images[n]);
            make(&gpus[g], arguments);
            for (int p = 0; p < 3; p++) {
                snprintf(arguments, sizeof arguments,
                         "--canvas 800x1344 --canvas 1344x800 --precision %s SOLVER.IMS_PER_BATCH %d",
                         others[p], images[n]);
                make(&gpus[g], arguments);
            }
        }
    }
}

static void test_refusals(void **state) {
    (void)state;
    write_gpu(&gpus[0]);
    assert_int_equal(plans("missing.json", "--canvas 320x320"), 66);
    FILE *file = fopen("bad.json", "w");
    assert_non_null(file);
    fputs("{\"deviceName\": \"X\", \"deviceVer\": 900}", file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(plans("bad.json", "--canvas 320x320"), 65);
    assert_non_null(strstr(printed, "bad.json"));
    assert_int_equal(plans("h200.json", "--canvas 320"), 64);
    assert_int_equal(plans("h200.json", "--canvas 320x0"), 64);
    assert_int_equal(plans("h200.json", "--precision int8"), 64);
    assert_int_equal(plans("h200.json", "--ranks 17"), 64);
}

int main(int argc, char **argv) {
    all = argc > 1 && strcmp(argv[1], "--all") == 0;
    if (!mkdtemp(folder) || chdir(folder) != 0) return 1;
    write_gpu(&gpus[0]);
    int failed;
    if (plans("h200.json", "--canvas 320x320 --ranks 16") == 69) {
        printf("skipped: %s", printed);
        failed = 77;
    } else {
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_convolution_has_a_plan),
                                           cmocka_unit_test(test_refusals)};
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    }
    char line[64];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    return system(line) != 0 ? 1 : failed;
}
