/* Patches of a picture as operands of tile_product.cuh: what a convolution multiplies its weights with, fetched in place. */
#ifndef KERNELS_CONV_PATCHES_CUH
#define KERNELS_CONV_PATCHES_CUH

#include "tile_product.cuh"

constexpr int OUTSIDE = -(1 << 30); /* a coordinate that no tap brings back into the picture */

/* Where a row of the tile fetches its patch (pixels of the picture before it, coordinates of the first tap), and the number of
 * the pixel it writes; negative: none. */
struct tile_pixel {
    int image, top, left, dest;
};

/* Patches of a picture [n,h,w,channels]: element k = (tap, channel) of the patch at a pixel. */
template <class T> struct patches {
    const T *data;
    int h, w, channels, taps_across, tap_step, depth;
    bool wide;

    __device__ vector_of<T> fetch(const tile_pixel &at, int k) const {
        vector_of<T> v = {};
        if (k >= depth) return v;
        int tap = (int)((unsigned)k / (unsigned)channels), channel = k - tap * channels;
        int down = (int)((unsigned)tap / (unsigned)taps_across), across = tap - down * taps_across;
        if (wide) {
            const T *address = find(at, down, across);
            return address ? fetch_vector(address + channel, 1, true) : v;
        }
#pragma unroll
        for (int j = 0; j < vector_width<T>; j++) {
            if (k + j >= depth) break;
            const T *address = find(at, down, across);
            if (address) v.v[j] = address[channel];
            if (++channel < channels) continue;
            channel = 0;
            if (++across < taps_across) continue;
            across = 0;
            down++;
        }
        return v;
    }

    __device__ const T *find(const tile_pixel &at, int down, int across) const {
        int y = at.top + down * tap_step, x = at.left + across * tap_step;
        if (y < 0 || y >= h || x < 0 || x >= w) return nullptr;
        return data + (int64_t)(at.image + y * w + x) * channels;
    }
};

#endif
