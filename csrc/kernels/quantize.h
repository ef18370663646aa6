// Activations to bytes, per row and group of 32 elements.
#pragma once

#include <cstring>

#include "bf16_pairs.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kGroup = 32;

// q = x·(127 / max|x|) to nearest even, scale = max|x| / 127, and the sums of q over each half; the sums `stride` apart.
// A maximum below 2⁻¹⁰⁰ counts as zero; a group with an infinity or a NaN gets zeros and the scale NaN.
template <class V>
inline float quantize_group(const float* x, int8_t* q, int32_t* sums, int64_t stride) {
    constexpr int kVectors = static_cast<int>(kGroup / V::kLanes);
    typename V::Float values[kVectors];
    auto top = V::broadcast_word(0);
    for (int v = 0; v < kVectors; ++v) {
        values[v] = V::load(x + v * V::kLanes);
        top = V::max_words(top, V::magnitude_bits(values[v]));
    }
    const uint32_t bits = V::reduce_max_words(top);
    float maximum;
    std::memcpy(&maximum, &bits, 4);
    if (bits >= 0x7f800000 || maximum < 0x1p-100f) {
        std::memset(q, 0, kGroup);
        sums[0] = sums[stride] = 0;
        return bits >= 0x7f800000 ? __builtin_nanf("") : 0.0f;
    }
    const auto inverse = V::broadcast(127.0f / maximum);
    typename V::Word words[kVectors];
    for (int v = 0; v < kVectors; ++v) words[v] = V::round_to_words(V::mul(values[v], inverse));
    sums[0] = V::store_sixteen_bytes(q, words);
    sums[stride] = V::store_sixteen_bytes(q + 16, words + kVectors / 2);
    return maximum / 127.0f;
}

// Rows first … end − 1 of x, whose row `first` is at x; groups outermost, since a group's scales are neighbours and a
// row's far apart.
template <class V>
inline void quantize_groups_of_rows(const float* x, int64_t x_stride, const NarrowOutput& out, int64_t rows, int64_t channels,
                                    int64_t first, int64_t end) {
    for (int64_t group = 0; group < channels / kGroup; ++group)
        for (int64_t row = first; row < end; ++row)
            out.scales[group * rows + row] =
                quantize_group<V>(x + (row - first) * x_stride + group * kGroup,
                                  out.q + row * channels + group * kGroup, out.sums + 2 * group * rows + row, rows);
}

// Item: rows as row_range cuts them.
template <class V>
void quantize_groups(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const QuantizeGroupsArguments*>(arguments);
    const RowRange range = row_range(a.rows, a.in_features, item);
    quantize_groups_of_rows<V>(a.x + range.first * a.x_stride, a.x_stride, {a.q, a.scales, a.sums, nullptr, false}, a.rows,
                               a.in_features, range.first, range.end);
}

template <class V>
void round(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const RoundArguments*>(arguments);
    const RowRange range = row_range(a.rows, a.channels, item, kPairedRows);
    for (int64_t row = range.first; row < range.end; row += kPairedRows)
        round_rows<V>(a.x + row * a.x_stride, a.x_stride, smaller(kPairedRows, range.end - row), a.channels, a.is_paired,
                      a.y + row * a.channels);
}

// Calls compute(row, y) for the item's rows. With a narrow output, a batch of rows is quantised or rounded while it is in the
// cache, and stands nowhere else where y is null.
template <class V, class Compute>
inline void for_narrowed_rows(float* y, const NarrowOutput& narrow, int64_t rows, int64_t channels, int64_t item,
                              Compute compute) {
    constexpr int64_t kBatch = kPairedRows;  // a cache line of scales, too
    const RowRange range = row_range(rows, channels, item, narrow.is_paired ? kBatch : 1);
    float* scratch = y ? nullptr : static_cast<float*>(thread_scratch(static_cast<size_t>(kBatch * channels) * 4));
    for (int64_t first = range.first; first < range.end; first += kBatch) {
        const int64_t end = smaller(range.end, first + kBatch);
        float* batch = y ? y + first * channels : scratch;
        for (int64_t row = first; row < end; ++row) compute(row, batch + (row - first) * channels);
        if (narrow.bf16)
            round_rows<V>(batch, channels, end - first, channels, narrow.is_paired, narrow.bf16 + first * channels);
        if (narrow.q) quantize_groups_of_rows<V>(batch, channels, narrow, rows, channels, first, end);
    }
}

}  // namespace octavo::OCTAVO_ISA
