/* maskrcnn info: what a weights file or a checkpoint holds. */
#include "base/file_util.h"
#include "cli/cli.h"
#include "data/safetensors.h"
#include "train/checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_GROUPS = 64, GROUP_SIZE = 64 };

/* Tensors whose names begin alike: "backbone.body", "rpn.head", "roi_heads.box_head". */
typedef struct group {
    char name[GROUP_SIZE];
    int64_t tensors, values;
} group;

/* What a tensor is to training. */
typedef enum role { ROLE_PARAMETER, ROLE_FROZEN_NORM, ROLE_STATISTIC, ROLE_COUNTER } role;

static bool ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* The tensor beside `name` whose last part is `last`. */
static const safetensors_tensor *sibling(const safetensors *file, const char *name, const char *last) {
    char text[512];
    const char *dot = strrchr(name, '.');
    if (!dot || snprintf(text, sizeof text, "%.*s.%s", (int)(dot - name), name, last) >= (int)sizeof text)
        return NULL;
    return safetensors_find(file, text);
}

/* In a detector a batch norm is frozen unless the file says otherwise; in a bare backbone it is trained. */
static bool has_frozen_norm(const safetensors *file) {
    const char *norm = safetensors_metadata(file, "norm");
    if (norm) return strcmp(norm, "FrozenBN") == 0;
    for (int64_t i = 0; i < safetensors_count(file); i++)
        if (strncmp(safetensors_at(file, i)->name, "backbone.", 9) == 0) return true;
    return false;
}

static role role_of(const safetensors *file, const char *name, bool frozen) {
    if (ends_with(name, ".num_batches_tracked")) return ROLE_COUNTER;
    if (ends_with(name, ".running_mean") || ends_with(name, ".running_var")) return ROLE_STATISTIC;
    return frozen && sibling(file, name, "running_mean") ? ROLE_FROZEN_NORM : ROLE_PARAMETER;
}

/* 44401393 as 44,401,393. */
static const char *grouped(char text[32], int64_t value) {
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)value), used = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) text[used++] = ',';
        text[used++] = digits[i];
    }
    text[used] = 0;
    return text;
}

static void add_to_group(group *groups, int *count, const safetensors_tensor *t) {
    size_t length = strcspn(t->name, ".");
    if (t->name[length]) length += 1 + strcspn(t->name + length + 1, ".");
    if (length >= GROUP_SIZE) length = GROUP_SIZE - 1;
    int g = 0;
    while (g < *count && (strncmp(groups[g].name, t->name, length) != 0 || groups[g].name[length])) g++;
    if (g == *count) {
        if (g == MAX_GROUPS - 1) {
            snprintf(groups[g].name, GROUP_SIZE, "others"); /* the last place takes what is left */
        } else {
            snprintf(groups[g].name, GROUP_SIZE, "%.*s", (int)length, t->name);
            (*count)++;
        }
    }
    groups[g].tensors++;
    groups[g].values += t->elements;
}

static void print_groups(const safetensors *file) {
    group groups[MAX_GROUPS] = {0};
    int count = 0;
    char text[32];
    for (int64_t i = 0; i < safetensors_count(file); i++)
        add_to_group(groups, &count, safetensors_at(file, i));
    if (groups[MAX_GROUPS - 1].tensors) count = MAX_GROUPS;
    puts("groups");
    for (int i = 0; i < count; i++)
        printf("  %-28s %6lld tensors %14s values\n", groups[i].name, (long long)groups[i].tensors,
               grouped(text, groups[i].values));
}

static void print_dtypes(const safetensors *file) {
    int64_t counts[SAFETENSORS_DTYPES] = {0};
    for (int64_t i = 0; i < safetensors_count(file); i++) counts[safetensors_at(file, i)->dtype]++;
    printf("%-12s", "dtypes");
    for (int d = 0; d < SAFETENSORS_DTYPES; d++)
        if (counts[d])
            printf(" %lld x %s", (long long)counts[d], safetensors_dtype_name((safetensors_dtype)d));
    putchar('\n');
}

