/* mask_targets, a block for each RoI. Masks are columns of bits: outlines toggle bits where inside and outside change places,
 * which gives the same bits in any order; a column is then filled word by word.
 *
 * A polygon of a hard target is drawn in the RoI's frame, in shared memory (a block's part of scratch where the resolution is too
 * large for that). For all else the block makes tables of the original pixels behind the columns and rows of the RoI's window, and
 * the window's bits where the object is a polygon; bitmaps are read in place. A thread then takes the mean of a bin. What kind an
 * object is only the device knows: a launch for polygons and one for bitmaps each pass over the others. */
#include "polygon_walk.cuh"
#include "roi_bins.cuh"
#include "scratch_cutter.cuh"

extern "C" {
#include "data/gt_masks.h"
#include "image_info.h"
#include "mask_targets/mask_targets.h"
}

namespace {

/* BLOCKS at once on a multiprocessor: the RoIs of a small batch all run, and no register is spilled. */
constexpr int THREADS = 256, BLOCKS = 4;
constexpr size_t FRAME_SHARED = 40 * 1024, ALL_SPACES = (size_t)128 << 20;

struct mask_job {
    const float *rois;
    const int32_t *gt;
    const gt_mask_record *records;
    const uint8_t *blob;
    const image_info *info;
    float *targets;
    row_count rows;
    int objects; /* of an image */
    int resolution, canvas_height, canvas_width;
    bool soft, bitmaps;
    bool frame_is_shared;
    char *spaces; /* scratch: space_bytes for each block */
    size_t space_bytes;
};

/* Sizes are cut to the canvas, for which there is room. */
struct mask_image {
    int height, width, original_height, original_width;
    bool flip;
};

__device__ mask_image image_of(const mask_job &job, int gt) {
    const image_info *info = job.info + gt / job.objects;
    return {min(info->height, job.canvas_height), min(info->width, job.canvas_width), info->original_height,
            info->original_width, info->flip != 0};
}

/* ---- polygons ---------------------------------------------------------------------------------------------- */

/* Original to resized, mirrored image. */
__device__ polygon_place to_resized(const mask_image &image) {
    double x = image.width / (double)image.original_width, y = image.height / (double)image.original_height;
    return {image.flip ? -x : x, image.flip ? (double)image.width : 0.0, y, 0, 0, 1, 0, 1};
}

/* Side and ratio are rounded to float, as NumPy does with a float32 box. */
__device__ double frame_ratio(float low, float high, int size) {
    float side = __fsub_rn(high, low);
    return side < 0.1f ? size / 0.1 : (double)__fdiv_rn((float)size, side);
}

/* The union of a polygon's parts. change(column, row): a crossing in an image of this width. */
template <class F>
__device__ void draw_polygon(const bit_columns &bits, const uint8_t *payload, const polygon_place &place,
                             int width, F change) {
    int parts = *reinterpret_cast<const int32_t *>(payload);
    const int32_t *part = reinterpret_cast<const int32_t *>(payload) + 1;
    SHARED_ARRAY(polygon_place, kept, 1); /* 16 registers otherwise */
    if (threadIdx.x == 0) kept[0] = place;
    clear_bits(bits);
    for (int i = 0; i < parts; i++) {
        int points = *part;
        walk_outline<THREADS>(reinterpret_cast<const float *>(part + 1), points, kept[0], width, change);
        fill_bits(bits);
        part += 1 + 2 * (int64_t)points;
    }
}

__device__ void fill_from_polygon(const mask_job &job, const float *roi, const mask_image &image,
                                  const uint8_t *payload, unsigned *words, float *out) {
    int size = job.resolution;
    bit_columns bits = {words, words + size * bit_words(size), size, bit_words(size)};
    polygon_place place = to_resized(image);
    place.low_x = (double)roi[1];
    place.ratio_x = frame_ratio(roi[1], roi[3], size);
    place.low_y = (double)roi[2];
    place.ratio_y = frame_ratio(roi[2], roi[4], size);
    draw_polygon(bits, payload, place, size, [&](int column, int row) {
        if (row < size) bits.change(column, row);
    });
    for (int i = (int)threadIdx.x; i < size * size; i += THREADS) {
        int y = i / size, x = i - y * size;
        out[i] = bits.at(x, y) ? 1.0f : 0.0f;
    }
}

/* ---- windows of the resized image ---------------------------------------------------------------------------- */

/* Axis 0 is y. places: the original pixel of each row and column; of the resized image for a hard polygon. */
struct mask_window {
    int low[2], size[2];
    int32_t *places[2];
    bit_columns bits; /* of a polygon */
};

/* The pixels that samples of the bins can touch. */
__device__ void choose_window(mask_window *w, const roi_axis (&bins)[2], const mask_image &image,
                              int resolution) {
#pragma unroll
    for (int axis = 0; axis < 2; axis++) {
        int pixels = axis ? image.width : image.height;
        float low = floorf(bins[axis].start) - 1, size = (float)pixels;
        float end = __fadd_rn(bins[axis].start, __fmul_rn(bins[axis].bin, (float)resolution));
        float high = ceilf(end) + 2;
        w->low[axis] = low > 0 ? low < size ? (int)low : pixels : 0;
        w->size[axis] = max((high > 0 ? high < size ? (int)high : pixels : 0) - w->low[axis], 0);
    }
}

/* Original pixel of resized pixel i, added up as Pillow does: so it takes one thread. */
__device__ void place_added_up(int32_t *places, int low, int count, int resized, int original, bool turned) {
    double step = (double)original / resized, at = 0.5 * step;
    for (int i = 0; i < low; i++) at += step;
    for (int i = 0; i < count; i++, at += step)
        places[turned ? count - 1 - i : i] = min((int)at, original - 1);
}

/* Ends with a barrier. A mirrored image was mirrored after the resize (detectron2), or before it (soft: torchvision). */
__device__ void place_axis_pixels(const mask_window &w, const mask_image &image, bool resized_frame,
                                  bool soft) {
#pragma unroll
    for (int axis = 0; axis < 2; axis++) {
        int resized = axis ? image.width : image.height, count = w.size[axis];
        int original = axis ? image.original_width : image.original_height;
        bool flip = axis && image.flip;
        int32_t *places = w.places[axis];
        if (resized_frame || soft) {
            float step = __fdiv_rn((float)original, (float)resized);
            for (int i = (int)threadIdx.x; i < count; i += THREADS) {
                int at = w.low[axis] + i;
                int pixel = min((int)floorf(__fmul_rn((float)at, step)), original - 1);
                places[i] = resized_frame ? at : flip ? original - 1 - pixel : pixel;
            }
        } else if ((int)threadIdx.x == axis * 32) { /* the axes in two warps */
            int low = flip ? resized - w.low[axis] - count : w.low[axis];
            place_added_up(places, low, count, resized, original, flip);
        }
    }
    __syncthreads();
}

/* First index with places[index] >= wanted (rising) or <= wanted (falling). */
__device__ int first_place(const int32_t *places, int count, int wanted, bool falling) {
    int low = 0, high = count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (falling ? places[middle] > wanted : places[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A column of the image may be kept several times, or not at all. */
__device__ void change_kept(const mask_window &w, int column, int row) {
    const int32_t *columns = w.places[1];
    int n = w.size[1], kept_row = first_place(w.places[0], w.size[0], row, false);
    if (kept_row == w.size[0]) return;
    bool falling = n > 1 && columns[0] > columns[n - 1];
    for (int i = first_place(columns, n, column, falling); i < n && columns[i] == column; i++)
        w.bits.change(i, kept_row);
}

/* ---- bins -------------------------------------------------------------------------------------------------- */

struct polygon_pixels {
    const mask_window *w;
    __device__ float operator()(int x, int y) const {
        return w->bits.at(x - w->low[1], y - w->low[0]) ? 1.0f : 0.0f;
    }
};

struct bitmap_pixels {
    const mask_window *w;
    const gt_mask_record *record;
    const uint8_t *rows;
    __device__ float operator()(int x, int y) const {
        x = w->places[1][x - w->low[1]] - record->x0;
        y = w->places[0][y - w->low[0]] - record->y0;
        if (x < 0 || y < 0 || x >= record->width || y >= record->height) return 0;
        return rows[(int64_t)y * ((record->width + 7) / 8) + x / 8] >> x % 8 & 1 ? 1.0f : 0.0f;
    }
};

/* Mean of a bin's samples, in torchvision's order of operations. */
template <class P>
__device__ float bin_mean(P pixel, const roi_axis (&bins)[2], const mask_image &image, int p, int q) {
    float sum = 0;
    for (int i = 0; i < bins[0].samples; i++) {
        int y0, y1, x0, x1;
        float ly, lx;
        if (!roi_neighbours(roi_sample_at(bins[0], p, i), image.height, &y0, &y1, &ly)) continue;
        float hy = __fsub_rn(1, ly);
        for (int j = 0; j < bins[1].samples; j++) {
            if (!roi_neighbours(roi_sample_at(bins[1], q, j), image.width, &x0, &x1, &lx)) continue;
            float hx = __fsub_rn(1, lx), value = __fmul_rn(__fmul_rn(hy, hx), pixel(x0, y0));
            value = __fadd_rn(value, __fmul_rn(__fmul_rn(hy, lx), pixel(x1, y0)));
            value = __fadd_rn(value, __fmul_rn(__fmul_rn(ly, hx), pixel(x0, y1)));
            value = __fadd_rn(value, __fmul_rn(__fmul_rn(ly, lx), pixel(x1, y1)));
            sum = __fadd_rn(sum, value);
        }
    }
    int64_t samples = (int64_t)bins[0].samples * bins[1].samples;
    return samples > 1 ? __fdiv_rn(sum, (float)samples) : sum;
}

template <class P>
__device__ void write_means(const mask_job &job, P pixel, const roi_axis (&bins)[2], const mask_image &image,
                            float *out) {
    int size = job.resolution;
    for (int i = (int)threadIdx.x; i < size * size; i += THREADS) {
        int y = i / size, x = i - y * size;
        float mean = bin_mean(pixel, bins, image, y, x);
        out[i] = job.soft ? mean : mean >= 0.5f ? 1.0f : 0.0f;
    }
}

/* The window and its tables; what is drawn behind them starts at *behind. */
__device__ mask_window window_of(const mask_job &job, const roi_axis (&bins)[2], const mask_image &image,
                                 char *space, bool resized_frame, unsigned **behind) {
    mask_window w;
    choose_window(&w, bins, image, job.resolution);
    w.places[1] = reinterpret_cast<int32_t *>(space);
    w.places[0] = w.places[1] + job.canvas_width;
    *behind = reinterpret_cast<unsigned *>(w.places[0] + job.canvas_height);
    place_axis_pixels(w, image, resized_frame, job.soft);
    return w;
}

__device__ void fill_from_bitmap(const mask_job &job, const float *roi, const mask_image &image,
                                 const gt_mask_record *record, char *space, float *out) {
    roi_sampling sampling = {job.resolution, 0, !job.soft};
    roi_axis bins[2] = {roi_axis_make(roi, 0, 1, sampling), roi_axis_make(roi, 1, 1, sampling)};
    unsigned *behind;
    mask_window w = window_of(job, bins, image, space, false, &behind);
    write_means(job, bitmap_pixels{&w, record, job.blob + record->offset}, bins, image, out);
}

/* A polygon is drawn on the resized image (detectron2) or on the original one (soft). */
__device__ void fill_from_drawing(const mask_job &job, const float *roi, const mask_image &image,
                                  const uint8_t *payload, char *space, float *out) {
    roi_sampling sampling = {job.resolution, 0, !job.soft};
    roi_axis bins[2] = {roi_axis_make(roi, 0, 1, sampling), roi_axis_make(roi, 1, 1, sampling)};
    unsigned *words;
    mask_window w = window_of(job, bins, image, space, !job.soft, &words);
    int rows = bit_words(w.size[0]);
    w.bits = {words, words + w.size[1] * rows, w.size[1], rows};
    polygon_place place = {1, 0, 1, 0, 0, 1, 0, 1};
    if (!job.soft) place = to_resized(image);
    int height = job.soft ? image.original_height : image.height,
        width = job.soft ? image.original_width : image.width;
    draw_polygon(w.bits, payload, place, width,
                 [&](int column, int row) { change_kept(w, column, min(row, height)); });
    write_means(job, polygon_pixels{&w}, bins, image, out);
}

/* ---- kernels: each fills the RoIs of one kind ------------------------------------------------------------------ */

enum target_kind { POLYGON_IN_FRAME, POLYGON_IN_WINDOW, BITMAP };

template <target_kind KIND> __global__ void __launch_bounds__(THREADS, BLOCKS) target_kernel(mask_job job) {
    DYNAMIC_SHARED(unsigned, shared_words);
    char *space = job.spaces + (int64_t)blockIdx.x * job.space_bytes;
    int64_t n = valid_rows(job.rows);
    for (int64_t m = blockIdx.x; m < n; m += gridDim.x) {
        int gt = job.gt[m];
        const gt_mask_record *record = job.records + gt;
        if ((record->kind == GT_MASK_POLYGON) != (KIND != BITMAP)) continue;
        const float *roi = job.rois + 5 * m;
        mask_image image = image_of(job, gt);
        float *out = job.targets + m * job.resolution * job.resolution;
        if (KIND == POLYGON_IN_FRAME)
            fill_from_polygon(job, roi, image, job.blob + record->offset,
                              job.frame_is_shared ? shared_words : reinterpret_cast<unsigned *>(space), out);
        else if (KIND == POLYGON_IN_WINDOW)
            fill_from_drawing(job, roi, image, job.blob + record->offset, space, out);
        else
            fill_from_bitmap(job, roi, image, record, space, out);
        __syncthreads(); /* the next RoI has the same memory */
    }
}

/* ---- host -------------------------------------------------------------------------------------------------- */

size_t bits_bytes(int64_t columns, int64_t rows) {
    return (size_t)(2 * columns * bit_words((int)rows)) * sizeof(unsigned);
}

mask_job make_job(const op_call *call) {
    const mask_targets_params *p = static_cast<const mask_targets_params *>(call->params);
    mask_job job = {};
    job.rois = tensor_f32(call->in[MASK_TARGETS_ROIS]);
    job.gt = tensor_i32(call->in[MASK_TARGETS_GT]);
    job.records = tensor_as<const gt_mask_record>(call->in[MASK_TARGETS_RECORDS]);
    job.blob = tensor_u8(call->in[MASK_TARGETS_BLOB]);
    job.info = tensor_as<const image_info>(call->in[MASK_TARGETS_INFO]);
    job.rows = row_count_of(call->in[MASK_TARGETS_ROIS]);
    job.objects = (int)call->in[MASK_TARGETS_RECORDS]->shape[1];
    job.resolution = p->resolution;
    job.canvas_height = (int)p->canvas_height;
    job.canvas_width = (int)p->canvas_width;
    job.soft = p->soft;
    job.bitmaps = p->bitmaps;
    size_t tables = (size_t)(p->canvas_height + p->canvas_width) * sizeof(int32_t);
    size_t frame = bits_bytes(p->resolution, p->resolution);
    job.frame_is_shared = frame <= FRAME_SHARED;
    job.space_bytes = tables;
    if (p->soft || p->bitmaps)
        job.space_bytes += bits_bytes(p->canvas_width, p->canvas_height);
    else if (!job.frame_is_shared && frame > tables)
        job.space_bytes = frame;
    job.space_bytes = (job.space_bytes + 63) / 64 * 64;
    return job;
}

/* Blocks, each with its space: one for each RoI, unless that takes too much memory. */
unsigned blocks_of(const mask_job &job) {
    int64_t most = (int64_t)(ALL_SPACES / job.space_bytes), blocks = cuda_grid(job.rows.capacity, 1);
    return (unsigned)(blocks < most ? blocks : most > 1 ? most : blocks > 0);
}

size_t scratch_bytes(const op_call *call, bool) {
    mask_job job = make_job(call);
    return blocks_of(job) * job.space_bytes;
}

void forward(const op_call *call) {
    mask_job job = make_job(call);
    job.targets = tensor_f32(call->out[0]);
    job.spaces = static_cast<char *>(call->scratch);
    unsigned blocks = blocks_of(job);
    size_t shared = job.frame_is_shared ? bits_bytes(job.resolution, job.resolution) : 0;
    if (job.soft || job.bitmaps)
        LAUNCH(target_kernel<POLYGON_IN_WINDOW>, blocks, THREADS, 0, call->stream, job);
    else
        LAUNCH(target_kernel<POLYGON_IN_FRAME>, blocks, THREADS, shared, call->stream, job);
    LAUNCH(target_kernel<BITMAP>, blocks, THREADS, 0, call->stream, job);
}

const op_kernel bit_kernel = {"cuda_bit_columns", forward, nullptr, scratch_bytes};

} // namespace

extern "C" const op_kernel *const mask_targets_cuda[] = {&bit_kernel, nullptr};
