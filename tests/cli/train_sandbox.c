#include "cli/train_sandbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/safetensors.h"

program_run sandbox_run;

static char folder[SANDBOX_PATH];

static const char tiny_yaml[] = "_BASE_: \"" TEST_SOURCE_DIR "/configs/quickstart.yaml\"\n"
                                "MODEL:\n"
                                "  GN_GROUPS: 4\n"
                                "  RESNETS:\n"
                                "    STEM_OUT_CHANNELS: 8\n"
                                "    RES2_OUT_CHANNELS: 8\n"
                                "  FPN:\n"
                                "    OUT_CHANNELS: 16\n"
                                "  RPN:\n"
                                "    BATCH_SIZE_PER_IMAGE: 32\n"
                                "    PRE_NMS_TOPK_TRAIN: 60\n"
                                "    POST_NMS_TOPK_TRAIN: 30\n"
                                "  ROI_HEADS:\n"
                                "    NUM_CLASSES: 3\n"
                                "    BATCH_SIZE_PER_IMAGE: 16\n"
                                "  ROI_BOX_HEAD:\n"
                                "    FC_DIM: 32\n"
                                "  ROI_MASK_HEAD:\n"
                                "    NUM_CONV: 1\n"
                                "    CONV_DIM: 8\n"
                                "INPUT:\n"
                                "  MIN_SIZE_TRAIN: (64,)\n"
                                "  MAX_SIZE_TRAIN: 96\n"
                                "DATASETS:\n"
                                "  TRAIN: (\"toy\",)\n"
                                "  REGISTER: [\"toy=toy.json:toy\"]\n"
                                "DATALOADER:\n"
                                "  NUM_WORKERS: 1\n"
                                "SOLVER:\n"
                                "  IMS_PER_BATCH: 4\n"
                                "  BASE_LR: 0.01\n"
                                "  WARMUP_ITERS: 0\n"
                                "  STEPS: ()\n"
                                "  MAX_ITER: 10\n"
                                "  LOG_PERIOD: 1\n"
                                "  CHECKPOINT_PERIOD: 1000\n"
                                "CPU:\n"
                                "  THREADS: 1\n"
                                "SEED: 7\n";

const char *sandbox_folder(void) {
    return folder;
}

int sandbox_make(void **state) {
    (void)state;
    const char *place = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/maskrcnn_test_XXXXXX", place && *place ? place : "/tmp");
    if (!mkdtemp(folder)) return -1;
    sandbox_write("tiny.yaml", tiny_yaml, sizeof tiny_yaml - 1);
    return 0;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *at) {
    (void)info, (void)kind, (void)at;
    return remove(path);
}

int sandbox_remove(void **state) {
    (void)state;
    return nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *sandbox_path(const char *format, ...) {
    static char paths[4][SANDBOX_PATH];
    static int turn;
    char name[SANDBOX_PATH / 2];
    char *path = paths[turn++ % 4];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    assert_true(snprintf(path, SANDBOX_PATH, "%s/%s", folder, name) < SANDBOX_PATH);
    return path;
}

void sandbox_write(const char *name, const void *bytes, size_t size) {
    FILE *file = fopen(sandbox_path("%s", name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

char *sandbox_read(const char *name, size_t *size) {
    FILE *file = fopen(sandbox_path("%s", name), "rb");
    if (!file) fail_msg("%s is missing:\n%s", name, sandbox_run.err);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long bytes = ftell(file);
    assert_true(bytes >= 0);
    rewind(file);
    char *text = malloc((size_t)bytes + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)bytes, file), bytes);
    text[bytes] = '\0';
    fclose(file);
    if (size) *size = (size_t)bytes;
    return text;
}

static int train(int ranks, const char *out, const char *more, va_list arguments) {
    char words[8192], line[16384], launch[128] = "";
    vsnprintf(words, sizeof words, more, arguments);
    if (ranks > 0)
        snprintf(
            launch, sizeof launch,
            "mpirun~--allow-run-as-root~--oversubscribe~--bind-to~none~--mca~mpi_yield_when_idle~1~-n~%d~",
            ranks);
    snprintf(line, sizeof line, "%smaskrcnn~train~--config~tiny.yaml~OUTPUT_DIR~%s%s", launch, out, words);
    run_program(&sandbox_run, folder, line, SANDBOX_LIMIT);
    return sandbox_run.code;
}

int sandbox_train(int ranks, const char *out, const char *more, ...) {
    va_list arguments;
    va_start(arguments, more);
    int code = train(ranks, out, more, arguments);
    va_end(arguments);
    return code;
}

void sandbox_train_well(int ranks, const char *out, const char *more, ...) {
    va_list arguments;
    va_start(arguments, more);
    int code = train(ranks, out, more, arguments);
    va_end(arguments);
    if (code != 0)
        fail_msg("%s on %d ranks ended with %d:\n%s\n%s", out, ranks, code, sandbox_run.out, sandbox_run.err);
}

static double number_of(const char *line, const char *key) {
    char name[64], *end;
    snprintf(name, sizeof name, "\"%s\":", key);
    const char *found = strstr(line, name);
    if (!found) fail_msg("no %s in %s", key, line);
    found += strlen(name);
    double value = strtod(found, &end);
    if (end == found) fail_msg("%s is no number in %s", key, line);
    return value;
}

int sandbox_metrics(metrics_row rows[SANDBOX_LINES], const char *out) {
    static const char *const losses[SANDBOX_LOSSES] = {"loss_cls", "loss_box_reg", "loss_mask",
                                                       "loss_rpn_cls", "loss_rpn_loc"};
    char name[512];
    int count = 0;
    snprintf(name, sizeof name, "%s/metrics.json", out);
    char *text = sandbox_read(name, NULL), *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) && *line; count++) {
        assert_true(count < SANDBOX_LINES);
        size_t length = strlen(line);
        if (line[0] != '{' || line[length - 1] != '}') fail_msg("not an object: %s", line);
        metrics_row *r = &rows[count];
        *r = (metrics_row){.iteration = (long)number_of(line, "iteration"),
                           .skipped = (long)number_of(line, "skipped_images"),
                           .total = number_of(line, "total_loss"),
                           .lr = number_of(line, "lr"),
                           .time = number_of(line, "time"),
                           .data_time = number_of(line, "data_time")};
        for (int i = 0; i < SANDBOX_LOSSES; i++) r->losses[i] = number_of(line, losses[i]);
    }
    free(text);
    return count;
}

