#include "roi_align_bands.h"

#include "base/thread_pool.h"

#include <string.h>

/* Backward cuts maps into bands of rows: of BAND_ROWS, or taller ones where the images alone give ENOUGH_TILES. */
enum { BAND_ROWS = 16, ENOUGH_TILES = 32, CHANNEL_BLOCK = 128, LANES = 16 };

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
    float *dense;     /* [size]: 0 between uses */
    int32_t *touched; /* [size]: pixels that have taps, from low on */
    int touched_count;
} axis_taps;

/* What every tile must know of a region before it looks closer. */
typedef struct roi_place {
    int32_t region;
    int32_t row_low, row_high; /* no tap lies outside [row_low, row_high) */
} roi_place;

static size_t axis_words(int64_t size, int output_size) {
    return (size_t)(output_size + 1 + 4 * (size + 2 * output_size) + size + 1 + 2 * size);
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
    a.touched = a.by_pixel_bin + 2 * taps + size;
    return a;
}

/* ----------------------------------------------------------------------------------------------------
 * scratch ---- */

typedef struct layout {
    int64_t height, width; /* of the largest map */
    size_t thread_bytes, lists_bytes, places_bytes;
    size_t sums, line; /* offsets in a thread's part */
} layout;

/* Too few to fill a vector. */
static bool has_few_channels(const roi_bands_job *job) {
    return job->channels < LANES;
}

static layout layout_of(const roi_bands_job *job) {
    layout l = {0};
    for (int i = 0; i < job->levels; i++) {
        if (job->level[i].height > l.height) l.height = job->level[i].height;
        if (job->level[i].width > l.width) l.width = job->level[i].width;
    }
    int p = job->sampling.output_size;
    l.sums = (axis_words(l.height, p) + axis_words(l.width, p)) * 4;
    l.line = l.sums + (size_t)p * CHANNEL_BLOCK * sizeof(float);
    size_t line_floats = has_few_channels(job) ? (size_t)(l.width * job->channels) : 0;
    l.thread_bytes = (l.line + line_floats * sizeof(float) + 63) / 64 * 64;
    l.lists_bytes = ((size_t)(job->levels * job->images + 1) * sizeof(int32_t) + 63) / 64 * 64;
    l.places_bytes = ((size_t)job->capacity * sizeof(roi_place) + 63) / 64 * 64;
    return l;
}

size_t roi_bands_scratch(const roi_bands_job *job) {
    layout l = layout_of(job);
    return l.lists_bytes + l.places_bytes + (size_t)thread_pool_size() * l.thread_bytes;
}

/* Where the list of each level and image begins, [levels * images + 1]. */
static int32_t *lists_of(const roi_bands_job *job) {
    return job->scratch;
}

/* Of the regions, list by list. */
static roi_place *places_of(const roi_bands_job *job) {
    return (roi_place *)(void *)((char *)job->scratch + layout_of(job).lists_bytes);
}

typedef struct worker {
    axis_taps axis[2];
    float *sums; /* [P, CHANNEL_BLOCK] */
    float *line; /* [width, channels], where channels are few */
} worker;

static worker worker_at(const roi_bands_job *job, int thread) {
    layout l = layout_of(job);
    int p = job->sampling.output_size;
    char *memory = (char *)job->scratch + l.lists_bytes + l.places_bytes + (size_t)thread * l.thread_bytes;
    int32_t *words = (int32_t *)(void *)memory;
    return (worker){
        .axis = {axis_at(words, l.height, p), axis_at(words + axis_words(l.height, p), l.width, p)},
        .sums = (float *)(void *)(memory + l.sums),
        .line = (float *)(void *)(memory + l.line)};
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
    a->touched_count = 0;
    for (int i = 0; i < a->high - a->low; i++)
        if (first[i] < first[i + 1]) a->touched[a->touched_count++] = i;
}

static int level_of(const roi_bands_job *job, const float *roi) {
    return job->levels == 1 ? 0 : roi_level(roi, job->level_eps);
}

/* Number of a region's list: level, then image. */
static int64_t list_of(const roi_bands_job *job, int64_t r) {
    const float *roi = job->rois + 5 * r;
    return level_of(job, roi) * job->images + (int64_t)roi[0];
}

/* ----------------------------------------------------------------------------------------------------
 * forward ---- */

