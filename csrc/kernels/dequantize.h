// A slab of a panel (32 columns, some k) from its packed form to fp32 [k][32]. Layout: ../panel.h.
#pragma once

#include "../panel.h"
#include "math.h"

namespace octavo::OCTAVO_ISA {

template <Format F>
constexpr PanelBlock block_of() { return kPanelBlocks[static_cast<int>(F)]; }

// Hardware prefetchers stop at a page's end; this one does not. Past the weight's end it does nothing.
constexpr int64_t kPrefetchBytes = 4096;

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

// Calls emit(k, w) for the 16 elements of half `Half` of a group of 32, in order, for one vector of columns.
template <class V, Format F, int Half, class Emit>
[[gnu::always_inline]] inline void for_unit(const uint32_t* high, const uint32_t* low, const Affine<V>& scale,
                                            Emit emit) {
    constexpr PanelBlock block = block_of<F>();
    typename V::Word top{};
    if constexpr (block.high_words == 1) top = V::load_words(high);
    if constexpr (block.high_words == 2) top = V::load_words(high + Half * kPanelColumns);
#pragma GCC unroll 8
    for (int word = 0; word < 4; ++word) {
        const auto codes = V::load_words(low + (block.low_words == 8 ? 4 * Half + word : word) * kPanelColumns);
#pragma GCC unroll 8
        for (int byte = 0; byte < 4; ++byte) {
            const int k = Half * 16 + 4 * word + byte;
            if constexpr (block.low_words == 8) {
                emit(k, V::mul(scale.step, V::top_byte_to_float(V::shift_left(codes, 24 - 8 * byte))));
            } else {
                auto code = V::bit_and(V::shift_right(codes, 8 * byte + 4 * Half), 15);
                if constexpr (block.high_words != 0) {
                    const int bit = 8 * byte + (block.high_words == 1 ? 4 * Half + word : 2 * word);
                    const auto moved = bit < 4 ? V::shift_left(top, 4 - bit) : V::shift_right(top, bit - 4);
                    code = V::bit_or(code, V::bit_and(moved, block.high_words == 1 ? 16 : 48));
                }
                emit(k, V::fma(scale.step, V::to_float(code), scale.offset));
            }
        }
    }
}

// Calls emit(k, vector, w) for every element of the blocks: for each vector of columns, k in rising order.
template <class V, Format F, class Emit>
[[gnu::always_inline]] inline void for_elements(const std::byte* blocks, int64_t num_blocks, Emit emit) {
    constexpr PanelBlock block = block_of<F>();
    for (int64_t b = 0; b < num_blocks; ++b, blocks += block.bytes()) {
        for (int64_t line = 0; line < block.bytes(); line += 64) __builtin_prefetch(blocks + kPrefetchBytes + line);
        for (int64_t group = 0; group < block.k / 32; ++group) {
            const auto* high = reinterpret_cast<const uint32_t*>(
                blocks + block.header_bytes * kPanelColumns + group * block.group_bytes());
            const uint32_t* low = high + block.high_words * kPanelColumns;
            const int64_t k0 = b * block.k + group * 32;
#pragma GCC unroll 8
            for (int vector = 0; vector < kPanelColumns / V::kLanes; ++vector) {
                const int64_t column = vector * V::kLanes;
                const auto emit_here = [&](int k, typename V::Float w) { emit(k0 + k, vector, w); };
                auto scale = affine<V, F>(blocks, 2 * group, column);
                for_unit<V, F, 0>(high + column, low + column, scale, emit_here);
                if constexpr (F == Format::Q6_K) scale = affine<V, F>(blocks, 2 * group + 1, column);
                for_unit<V, F, 1>(high + column, low + column, scale, emit_here);
            }
        }
    }
}

// To fp32 [k][32].
template <class V, Format F>
[[gnu::noinline]] void dequantize_blocks(const std::byte* blocks, int64_t num_blocks, float* out) {
    for_elements<V, F>(blocks, num_blocks, [&](int64_t k, int vector, typename V::Float w) {
        V::store(out + k * kPanelColumns + vector * V::kLanes, w);
    });
}

// sums (32) = or += x · W for one row: the chains of gemm_tile (gemm.h), bit for bit, without W in memory.
template <class V, Format F>
[[gnu::noinline]] void dot_blocks(const std::byte* blocks, int64_t num_blocks, const float* x, float* sums,
                                  bool accumulates) {
    constexpr int kVectors = static_cast<int>(kPanelColumns / V::kLanes);
    typename V::Float chain[kVectors];
    for (int v = 0; v < kVectors; ++v) chain[v] = V::broadcast(0.0f);
    for_elements<V, F>(blocks, num_blocks, [&](int64_t k, int vector, typename V::Float w) {
        chain[vector] = V::fma(V::broadcast(x[k]), w, chain[vector]);
    });
    for (int v = 0; v < kVectors; ++v, sums += V::kLanes)
        V::store(sums, accumulates ? V::add(V::load(sums), chain[v]) : chain[v]);
}

// The same of floats of two bytes: load(i) gives the vector that starts at element i of [k][32].
template <class V, class Load>
inline void dot_halves(const std::byte* from, int64_t k, const float* x, float* sums, bool accumulates, Load load) {
    constexpr int kVectors = static_cast<int>(kPanelColumns / V::kLanes);
    typename V::Float chain[kVectors];
    for (int v = 0; v < kVectors; ++v) chain[v] = V::broadcast(0.0f);
    for (int64_t i = 0; i < k; ++i) {
        __builtin_prefetch(from + kPrefetchBytes + i * 2 * kPanelColumns);
        const auto factor = V::broadcast(x[i]);
        for (int v = 0; v < kVectors; ++v) chain[v] = V::fma(factor, load(i * kPanelColumns + v * V::kLanes), chain[v]);
    }
    for (int v = 0; v < kVectors; ++v, sums += V::kLanes)
        V::store(sums, accumulates ? V::add(V::load(sums), chain[v]) : chain[v]);
}

// Calls f<Format>() for a block format.
template <class F>
inline void with_block_format(Format format, F f) {
    switch (format) {
        case Format::Q4_0: return f.template operator()<Format::Q4_0>();
        case Format::Q4_1: return f.template operator()<Format::Q4_1>();
        case Format::Q5_0: return f.template operator()<Format::Q5_0>();
        case Format::Q5_1: return f.template operator()<Format::Q5_1>();
        case Format::Q8_0: return f.template operator()<Format::Q8_0>();
        case Format::Q4_K: return f.template operator()<Format::Q4_K>();
        case Format::Q5_K: return f.template operator()<Format::Q5_K>();
        case Format::Q6_K: return f.template operator()<Format::Q6_K>();
        default: return;
    }
}

// Whether dot_slab takes the format: fp32 is multiplied where it lies, I8's scales wait for its exact sums, and tiles have
// another order.
inline bool can_dot_slab(Format format) {
    return format != Format::F32 && format != Format::I8 && format != Format::BF16Tiles;
}

// k0 is a multiple of four.
template <class V>
[[gnu::noinline]] void dequantize_i8(const std::byte* panel, int64_t k0, int64_t k, float* out) {
    const auto* scales = reinterpret_cast<const float*>(panel);
    const auto* codes = reinterpret_cast<const uint32_t*>(panel) + kPanelColumns;
    for (int64_t column = 0; column < kPanelColumns; column += V::kLanes) {
        const auto scale = V::load(scales + column);
        for (int64_t i = 0; i < k; ++i) {
            const auto words = V::load_words(codes + (k0 + i) / 4 * kPanelColumns + column);
            const auto code = V::top_byte_to_float(V::shift_left(words, static_cast<int>(24 - 8 * (i % 4))));
            V::store(out + i * kPanelColumns + column, V::mul(scale, code));
        }
    }
}

// Calls use(i, w) for all k of a column of BF16Tiles: w those from i on.
template <class V, class Use>
inline void for_column_of_tiles(const std::byte* blocks, int64_t k, int64_t column, Use use) {
    constexpr int64_t kRun = kPanelBlocks[static_cast<int>(Format::BF16Tiles)].k;
    const auto* from = reinterpret_cast<const uint16_t*>(blocks) + column * kRun;
    for (int64_t run = 0; run < k; run += kRun, from += kRun * kPanelColumns)
        for (int64_t i = 0; i < kRun; i += V::kLanes) use(run + i, V::load_bf16(from + i));
}

// k0 and k are multiples of the format's block.
template <class V>
inline void dequantize_slab(Format format, const std::byte* panel, int64_t k0, int64_t k, float* out) {
    const PanelBlock& block = kPanelBlocks[static_cast<int>(format)];
    if (format == Format::I8) return dequantize_i8<V>(panel, k0, k, out);
    const std::byte* from = panel + k0 / block.k * block.bytes();
    const auto convert = [&](auto load) {
        for (int64_t i = 0; i < k * kPanelColumns; i += V::kLanes) {
            __builtin_prefetch(from + kPrefetchBytes + i / kPanelColumns * block.bytes());
            V::store(out + i, load(i));
        }
    };
    switch (format) {
        case Format::F32: return convert([&](int64_t i) { return V::load(reinterpret_cast<const float*>(from) + i); });
        case Format::F16:
            return convert([&](int64_t i) { return V::load_f16(reinterpret_cast<const uint16_t*>(from) + i); });
        case Format::BF16:
            return convert([&](int64_t i) { return V::load_bf16(reinterpret_cast<const uint16_t*>(from) + i); });
        case Format::BF16Tiles:
            for (int64_t column = 0; column < kPanelColumns; ++column)
                for_column_of_tiles<V>(from, k, column, [&](int64_t i, typename V::Float w) {
                    float lanes[V::kLanes];
                    V::store(lanes, w);
                    for (int64_t lane = 0; lane < V::kLanes; ++lane) out[(i + lane) * kPanelColumns + column] = lanes[lane];
                });
            return;
        default:
            with_block_format(format, [&]<Format F>() { dequantize_blocks<V, F>(from, k / block.k, out); });
    }
}

// sums (32) = or += x (k) · slab, where can_dot_slab.
template <class V>
inline void dot_slab(Format format, const std::byte* panel, int64_t k0, int64_t k, const float* x, float* sums,
                     bool accumulates) {
    const PanelBlock& block = kPanelBlocks[static_cast<int>(format)];
    const std::byte* from = panel + k0 / block.k * block.bytes();
    const auto dot = [&](auto load) { dot_halves<V>(from, k, x, sums, accumulates, load); };
    const auto* halves = reinterpret_cast<const uint16_t*>(from);
    switch (format) {
        case Format::F16: return dot([&](int64_t i) { return V::load_f16(halves + i); });
        case Format::BF16: return dot([&](int64_t i) { return V::load_bf16(halves + i); });
        default:
            with_block_format(format, [&]<Format F>() { dot_blocks<V, F>(from, k / block.k, x, sums, accumulates); });
    }
}

inline const std::byte* panel_at(const std::byte* weight, Format format, int64_t panel, int64_t k) {
    return weight + panel * panel_bytes(format, k);
}

}  // namespace octavo::OCTAVO_ISA
