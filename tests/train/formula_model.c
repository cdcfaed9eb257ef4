#include "train/formula_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "setup/model_config.h"

void formula_ok(status s) {
    if (s != STATUS_OK) fail_msg("%s", error_cause());
}

philox_key formula_stream(uint64_t seed, const char *item) {
    return (philox_key){.seed = seed,
                        .purpose = PHILOX_TEST,
                        .item = crc32(0, (const unsigned char *)item, (unsigned)strlen(item))};
}

void *formula_allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    assert_non_null(memory);
    return memory;
}

uint32_t *formula_words(const philox_key *key, int64_t n) {
    uint32_t *out = formula_allocate((size_t)(n + 3), sizeof *out);
    for (int64_t i = 0; i < n; i += 4) philox_block(key, (uint32_t)(i / 4), out + i);
    return out;
}

/* The first row whose text is part of the name holds. */
typedef struct vector_rule {
    const char *part;
    double middle, half;
} vector_rule;

typedef struct gain_rule {
    const char *part;
    double gain;
} gain_rule;

static const vector_rule vector_rules[] = {
    {"running_mean", 0, 0.25},      {"running_var", 1, 0.5},   {"bn3.weight", 0.375, 0.125},
    {".weight", 1, 0.25},           {"bn3.bias", 0.25, 0.125}, {"fpn.", 0, 0.0625},
    {"cls_logits", 0, 0.0625},      {"bbox_pred", 0, 0.0625},  {"cls_score", 0, 0.0625},
    {"mask_fcn_logits", 0, 0.0625}, {"mask_head", 2.5, 0.25},  {"conv5_mask", 2.5, 0.25},
    {".bias", 1.25, 0.25}};
static const gain_rule gain_rules[] = {{"cls_logits", 2}, {"rpn.head.bbox_pred", 0.25},
                                       {"cls_score", 2},  {"bbox_pred", 0.5},
                                       {"conv5_mask", 2}, {".weight", 1}};

static void fill_vector(float *values, const uint32_t *random, const char *name, int64_t n) {
    const vector_rule *rule = vector_rules;
    while (!strstr(name, rule->part)) rule++;
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)(rule->middle + rule->half * ((random[i] >> 8) * 0x1p-23 - 1.0));
}

/* Every row sums to zero. */
static void fill_rows(float *values, const uint32_t *random, const char *name, int64_t rows, int64_t fan) {
    const gain_rule *rule = gain_rules;
    while (!strstr(name, rule->part)) rule++;
    double scale = rule->gain * sqrt(12.0 / (double)fan) / ((double)fan * 0x1p24);
    for (int64_t row = 0; row < rows; row++, values += fan, random += fan) {
        int64_t sum = 0;
        for (int64_t i = 0; i < fan; i++) sum += random[i] >> 8;
        for (int64_t i = 0; i < fan; i++) values[i] = (float)((double)((random[i] >> 8) * fan - sum) * scale);
    }
}

/* Writes the weights of the configured model; returns the sum of the tensors' CRC-32. */
static uint32_t write_weights(const char *path, const config *cfg, uint64_t seed) {
    mask_rcnn_spec spec;
    mask_rcnn *model = formula_allocate(1, sizeof *model);
    formula_ok(model_spec_from_config(&spec, cfg));
    formula_ok(mask_rcnn_init(model, &spec));
    safetensors_writer *w;
    int64_t shape[PARAM_MAX_RANK];
    uint32_t sum = 0;
    formula_ok(safetensors_writer_new(&w, path));
    for (int i = 0; i < model->params.count; i++) {
        int rank = param_file_shape(&model->params.params[i], shape);
        safetensors_writer_declare(w, model->params.params[i].name, SAFETENSORS_F32, rank, shape);
    }
    formula_ok(safetensors_writer_begin(w));
    for (int i = 0; i < model->params.count; i++) {
        const param *p = &model->params.params[i];
        int rank = param_file_shape(p, shape);
        philox_key key = formula_stream(seed, p->name);
        float *values = formula_allocate((size_t)p->size, sizeof *values);
        uint32_t *random = formula_words(&key, p->size);
        if (rank == 1)
            fill_vector(values, random, p->name, p->size);
        else
            fill_rows(values, random, p->name, shape[0], p->size / shape[0]);
        sum +=
            (uint32_t)crc32(0, (const unsigned char *)values, (unsigned)((size_t)p->size * sizeof *values));
        formula_ok(safetensors_writer_append(w, values, (size_t)p->size * sizeof *values));
        free(random);
        free(values);
    }
    formula_ok(safetensors_writer_finish(w, STATUS_OK));
    mask_rcnn_release(model);
    free(model);
    return sum;
}

void formula_config(config *cfg, const safetensors *fixture) {
    char path[4096], *overrides[64], *text = strdup(safetensors_metadata(fixture, "overrides")), *rest = text;
    int n = 0;
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/configs/%s", safetensors_metadata(fixture, "config"));
    while (rest) {
        assert_true(n < 62);
        overrides[n++] = strsep(&rest, ";");
    }
    overrides[n++] = "MODEL.DEVICE=cpu";
    overrides[n++] = "CPU.THREADS=2";
    formula_ok(config_load(cfg, path, overrides, n));
    free(text);
}

const void *formula_data(const safetensors *file, const char *name) {
    const safetensors_tensor *t = safetensors_find(file, name);
    if (!t) fail_msg("the fixture lacks %s", name);
    return t->data;
}

uint64_t formula_weights(const char *path, const config *cfg, const safetensors *fixture) {
    uint64_t seed = strtoull(safetensors_metadata(fixture, "seed"), NULL, 10);
    uint32_t crc = (uint32_t)strtoull(safetensors_metadata(fixture, "weights_crc"), NULL, 10);
    if (write_weights(path, cfg, seed) != crc) fail_msg("the formula weights are not the fixture's");
    return seed;
}
