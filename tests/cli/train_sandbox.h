/* A temporary folder in which a test runs `maskrcnn train` on small datasets, and what it needs to look at the results. */
#ifndef TESTS_CLI_TRAIN_SANDBOX_H
#define TESTS_CLI_TRAIN_SANDBOX_H

#include <stdbool.h>

#include "cli/run_program.h"
#include "cli/toy_dataset.h"

enum { SANDBOX_PATH = 4096, SANDBOX_LOSSES = 5, SANDBOX_LINES = 512 };

/* Seconds after which a run counts as hung; the sanitizers are slow. */
#define SANDBOX_LIMIT 120.0

/* cmocka's group set-up and tear-down. The folder holds tiny.yaml: a very small model on the dataset toy.json:toy, batch 4, a
 * log line per iteration, 10 iterations, one thread, GroupNorm, no warm-up. */
int sandbox_make(void **state);
int sandbox_remove(void **state);

const char *sandbox_folder(void);

/* FOLDER/name, in one of a few buffers that take turns. */
const char *sandbox_path(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sandbox_write(const char *name, const void *bytes, size_t size);
/* The whole file, zero-terminated; free() it. Fails the test where there is none. */
char *sandbox_read(const char *name, size_t *size);

/* Runs `maskrcnn train --config tiny.yaml OUTPUT_DIR <out> <more>` on `ranks` ranks (0: without mpirun) and returns the exit
 * code; `more` is further words, each after '~': "~--resume~SEED~3". What it wrote is in sandbox_run. */
int sandbox_train(int ranks, const char *out, const char *more, ...) __attribute__((format(printf, 3, 4)));
extern program_run sandbox_run;

/* sandbox_train that has to succeed. */
void sandbox_train_well(int ranks, const char *out, const char *more, ...)
    __attribute__((format(printf, 3, 4)));

typedef struct metrics_row {
    long iteration, skipped;
    double total, losses[SANDBOX_LOSSES], lr, time, data_time;
} metrics_row;

/* Rows of OUT/metrics.json, at most SANDBOX_LINES; every key of metrics_row must be in each line. */
int sandbox_metrics(metrics_row rows[SANDBOX_LINES], const char *out);

/* The largest difference of two safetensors files of the same tensors (F32), relative to the tensor's largest absolute value
 * where that is above 1. Exactly 0 only when every bit is equal. */
double sandbox_difference(const char *a, const char *b);

/* A command that must be refused: within 20 s, with exit code `code`, and one line of cause and one of remedy on stderr. */
typedef struct refusal {
    const char *line; /* as for run_program */
    int code;
    const char *culprits[4]; /* words of the cause */
    const char *advice;      /* words of the remedy; NULL: any */
} refusal;
void sandbox_refuse(const refusal *r);

/* The number of lines of `text` that hold `word`. */
int count_lines(const char *text, const char *word);

/* Whether `text` has a line that holds all the words (zero-terminated list). */
bool has_line(const char *text, const char *const *words);
#define HAS_LINE(text, ...) has_line(text, (const char *const[]){__VA_ARGS__, NULL})

#endif