/* sum[i] = or += weight * g[i]. */
static void add_scaled(float *restrict sum, const float *restrict g, float weight, bool is_first,
                       int64_t count) {
    if (is_first)
        for (int64_t i = 0; i < count; i++) sum[i] = weight * g[i];
    else
        for (int64_t i = 0; i < count; i++) sum[i] += weight * g[i];
}

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
        for (; c + LANES <= channels; c += LANES) {
            lanes s = {0};
            for (int32_t t = first; t < end; t++)
                s += xa->weight[t] * *(const lanes *)(const void *)(row + xa->pixel[t] * channels + c);
            for (int32_t t = row_tap; t < row_tap_end; t++)
                *(lanes *)(void *)(y + (ya->by_pixel_bin[t] * bins + q) * channels + c) +=
                    ya->by_pixel_weight[t] * s;
        }
        for (; c < channels; c++) {
            float sum = 0.0f;
            for (int32_t t = first; t < end; t++) sum += xa->weight[t] * row[xa->pixel[t] * channels + c];
            for (int32_t t = row_tap; t < row_tap_end; t++)
                y[(ya->by_pixel_bin[t] * bins + q) * channels + c] += ya->by_pixel_weight[t] * sum;
        }
    }
}

/* Few channels make short vectors: here the map rows of a row of bins are merged first, with all their columns as one vector. */
static void forward_few_channels(const roi_bands_job *job, float *y, const float *image, int64_t width,
                                 const worker *w) {
    const axis_taps *ya = &w->axis[0], *xa = &w->axis[1];
    int64_t channels = job->channels, bins = job->sampling.output_size, row_size = width * channels,
            count = (xa->high - xa->low) * channels;
    for (int64_t p = 0; p < bins; p++) {
        int32_t first = ya->bin_first[p], end = ya->bin_first[p + 1];
        for (int32_t t = first; t < end; t++)
            add_scaled(w->line, image + ya->pixel[t] * row_size + xa->low * channels, ya->weight[t],
                       t == first, count);
        for (int64_t q = 0; q < bins && first < end; q++) {
            float *out = y + (p * bins + q) * channels;
            for (int32_t t = xa->bin_first[q]; t < xa->bin_first[q + 1]; t++)
                add_scaled(out, w->line + (xa->pixel[t] - xa->low) * channels, xa->weight[t], false,
                           channels);
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

    int64_t row_size = level->width * job->channels,
            y_size = (int64_t)output_size * output_size * job->channels;
    const float *image = level->x + (int64_t)roi[0] * level->height * row_size;
    float *y = job->y + r * y_size;
    memset(y, 0, (size_t)y_size * sizeof *y);
    if (has_few_channels(job)) {
        forward_few_channels(job, y, image, level->width, &w);
        return;
    }
    const axis_taps *ya = &w.axis[0];
    order_by_pixel(&w.axis[0], output_size);
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

static int64_t channel_blocks(const roi_bands_job *job) {
    return (job->channels + CHANNEL_BLOCK - 1) / CHANNEL_BLOCK;
}

/* Rows of a band: a region's taps are made anew for each band that it touches. */
static int64_t band_rows(const roi_bands_job *job, const roi_bands_level *level) {
    int64_t tiles = job->images * channel_blocks(job),
            bands = (ENOUGH_TILES + tiles - 1) / (tiles ? tiles : 1),
            rows = (level->height + bands - 1) / bands;
    return rows > BAND_ROWS ? rows : BAND_ROWS;
}

static int64_t bands_of(const roi_bands_job *job, const roi_bands_level *level) {
    int64_t rows = band_rows(job, level);
    return level->d_x ? (level->height + rows - 1) / rows : 0;
}

/* Tiles run over levels, images, bands, blocks of channels. */
static band band_of(const roi_bands_job *job, int64_t tile) {
    band b = {0};
    int64_t blocks = channel_blocks(job);
    int i = 0;
    while (tile >= bands_of(job, &job->level[i]) * job->images * blocks)
        tile -= bands_of(job, &job->level[i++]) * job->images * blocks;
    b.level = &job->level[i];
    b.level_index = i;
    b.channel = tile % blocks * CHANNEL_BLOCK;
    b.channels = job->channels - b.channel < CHANNEL_BLOCK ? job->channels - b.channel : CHANNEL_BLOCK;
    int64_t bands = bands_of(job, b.level), rows = band_rows(job, b.level);
    b.row_low = tile / blocks % bands * rows;
    b.row_high = b.row_low + rows < b.level->height ? b.row_low + rows : b.level->height;
    b.image = (int32_t)(tile / blocks / bands);
    return b;
}

/* d[i] += sum of weight[t] * sums[bin[t]][i], for `count` channels. */
static void add_pixel(float *restrict d, const float *restrict sums, const int32_t *bin, const float *weight,
                      int32_t taps, int64_t count) {
    int32_t t = 0;
    for (; t + 2 <= taps; t += 2) {
        const float *a = sums + bin[t] * count, *b = sums + bin[t + 1] * count;
        const float wa = weight[t], wb = weight[t + 1];
        for (int64_t i = 0; i < count; i++) d[i] += wa * a[i] + wb * b[i];
    }
    if (t == taps) return;
    const float *a = sums + bin[t] * count;
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
    for (int32_t t = first; t < end; t++) {
        const float *g = d_y + ya->by_pixel_bin[t] * bins * job->channels + b->channel;
        const float weight = ya->by_pixel_weight[t];
        if (b->channels == job->channels) /* a row of bins has no gaps */
            add_scaled(w->sums, g, weight, t == first, bins * b->channels);
        else
            for (int64_t q = 0; q < bins; q++)
                add_scaled(w->sums + q * b->channels, g + q * job->channels, weight, t == first, b->channels);
    }
    for (int i = 0; i < xa->touched_count; i++) {
        int32_t x = xa->touched[i], tap = xa->pixel_first[x], tap_end = xa->pixel_first[x + 1];
        add_pixel(row + (xa->low + x) * job->channels + b->channel, w->sums, xa->by_pixel_bin + tap,
                  xa->by_pixel_weight + tap, tap_end - tap, b->channels);
    }
}

static void clear_band(const roi_bands_job *job, const band *b, float *d_x) {
    int64_t width = b->level->width;
    if (b->channels == job->channels) {
        memset(d_x + b->row_low * width * b->channels, 0,
               (size_t)((b->row_high - b->row_low) * width * b->channels) * sizeof *d_x);
        return;
    }
    for (int64_t pixel = b->row_low * width; pixel < b->row_high * width; pixel++)
        memset(d_x + pixel * job->channels + b->channel, 0, (size_t)b->channels * sizeof *d_x);
}

static void backward_tile(void *context, int64_t tile, int thread) {
    const roi_bands_job *job = context;
    band b = band_of(job, tile);
    const int32_t *first = lists_of(job), list = b.level_index * (int32_t)job->images + b.image;
    const roi_place *places = places_of(job);
    int output_size = job->sampling.output_size;
    int64_t row_size = b.level->width * job->channels;
    float *d_x = b.level->d_x + b.image * b.level->height * row_size;
    worker w = worker_at(job, thread);
    if (!b.level->accumulate) clear_band(job, &b, d_x);
    for (int32_t i = job->d_y ? first[list] : first[list + 1]; i < first[list + 1]; i++) {
        const roi_place *place = &places[i];
        int64_t r = place->region;
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

static roi_place place_of(const roi_bands_job *job, int64_t r, const roi_bands_level *level) {
    roi_bins bins = roi_bins_make(job->rois + 5 * r, level->scale, &job->sampling);
    double start = (double)bins.start[0], end = start + (double)bins.bin[0] * job->sampling.output_size;
    double top = start < end ? start : end, bottom = start < end ? end : start;
    return (roi_place){.region = (int32_t)r,
                       .row_low = (int32_t)clamp_index(floor(top) - 2, 0, level->height),
                       .row_high = (int32_t)clamp_index(ceil(bottom) + 3, 0, level->height)};
}

/* The places, in the order of the regions, of each image on each level. */
static void place_rois(const roi_bands_job *job) {
    int32_t *first = lists_of(job);
    int64_t lists = job->levels * job->images;
    memset(first, 0, (size_t)(lists + 1) * sizeof *first);
    for (int64_t r = 0; r < job->rows; r++) first[list_of(job, r)]++;
    int32_t end = 0;
    for (int64_t i = 0; i < lists; i++) first[i] = end += first[i];
    first[lists] = end;
    for (int64_t r = job->rows; r-- > 0;) {
        int64_t list = list_of(job, r);
        places_of(job)[--first[list]] = place_of(job, r, &job->level[list / job->images]);
    }
}

void roi_bands_backward(const roi_bands_job *job) {
    int64_t tiles = 0;
    for (int i = 0; i < job->levels; i++)
        tiles += bands_of(job, &job->level[i]) * job->images * channel_blocks(job);
    prepare_workers(job);
    place_rois(job);
    parallel_for(tiles, backward_tile, (void *)job);
}