static void print_metadata(const safetensors *file) {
    if (safetensors_metadata_count(file) == 0) return;
    puts("metadata");
    for (int64_t i = 0; i < safetensors_metadata_count(file); i++) {
        const char *key, *value;
        safetensors_metadata_at(&key, &value, file, i);
        /* One line each, whatever the file says. */
        printf("  %.40s: ", key);
        for (int k = 0; value[k] && k < 300; k++)
            putchar((unsigned char)value[k] < 0x20 || value[k] == 0x7f ? ' ' : value[k]);
        puts(strlen(value) > 300 ? "..." : "");
    }
}

static void print_counts(const safetensors *file) {
    int64_t values[4] = {0}, bytes = 0;
    bool frozen = has_frozen_norm(file);
    char text[32];
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        values[role_of(file, t->name, frozen)] += t->elements;
        bytes += (int64_t)t->bytes;
    }
    printf("%-12s %lld\n", "tensors", (long long)safetensors_count(file));
    printf("%-12s %s (%lld)\n", "parameters", grouped(text, values[ROLE_PARAMETER]),
           (long long)values[ROLE_PARAMETER]);
    if (values[ROLE_FROZEN_NORM])
        printf("%-12s %s in frozen norms\n", "", grouped(text, values[ROLE_FROZEN_NORM]));
    if (values[ROLE_STATISTIC])
        printf("%-12s %s running statistics\n", "", grouped(text, values[ROLE_STATISTIC]));
    if (values[ROLE_COUNTER]) printf("%-12s %s counters\n", "", grouped(text, values[ROLE_COUNTER]));
    printf("%-12s %s\n", "bytes", grouped(text, bytes));
}

static void print_tensors(const safetensors *file) {
    char text[SAFETENSORS_SHAPE_TEXT];
    puts("tensors in the order of their data");
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        printf("  %-60s %-4s %s\n", t->name, safetensors_dtype_name(t->dtype),
               safetensors_shape_text(text, t->shape, t->rank));
    }
}

static status print_file(const char *path, bool each) {
    safetensors *file;
    RETURN_IF_ERROR(safetensors_open(&file, path));
    printf("%-12s %s\n", "file", path);
    print_counts(file);
    print_dtypes(file);
    print_metadata(file);
    print_groups(file);
    if (each) print_tensors(file);
    safetensors_close(file);
    return STATUS_OK;
}

static status run(const cli_args *args) {
    const char *path = args->arguments[0];
    bool each = cli_flag(args, "tensors");
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return print_file(path, each);
    char file[PATH_MAX];
    RETURN_IF_ERROR(path_join(file, path, "manifest.json"));
    if (stat(file, &info) != 0)
        return error_set(STATUS_DATA, "give a .safetensors file, or a folder of OUTPUT_DIR/checkpoints",
                         "%s: a folder, but no checkpoint (it has no manifest.json)", path);
    checkpoint_state state;
    RETURN_IF_ERROR(checkpoint_verify(path));
    RETURN_IF_ERROR(checkpoint_read_state(&state, path));
    printf("%-12s %s, all digests hold\n", "checkpoint", path);
    printf("%-12s %lld (from 0), %lld images, seed %llu\n", "iteration", (long long)state.iteration,
           (long long)state.images, (unsigned long long)state.seed);
    RETURN_IF_ERROR(path_join(file, path, "weights.safetensors"));
    return print_file(file, each);
}

static const cli_option options[] = {
    {.name = "tensors", .help = "list every tensor with its dtype and shape"}, {0}};

const cli_command cmd_info = {
    .name = "info",
    .summary = "what a weights file or a checkpoint holds",
    .usage = "FILE [--tensors]",
    .details =
        "FILE is a .safetensors file, or a folder of OUTPUT_DIR/checkpoints, whose digests are checked then. "
        "Parameters are what training could change: frozen norms and running statistics are counted apart.",
    .examples = {"maskrcnn info output/model_final.safetensors",
                 "maskrcnn info output/checkpoints/iter_0000499",
                 "maskrcnn info resnet50.safetensors --tensors"},
    .options = options,
    .argument = "FILE",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
};
