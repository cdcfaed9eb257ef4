/* conv_tiles_receive: a block takes a slice of the pixels and up to 256 vectors of channels. Its threads stand side by side
 * over channels, so whole lines are read, and below each other over pixels. */
#include "conv_tiles.cuh"
#include "slice_sums.cuh"

namespace {

enum { THREADS = 256 };
constexpr int64_t MOST_SLICES = 1024, PIXELS_OF_A_SLICE = 64;

int slices_of(row_count rows, int64_t pixels) {
    int64_t slices = (rows.capacity * pixels + PIXELS_OF_A_SLICE - 1) / PIXELS_OF_A_SLICE;
    return (int)(slices < 1 ? 1 : slices < MOST_SLICES ? slices : MOST_SLICES);
}

/* y NULL: no ReLU. partial [slices,channels]; NULL: no sums. `slice` is how many pixels of capacity one has. */
template <int WIDTH, class G>
__global__ void __launch_bounds__(THREADS) receive_kernel(G *g, const G *y, float *partial, row_count rows,
                                                          int64_t pixels, int64_t channels, int64_t slice) {
    SHARED_ARRAY(float, sums, THREADS *WIDTH);
    int64_t channel = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH;
    int64_t first = blockIdx.y * slice, end = min(first + slice, valid_rows(rows) * pixels);
    float sum[WIDTH] = {};
    for (int64_t pixel = first + threadIdx.y; pixel < end && channel < channels; pixel += blockDim.y) {
        float d[WIDTH], mask[WIDTH];
        load_floats<WIDTH>(d, g + pixel * channels + channel);
        if (y) {
            load_floats<WIDTH>(mask, y + pixel * channels + channel);
#pragma unroll
            for (int i = 0; i < WIDTH; i++)
                if (!(mask[i] > 0)) d[i] = 0;
            store_floats<WIDTH>(g + pixel * channels + channel, d);
        }
#pragma unroll
        for (int i = 0; i < WIDTH; i++) sum[i] += d[i];
    }
    if (!partial) return;
    float *own = sums + (threadIdx.y * blockDim.x + threadIdx.x) * WIDTH;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) own[i] = sum[i];
    __syncthreads();
    if (threadIdx.y > 0 || channel >= channels) return;
    for (unsigned other = 1; other < blockDim.y; other++)
        for (int i = 0; i < WIDTH; i++) sum[i] += own[other * blockDim.x * WIDTH + i];
    for (int i = 0; i < WIDTH; i++) partial[blockIdx.y * channels + channel + i] = sum[i];
}

template <int WIDTH, class G>
void launch(const op_call *call, row_count rows, int64_t pixels, int64_t channels, G *g, const G *y,
            float *partial) {
    int64_t vectors = channels / WIDTH;
    unsigned across = 1;
    while (across < vectors && across < THREADS) across *= 2;
    int slices = slices_of(rows, pixels);
    int64_t slice = (rows.capacity * pixels + slices - 1) / slices;
    dim3 grid((unsigned)((vectors + across - 1) / across), (unsigned)slices);
    LAUNCH(receive_kernel<WIDTH, G>, grid, dim3(across, THREADS / across), 0, call->stream, g, y, partial,
           rows, pixels, channels, slice);
}

} // namespace

void conv_tiles_receive(const op_call *call, row_count rows, int64_t pixels, int64_t channels,
                        const tensor *g, const tensor *y, int bias_input) {
    float *partial = call->d_in[bias_input] ? static_cast<float *>(call->scratch) : nullptr;
    if (!y && !partial) return;
    dispatch_real(g->type, [&](auto zero) {
        using G = decltype(zero);
        G *d = tensor_as<G>(g);
        const G *mask = tensor_as<G>(y);
        if (is_packable(d, channels) && is_packable(mask, 0))
            launch<vector_width<G>, G>(call, rows, pixels, channels, d, mask, partial);
        else
            launch<1, G>(call, rows, pixels, channels, d, mask, partial);
    });
    if (partial)
        slice_sums(call, gradient_sink_of(call, bias_input), partial, slices_of(rows, pixels), channels);
}

size_t conv_tiles_receive_scratch(const op_call *call, row_count rows, int64_t pixels, int64_t channels,
                                  int bias_input) {
    if (!call->d_in[bias_input]) return 0;
    return (size_t)(slices_of(rows, pixels) * channels) * sizeof(float);
}
