#include "roi_align_bands.h"

#include "base/thread_pool.h"

#include <string.h>

enum { BAND_ROWS = 16, CHANNEL_BLOCK = 128, LANES = 16 };

/* 16 floats at any address; compilers split it where the machine's vectors are shorter. */
typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* The taps of one axis of one region, in two orders. A bin's taps lie in rising order of pixels; two
 * neighbouring bins share two pixels at most, so there are at most size + 2 P of them. */
typedef struct axis_taps {
    int low, high;        /* pixels from low to high - 1 are touched */
    int32_t *bin_first;   /* [P + 1] into pixel and weight */
    int32_t *pixel;       /* [size + 2 P] */
    float *weight;        /* [size + 2 P] */
    int32_t *pixel_first; /* [size + 1]: taps of pixel low + i, into by_pixel_* */
    int32_t *by_pixel_bin;
    float *by_pixel_weight;
    float *dense; /* [size]: 0 between uses */
} axis_taps;

/* What every tile must know of a region before it looks closer. */
typedef struct roi_place {
    int32_t level, image;
    int32_t row_low, row_high; /* no tap lies outside [row_low, row_high) */
} roi_place;

static size_t axis_words(int64_t size, int output_size) {
    return (size_t)(output_size + 1 + 4 * (size + 2 * output_size) + size + 1 + size);
}

static axis_taps axis_at(int32_t *words, int64_t size, int output_size) {
    int64_t taps = size + 2 * output_size;
    axis_taps a = {.bin_first = words};
    a.pixel = a.bin_first + output_size + 1;
    a.weight = (float *)(a.pixel + taps);
    a.pixel_first = a.pixel + 2 * taps;
    a.by_pixel_bin = a.pixel_first + size + 1;
    a.by_pixel_weight = (float *)(a.by_pixel_bin + taps);
    a.dense = (float *)(a.by_pixel_bin + 2 * taps);
    return a;
}

/* ----------------------------------------------------------------------------------------------------
 * scratch ---- */

typedef struct layout {
    int64_t height, width;                   /* of the largest map */
    size_t thread_bytes, places_bytes, sums; /* `sums`: offset of the row of sums in a thread's part */
} layout;

static layout layout_of(const roi_bands_job *job) {
    layout l = {0};
    for (int i = 0; i < job->levels; i++) {
        if (job->level[i].height > l.height) l.height = job->level[i].height;
        if (job->level[i].width > l.width) l.width = job->level[i].width;
    }
    int p = job->sampling.output_size;
    l.sums = (axis_words(l.height, p) + axis_words(l.width, p)) * 4;
    l.thread_bytes = (l.sums + (size_t)p * CHANNEL_BLOCK * sizeof(float) + 63) / 64 * 64;
    l.places_bytes = ((size_t)job->capacity * sizeof(roi_place) + 63) / 64 * 64;
    return l;
}

size_t roi_bands_scratch(const roi_bands_job *job) {
    layout l = layout_of(job);
    return l.places_bytes + (size_t)thread_pool_size() * l.thread_bytes;
}

typedef struct worker {
    axis_taps axis[2];
    float *sums; /* [P, CHANNEL_BLOCK] */
} worker;

static worker worker_at(const roi_bands_job *job, int thread) {
    layout l = layout_of(job);
    int p = job->sampling.output_size;
    char *memory = (char *)job->scratch + l.places_bytes + (size_t)thread * l.thread_bytes;
    int32_t *words = (int32_t *)(void *)memory;
    return (worker){
        .axis = {axis_at(words, l.height, p), axis_at(words + axis_words(l.height, p), l.width, p)},
        .sums = (float *)(void *)(memory + l.sums)};
}

static void prepare_workers(const roi_bands_job *job) {
    layout l = layout_of(job);
    for (int thread = 0; thread < thread_pool_size(); thread++) {
        worker w = worker_at(job, thread);
        memset(w.axis[0].dense, 0, (size_t)l.height * sizeof(float));
        memset(w.axis[1].dense, 0, (size_t)l.width * sizeof(float));
    }
}

/* -------------------------------------------------------------------------------------------------------
 * taps ---- */

static int64_t clamp_index(double value, int64_t low, int64_t high) {
    return !(value > (double)low) ? low : value < (double)high ? (int64_t)value : high;
}

