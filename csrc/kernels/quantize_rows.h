// Activations to bytes, per row: for weights that have one scale a channel (linear_i8.h).
#pragma once

#include "quantize.h"

namespace octavo::OCTAVO_ISA {

// q = x·(127 / max|x|) to nearest even, scale = max|x| / 127, and the sum of q, over all of a row; zeros up to a multiple of
// kRowPadding. Zero, infinity and NaN as in quantize_group.
template <class V>
inline void quantize_row(const float* x, int64_t channels, int8_t* q, float* scale, int32_t* sum) {
    constexpr int kVectors = 16 / V::kLanes;
    const int64_t padded = round_up(channels, kRowPadding);
    auto top = V::broadcast_word(0);
    for_vectors<V>(channels, [&](int64_t i, int lanes) {
        top = V::max_words(top, V::magnitude_bits(load_lanes<V>(x + i, lanes)));
    });
    const uint32_t bits = V::reduce_max_words(top);
    float maximum;
    std::memcpy(&maximum, &bits, 4);
    *sum = 0;
    if (bits >= 0x7f800000 || maximum < 0x1p-100f) {
        std::memset(q, 0, static_cast<size_t>(padded));
        *scale = bits >= 0x7f800000 ? __builtin_nanf("") : 0.0f;
        return;
    }
    *scale = maximum / 127.0f;
    const auto inverse = V::broadcast(127.0f / maximum);
    const auto sixteen = [&](const float* from, int8_t* to) {
        typename V::Word words[kVectors];
        for (int v = 0; v < kVectors; ++v)
            words[v] = V::round_to_words(V::mul(V::load(from + v * V::kLanes), inverse));
        *sum += V::store_sixteen_bytes(to, words);
    };
    int64_t i = 0;
    for (; i + 16 <= channels; i += 16) sixteen(x + i, q + i);
    if (i < channels) {
        float last[16] = {};
        std::memcpy(last, x + i, static_cast<size_t>(channels - i) * sizeof(float));
        sixteen(last, q + i);
        i += 16;
    }
    std::memset(q + i, 0, static_cast<size_t>(padded - i));
}

// Item: rows as row_range cuts them.
template <class V>
void quantize_rows(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const QuantizeRowsArguments*>(arguments);
    const RowRange range = row_range(a.rows, a.in_features, item);
    for (int64_t row = range.first; row < range.end; ++row)
        quantize_row<V>(a.x + row * a.x_stride, a.in_features, a.q + row * round_up(a.in_features, kRowPadding),
                        a.scales + row, a.sums + row);
}

}  // namespace octavo::OCTAVO_ISA
