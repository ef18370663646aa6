// Activations to bytes, per row and group of 32 elements.
#pragma once

#include <cstring>

#include "math.h"
#include "rowwise.h"

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
    for (int half = 0; half < 2; ++half) {
        auto sum = V::broadcast_word(0);
        for (int v = half * kVectors / 2; v < (half + 1) * kVectors / 2; ++v) {
            const auto rounded = V::round_to_words(V::mul(values[v], inverse));
            V::store_low_bytes(q + v * V::kLanes, rounded);
            sum = V::add_words(sum, rounded);
        }
        sums[half * stride] = V::reduce_add_words(sum);
    }
    return maximum / 127.0f;
}

template <class V>
void quantize(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const QuantizeArguments*>(arguments);
    for_rows(a.rows, a.in_features, item, [&](int64_t row) {
        for (int64_t group = 0; group < a.in_features / kGroup; ++group)
            a.scales[group * a.rows + row] = quantize_group<V>(
                a.x + row * a.x_stride + group * kGroup, a.q + row * a.in_features + group * kGroup,
                a.sums + 2 * group * a.rows + row, a.rows);
    });
}

}  // namespace octavo::OCTAVO_ISA
