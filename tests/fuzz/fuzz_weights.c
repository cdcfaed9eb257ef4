/* What a weights file says of itself, on arbitrary bytes: its kind, claims and class names. */
#include "base/check.h"
#include "weights/class_rows.h"
#include "weights/class_table.h"
#include "weights/weights.h"
#include "weights/weights_kind.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const config *defaults(void) {
    static config cfg;
    static bool is_made;
    if (!is_made) CHECK(config_default(&cfg) == STATUS_OK, "%s", error_cause());
    is_made = true;
    return &cfg;
}

static void match(const safetensors *file, const weights_classes *classes) {
    class_table own;
    class_rows rows;
    if (class_table_of_file(&own, file) != STATUS_OK) return;
    const weights_classes *said = &own.classes;
    if (class_rows_match(&rows, classes->names, classes->count, said->names, said->count) == STATUS_OK) {
        int matched = 0;
        for (int i = 0; i < rows.count; i++) {
            CHECK(rows.source[i] >= -1 && rows.source[i] < said->count, "class %d is in the file", i);
            matched += rows.source[i] >= 0;
        }
        CHECK(matched == rows.matched, "matches are counted");
        CHECK(!rows.is_same || said->count == rows.count, "equal lists are equally long");
    }
    class_rows_release(&rows);
    class_table_release(&own);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"date", "fig", "hazelnut"};
    static const int64_t ids[] = {1, 2, 3};
    const weights_classes classes = {3, names, ids};
    safetensors *file;
    if (safetensors_open_memory(&file, "input", data, size) != STATUS_OK) return 0;
    char text[WEIGHTS_KIND_TEXT];
    weights_kind kind = weights_kind_of(file);
    CHECK(*weights_kind_text(text, &kind) && *weights_names_text(kind.names), "a kind has a name");
    for (int use = WEIGHTS_START; use <= WEIGHTS_EXACT_OWN_INPUT; use++)
        if (weights_check_claims(file, defaults(), &classes, (weights_use)use) != STATUS_OK)
            CHECK(error_cause()[0] && error_remedy()[0], "a refusal says why and what to do");
    match(file, &classes);
    safetensors_close(file);
    return 0;
}
