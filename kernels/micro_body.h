/* Body of kernels/micro_*.c, which define before including it:
 *   MICRO_SET    name of the micro_kernels table
 *   MICRO_NAME   its text
 *   MICRO_LANES  floats in a vector register
 *   MICRO_ROWS   rows of a block; rows * 3 sums, 3 columns and a broadcast must fit into the registers */
#include "micro.h"

typedef float vec __attribute__((vector_size(MICRO_LANES * 4), aligned(4), may_alias));

typedef int ivec __attribute__((vector_size(MICRO_LANES * 4)));

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE vec load(const float *p) {
    return *(const vec *)p;
}

ALWAYS_INLINE void write_block(float *block, vec sum[MICRO_ROWS][MICRO_MAX_VECTORS], int vectors) {
#pragma GCC unroll 8
    for (int m = 0; m < MICRO_ROWS; m++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) *(vec *)(block + (m * vectors + v) * MICRO_LANES) = sum[m][v];
}

ALWAYS_INLINE void dot(float *block, const micro_stretch *stretches, int64_t count, const float *panel,
                       int vectors) {
    vec sum[MICRO_ROWS][MICRO_MAX_VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < MICRO_ROWS; m++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) sum[m][v] = (vec){0};
    for (int64_t s = 0; s < count; s++) {
        const float *row[MICRO_ROWS], *columns = panel + stretches[s].first * vectors * MICRO_LANES;
        int64_t length = stretches[s].length;
#pragma GCC unroll 8
        for (int m = 0; m < MICRO_ROWS; m++) row[m] = stretches[s].rows[m];
        for (int64_t i = 0; i < length; i++) {
            vec column[MICRO_MAX_VECTORS];
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) column[v] = load(columns + v * MICRO_LANES);
            columns += vectors * MICRO_LANES;
#pragma GCC unroll 8
            for (int m = 0; m < MICRO_ROWS; m++) {
                vec left =
                    row[m][i] - (vec){0}; /* a broadcast; with + the sign of zero would cost an addition */
#pragma GCC unroll 3
                for (int v = 0; v < vectors; v++) sum[m][v] += left * column[v];
            }
        }
    }
    write_block(block, sum, vectors);
}

ALWAYS_INLINE void outer(float *block, const float *left, const float *panel, const micro_runs *runs,
                         int vectors) {
    vec sum[MICRO_ROWS][MICRO_MAX_VECTORS];
#pragma GCC unroll 8
    for (int m = 0; m < MICRO_ROWS; m++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) sum[m][v] = (vec){0};
    int64_t step = runs->step * vectors * MICRO_LANES;
    for (int64_t r = 0; r < runs->count; r++) {
        const float *pixel = panel + runs->start[r] * vectors * MICRO_LANES;
        for (int64_t i = 0; i < runs->length; i++) {
            vec column[MICRO_MAX_VECTORS];
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) column[v] = load(pixel + v * MICRO_LANES);
#pragma GCC unroll 8
            for (int m = 0; m < MICRO_ROWS; m++) {
                vec l = left[m] - (vec){0};
#pragma GCC unroll 3
                for (int v = 0; v < vectors; v++) sum[m][v] += l * column[v];
            }
            left += MICRO_ROWS;
            pixel += step;
        }
    }
    write_block(block, sum, vectors);
}

static void dot_1(float *block, const micro_stretch *stretches, int64_t count, const float *panel) {
    dot(block, stretches, count, panel, 1);
}
static void dot_2(float *block, const micro_stretch *stretches, int64_t count, const float *panel) {
    dot(block, stretches, count, panel, 2);
}
static void dot_3(float *block, const micro_stretch *stretches, int64_t count, const float *panel) {
    dot(block, stretches, count, panel, 3);
}

static void outer_1(float *block, const float *left, const float *panel, const micro_runs *runs) {
    outer(block, left, panel, runs, 1);
}
static void outer_2(float *block, const float *left, const float *panel, const micro_runs *runs) {
    outer(block, left, panel, runs, 2);
}
static void outer_3(float *block, const float *left, const float *panel, const micro_runs *runs) {
    outer(block, left, panel, runs, 3);
}