/* Adds bin p's samples to a->dense; only those that can lie within a pixel of the map are looked at. */
static void add_samples(axis_taps *a, const roi_bins *bins, int axis, int p, int64_t size, int *low,
                        int *high) {
    int64_t samples = bins->samples[axis], first = 0, last = samples;
    double base = (double)bins->start[axis] + (double)p * (double)bins->bin[axis],
           step = (double)bins->bin[axis] / (double)samples;
    if (step > 0) {
        first = clamp_index(floor((-1 - base) / step) - 2, 0, samples);
        last = clamp_index(ceil(((double)size - base) / step) + 2, 0, samples);
    }
    float share = 1.0f / (float)samples;
    for (int64_t i = first; i < last; i++) {
        int64_t below, above;
        float upper;
        if (!roi_neighbours(roi_sample_at(bins, axis, p, i), size, &below, &above, &upper)) continue;
        a->dense[below] += (1.0f - upper) * share;
        a->dense[above] += upper * share;
        if ((int)below < *low) *low = (int)below;
        if ((int)above >= *high) *high = (int)above + 1;
    }
}

static void make_taps(axis_taps *a, const roi_bins *bins, int axis, int output_size, int64_t size) {
    int32_t taps = 0;
    a->low = (int)size;
    a->high = 0;
    for (int p = 0; p < output_size; p++) {
        int low = (int)size, high = 0;
        a->bin_first[p] = taps;
        add_samples(a, bins, axis, p, size, &low, &high);
        for (int i = low; i < high; i++) {
            if (a->dense[i] != 0.0f) {
                a->pixel[taps] = i;
                a->weight[taps++] = a->dense[i];
            }
            a->dense[i] = 0.0f;
        }
        if (low < a->low) a->low = low;
        if (high > a->high) a->high = high;
    }
    a->bin_first[output_size] = taps;
    if (a->low > a->high) a->low = a->high = 0;
}

/* The same taps by rising pixel, for a pixel by rising bin. */
static void order_by_pixel(axis_taps *a, int output_size) {
    int32_t *first = a->pixel_first, taps = a->bin_first[output_size];
    memset(first, 0, (size_t)(a->high - a->low + 1) * sizeof *first);
    for (int32_t t = 0; t < taps; t++) first[a->pixel[t] - a->low]++;
    int32_t end = 0;
    for (int i = 0; i < a->high - a->low; i++) {
        end += first[i];
        first[i] = end;
    }
    first[a->high - a->low] = end;
    for (int p = output_size - 1; p >= 0; p--) {
        for (int32_t t = a->bin_first[p + 1] - 1; t >= a->bin_first[p]; t--) {
            int32_t place = --first[a->pixel[t] - a->low];
            a->by_pixel_bin[place] = p;
            a->by_pixel_weight[place] = a->weight[t];
        }
    }
}

static int level_of(const roi_bands_job *job, const float *roi) {
    return job->levels == 1 ? 0 : roi_level(roi, job->level_eps);
}

/* ----------------------------------------------------------------------------------------------------
 * forward ---- */

/* The sum over bin q's columns of `row` times their weights, added to each bin row that this map row belongs
 * to. */
static void add_row_to_bins(const roi_bands_job *job, float *y, const float *row, const worker *w,
                            int32_t row_tap, int32_t row_tap_end) {
    const axis_taps *ya = &w->axis[0], *xa = &w->axis[1];
    int64_t channels = job->channels, bins = job->sampling.output_size;
    for (int q = 0; q < bins; q++) {
        int32_t first = xa->bin_first[q], end = xa->bin_first[q + 1];
        if (first == end) continue;
        int64_t c = 0;
        for (; c + 4 * LANES <= channels; c += 4 * LANES) {
            lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
            for (int32_t t = first; t < end; t++) {
                const lanes *x = (const lanes *)(const void *)(row + xa->pixel[t] * channels + c);
                float weight = xa->weight[t];
                s0 += weight * x[0], s1 += weight * x[1], s2 += weight * x[2], s3 += weight * x[3];
            }
            for (int32_t t = row_tap; t < row_tap_end; t++) {
                lanes *out = (lanes *)(void *)(y + (ya->by_pixel_bin[t] * bins + q) * channels + c);
                float weight = ya->by_pixel_weight[t];
                out[0] += weight * s0, out[1] += weight * s1, out[2] += weight * s2, out[3] += weight * s3;
            }
        }
        for (; c < channels; c++) {
            float sum = 0.0f;
            for (int32_t t = first; t < end; t++) sum += xa->weight[t] * row[xa->pixel[t] * channels + c];
            for (int32_t t = row_tap; t < row_tap_end; t++)
                y[(ya->by_pixel_bin[t] * bins + q) * channels + c] += ya->by_pixel_weight[t] * sum;
        }
    }
}

