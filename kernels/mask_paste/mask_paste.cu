/* mask_paste, a block for each mask and a thread for each column of its box, without a bitmap. A column is walked cell by cell as
 * in mask_paste_by_column.c, once to count the places where it changes and, with the sums over the columns before it,
 * once more to write the runs between them. */
#include "mask_paste/mask_place.cuh"

extern "C" {
#include "image_info.h"
}

namespace {

constexpr int THREADS = 256, WARPS = THREADS / 32;

struct paste_job {
    const float *probs, *boxes, *rois;
    const image_info *info;
    int32_t *runs, *counts;
    row_count rows;
    int rule, side, capacity;
    float threshold;
};

/* What all columns of a mask share; the arrays are shared memory. */
struct paste_mask {
    const float *map;
    mask_axis x, y;
    int height;
    float threshold;
    int *start;                /* [S+2] first pixel of each cell; its end is the start of the next */
    float *at_first, *at_last; /* [S+1] place of each cell's first and last pixel in it */
};

/* First pixel of the axis whose cell is `cell` or a later one. */
__device__ int first_of_cell(const mask_axis &axis, int cell) {
    int low = axis.first, high = axis.end;
    while (low < high) {
        float place;
        int middle = low + (high - low) / 2;
        if (mask_axis_at(axis, middle, &place) >= cell)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

__device__ void find_cells(const paste_mask &m) {
    for (int k = (int)threadIdx.x; k <= m.y.side + 1; k += THREADS) m.start[k] = first_of_cell(m.y, k);
    __syncthreads();
    for (int k = (int)threadIdx.x; k <= m.y.side; k += THREADS) {
        mask_axis_at(m.y, m.start[k], &m.at_first[k]);
        mask_axis_at(m.y, m.start[k + 1] - 1, &m.at_last[k]);
    }
    __syncthreads();
}

/* Node k of a pixel column that lies at `right` in cell `cell`. */
__device__ float column_node(const paste_mask &m, int k, int cell, float right) {
    int side = m.y.side;
    if (k < 1 || k > side) return 0;
    const float *row = m.map + (k - 1) * side;
    float a = cell >= 1 ? row[cell - 1] : 0, b = cell < side ? row[cell] : 0;
    return mask_between(a, b, right);
}

/* First pixel of cell k, between nodes a and b, that is not as the cell's first one; the last one is not. Mostly next to where
 * interpolation expects it. */
__device__ int find_change(const paste_mask &m, int k, float a, float b, float v_first, float v_last,
                           bool first_set) {
    int low = m.start[k], high = m.start[k + 1] - 1;
    float share = (m.threshold - v_first) / (v_last - v_first);
    int guess = low + (share >= 0 && share <= 1 ? (int)(share * (float)(high - low)) : 0);
    for (int step = 0; high - low > 1; step++) {
        float place;
        int pixel = step < 2 ? guess : low + (high - low) / 2;
        pixel = pixel <= low ? low + 1 : pixel >= high ? high - 1 : pixel;
        mask_axis_at(m.y, pixel, &place);
        if (mask_is_set(m.y.rule, m.threshold, mask_between(a, b, place)) == first_set) {
            low = pixel;
            guess = pixel + 1;
        } else {
            high = pixel;
            guess = pixel - 1;
        }
    }
    return high;
}

/* Calls change(y) for each y where the column is set and y - 1 is not or the other way round, from the top down; outside the
 * image nothing is set. */
template <class F> __device__ void walk_column(const paste_mask &m, int x, F change) {
    float right;
    int cell = mask_axis_at(m.x, x, &right);
    if (cell < 0 || cell > m.x.side) return;
    bool set = false;
    float a, b = column_node(m, 0, cell, right);
#pragma unroll 1
    for (int k = 0; k <= m.y.side; k++) {
        a = b;
        b = column_node(m, k + 1, cell, right);
        if (m.start[k] == m.start[k + 1]) continue;
        float v_first = mask_between(a, b, m.at_first[k]), v_last = mask_between(a, b, m.at_last[k]);
        bool first_set = mask_is_set(m.y.rule, m.threshold, v_first),
             last_set = mask_is_set(m.y.rule, m.threshold, v_last);
        if (first_set != set) change(m.start[k]);
        if (first_set != last_set) change(find_change(m, k, a, b, v_first, v_last, first_set));
        set = last_set;
    }
    if (set) change(m.start[m.y.side + 1]);
}

/* Changes within one column, and whether its first and last pixel of the image are set. */
struct count_changes {
    int height;
    int inner, last; /* how many; the last one */
    bool head, foot;
    __device__ void operator()(int y) {
        head = head || y == 0;
        foot = foot || y == height;
        if (y == 0 || y == height) return;
        inner++;
        last = y;
    }
};

/* The runs so far: how many changes, and the pixel of the last one. */
struct paste_state {
    int count, last;
};

struct write_run {
    int32_t *runs;
    int capacity;
    paste_state at;
    __device__ void operator()(int pixel) {
        if (at.count < capacity) runs[at.count] = pixel - at.last;
        at.count++;
        at.last = pixel;
    }
};

struct write_changes {
    write_run *to;
    int top, height;
    __device__ void operator()(int y) {
        if (y > 0 && y < height) (*to)(top + y);
    }
};

/* The state before each thread's part, from `carry` on; *carry becomes the state behind all. `own.last` is -1 without changes. All
 * threads call it. */
__device__ paste_state scan_states(paste_state own, paste_state *carry) {
    SHARED_ARRAY(paste_state, totals, WARPS);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    paste_state sum = own;
    for (int step = 1; step < 32; step *= 2) {
        int count = __shfl_up_sync(WARP_ALL, sum.count, step),
            last = __shfl_up_sync(WARP_ALL, sum.last, step);
        if (lane < step) continue;
        sum.count += count;
        sum.last = last > sum.last ? last : sum.last;
    }
    if (lane == 31) totals[warp] = sum;
    paste_state before = {__shfl_up_sync(WARP_ALL, sum.count, 1), __shfl_up_sync(WARP_ALL, sum.last, 1)};
    if (lane == 0) before = {0, -1};
    __syncthreads();
    paste_state all = *carry;
    for (int w = 0; w < WARPS; w++) {
        if (w == warp) before = {all.count + before.count, all.last > before.last ? all.last : before.last};
        all = {all.count + totals[w].count, all.last > totals[w].last ? all.last : totals[w].last};
    }
    *carry = all;
    __syncthreads();
    return before;
}

/* Columns first .. end - 1 of the mask. Between two columns there is a change where the foot of one differs from the head of the
 * next; it belongs to the next. Returns the state behind them. */
__device__ paste_state paste_columns(const paste_mask &m, int32_t *runs, int capacity) {
    SHARED_ARRAY(bool, feet, THREADS + 1);
    paste_state carry = {0, 0};
    if (threadIdx.x == 0) feet[THREADS] = false;
    for (int first = m.x.first; first <= m.x.end; first += THREADS) {
        int x = first + (int)threadIdx.x, top = x <= m.x.end ? x * m.height : 0;
        count_changes column = {m.height, 0, 0, false, false};
        if (x < m.x.end) walk_column<count_changes &>(m, x, column);
        bool foot_before = false;
        __syncthreads();
        if (threadIdx.x == 0) foot_before = feet[THREADS];
        feet[threadIdx.x] = column.foot;
        __syncthreads();
        if (threadIdx.x > 0) foot_before = feet[threadIdx.x - 1];
        if (threadIdx.x == THREADS - 1) feet[THREADS] = column.foot;
        bool between = x <= m.x.end && foot_before != column.head;
        paste_state own = {column.inner + between, column.inner > 0 ? top + column.last : between ? top : -1};
        write_run write = {runs, capacity, scan_states(own, &carry)};
        if (between) write(top);
        if (column.inner > 0) walk_column(m, x, write_changes{&write, top, m.height});
    }
    return carry;
}

__global__ void __launch_bounds__(THREADS) paste_kernel(paste_job job) {
    DYNAMIC_SHARED(int, words); /* start, at_first, at_last */
    int64_t mask = (int64_t)blockIdx.x;
    if (mask >= valid_rows(job.rows)) return;
    const float *box = job.boxes + 4 * mask;
    const image_info &info = job.info[(int64_t)job.rois[5 * mask]];
    int32_t *runs = job.runs + mask * job.capacity;
    paste_mask m;
    m.map = job.probs + mask * job.side * job.side;
    m.x = mask_axis_make(job.rule, job.side, box[0], box[2], info.original_width);
    m.y = mask_axis_make(job.rule, job.side, box[1], box[3], info.original_height);
    m.height = info.original_height;
    m.threshold = job.threshold;
    m.start = words;
    m.at_first = reinterpret_cast<float *>(words + job.side + 2);
    m.at_last = m.at_first + job.side + 1;
    write_run write = {runs, job.capacity, {0, 0}};
    if (m.x.first < m.x.end && m.y.first < m.y.end) {
        find_cells(m);
        write.at = paste_columns(m, runs, job.capacity);
    }
    if (threadIdx.x > 0) return;
    int pixels = m.height * info.original_width;
    if (write.at.last < pixels) write(pixels);
    job.counts[mask] = write.at.count <= job.capacity ? write.at.count : -1;
}

void forward(const op_call *call) {
    const auto *p = static_cast<const mask_paste_params *>(call->params);
    const tensor *probs = call->in[MASK_PASTE_PROBS];
    int side = (int)probs->shape[1];
    paste_job job = {tensor_f32(probs),
                     tensor_f32(call->in[MASK_PASTE_BOXES]),
                     tensor_f32(call->in[MASK_PASTE_ROIS]),
                     static_cast<const image_info *>(call->in[MASK_PASTE_INFO]->data),
                     tensor_i32(call->out[MASK_PASTE_RUNS]),
                     tensor_i32(call->out[MASK_PASTE_COUNTS]),
                     row_count_of(probs),
                     p->rule,
                     side,
                     p->capacity,
                     (float)p->threshold};
    LAUNCH(paste_kernel, (unsigned)probs->shape[0], THREADS, (size_t)(3 * side + 4) * sizeof(int),
           call->stream, job);
}

const op_kernel columns = {"cuda_columns", forward, nullptr, nullptr};

} // namespace

extern "C" const op_kernel *const mask_paste_cuda[] = {&columns, nullptr};