/* B^T d B of the 4x4 pixels d. */
static void winograd_input(float *out, int64_t stride, const float *const pixels[16], int64_t channels) {
    for (int64_t c = 0; c < channels; c += MICRO_LANES) {
        vec row[4][4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vec d0 = load(pixels[j] + c), d1 = load(pixels[4 + j] + c), d2 = load(pixels[8 + j] + c),
                d3 = load(pixels[12 + j] + c);
            row[0][j] = d0 - d2;
            row[1][j] = d1 + d2;
            row[2][j] = d2 - d1;
            row[3][j] = d1 - d3;
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            float *to = out + i * 4 * stride + c;
            *(vec *)to = row[i][0] - row[i][2];
            *(vec *)(to + stride) = row[i][1] + row[i][2];
            *(vec *)(to + 2 * stride) = row[i][2] - row[i][1];
            *(vec *)(to + 3 * stride) = row[i][1] - row[i][3];
        }
    }
}

/* A g A^T of the 2x2 pixels g. */
static void winograd_gradient(float *out, int64_t stride, const float *const pixels[4], int64_t channels) {
    for (int64_t c = 0; c < channels; c += MICRO_LANES) {
        vec row[4][2];
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            vec g0 = load(pixels[j] + c), g1 = load(pixels[2 + j] + c);
            row[0][j] = g0;
            row[1][j] = g0 + g1;
            row[2][j] = g0 - g1;
            row[3][j] = -g1;
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            float *to = out + i * 4 * stride + c;
            *(vec *)to = row[i][0];
            *(vec *)(to + stride) = row[i][0] + row[i][1];
            *(vec *)(to + 2 * stride) = row[i][0] - row[i][1];
            *(vec *)(to + 3 * stride) = -row[i][1];
        }
    }
}

/* A^T m A of the 4x4 sums m. */
static void winograd_output(float *out, const float *sums, int64_t stride, int64_t channels) {
    for (int64_t c = 0; c < channels; c += MICRO_LANES) {
        vec row[2][4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const float *m = sums + j * stride + c;
            vec m1 = load(m + 4 * stride), m2 = load(m + 8 * stride);
            row[0][j] = load(m) + m1 + m2;
            row[1][j] = m1 - m2 - load(m + 12 * stride);
        }
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            *(vec *)(out + 2 * i * channels + c) = row[i][0] + row[i][1] + row[i][2];
            *(vec *)(out + (2 * i + 1) * channels + c) = row[i][1] - row[i][2] - row[i][3];
        }
    }
}

static void store(const micro_store *to, const float *block) {
    for (int m = 0; m < to->rows; m++, block += to->width) {
        float *dest = to->dest[m];
        const float *add = to->add[m];
        int64_t i = 0;
        for (; i + MICRO_LANES <= to->columns; i += MICRO_LANES) {
            vec value = load(block + i);
            if (to->bias) value += load(to->bias + i);
            if (add) value += load(add + i);
            if (to->relu) value = (vec)((ivec)value & ~(value < 0)); /* keeps NaN */
            *(vec *)(dest + i) = value;
        }
        for (; i < to->columns; i++) {
            float value = block[i];
            if (to->bias) value += to->bias[i];
            if (add) value += add[i];
            dest[i] = to->relu && value < 0 ? 0 : value;
        }
    }
}

const micro_kernels MICRO_SET = {.name = MICRO_NAME,
                                 .lanes = MICRO_LANES,
                                 .rows = MICRO_ROWS,
                                 .dot = {dot_1, dot_2, dot_3},
                                 .outer = {outer_1, outer_2, outer_3},
                                 .winograd_input = winograd_input,
                                 .winograd_gradient = winograd_gradient,
                                 .winograd_output = winograd_output,
                                 .store = store};
