/* Manifests, states and metadata lists on arbitrary bytes: every path of an accepted document is found again. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "data/json_pairs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_pairs pairs;
    status s = json_pairs_parse(&pairs, "input", (const char *)data, size);
    CHECK(s == STATUS_OK || error_cause()[0], "a refusal says why");
    for (int i = 0; s == STATUS_OK && i < pairs.count; i++) {
        int64_t whole;
        double real;
        CHECK(json_pairs_get(&pairs, pairs.items[i].path) == pairs.items[i].value, "found by path");
        if (json_pairs_i64(&whole, &pairs, pairs.items[i].path))
            CHECK(pairs.items[i].value[0], "a number has digits");
        if (json_pairs_f64(&real, &pairs, pairs.items[i].path)) CHECK(real - real == 0, "finite");
    }
    json_pairs_release(&pairs);
    return 0;
}
