// Linear layers on packed panels of block formats, with activations quantised to bytes (quantize.h).
//
// For every group g of 32 k, in rising order, and each unit j of it (Q6_K: its two halves; else the whole group)
//
//     y ← fma(float(Σ_k (code − zero)·q), scale_g·step_gj, y)            the sum over k exact, in int32
//     y ← fma(scale_g·float(Σ_k q), minimum_g, y)                         formats with a minimum
//
// and at last y + bias. Every operation is rounded once and in this order, so that all instruction sets, and all
// numbers of rows, give the same bits. The codes are unsigned and lie in bytes as a dot product takes them; zero (8, 16,
// 32, or what makes a signed byte unsigned) enters as −zero·Σ q, from which the integer sum starts.
#pragma once

#include "dequantize.h"
#include "panel_item.h"
#include "quantize.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kInt8TileRows = 16;

template <class V, Format F>
struct Codes {
    static constexpr PanelBlock block = block_of<F>();
    static constexpr bool is_signed = block.low_words == 8;
    static constexpr bool has_minimum =
        F == Format::Q4_1 || F == Format::Q5_1 || F == Format::Q4_K || F == Format::Q5_K;
    static constexpr int units = F == Format::Q6_K ? 2 : 1;
    static constexpr int zero = F == Format::Q4_0   ? 8
                                : F == Format::Q5_0 ? 16
                                : F == Format::Q6_K ? 32
                                : is_signed         ? V::kByteBias
                                                    : 0;

    // The operands of a group: word i holds codes 4·i … 4·i + 3 of each column.
    [[gnu::always_inline]] static inline void load(const uint32_t* high, const uint32_t* low,
                                                   typename V::Word (&operands)[8]) {
        typename V::Word top[2]{};
        for (int word = 0; word < block.high_words; ++word) top[word] = V::load_words(high + word * kPanelColumns);
#pragma GCC unroll 4
        for (int word = 0; word < 4; ++word) {
            const auto codes = V::load_words(low + word * kPanelColumns);
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                auto& operand = operands[4 * half + word];
                if constexpr (is_signed) {
                    operand = V::signed_operand(half ? V::load_words(low + (4 + word) * kPanelColumns) : codes);
                } else {
                    operand = V::bit_and(half ? V::shift_right(codes, 4) : codes, 0x0f0f0f0f);
                    if constexpr (block.high_words != 0) {
                        const int bit = block.high_words == 1 ? 4 * half + word : 2 * word;
                        const auto& bits = top[block.high_words == 1 ? 0 : half];
                        const auto moved = bit < 4 ? V::shift_left(bits, 4 - bit) : V::shift_right(bits, bit - 4);
                        operand = V::bit_or(operand, V::bit_and(moved, block.high_words == 1 ? 0x10101010 : 0x30303030));
                    }
                }
            }
        }
    }

    [[gnu::always_inline]] static inline typename V::Word dot(typename V::Word sum, typename V::Word operand,
                                                              typename V::Word x) {
        return is_signed ? V::dot_signed(sum, operand, x) : V::dot(sum, operand, x);
    }
};

// Rows of activations quantised by group, and what is made of their sums: both by unit or group, `stride` apart.
struct GroupedRows {
    const int8_t* q;
    int64_t q_stride;
    const float* scales;  // by group
    int64_t scales_stride;
    const int32_t* starts;  // by unit: −zero·Σ q
    const float* offsets;   // by group: scale·Σ q
    int64_t stride;

    [[gnu::always_inline]] inline void next_group(int units) {
        q += kGroup;
        scales += scales_stride;
        starts += units * stride;
        offsets += stride;
    }
};

// One group of `Vectors` vectors of columns, unpacked: it stays in registers while the rows pass.
template <class V, Format F, int Vectors>
struct UnpackedGroup {
    using C = Codes<V, F>;
    using Sums = typename V::Float[Vectors];
    typename V::Word operands[Vectors][8];
    typename V::Float step[C::units][Vectors], minimum[Vectors];

    [[gnu::always_inline]] inline UnpackedGroup(const std::byte* block, int64_t group, int64_t column) {
        const auto* high = reinterpret_cast<const uint32_t*>(
            block + C::block.header_bytes * kPanelColumns + group * C::block.group_bytes()) + column;
        const uint32_t* low = high + C::block.high_words * kPanelColumns;
#pragma GCC unroll 8
        for (int v = 0; v < Vectors; ++v) {
            C::load(high + v * V::kLanes, low + v * V::kLanes, operands[v]);
            for (int unit = 0; unit < C::units; ++unit) {
                const auto scale = affine<V, F>(block, 2 * group + unit, column + v * V::kLanes);
                step[unit][v] = scale.step;
                minimum[v] = scale.offset;
            }
        }
    }

    [[gnu::always_inline]] inline void add_row(const GroupedRows& x, int64_t row, Sums& sum) const {
        constexpr int kUnitWords = 8 / C::units;
        const int8_t* q = x.q + row * x.q_stride;
        const auto factor = V::broadcast(x.scales[row]);
#pragma GCC unroll 2
        for (int unit = 0; unit < C::units; ++unit) {
            typename V::Word dots[Vectors];
            const auto start = V::broadcast_word(C::zero ? x.starts[unit * x.stride + row] : 0);
            for (int v = 0; v < Vectors; ++v) dots[v] = start;
#pragma GCC unroll 8
            for (int i = unit * kUnitWords; i < (unit + 1) * kUnitWords; ++i) {
                const auto bytes = V::broadcast_bytes(q + 4 * i);
                for (int v = 0; v < Vectors; ++v) dots[v] = C::dot(dots[v], operands[v][i], bytes);
            }
            for (int v = 0; v < Vectors; ++v)
                sum[v] = V::fused(V::to_float(dots[v]), V::mul(factor, step[unit][v]), sum[v]);
        }
        if constexpr (C::has_minimum) {
            const auto offset = V::broadcast(x.offsets[row]);
            for (int v = 0; v < Vectors; ++v) sum[v] = V::fused(offset, minimum[v], sum[v]);
        }
    }
};