static void forward_tile(void *context, int64_t r, int thread) {
    const roi_bands_job *job = context;
    const float *roi = job->rois + 5 * r;
    const roi_bands_level *level = &job->level[level_of(job, roi)];
    int output_size = job->sampling.output_size;
    worker w = worker_at(job, thread);
    roi_bins bins = roi_bins_make(roi, level->scale, &job->sampling);
    make_taps(&w.axis[0], &bins, 0, output_size, level->height);
    make_taps(&w.axis[1], &bins, 1, output_size, level->width);
    order_by_pixel(&w.axis[0], output_size);

    int64_t row_size = level->width * job->channels,
            y_size = (int64_t)output_size * output_size * job->channels;
    const float *image = level->x + (int64_t)roi[0] * level->height * row_size;
    float *y = job->y + r * y_size;
    memset(y, 0, (size_t)y_size * sizeof *y);
    const axis_taps *ya = &w.axis[0];
    for (int i = ya->low; i < ya->high; i++) {
        int32_t first = ya->pixel_first[i - ya->low], end = ya->pixel_first[i - ya->low + 1];
        if (first < end) add_row_to_bins(job, y, image + i * row_size, &w, first, end);
    }
}

void roi_bands_forward(const roi_bands_job *job) {
    prepare_workers(job);
    parallel_for(job->rows, forward_tile, (void *)job);
}

/* ---------------------------------------------------------------------------------------------------
 * backward ---- */

typedef struct band {
    const roi_bands_level *level;
    int32_t level_index, image;
    int64_t row_low, row_high, channel, channels; /* the part of d_x that this tile writes */
} band;

static int64_t bands_of(const roi_bands_level *level) {
    return level->d_x ? (level->height + BAND_ROWS - 1) / BAND_ROWS : 0;
}

static int64_t channel_blocks(const roi_bands_job *job) {
    return (job->channels + CHANNEL_BLOCK - 1) / CHANNEL_BLOCK;
}

/* Tiles run over levels, images, bands, blocks of channels. */
static band band_of(const roi_bands_job *job, int64_t tile) {
    band b = {0};
    int64_t blocks = channel_blocks(job);
    int i = 0;
    while (tile >= bands_of(&job->level[i]) * job->images * blocks)
        tile -= bands_of(&job->level[i++]) * job->images * blocks;
    b.level = &job->level[i];
    b.level_index = i;
    b.channel = tile % blocks * CHANNEL_BLOCK;
    b.channels = job->channels - b.channel < CHANNEL_BLOCK ? job->channels - b.channel : CHANNEL_BLOCK;
    b.row_low = tile / blocks % bands_of(b.level) * BAND_ROWS;
    b.row_high = b.row_low + BAND_ROWS < b.level->height ? b.row_low + BAND_ROWS : b.level->height;
    b.image = (int32_t)(tile / blocks / bands_of(b.level));
    return b;
}

/* d[i] += sum of weight[t] * sums[bin[t]][i]. */
static void add_pixel(float *restrict d, const float *restrict sums, const int32_t *bin, const float *weight,
                      int32_t taps, int64_t count) {
    int32_t t = 0;
    for (; t + 2 <= taps; t += 2) {
        const float *a = sums + bin[t] * CHANNEL_BLOCK, *b = sums + bin[t + 1] * CHANNEL_BLOCK;
        const float wa = weight[t], wb = weight[t + 1];
        for (int64_t i = 0; i < count; i++) d[i] += wa * a[i] + wb * b[i];
    }
    if (t == taps) return;
    const float *a = sums + bin[t] * CHANNEL_BLOCK;
    const float wa = weight[t];
    for (int64_t i = 0; i < count; i++) d[i] += wa * a[i];
}

/* One map row: first the sum over the bin rows it belongs to, for each bin column; then each pixel adds up
 * its columns. */
