// Rows of bf16 in pairs, as linear_bf16_amx.h reads them: LinearBf16Arguments says how they lie.
#pragma once

#include <cstring>

#include "math.h"

namespace octavo::OCTAVO_ISA {

// n floats to bf16.
template <class V>
inline void round_row(const float* x, uint16_t* y, int64_t n) {
    for_vectors<V>(n, [&](int64_t i, int lanes) {
        if (lanes == V::kLanes) return V::store_bf16(y + i, V::load(x + i));
        uint16_t rounded[V::kLanes];
        V::store_bf16(rounded, load_lanes<V>(x + i, lanes));
        std::memcpy(y + i, rounded, sizeof(uint16_t) * static_cast<size_t>(lanes));
    });
}

// A block of up to kPairedRows rows of x to [channels / 2][rows][2]. channels is a multiple of 32.
template <class V>
inline void pair_rows(const float* x, int64_t x_stride, int64_t rows, int64_t channels, uint16_t* y) {
    if (rows == 1) return round_row<V>(x, y, channels);  // its own pairs
    auto* pairs = reinterpret_cast<float*>(y);           // moved as floats, never computed with
    for (int64_t k = 0; k < channels; k += 2 * V::kLanes)
        for (int64_t first = 0; first < rows; first += V::kLanes) {
            const int lanes = static_cast<int>(smaller(V::kLanes, rows - first));
            alignas(64) uint16_t rounded[V::kLanes][2 * V::kLanes];
            for (int row = 0; row < lanes; ++row) round_row<V>(x + (first + row) * x_stride + k, rounded[row], 2 * V::kLanes);
            typename V::Float block[V::kLanes];
            for (int row = 0; row < V::kLanes; ++row) block[row] = V::load(reinterpret_cast<float*>(rounded[smaller(row, lanes - 1)]));
            V::transpose(block);
            for (int pair = 0; pair < V::kLanes; ++pair)
                store_lanes<V>(pairs + (k / 2 + pair) * rows + first, block[pair], lanes);
        }
}

// Rows of a block, paired or one after the other.
template <class V>
inline void round_rows(const float* x, int64_t x_stride, int64_t rows, int64_t channels, bool is_paired, uint16_t* y) {
    if (is_paired) return pair_rows<V>(x, x_stride, rows, channels, y);
    for (int64_t row = 0; row < rows; ++row) round_row<V>(x + row * x_stride, y + row * channels, channels);
}

}  // namespace octavo::OCTAVO_ISA
