/* Small models whose weights are formulas over philox, as scripts/golden_trace.py states them too: fixtures need not hold
 * them. */
#ifndef TESTS_TRAIN_FORMULA_MODEL_H
#define TESTS_TRAIN_FORMULA_MODEL_H

#include "base/philox.h"
#include "data/safetensors.h"
#include "config/config.h"

/* Fails the test with the error's cause. */
void formula_ok(status s);

/* Zeroed memory, or the test fails. */
void *formula_allocate(size_t count, size_t size);

/* The random words of `item`, and the first `n` of a stream (to be freed). */
philox_key formula_stream(uint64_t seed, const char *item);
uint32_t *formula_words(const philox_key *key, int64_t n);

/* Data of a fixture's tensor. */
const void *formula_data(const safetensors *file, const char *name);

/* The configuration that the fixture's __metadata__ names. */
void formula_config(config *cfg, const safetensors *fixture);

/* Writes the weights of the configured model and checks them against the fixture's sum; returns the fixture's seed. */
uint64_t formula_weights(const char *path, const config *cfg, const safetensors *fixture);

#endif
