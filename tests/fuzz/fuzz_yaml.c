/* The configuration reader on arbitrary bytes: what is accepted can be written out and reads back the same. */
#include "base/check.h"
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *printed(config *cfg) {
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    CHECK(to, "memory for the text of a configuration");
    for (int k = 0; k < CONFIG_KEY_COUNT; k++)
        fprintf(to, "%s: %s\n", config_keys[k].name, config_format(cfg, k));
    CHECK(fclose(to) == 0, "memory for the text of a configuration");
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    config first, second;
    if (config_load_text(&first, "input", (const char *)data, size) != STATUS_OK) {
        CHECK(error_cause()[0], "a refusal says why");
        CHECK(!first.memory, "a refused configuration holds nothing");
        return 0;
    }
    /* KEY: value lines with dots are YAML that this reader takes too. */
    char *text = printed(&first);
    status s = config_load_text(&second, "output", text, strlen(text));
    CHECK(s == STATUS_OK, "own output refused: %s", error_cause());
    char *again = printed(&second);
    CHECK(strcmp(text, again) == 0, "own output reads back differently");
    free(text);
    free(again);
    config_release(&first);
    config_release(&second);
    return 0;
}
