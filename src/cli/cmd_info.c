/* maskrcnn info: what a weights file or a checkpoint holds. */
#include "base/content_hash.h"
#include "base/file_util.h"
#include "cli/cli.h"
#include "data/safetensors.h"
#include "train/checkpoint.h"
#include "weights/class_table.h"
#include "weights/weights.h"
#include "weights/weights_kind.h"

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

/* A text of the file, on one line whatever it says. */
static void print_text(const char *text, int most) {
    for (int k = 0; text[k] && k < most; k++)
        putchar((unsigned char)text[k] < 0x20 || text[k] == 0x7f ? ' ' : text[k]);
    if (strlen(text) > (size_t)most) fputs("...", stdout);
}

static void print_metadata(const safetensors *file) {
    if (safetensors_metadata_count(file) == 0) return;
    puts("metadata");
    for (int64_t i = 0; i < safetensors_metadata_count(file); i++) {
        const char *key, *value;
        safetensors_metadata_at(&key, &value, file, i);
        printf("  %.40s: ", key);
        print_text(value, 300);
        putchar('\n');
    }
}

static status print_classes(const safetensors *file, const weights_kind *kind) {
    enum { MOST_NAMES = 100 };
    if (kind->classes < 0) return STATUS_OK;
    class_table table;
    RETURN_IF_ERROR(class_table_of_file(&table, file));
    const weights_classes *named = &table.classes;
    printf("%-12s %d and the background%s", "classes", kind->classes, named->count ? ": " : ", not named");
    for (int i = 0; i < named->count && i < MOST_NAMES; i++) {
        if (i) fputs(", ", stdout);
        print_text(named->names[i], 60);
    }
    puts(named->count > MOST_NAMES ? ", ..." : "");
    class_table_release(&table);
    return STATUS_OK;
}

/* What the numbers were made for; a configuration that says otherwise is refused. */
static void print_claims(const safetensors *file) {
    static const char *const claims[][2] = {{"input_order", ""},         {"pixel_mean", "mean "},
                                            {"pixel_std", "deviation "}, {"stride_place", "stride in "},
                                            {"norm", "norm "},           {"norm_eps", "eps "}};
    bool is_first = true;
    printf("%-12s ", "made for");
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        const char *said = safetensors_metadata(file, claims[i][0]);
        if (!said) continue;
        printf("%s%s", is_first ? "" : ", ", claims[i][1]);
        print_text(said, 60);
        is_first = false;
    }
    puts(is_first ? "not said" : "");
}

static status print_kind(const safetensors *file) {
    char text[WEIGHTS_KIND_TEXT];
    weights_kind kind = weights_kind_of(file);
    printf("%-12s %s\n", "kind", weights_kind_text(text, &kind));
    printf("%-12s %s\n", "names", weights_names_text(kind.names));
    RETURN_IF_ERROR(print_classes(file, &kind));
    print_claims(file);
    const char *iteration = safetensors_metadata(file, "iteration");
    if (!iteration) return STATUS_OK;
    printf("%-12s ", "iteration");
    print_text(iteration, 24);
    puts(" (from 0)");
    return STATUS_OK;
}

/* XXH64 of all bytes of the file. */
static status print_digest(const char *path) {
    enum { BLOCK = 1 << 16 };
    static char block[BLOCK];
    FILE *file = fopen(path, "rb");
    if (!file) return error_set(STATUS_NO_INPUT, "give a readable file", "%s: cannot be read again", path);
    content_hash hash;
    content_hash_init(&hash);
    for (size_t got; (got = fread(block, 1, sizeof block, file));) content_hash_update(&hash, block, got);
    bool is_read = !ferror(file);
    fclose(file);
    if (!is_read) return error_set(STATUS_IO, "check the disk", "%s: cannot be read to its end", path);
    printf("%-12s %016llx (XXH64 of the file)\n", "digest", (unsigned long long)content_hash_digest(&hash));
    return STATUS_OK;
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
    status s = print_kind(file);
    if (s == STATUS_OK) s = print_digest(path);
    if (s == STATUS_OK) {
        print_counts(file);
        print_dtypes(file);
        print_metadata(file);
        print_groups(file);
        if (each) print_tensors(file);
    }
    safetensors_close(file);
    return s;
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
