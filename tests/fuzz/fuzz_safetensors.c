/* The safetensors reader on arbitrary bytes: every accepted tensor lies in the file and can be read. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    safetensors *file;
    if (safetensors_open_memory(&file, "input", data, size) != STATUS_OK) {
        CHECK(!file && error_cause()[0], "a refusal says why");
        return 0;
    }
    size_t covered = 0;
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const safetensors_tensor *t = safetensors_at(file, i);
        CHECK(safetensors_find(file, t->name) == t, "found by name");
        CHECK((const uint8_t *)t->data == (const uint8_t *)safetensors_at(file, 0)->data + covered,
              "without holes");
        covered += t->bytes;
        float *values = malloc((size_t)t->elements * sizeof *values + 1);
        if (values && safetensors_read_f32(values, file, t) != STATUS_OK) CHECK(error_cause()[0], "says why");
        free(values);
    }
    for (int64_t i = 0; i < safetensors_metadata_count(file); i++) {
        const char *key, *value;
        safetensors_metadata_at(&key, &value, file, i);
        CHECK(strcmp(safetensors_metadata(file, key), value) == 0, "found by key");
    }
    CHECK(covered <= size, "inside the file");
    safetensors_close(file);
    return 0;
}
