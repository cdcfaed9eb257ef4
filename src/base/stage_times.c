#include "base/stage_times.h"

#include "base/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void stage_times_init(stage_times *times, const char *const *names, int stages) {
    CHECK(stages >= 1 && stages <= STAGE_TIMES_MAX, "%d stages", stages);
    *times = (stage_times){.names = names, .stages = stages};
}

void stage_times_release(stage_times *times) {
    for (int i = 0; i <= STAGE_TIMES_MAX; i++) free(times->ms[i]);
    *times = (stage_times){0};
}

status stage_times_add(stage_times *times, const double *ms) {
    if (times->runs == times->capacity) {
        int capacity = times->capacity ? 2 * times->capacity : 64;
        for (int i = 0; i <= times->stages; i++) {
            double *larger = realloc(times->ms[i], (size_t)capacity * sizeof *larger);
            if (!larger) return error_set(STATUS_OS, "free some memory", "no memory for %d times", capacity);
            times->ms[i] = larger;
        }
        times->capacity = capacity;
    }
    double sum = 0;
    for (int i = 0; i < times->stages; i++) sum += times->ms[i][times->runs] = ms[i];
    times->ms[times->stages][times->runs++] = sum;
    return STATUS_OK;
}

double stage_times_mean(const stage_times *times, int stage) {
    double sum = 0;
    for (int i = 0; i < times->runs; i++) sum += times->ms[stage][i];
    return times->runs ? sum / times->runs : 0;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double stage_times_percentile(const stage_times *times, int stage, double percent) {
    if (times->runs == 0) return 0;
    double *sorted = malloc((size_t)times->runs * sizeof *sorted);
    CHECK(sorted, "out of memory for %d times", times->runs);
    memcpy(sorted, times->ms[stage], (size_t)times->runs * sizeof *sorted);
    qsort(sorted, (size_t)times->runs, sizeof *sorted, by_value);
    int place = (int)ceil(percent / 100 * times->runs) - 1;
    double value = sorted[place < 0 ? 0 : place];
    free(sorted);
    return value;
}

void stage_times_print(const stage_times *times, FILE *to) {
    if (times->runs == 0) return;
    fprintf(to, "%-14s %10s %10s\n", "stage", "mean ms", "90 % ms");
    for (int i = 0; i <= times->stages; i++)
        fprintf(to, "%-14s %10.2f %10.2f\n", i < times->stages ? times->names[i] : "all",
                stage_times_mean(times, i), stage_times_percentile(times, i, 90));
}
