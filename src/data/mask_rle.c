#include "data/mask_rle.h"

#include <stdlib.h>
#include <string.h>
#include "base/check.h"

static const char fix_annotation[] = "correct or remove this segmentation in the annotation file";

void mask_rle_release(mask_rle *mask) {
    free(mask->counts);
    *mask = (mask_rle){0};
}

status mask_check_size(int64_t height, int64_t width) {
    if (height < 1 || width < 1 || height > INT32_MAX || width > INT32_MAX || height * width > INT32_MAX)
        return error_set(STATUS_DATA, fix_annotation, "mask of %lld x %lld pixels (height x width)",
                         (long long)height, (long long)width);
    return STATUS_OK;
}

status mask_rle_reserve(mask_rle *mask, size_t count) {
    if (count <= mask->capacity) return STATUS_OK;
    size_t capacity = mask->capacity * 2 > count ? mask->capacity * 2 : count;
    uint32_t *counts = realloc(mask->counts, capacity * sizeof *counts);
    if (!counts) return error_set(STATUS_OS, NULL, "no memory for a mask of %zu runs", count);
    mask->counts = counts;
    mask->capacity = capacity;
    return STATUS_OK;
}

static status begin(mask_rle *out, int64_t height, int64_t width) {
    RETURN_IF_ERROR(mask_check_size(height, width));
    out->height = (int)height;
    out->width = (int)width;
    out->count = 0;
    return STATUS_OK;
}

static status append(mask_rle *out, uint32_t run) {
    RETURN_IF_ERROR(mask_rle_reserve(out, out->count + 1));
    out->counts[out->count++] = run;
    return STATUS_OK;
}

status mask_rle_encode(mask_rle *out, const uint8_t *bitmap, int height, int width) {
    RETURN_IF_ERROR(begin(out, height, width));
    uint32_t run = 0;
    int value = 0;
    for (int x = 0; x < width; x++)
        for (int y = 0; y < height; y++) {
            int pixel = bitmap[(size_t)y * (size_t)width + (size_t)x] != 0;
            if (pixel != value) {
                RETURN_IF_ERROR(append(out, run));
                run = 0;
                value = pixel;
            }
            run++;
        }
    return append(out, run);
}

/* Calls visit for every piece of a run of ones that lies within one column. */
typedef void (*visit_piece)(void *context, int x, int y_begin, int y_end);

static void for_each_piece(const mask_rle *mask, visit_piece visit, void *context) {
    int64_t at = 0;
    for (size_t i = 0; i < mask->count; i++) {
        int64_t end = at + mask->counts[i];
        while ((i & 1) && at < end) {
            int x = (int)(at / mask->height), y = (int)(at % mask->height);
            int64_t length = end - at < mask->height - y ? end - at : mask->height - y;
            visit(context, x, y, y + (int)length);
            at += length;
        }
        at = end;
    }
}

typedef struct bitmap_target {
    uint8_t *pixels;
    int width;
} bitmap_target;

static void set_pixels(void *context, int x, int y_begin, int y_end) {
    bitmap_target *target = context;
    uint8_t *pixel = target->pixels + (size_t)y_begin * (size_t)target->width + (size_t)x;
    for (int y = y_begin; y < y_end; y++, pixel += target->width) *pixel = 1;
}

void mask_rle_decode(uint8_t *bitmap, const mask_rle *mask) {
    memset(bitmap, 0, (size_t)mask->height * (size_t)mask->width);
    bitmap_target target = {bitmap, mask->width};
    for_each_piece(mask, set_pixels, &target);
}

typedef struct crop_target {
    uint8_t *rows;
    size_t row_bytes;
    int x0, y0, width, height;
} crop_target;

static void set_bits(void *context, int x, int y_begin, int y_end) {
    crop_target *target = context;
    x -= target->x0;
    if (x < 0 || x >= target->width) return;
    y_begin = y_begin > target->y0 ? y_begin - target->y0 : 0;
    y_end = y_end - target->y0 < target->height ? y_end - target->y0 : target->height;
    for (int y = y_begin; y < y_end; y++)
        target->rows[(size_t)y * target->row_bytes + (size_t)(x >> 3)] |= (uint8_t)(1 << (x & 7));
}

