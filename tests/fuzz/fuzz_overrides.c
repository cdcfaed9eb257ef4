/* KEY VALUE and KEY=VALUE from the command line, one word a line: what is accepted is text that sets the same value again. */
#include "base/check.h"
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 16, MOST_BYTES = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(config *cfg, int key) {
    const char *value = config_format(cfg, key);
    CHECK(value, "memory for a value");
    config other;
    char *words[] = {(char *)config_keys[key].name, (char *)value};
    CHECK(config_default(&other) == STATUS_OK, "the defaults");
    status s = config_set(&other, words[0], words[1]);
    /* In a string that is formatted with escapes the command line takes each backslash as it stands. */
    if (!strchr(value, '\\')) {
        CHECK(s == STATUS_OK, "%s = %s refused: %s", words[0], words[1], error_cause());
        CHECK(strcmp(config_format(&other, key), value) == 0, "%s: %s changed", words[0], words[1]);
    }
    config_release(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char text[MOST_BYTES + 1], *words[MOST_WORDS], *rest = text;
    int n = 0;
    if (size > MOST_BYTES) size = MOST_BYTES;
    memcpy(text, data, size);
    text[size] = '\0';
    while (rest && n < MOST_WORDS) words[n++] = strsep(&rest, "\n");
    config cfg;
    if (config_load(&cfg, NULL, words, n) != STATUS_OK) {
        CHECK(error_cause()[0] && !cfg.memory, "a refusal says why and holds nothing");
        return 0;
    }
    for (int k = 0; k < CONFIG_KEY_COUNT; k++)
        if (cfg.origins[k].file == CONFIG_FROM_COMMAND_LINE) check_same(&cfg, k);
    config_release(&cfg);
    return 0;
}
