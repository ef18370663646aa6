// linear_int8 on AMX tiles: the same sums over units, exact in int32, scaled and added in the same order (linear_int8.h).
//
// A panel is unpacked once an item to signed codes (code − zero), so that no correction is needed: word w of a group
// holds k = 4·w … 4·w + 3 of its 32 columns, which is what a tile reads (row w, stride 128 bytes). The int32 sums of a
// unit, 16 rows and twice 16 columns, pass through memory: stores of tiles are not forwarded to loads, so one batch of
// units is multiplied while the one before it is scaled, with the fp32 sums of 16 columns in sixteen registers. A store
// waits for its product, and the tiles with it: so each follows the next product, by another tile.
#pragma once

#include "amx_shapes.h"
#include "linear_int8.h"

namespace octavo::OCTAVO_ISA {

constexpr int kTileRows = 16;
constexpr int64_t kAmxBatch = 4;    // units whose sums wait in memory
constexpr int64_t kAmxSlab = 2048;  // k at a time: 64 KiB of unpacked codes, reused by all rows of the item

// A slab of a panel, unpacked.
struct UnpackedSlab {
    int8_t* codes;    // [group][8][32][4]
    float* steps;     // [unit][32]
    float* minimums;  // [group][32]
};

template <Format F>
[[gnu::noinline]] void unpack_slab(const std::byte* blocks, int64_t num_blocks, UnpackedSlab slab) {
    using V = Vector;
    using C = Codes<V, F>;
    const auto unpack = [&](const UnpackedGroup<V, F, 2>& group) {
        for (int v = 0; v < 2; ++v) {
            for (int w = 0; w < 8; ++w)
                V::store_words(slab.codes + (w * kPanelColumns + v * V::kLanes) * 4,
                               V::sub_bytes(group.operands[v][w], C::zero));
            for (int unit = 0; unit < C::units; ++unit)
                V::store(slab.steps + unit * kPanelColumns + v * V::kLanes, group.step[unit][v]);
            if constexpr (C::has_minimum) V::store(slab.minimums + v * V::kLanes, group.minimum[v]);
        }
        slab.codes += kGroup * kPanelColumns;
        slab.steps += C::units * kPanelColumns;
        slab.minimums += kPanelColumns;
    };
    for_groups<V, F, 2>(blocks, num_blocks, 0, unpack);
}

// The sums of one unit: rows × 16 columns, and the other 16.
using UnitSums = int32_t[2][kTileRows * 16];

// Multiplies q by the codes of one unit, to one of two sets of tiles, and stores the other set, the unit before, to
// `before`. Not by intrinsics: GCC's do not say what memory they read.
template <int Set>
[[gnu::always_inline]] inline void multiply_unit(const int8_t* q, int64_t q_stride, const int8_t* codes, UnitSums& before) {
    asm volatile(
        "tileloadd (%[q],%[q_stride],1), %%tmm%c[left]\n\t"
        "tileloadd (%[codes],%[codes_stride],1), %%tmm6\n\t"
        "tilezero %%tmm%c[sum]\n\t"
        "tdpbssd %%tmm6, %%tmm%c[left], %%tmm%c[sum]\n\t"
        "tilestored %%tmm%c[before_sum], (%[before],%[before_stride],1)\n\t"
        "tileloadd 64(%[codes],%[codes_stride],1), %%tmm7\n\t"
        "tilezero %%tmm%c[other]\n\t"
        "tdpbssd %%tmm7, %%tmm%c[left], %%tmm%c[other]\n\t"
        "tilestored %%tmm%c[before_other], 1024(%[before],%[before_stride],1)"
        :
        : [sum] "n"(2 * Set), [other] "n"(2 * Set + 1), [before_sum] "n"(2 - 2 * Set), [before_other] "n"(3 - 2 * Set),
          [left] "n"(4 + Set), [q] "r"(q), [q_stride] "r"(q_stride), [codes] "r"(codes),
          [codes_stride] "r"(int64_t{4 * kPanelColumns}), [before] "r"(&before), [before_stride] "r"(int64_t{64})
        : "memory");
}

template <int Set>
[[gnu::always_inline]] inline void store_unit(UnitSums& sums) {
    asm volatile(
        "tilestored %%tmm%c[sum], (%[sums],%[stride],1)\n\t"
        "tilestored %%tmm%c[other], 1024(%[sums],%[stride],1)"
        :
        : [sum] "n"(2 * Set), [other] "n"(2 * Set + 1), [sums] "r"(&sums), [stride] "r"(int64_t{64})
        : "memory");
}

// y (rows, 16 columns of stride 32) += units begin … end, scaled; Rows is kTileRows, or 0 for `rows`.
template <Format F, int Rows>
inline void scale_units(const GroupedRows& x, int rows, const UnpackedSlab& slab, int64_t begin, int64_t end,
                        int64_t half, const UnitSums* sums, float* y) {
    using V = Vector;
    using C = Codes<V, F>;
    const int height = Rows ? Rows : rows;
    const int64_t column = half * V::kLanes;
    V::Float sum[kTileRows];
    for (int r = 0; r < height; ++r) sum[r] = V::load(y + r * kPanelColumns + column);
    for (int64_t unit = begin; unit < end; ++unit, ++sums) {
        const int64_t group = unit / C::units;
        const auto step = V::load(slab.steps + unit * kPanelColumns + column);
        const float* scales = x.scales + group * x.scales_stride;
        const auto* dots = reinterpret_cast<const uint32_t*>((*sums)[half]);
#pragma GCC unroll 16
        for (int r = 0; r < height; ++r)
            sum[r] = V::fused(V::to_float(V::load_words(dots + r * 16)), V::mul(V::broadcast(scales[r]), step), sum[r]);
        if constexpr (C::has_minimum) {
            const auto minimum = V::load(slab.minimums + group * kPanelColumns + column);
            const float* offsets = x.offsets + group * x.stride;
#pragma GCC unroll 16
            for (int r = 0; r < height; ++r) sum[r] = V::fused(V::broadcast(offsets[r]), minimum, sum[r]);
        }
    }
    for (int r = 0; r < height; ++r) V::store(y + r * kPanelColumns + column, sum[r]);
}

// y (rows, 32) += a slab; Rows is kTileRows, or 0 for `rows`.
template <Format F, int Rows>
inline void amx_tile(const GroupedRows& x, int rows, const UnpackedSlab& slab, int64_t num_groups,
                     UnitSums (*sums)[kAmxBatch], float* y) {
    using C = Codes<Vector, F>;
    constexpr int64_t kUnitBytes = kGroup / C::units, kUnitCodes = kUnitBytes * kPanelColumns;
    const int64_t num_units = num_groups * C::units;
    UnitSums* before = sums[1];  // what the first unit stores there is of no use, and overwritten
    const auto multiply = [&](int64_t begin, UnitSums* to) {
        if (begin >= num_units) return num_units % 2 ? store_unit<0>(*before) : store_unit<1>(*before);
        const int64_t end = smaller(num_units, begin + kAmxBatch);
        for (int64_t unit = begin; unit < end; unit += 2, to += 2) {
            const int8_t* q = x.q + unit * kUnitBytes;
            const int8_t* codes = slab.codes + unit * kUnitCodes;
            multiply_unit<0>(q, x.q_stride, codes, *before);
            before = to;
            if (unit + 1 == end) break;
            multiply_unit<1>(q + kUnitBytes, x.q_stride, codes + kUnitCodes, *before);
            before = to + 1;
        }
    };
    multiply(0, sums[0]);
    for (int64_t begin = 0, batch = 0; begin < num_units; begin += kAmxBatch, ++batch) {
        multiply(begin + kAmxBatch, sums[(batch + 1) % 2]);
        const int64_t end = smaller(num_units, begin + kAmxBatch);
        for (int64_t half = 0; half < 2; ++half)
            scale_units<F, Rows>(x, rows, slab, begin, end, half, sums[batch % 2], y);
    }
}

template <Format F>
[[gnu::noinline]] void linear_int8_amx_panel(const LinearInt8Arguments& a, const PanelItem& at) {
    using C = Codes<Vector, F>;
    constexpr int64_t kGroups = kAmxSlab / kGroup, kUnitBytes = kGroup / C::units;
    const int64_t first = at.row, rows = at.rows;
    const std::byte* weight = panel_at(a.weight, F, at.panel, a.in_features);
    struct Scratch {
        UnitSums unit_sums[2][kAmxBatch];
        float sums[kInt8RowsPerItem * kPanelColumns];
        float offsets[kGroups * kInt8RowsPerItem];
        float steps[kGroups * 2 * kPanelColumns], minimums[kGroups * kPanelColumns];
        int8_t codes[kAmxSlab * kPanelColumns];
    };
    auto& scratch = *static_cast<Scratch*>(thread_scratch(sizeof(Scratch)));
    const UnpackedSlab slab{scratch.codes, scratch.steps, scratch.minimums};
    const TileShapes whole = product_shapes(kTileRows, kTileRows, kUnitBytes);
    const TileShapes rest = product_shapes(rows % kTileRows, rows % kTileRows, kUnitBytes);
    std::memset(scratch.sums, 0, static_cast<size_t>(rows * kPanelColumns) * sizeof(float));
    for (int64_t k = 0; k < a.in_features; k += kAmxSlab) {
        const int64_t size = smaller(kAmxSlab, a.in_features - k), groups = size / kGroup, group = k / kGroup;
        unpack_slab<F>(weight + k / C::block.k * C::block.bytes(), size / C::block.k, slab);
        const float* scales = a.scales + group * a.rows + first;
        if constexpr (C::has_minimum)
            prepare_rows<Vector, F>(scales, a.sums + 2 * group * a.rows + first, a.rows, groups, rows, nullptr,
                                    scratch.offsets, kInt8RowsPerItem);
        if (rows >= kTileRows) whole.load();
        for (int64_t row = 0; row < rows; row += kTileRows) {
            const GroupedRows x{a.q + (first + row) * a.in_features + k, a.in_features, scales + row, a.rows,
                                nullptr, scratch.offsets + row, kInt8RowsPerItem};
            float* sums = scratch.sums + row * kPanelColumns;
            const int height = static_cast<int>(smaller(kTileRows, rows - row));
            if (height < kTileRows) rest.load();
            if (height == kTileRows)
                amx_tile<F, kTileRows>(x, height, slab, groups, scratch.unit_sums, sums);
            else
                amx_tile<F, 0>(x, height, slab, groups, scratch.unit_sums, sums);
        }
    }
    asm volatile("tilerelease" ::: "memory");
    finish_rows<Vector>(a, scratch.sums, first, rows, at.column);
}

inline void linear_int8_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearInt8Arguments*>(arguments);
    if (a.in_features == 0) return linear_int8<Vector>(arguments, item);
    const PanelItem at = panel_item(a.rows, kInt8RowsPerItem, item);
    with_block_format(a.format, [&]<Format F>() { linear_int8_amx_panel<F>(a, at); });
}

}  // namespace octavo::OCTAVO_ISA