void mask_rle_decode_crop(uint8_t *rows, const mask_rle *mask, int x0, int y0, int width, int height) {
    CHECK(x0 >= 0 && y0 >= 0 && width >= 0 && height >= 0 && width <= mask->width - x0 &&
              height <= mask->height - y0,
          "crop %d,%d %d x %d of a mask of %d x %d", x0, y0, width, height, mask->width, mask->height);
    crop_target target = {rows, ((size_t)width + 7) / 8, x0, y0, width, height};
    memset(rows, 0, target.row_bytes * (size_t)height);
    for_each_piece(mask, set_bits, &target);
}

int64_t mask_rle_area(const mask_rle *mask) {
    int64_t area = 0;
    for (size_t i = 1; i < mask->count; i += 2) area += mask->counts[i];
    return area;
}

mask_box mask_rle_bounding_box(const mask_rle *mask) {
    uint32_t at = 0, h = (uint32_t)mask->height; /* 32 bits: the divisions are what this costs */
    int x_min = mask->width, y_min = mask->height, x_max = -1, y_max = -1;
    for (size_t i = 0; i < mask->count; at += mask->counts[i++]) {
        if (!(i & 1) || mask->counts[i] == 0) continue;
        uint32_t last = at + mask->counts[i] - 1;
        int x = (int)(at / h), y = (int)(at % h), x_last = (int)(last / h), y_last = (int)(last % h);
        if (x_last > x) { /* goes round at least one column's end */
            y = 0;
            y_last = mask->height - 1;
        }
        if (x < x_min) x_min = x;
        if (y < y_min) y_min = y;
        if (x_last > x_max) x_max = x_last;
        if (y_last > y_max) y_max = y_last;
    }
    if (x_max < 0) return (mask_box){0};
    return (mask_box){x_min, y_min, x_max - x_min + 1, y_max - y_min + 1};
}

static status check_sum(const mask_rle *mask, int64_t sum) {
    int64_t pixels = (int64_t)mask->height * mask->width;
    if (sum == pixels) return STATUS_OK;
    return error_set(STATUS_DATA, fix_annotation,
                     "the runs of an RLE mask add up to %lld, but it has %d x %d = %lld pixels",
                     (long long)sum, mask->height, mask->width, (long long)pixels);
}

status mask_rle_from_counts(mask_rle *out, const int64_t *counts, size_t count, int64_t height,
                            int64_t width) {
    RETURN_IF_ERROR(begin(out, height, width));
    int64_t sum = 0, pixels = height * width;
    RETURN_IF_ERROR(mask_rle_reserve(out, count));
    for (size_t i = 0; i < count; i++) {
        if (counts[i] < 0 || counts[i] > pixels - sum)
            return error_set(STATUS_DATA, fix_annotation,
                             "run %zu of an RLE mask is %lld; %lld of %lld pixels are left", i,
                             (long long)counts[i], (long long)(pixels - sum), (long long)pixels);
        sum += counts[i];
        out->counts[out->count++] = (uint32_t)counts[i];
    }
    return check_sum(out, sum);
}

/* Each run is a number of 5-bit groups, lowest first, in characters from '0' on; 0x20 says that more follow,
 * the top bit of the last group is the sign. From the fourth run on it is the difference to the run two
 * before. */
enum {
    CHARACTER_BASE = 48,
    GROUP_BITS = 5,
    GROUP_MASK = 31,
    GROUP_MORE = 32,
    GROUP_SIGN = 16,
    MAX_GROUPS = 7
};