static void add_row(const roi_bands_job *job, const band *b, float *restrict row, const float *restrict d_y,
                    const worker *w, int y) {
    const axis_taps *ya = &w->axis[0], *xa = &w->axis[1];
    int64_t bins = job->sampling.output_size;
    int32_t first = ya->pixel_first[y - ya->low], end = ya->pixel_first[y - ya->low + 1];
    if (first == end) return;
    for (int64_t q = 0; q < bins; q++) {
        float *restrict sum = w->sums + q * CHANNEL_BLOCK;
        for (int32_t t = first; t < end; t++) {
            const float *restrict g = d_y + (ya->by_pixel_bin[t] * bins + q) * job->channels + b->channel;
            const float weight = ya->by_pixel_weight[t];
            if (t == first)
                for (int64_t i = 0; i < b->channels; i++) sum[i] = weight * g[i];
            else
                for (int64_t i = 0; i < b->channels; i++) sum[i] += weight * g[i];
        }
    }
    for (int x = xa->low; x < xa->high; x++) {
        int32_t tap = xa->pixel_first[x - xa->low], tap_end = xa->pixel_first[x - xa->low + 1];
        add_pixel(row + x * job->channels + b->channel, w->sums, xa->by_pixel_bin + tap,
                  xa->by_pixel_weight + tap, tap_end - tap, b->channels);
    }
}

static void clear_band(const roi_bands_job *job, const band *b, float *d_x) {
    int64_t width = b->level->width;
    for (int64_t pixel = b->row_low * width; pixel < b->row_high * width; pixel++)
        memset(d_x + pixel * job->channels + b->channel, 0, (size_t)b->channels * sizeof *d_x);
}

static void backward_tile(void *context, int64_t tile, int thread) {
    const roi_bands_job *job = context;
    band b = band_of(job, tile);
    const roi_place *places = job->scratch;
    int output_size = job->sampling.output_size;
    int64_t row_size = b.level->width * job->channels;
    float *d_x = b.level->d_x + b.image * b.level->height * row_size;
    worker w = worker_at(job, thread);
    if (!b.level->accumulate) clear_band(job, &b, d_x);
    for (int64_t r = 0; r < job->rows && job->d_y; r++) {
        const roi_place *place = &places[r];
        if (place->level != b.level_index || place->image != b.image) continue;
        if (place->row_high <= b.row_low || place->row_low >= b.row_high) continue;
        roi_bins bins = roi_bins_make(job->rois + 5 * r, b.level->scale, &job->sampling);
        axis_taps *ya = &w.axis[0];
        make_taps(ya, &bins, 0, output_size, b.level->height);
        int64_t low = ya->low > b.row_low ? ya->low : b.row_low,
                high = ya->high < b.row_high ? ya->high : b.row_high;
        if (low >= high) continue;
        make_taps(&w.axis[1], &bins, 1, output_size, b.level->width);
        order_by_pixel(ya, output_size);
        order_by_pixel(&w.axis[1], output_size);
        const float *d_y = job->d_y + r * output_size * output_size * job->channels;
        for (int64_t y = low; y < high; y++) add_row(job, &b, d_x + y * row_size, d_y, &w, (int)y);
    }
}

static void place_rois(const roi_bands_job *job) {
    roi_place *places = job->scratch;
    for (int64_t r = 0; r < job->rows; r++) {
        const float *roi = job->rois + 5 * r;
        int level = level_of(job, roi);
        roi_bins bins = roi_bins_make(roi, job->level[level].scale, &job->sampling);
        double start = (double)bins.start[0], end = start + (double)bins.bin[0] * job->sampling.output_size;
        double top = start < end ? start : end, bottom = start < end ? end : start;
        places[r] =
            (roi_place){.level = level,
                        .image = (int32_t)roi[0],
                        .row_low = (int32_t)clamp_index(floor(top) - 2, 0, job->level[level].height),
                        .row_high = (int32_t)clamp_index(ceil(bottom) + 3, 0, job->level[level].height)};
    }
}

void roi_bands_backward(const roi_bands_job *job) {
    int64_t tiles = 0;
    for (int i = 0; i < job->levels; i++)
        tiles += bands_of(&job->level[i]) * job->images * channel_blocks(job);
    prepare_workers(job);
    place_rois(job);
    parallel_for(tiles, backward_tile, (void *)job);
}
