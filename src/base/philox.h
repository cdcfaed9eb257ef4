/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3",
 * SC'11). Every random choice of the program is philox_*(seed, purpose, step, item, index): a function, no
 * state. So the number of workers, ranks or threads, and a resume, cannot change a sample. */
#ifndef BASE_PHILOX_H
#define BASE_PHILOX_H

#include <stdint.h>

/* What a number is used for; different purposes are independent streams. Append only: numbers are part of a
 * run. */
typedef enum philox_purpose {
    PHILOX_INIT = 1,    /* step 0, item = CRC-32 of the parameter's name, index = element */
    PHILOX_SHUFFLE,     /* step = epoch, item 0, index = position */
    PHILOX_FLIP,        /* step = epoch, item = image id */
    PHILOX_SCALE,       /* step = epoch, item = image id */
    PHILOX_REPLACEMENT, /* step = epoch, item = image id, index = attempt: stand-in for an unreadable image */
    PHILOX_RPN_SAMPLE,  /* step = iteration, item = image id, index = anchor */
    PHILOX_ROI_SAMPLE,  /* step = iteration, item = image id, index = proposal */
    PHILOX_SYNTH,       /* step = image, item = object, index = draw */
    PHILOX_TEST         /* test data */
} philox_purpose;

typedef struct philox_key {
    uint64_t seed;
    philox_purpose purpose;
    uint32_t step;
    uint64_t item;
} philox_key;

/* Four words of block `index`. */
void philox_block(const philox_key *key, uint32_t index, uint32_t out[4]);

/* One uniform 32-bit word; index counts words, not blocks. */
uint32_t philox_u32(const philox_key *key, uint64_t index);

/* Uniform in [0, 1), 24 bits. */
float philox_uniform(const philox_key *key, uint64_t index);

/* Uniform integer in [0, n), n >= 1, by multiplication (bias < n / 2^32). */
uint32_t philox_below(const philox_key *key, uint64_t index, uint32_t n);

/* Standard normal (Box-Muller on two words of one block, in double, rounded once). */
float philox_normal(const philox_key *key, uint64_t index);

/* out[i] = philox_normal(key, first + i) for i in [0, count), each block computed once. */
void philox_normals(float *out, const philox_key *key, uint64_t first, int64_t count);

#endif
