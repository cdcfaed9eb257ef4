#include "train/op_table.h"

#include "base/check.h"
#include "base/content_hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sums over closed steps, and of the step that is open. */
typedef struct sums {
    char name[OP_TABLE_NAME];
    const char *direction;
    double step, all, squares;
    double calls;
    op_cost cost;
} sums;

enum { FIRST_SLOTS = 256 };

struct op_table {
    op_table_group group;
    sums *rows;
    int count, capacity;
    int *slots; /* hash of name and direction -> row + 1; 0: free */
    int slot_count;
    long steps;
};

static void *new_zeroed(size_t count, size_t size) {
    void *memory = calloc(count, size);
    CHECK(memory, "out of memory for a table of times");
    return memory;
}

op_table *op_table_new(op_table_group group) {
    op_table *table = new_zeroed(1, sizeof *table);
    table->group = group;
    table->slot_count = FIRST_SLOTS;
    table->slots = new_zeroed((size_t)table->slot_count, sizeof *table->slots);
    return table;
}

void op_table_free(op_table *table) {
    if (!table) return;
    free(table->rows);
    free(table->slots);
    free(table);
}

/* The slot of a row, or the free one where it belongs. */
static int *find_slot(const op_table *table, const char *name, const char *direction) {
    uint64_t hash = content_hash_of(name, strlen(name)) + (uint64_t)direction[0];
    for (uint64_t at = hash;; at++) {
        int *slot = &table->slots[at % (uint64_t)table->slot_count];
        if (*slot == 0) return slot;
        const sums *row = &table->rows[*slot - 1];
        if (strcmp(row->name, name) == 0 && strcmp(row->direction, direction) == 0) return slot;
    }
}

static void grow(op_table *table) {
    if (table->count == table->capacity) {
        table->capacity = table->capacity ? 2 * table->capacity : FIRST_SLOTS / 2;
        table->rows = realloc(table->rows, (size_t)table->capacity * sizeof *table->rows);
        CHECK(table->rows, "out of memory for a table of times");
    }
    if (2 * table->count < table->slot_count) return;
    free(table->slots);
    table->slot_count *= 2;
    table->slots = new_zeroed((size_t)table->slot_count, sizeof *table->slots);
    for (int i = 0; i < table->count; i++)
        *find_slot(table, table->rows[i].name, table->rows[i].direction) = i + 1;
}

static sums *row_of(op_table *table, const char *name, const char *direction) {
    int *slot = find_slot(table, name, direction);
    if (*slot) return &table->rows[*slot - 1];
    grow(table);
    slot = find_slot(table, name, direction);
    sums *row = &table->rows[table->count++];
    *row = (sums){.direction = direction};
    snprintf(row->name, sizeof row->name, "%s", name);
    *slot = table->count;
    return row;
}

static void add(op_table *table, const tape_run *run, const char *op, double seconds, const op_cost *cost) {
    char name[OP_TABLE_NAME];
    const char *layer = run->layer[0] ? run->layer : "(no layer)";
    if (table->group == OP_TABLE_BY_CALL)
        snprintf(name, sizeof name, "%s %s", layer, op);
    else
        snprintf(name, sizeof name, "%s", table->group == OP_TABLE_BY_LAYER ? layer : op);
    sums *row = row_of(table, name, run->backward ? "backward" : "forward");
    row->step += seconds;
    row->calls++;
    row->cost.flops += cost->flops;
    row->cost.read_bytes += cost->read_bytes;
    row->cost.written_bytes += cost->written_bytes;
}

/* "rpn_proposals (top-k, decode, nms, merge)" */
static void name_with_parts(char *name, size_t size, const op_def *op) {
    size_t at = (size_t)snprintf(name, size, "%s (", op->name);
    for (int i = 0; i < OP_MAX_PARTS && op->parts[i] && at < size; i++)
        at += (size_t)snprintf(name + at, size - at, "%s%s", i ? ", " : "", op->parts[i]);
    if (at < size) snprintf(name + at, size - at, ")");
}

void op_table_add_run(void *context, const tape_run *run) {
    op_table *table = context;
    const op_def *op = run->op;
    char name[OP_TABLE_NAME];
    double weight = 0;
    for (int i = 0; i < OP_MAX_PARTS; i++) weight += run->part_weight[i];
    if (table->group == OP_TABLE_BY_LAYER || run->backward || !op->parts[0]) {
        add(table, run, op->name, run->seconds, &run->cost);
    } else if (!(weight > 0)) {
        name_with_parts(name, sizeof name, op);
        add(table, run, name, run->seconds, &run->cost);
    } else {
        for (int i = 0; i < OP_MAX_PARTS && op->parts[i]; i++) {
            snprintf(name, sizeof name, "%s.%s", op->name, op->parts[i]);
            add(table, run, name, run->seconds * run->part_weight[i] / weight, &(op_cost){0});
        }
    }
}

