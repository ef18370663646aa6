// A slab of a panel (32 columns, some k) from its packed form to fp32 [k][32]. Layout: ../panel.h.
#pragma once

#include "../panel.h"
#include "math.h"

namespace octavo::OCTAVO_ISA {

template <Format F>
constexpr PanelBlock block_of() { return kPanelBlocks[static_cast<int>(F)]; }

// step and offset of one vector of columns, for the 16 elements from 16·unit on: w = step·code + offset.
template <class V>
struct Affine {
    typename V::Float step, offset;
};

template <class V, Format F>
inline Affine<V> affine(const std::byte* header, int64_t unit, int64_t column) {
    const auto half = [&](int64_t byte) {
        return V::load_f16(reinterpret_cast<const uint16_t*>(header + byte * kPanelColumns) + column);
    };
    const auto small = [&](int64_t byte) {
        return V::load_u8(reinterpret_cast<const uint8_t*>(header + byte * kPanelColumns) + column);
    };
    const auto step = half(0), zero = V::broadcast(0.0f);
    if constexpr (F == Format::Q4_0) return {step, V::mul(step, V::broadcast(-8.0f))};
    if constexpr (F == Format::Q5_0) return {step, V::mul(step, V::broadcast(-16.0f))};
    if constexpr (F == Format::Q8_0) return {step, zero};
    if constexpr (F == Format::Q4_1 || F == Format::Q5_1) return {step, half(2)};
    if constexpr (F == Format::Q4_K || F == Format::Q5_K)
        return {V::mul(step, small(4 + unit / 2)), V::sub(zero, V::mul(half(2), small(12 + unit / 2)))};
    if constexpr (F == Format::Q6_K) {
        const auto* scales = reinterpret_cast<const int8_t*>(header + (2 + unit) * kPanelColumns);
        const auto scaled = V::mul(step, V::load_i8(scales + column));
        return {scaled, V::mul(scaled, V::broadcast(-32.0f))};
    }
}

// The 16 elements of half `Half` of a group of 32, for one vector of columns.
template <class V, Format F, int Half>
inline void dequantize_unit(const uint32_t* high, const uint32_t* low, const Affine<V>& scale, float* out) {
    constexpr PanelBlock block = block_of<F>();
    constexpr int kPerWord = static_cast<int>(32 / block.low_words);
    constexpr int kUnitWords = static_cast<int>(block.low_words / 2);
    typename V::Word top{};
    if constexpr (block.high_words == 1) top = V::load_words(high);
    if constexpr (block.high_words == 2) top = V::load_words(high + Half * kPanelColumns);
#pragma GCC unroll 8
    for (int word = 0; word < kUnitWords; ++word) {
        const auto codes = V::load_words(low + (Half * kUnitWords + word) * kPanelColumns);
#pragma GCC unroll 8
        for (int i = 0; i < kPerWord; ++i) {
            const int k = word * kPerWord + i;
            typename V::Float w;
            if constexpr (block.low_words == 8) {
                w = V::mul(scale.step, V::top_byte_to_float(V::shift_left(codes, 24 - 8 * i)));
            } else {
                auto code = V::bit_and(V::shift_right(codes, 4 * i), 15);
                if constexpr (block.high_words != 0) {
                    const int bit = block.high_words == 1 ? Half * 16 + k : 2 * k;
                    const auto moved = bit < 4 ? V::shift_left(top, 4 - bit) : V::shift_right(top, bit - 4);
                    code = V::bit_or(code, V::bit_and(moved, block.high_words == 1 ? 16 : 48));
                }
                w = V::fma(scale.step, V::to_float(code), scale.offset);
            }
            V::store(out + k * kPanelColumns, w);
        }
    }
}

template <class V, Format F>
[[gnu::noinline]] void dequantize_blocks(const std::byte* blocks, int64_t num_blocks, float* out) {
    constexpr PanelBlock block = block_of<F>();
    for (int64_t b = 0; b < num_blocks; ++b, blocks += block.bytes(), out += block.k * kPanelColumns) {
        for (int64_t group = 0; group < block.k / 32; ++group) {
            const auto* high = reinterpret_cast<const uint32_t*>(
                blocks + block.header_bytes * kPanelColumns + group * block.group_bytes());
            const uint32_t* low = high + block.high_words * kPanelColumns;
            float* to = out + group * 32 * kPanelColumns;
            for (int64_t column = 0; column < kPanelColumns; column += V::kLanes) {
                auto scale = affine<V, F>(blocks, 2 * group, column);
                dequantize_unit<V, F, 0>(high + column, low + column, scale, to + column);
                if constexpr (F == Format::Q6_K) scale = affine<V, F>(blocks, 2 * group + 1, column);
                dequantize_unit<V, F, 1>(high + column, low + column, scale, to + 16 * kPanelColumns + column);
            }
        }
    }
}

// k0 and k are multiples of the format's block.
template <class V>
inline void dequantize_slab(Format format, const std::byte* panel, int64_t k0, int64_t k, float* out) {
    const PanelBlock& block = kPanelBlocks[static_cast<int>(format)];
    const std::byte* from = panel + k0 / block.k * block.bytes();
    const auto convert = [&](auto load) {
        for (int64_t i = 0; i < k * kPanelColumns; i += V::kLanes) V::store(out + i, load(i));
    };
    switch (format) {
        case Format::F32: return convert([&](int64_t i) { return V::load(reinterpret_cast<const float*>(from) + i); });
        case Format::F16:
            return convert([&](int64_t i) { return V::load_f16(reinterpret_cast<const uint16_t*>(from) + i); });
        case Format::BF16:
            return convert([&](int64_t i) { return V::load_bf16(reinterpret_cast<const uint16_t*>(from) + i); });
        case Format::Q4_0: return dequantize_blocks<V, Format::Q4_0>(from, k / 32, out);
        case Format::Q4_1: return dequantize_blocks<V, Format::Q4_1>(from, k / 32, out);
        case Format::Q5_0: return dequantize_blocks<V, Format::Q5_0>(from, k / 32, out);
        case Format::Q5_1: return dequantize_blocks<V, Format::Q5_1>(from, k / 32, out);
        case Format::Q8_0: return dequantize_blocks<V, Format::Q8_0>(from, k / 32, out);
        case Format::Q4_K: return dequantize_blocks<V, Format::Q4_K>(from, k / 256, out);
        case Format::Q5_K: return dequantize_blocks<V, Format::Q5_K>(from, k / 256, out);
        case Format::Q6_K: return dequantize_blocks<V, Format::Q6_K>(from, k / 256, out);
    }
}

inline const std::byte* panel_at(const std::byte* weight, Format format, int64_t panel, int64_t k) {
    const PanelBlock& block = kPanelBlocks[static_cast<int>(format)];
    return weight + panel * (k / block.k) * block.bytes();
}

}  // namespace octavo::OCTAVO_ISA