static double tensor_difference(const safetensors *b, const safetensors_tensor *t) {
    const safetensors_tensor *other = safetensors_find(b, t->name);
    if (!other) fail_msg("%s has no tensor %s", safetensors_path(b), t->name);
    assert_true(t->dtype == SAFETENSORS_F32 && other->dtype == SAFETENSORS_F32);
    assert_int_equal(t->rank, other->rank);
    assert_memory_equal(t->shape, other->shape, (size_t)t->rank * sizeof *t->shape);
    if (memcmp(t->data, other->data, t->bytes) == 0) return 0;
    double largest = 1, difference = 0;
    for (int64_t i = 0; i < t->elements; i++) {
        float x, y;
        memcpy(&x, (const char *)t->data + 4 * i, 4);
        memcpy(&y, (const char *)other->data + 4 * i, 4);
        if (isnan(x) || isnan(y)) return INFINITY;
        difference = fmax(difference, fabs((double)x - (double)y));
        largest = fmax(largest, fabs((double)x));
    }
    return fmax(difference / largest, DBL_MIN); /* the bits differ: 0 against -0 at least */
}

double sandbox_difference(const char *a_name, const char *b_name) {
    safetensors *a, *b;
    double worst = 0;
    if (safetensors_open(&a, sandbox_path("%s", a_name)) || safetensors_open(&b, sandbox_path("%s", b_name)))
        fail_msg("%s", error_cause());
    assert_int_equal(safetensors_count(a), safetensors_count(b));
    for (int64_t i = 0; i < safetensors_count(a); i++)
        worst = fmax(worst, tensor_difference(b, safetensors_at(a, i)));
    safetensors_close(a);
    safetensors_close(b);
    return worst;
}

/* What follows `label` in the only line that starts with it. */
static const char *labelled_line(char *text, size_t size, const char *label, const refusal *r) {
    char start[64];
    snprintf(start, sizeof start, "maskrcnn: %s: ", label);
    const char *found = strstr(sandbox_run.err, start);
    if (!found || strstr(found + 1, start))
        fail_msg("%s: not one line of %s:\n%s", r->line, label, sandbox_run.err);
    found += strlen(start);
    snprintf(text, size, "%.*s", (int)strcspn(found, "\n"), found);
    if (!*text) fail_msg("%s: no %s", r->line, label);
    return text;
}

void sandbox_refuse(const refusal *r) {
    static char cause[8192], remedy[8192];
    run_program(&sandbox_run, folder, r->line, 20.0);
    if (sandbox_run.code != r->code)
        fail_msg("%s: exit code %d, expected %d:\n%s", r->line, sandbox_run.code, r->code, sandbox_run.err);
    labelled_line(cause, sizeof cause, "error", r);
    labelled_line(remedy, sizeof remedy, "remedy", r);
    for (int i = 0; i < 4 && r->culprits[i]; i++)
        if (!strstr(cause, r->culprits[i]))
            fail_msg("%s: the cause does not name %s:\n%s", r->line, r->culprits[i], sandbox_run.err);
    if (r->advice && !strstr(remedy, r->advice))
        fail_msg("%s: the remedy lacks %s:\n%s", r->line, r->advice, sandbox_run.err);
}

int count_lines(const char *text, const char *word) {
    int count = 0;
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        count += memmem(line, length, word, strlen(word)) != NULL;
        line += length + (line[length] == '\n');
    }
    return count;
}

bool has_line(const char *text, const char *const *words) {
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        bool all = true;
        for (int i = 0; words[i] && all; i++) all = memmem(line, length, words[i], strlen(words[i])) != NULL;
        if (all) return true;
        line += length + (line[length] == '\n');
    }
    return false;
}
