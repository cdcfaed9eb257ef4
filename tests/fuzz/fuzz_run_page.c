/* The page of a run whose files are arbitrary: metrics.json, evaluations.json and config.yaml, parted by zero bytes. It has
 * to be well-formed whatever stands in them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../report/xml_check.h"
#include "base/check.h"
#include "report/run_page.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t part(const uint8_t *data, size_t size) {
    const uint8_t *end = memchr(data, 0, size);
    return end ? (size_t)(end - data) : size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || size > 1 << 16) return 0;
    const char *text = (const char *)data;
    size_t metrics = part(data, size), at = metrics < size ? metrics + 1 : size;
    size_t evaluations = part(data + at, size - at),
           rest = at + evaluations < size ? at + evaluations + 1 : size;
    run_record record = {.folder = strdup("/nowhere/run"), .config = strndup(text + rest, size - rest)};
    CHECK(record.folder && record.config, "memory");
    record.reason = strdup(record.config);
    record.images_per_batch = 16;
    status s = metrics_record_parse(&record.metrics, text, metrics);
    CHECK(s == STATUS_OK, "%s", error_cause());
    s = evaluation_record_parse(&record.evaluations, text + at, evaluations);
    CHECK(s == STATUS_OK, "%s", error_cause());
    markup page = {0};
    s = run_page_draw(&page, &record);
    CHECK(s == STATUS_OK, "%s", error_cause());
    const char *fault = xml_fault(page.text);
    CHECK(!fault, "not well-formed: %.100s", fault);
    for (const char *path = strstr(page.text, " d=\""); path; path = strstr(path + 1, " d=\""))
        CHECK(path[4 + strspn(path + 4, "ML0123456789.- ")] == '"', "no number in %.100s", path);
    markup_release(&page);
    run_record_release(&record);
    return 0;
}
