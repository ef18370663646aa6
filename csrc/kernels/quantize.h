// Activations to bytes, per row and group of 32 elements.
#pragma once

#include <cstring>

#include "math.h"

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

// Item: rows as for_rows cuts them; groups outermost, since a group's scales are neighbours and a row's far apart.
template <class V>
void quantize(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const QuantizeArguments*>(arguments);
    const int64_t count = larger(1, kElementsPerItem / larger(1, a.in_features));
    const int64_t end = smaller(a.rows, (item + 1) * count);
    for (int64_t group = 0; group < a.in_features / kGroup; ++group)
        for (int64_t row = item * count; row < end; ++row)
            a.scales[group * a.rows + row] = quantize_group<V>(
                a.x + row * a.x_stride + group * kGroup, a.q + row * a.in_features + group * kGroup,
                a.sums + 2 * group * a.rows + row, a.rows);
}

}  // namespace octavo::OCTAVO_ISA