// Calls f(UnpackedGroup) for every group of K in rising order.
template <class V, Format F, int Vectors, class Use>
[[gnu::always_inline]] inline void for_groups(const std::byte* blocks, int64_t num_blocks, int64_t column, Use use) {
    constexpr PanelBlock block = block_of<F>();
    for (int64_t b = 0; b < num_blocks; ++b, blocks += block.bytes()) {
        for (int64_t line = 0; line < block.bytes(); line += 64) __builtin_prefetch(blocks + kPrefetchBytes + line);
        for (int64_t group = 0; group < block.k / kGroup; ++group) use(UnpackedGroup<V, F, Vectors>(blocks, group, column));
    }
}

// y (rows, 32 columns of stride 32): all of K, the sums in registers for one row and in y, in the first cache, for more.
template <class V, Format F>
inline void dot_rows(GroupedRows x, int64_t rows, const std::byte* blocks, int64_t num_blocks, float* y) {
    constexpr int kVectors = V::kRegisters == 32 ? 2 : 1;
    using Group = UnpackedGroup<V, F, kVectors>;
    const auto zero = V::broadcast(0.0f);
    for (int64_t column = 0; column < kPanelColumns; column += kVectors * V::kLanes, y += kVectors * V::kLanes) {
        GroupedRows at = x;
        typename Group::Sums sum;
        for (int v = 0; v < kVectors; ++v) sum[v] = zero;
        const auto store = [&](int64_t row) {
            for (int v = 0; v < kVectors; ++v) V::store(y + row * kPanelColumns + v * V::kLanes, sum[v]);
        };
        if (rows == 1) {
            for_groups<V, F, kVectors>(blocks, num_blocks, column, [&](const Group& group) {
                group.add_row(at, 0, sum);
                at.next_group(Group::C::units);
            });
            store(0);
            continue;
        }
        for (int64_t row = 0; row < rows; ++row) store(row);
        for_groups<V, F, kVectors>(blocks, num_blocks, column, [&](const Group& group) {
            for (int64_t row = 0; row < rows; ++row) {
                for (int v = 0; v < kVectors; ++v) sum[v] = V::load(y + row * kPanelColumns + v * V::kLanes);
                group.add_row(at, row, sum);
                store(row);
            }
            at.next_group(Group::C::units);
        });
    }
}

// starts and offsets of `rows` rows from their sums; see GroupedRows.
template <class V, Format F>
inline void prepare_rows(const float* scales, const int32_t* sums, int64_t given_stride, int64_t groups, int64_t rows,
                         int32_t* starts, float* offsets, int64_t stride) {
    using C = Codes<V, F>;
    for (int64_t group = 0; group < groups; ++group) {
        const int32_t* first = sums + 2 * group * given_stride;
        const int32_t* second = first + given_stride;
        for (int64_t r = 0; r < rows; ++r) {
            if constexpr (C::units == 2) {
                starts[2 * group * stride + r] = -C::zero * first[r];
                starts[(2 * group + 1) * stride + r] = -C::zero * second[r];
            } else if constexpr (C::zero != 0) {
                starts[group * stride + r] = -C::zero * (first[r] + second[r]);
            }
            if constexpr (C::has_minimum)
                offsets[group * stride + r] =
                    scales[group * given_stride + r] * static_cast<float>(first[r] + second[r]);
        }
    }
}

template <class V, Format F>
[[gnu::noinline]] void linear_int8_panel(const LinearInt8Arguments& a, const PanelItem& at) {
    constexpr int64_t kTile = kInt8TileRows;
    const int64_t groups = a.in_features / kGroup, num_blocks = a.in_features / Codes<V, F>::block.k;
    const std::byte* weight = panel_at(a.weight, F, at.panel, a.in_features);
    const int64_t tile_bytes = kTile * kPanelColumns * 4;
    auto* sums = static_cast<float*>(thread_scratch(tile_bytes + 3 * groups * kTile * 4));
    auto* starts = reinterpret_cast<int32_t*>(sums + kTile * kPanelColumns);
    auto* offsets = reinterpret_cast<float*>(starts + 2 * groups * kTile);
    const int64_t num_tiles = (at.rows + kTile - 1) / kTile, end = at.row + at.rows;
    int64_t row = at.row;
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
        const int64_t height = (end - row) / (num_tiles - tile);
        const float* scales = a.scales + row;
        prepare_rows<V, F>(scales, a.sums + row, a.rows, groups, height, starts, offsets, kTile);
        dot_rows<V, F>({a.q + row * a.in_features, a.in_features, scales, a.rows, starts, offsets, kTile}, height,
                       weight, num_blocks, sums);
        finish_rows<V>(a, sums, row, height, at.column);
        row += height;
    }
}

// Item: a PanelItem.
template <class V>
void linear_int8(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearInt8Arguments*>(arguments);
    const PanelItem at = panel_item(a.rows, kInt8RowsPerItem, item);
    with_block_format(a.format, [&]<Format F>() { linear_int8_panel<V, F>(a, at); });
}

}  // namespace octavo::OCTAVO_ISA