void op_table_add(op_table *table, const char *name, double seconds) {
    sums *row = row_of(table, name, "");
    row->step += seconds;
    row->calls++;
}

void op_table_end_step(op_table *table) {
    for (int i = 0; i < table->count; i++) {
        sums *row = &table->rows[i];
        row->all += row->step;
        row->squares += row->step * row->step;
        row->step = 0;
    }
    table->steps++;
}

long op_table_steps(const op_table *table) {
    return table->steps;
}

static int larger_first(const void *a, const void *b) {
    double x = ((const op_table_row *)a)->mean, y = ((const op_table_row *)b)->mean;
    return x < y ? 1 : x > y ? -1 : 0;
}

op_table_row *op_table_rows(const op_table *table, int *count) {
    double n = table->steps ? (double)table->steps : 1, whole = 0;
    op_table_row *rows = new_zeroed((size_t)table->count + 1, sizeof *rows);
    for (int i = 0; i < table->count; i++) {
        const sums *from = &table->rows[i];
        double mean = from->all / n, variance = n > 1 ? (from->squares - n * mean * mean) / (n - 1) : 0;
        rows[i] = (op_table_row){.direction = from->direction,
                                 .mean = mean,
                                 .deviation = variance > 0 ? sqrt(variance) : 0,
                                 .calls = from->calls / n,
                                 .cost = {.flops = from->cost.flops / n,
                                          .read_bytes = from->cost.read_bytes / n,
                                          .written_bytes = from->cost.written_bytes / n}};
        memcpy(rows[i].name, from->name, sizeof rows[i].name);
        whole += mean;
    }
    for (int i = 0; i < table->count && whole > 0; i++) rows[i].share = rows[i].mean / whole;
    qsort(rows, (size_t)table->count, sizeof *rows, larger_first);
    *count = table->count;
    return rows;
}

static double bytes_of(const op_table_row *row) {
    return row->cost.read_bytes + row->cost.written_bytes;
}

double op_table_peak_share(const op_table_row *row, const op_table_peaks *peaks, bool *of_memory) {
    double compute = 0, memory = 0;
    if (row->mean > 0 && peaks->flops > 0) compute = row->cost.flops / peaks->flops / row->mean;
    if (row->mean > 0 && peaks->bytes > 0) memory = bytes_of(row) / peaks->bytes / row->mean;
    *of_memory = memory > compute;
    return fmax(compute, memory);
}

static void print_row(FILE *file, const op_table_row *row, int width, const op_table_peaks *peaks) {
    bool of_memory;
    double share = op_table_peak_share(row, peaks, &of_memory);
    fprintf(file, "%-*s %-8s %10.3f %9.3f %7.4g %6.2f", width, row->name, row->direction, 1e3 * row->mean,
            1e3 * row->deviation, row->calls, 100 * row->share);
    if (bytes_of(row) > 0 && row->mean > 0) {
        fprintf(file, " %9.2f %9.3f %8.2f %9.2f", 1e-6 * bytes_of(row), 1e-9 * row->cost.flops,
                1e-9 * bytes_of(row) / row->mean, 1e-9 * row->cost.flops / row->mean);
        if (share > 0) fprintf(file, " %5.1f %s", 100 * share, of_memory ? "memory" : "flops");
    }
    fputc('\n', file);
}

void op_table_print(const op_table *table, FILE *file, const op_table_peaks *peaks, int most) {
    static const op_table_peaks unknown = {0};
    static const char what[] = "per step";
    const op_table_peaks *known = peaks ? peaks : &unknown;
    int count, width = (int)strlen(what);
    op_table_row *rows = op_table_rows(table, &count);
    for (int i = 0; i < count; i++)
        if ((int)strlen(rows[i].name) > width) width = (int)strlen(rows[i].name);
    fprintf(file, "%-*s %-8s %10s %9s %7s %6s %9s %9s %8s %9s%s\n", width, what, "", "mean ms", "std ms",
            "count", "%", "MB", "GFLOP", "GB/s", "GFLOP/s", known->flops > 0 ? " % of peak" : "");
    op_table_row rest = {.direction = ""};
    int shown = most > 0 && most < count ? most : count;
    for (int i = 0; i < count; i++) {
        if (i < shown) {
            print_row(file, &rows[i], width, known);
            continue;
        }
        rest.mean += rows[i].mean;
        rest.calls += rows[i].calls;
        rest.share += rows[i].share;
    }
    if (shown < count) {
        snprintf(rest.name, sizeof rest.name, "%d more rows", count - shown);
        print_row(file, &rest, width, known);
    }
    free(rows);
}