static status read_number(int64_t *out, const char *text, size_t length, size_t *at) {
    int64_t value = 0;
    for (int k = 0; k < MAX_GROUPS; k++) {
        if (*at == length)
            return error_set(STATUS_DATA, fix_annotation,
                             "a compressed RLE mask ends inside a number, at character %zu", *at);
        int c = (unsigned char)text[*at] - CHARACTER_BASE;
        if (c < 0 || c >= 2 * GROUP_MORE)
            return error_set(STATUS_DATA, fix_annotation,
                             "character %zu of a compressed RLE mask has the code %d", *at,
                             (unsigned char)text[*at]);
        (*at)++;
        value |= (int64_t)(c & GROUP_MASK) << (GROUP_BITS * k);
        if (c & GROUP_MORE) continue;
        if (c & GROUP_SIGN) value -= (int64_t)1 << (GROUP_BITS * (k + 1));
        *out = value;
        return STATUS_OK;
    }
    return error_set(STATUS_DATA, fix_annotation,
                     "a number before character %zu of a compressed RLE mask has over %d digits", *at,
                     MAX_GROUPS);
}

status mask_rle_from_string(mask_rle *out, const char *text, size_t length, int64_t height, int64_t width) {
    RETURN_IF_ERROR(begin(out, height, width));
    int64_t sum = 0, pixels = height * width;
    for (size_t at = 0; at < length;) {
        size_t start = at;
        int64_t run = 0;
        RETURN_IF_ERROR(read_number(&run, text, length, &at));
        if (out->count > 2) run += out->counts[out->count - 2];
        if (run < 0 || run > pixels - sum)
            return error_set(
                STATUS_DATA, fix_annotation,
                "run %zu (character %zu) of a compressed RLE mask is %lld; %lld of %lld pixels are left",
                out->count, start, (long long)run, (long long)(pixels - sum), (long long)pixels);
        sum += run;
        RETURN_IF_ERROR(append(out, (uint32_t)run));
    }
    return check_sum(out, sum);
}

status mask_rle_to_string(char **out, const mask_rle *mask) {
    char *text = malloc(mask->count * MAX_GROUPS + 1), *to = text;
    if (!text) return error_set(STATUS_OS, NULL, "no memory for a compressed mask of %zu runs", mask->count);
    for (size_t i = 0; i < mask->count; i++) {
        int64_t value = mask->counts[i];
        if (i > 2) value -= mask->counts[i - 2];
        for (bool more = true; more;) {
            int group = (int)(value & GROUP_MASK);
            value >>= GROUP_BITS;
            more = group & GROUP_SIGN ? value != -1 : value != 0;
            *to++ = (char)((group | (more ? GROUP_MORE : 0)) + CHARACTER_BASE);
        }
    }
    *to = 0;
    *out = text;
    return STATUS_OK;
}

/* Walks through the runs of one mask. */
typedef struct run_cursor {
    const mask_rle *mask;
    size_t next;
    uint32_t left; /* of the current run */
    bool value;
} run_cursor;

static void skip_spent_runs(run_cursor *c) {
    while (c->left == 0 && c->next < c->mask->count) {
        c->value = c->next & 1;
        c->left = c->mask->counts[c->next++];
    }
}

status mask_rle_merge(mask_rle *out, const mask_rle *a, const mask_rle *b, bool intersect) {
    CHECK(a->height == b->height && a->width == b->width && out != a && out != b, "masks of different sizes");
    RETURN_IF_ERROR(begin(out, a->height, a->width));
    run_cursor from_a = {.mask = a}, from_b = {.mask = b};
    uint32_t run = 0;
    bool value = false;
    for (;;) {
        skip_spent_runs(&from_a);
        skip_spent_runs(&from_b);
        uint32_t step = from_a.left < from_b.left ? from_a.left : from_b.left;
        if (step == 0) break;
        bool merged = intersect ? from_a.value && from_b.value : from_a.value || from_b.value;
        if (merged != value) {
            RETURN_IF_ERROR(append(out, run));
            run = 0;
            value = merged;
        }
        run += step;
        from_a.left -= step;
        from_b.left -= step;
    }
    return append(out, run);
}
