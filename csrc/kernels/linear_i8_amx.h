// linear_i8 on AMX tiles: the same sums, exact in int32. A panel is what tiles read as it lies: row w holds
// k = 4·w … 4·w + 3 of 32 columns, so a tile of 16 rows is 64 k of 16 columns. Two tiles of rows meet two of columns, and
// their four sums stay in tiles for all of K.
#pragma once

#include "amx_shapes.h"
#include "linear_i8.h"

namespace octavo::OCTAVO_ISA {

// sums (16 or 32 rows, 32 columns) of the shapes loaded. Not by intrinsics: GCC's do not say what memory they read.
template <bool HasSecond>
[[gnu::noinline]] void multiply_i8_tiles(const int8_t* q, int64_t q_stride, const std::byte* codes, int64_t num_slices,
                                         uint32_t* sums) {
    constexpr int64_t kCodesStride = 4 * kPanelColumns;
    const int8_t* second = q + 16 * q_stride;
    asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1" ::);
    if constexpr (HasSecond) asm volatile("tilezero %%tmm2\n\ttilezero %%tmm3" ::);
    for (int64_t slice = 0; slice < num_slices; ++slice, q += 64, second += 64, codes += 16 * kCodesStride) {
        for (int64_t line = 0; line < 16 * kCodesStride; line += 64) __builtin_prefetch(codes + kPrefetchBytes + line);
        asm volatile(
            "tileloadd (%[codes],%[codes_stride],1), %%tmm6\n\t"
            "tileloadd (%[q],%[q_stride],1), %%tmm4\n\t"
            "tileloadd 64(%[codes],%[codes_stride],1), %%tmm7\n\t"
            "tdpbssd %%tmm6, %%tmm4, %%tmm0\n\t"
            "tdpbssd %%tmm7, %%tmm4, %%tmm1"
            :: [q] "r"(q), [q_stride] "r"(q_stride), [codes] "r"(codes), [codes_stride] "r"(kCodesStride) : "memory");
        if constexpr (HasSecond)
            asm volatile(
                "tileloadd (%[q],%[q_stride],1), %%tmm5\n\t"
                "tdpbssd %%tmm6, %%tmm5, %%tmm2\n\t"
                "tdpbssd %%tmm7, %%tmm5, %%tmm3"
                :: [q] "r"(second), [q_stride] "r"(q_stride) : "memory");
    }
    asm volatile(
        "tilestored %%tmm0, (%[sums],%[stride],1)\n\t"
        "tilestored %%tmm1, 64(%[sums],%[stride],1)"
        :: [sums] "r"(sums), [stride] "r"(kCodesStride) : "memory");
    if constexpr (HasSecond)
        asm volatile(
            "tilestored %%tmm2, (%[sums],%[stride],1)\n\t"
            "tilestored %%tmm3, 64(%[sums],%[stride],1)"
            :: [sums] "r"(sums + 16 * kPanelColumns), [stride] "r"(kCodesStride) : "memory");
}

// Item: a PanelItem.
inline void linear_i8_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearI8Arguments*>(arguments);
    const PanelItem at = panel_item(a.rows, kInt8RowsPerItem, item);
    const int64_t end = at.row + at.rows, q_stride = round_up(a.in_features, kRowPadding);
    const std::byte* weight = panel_at(a.weight, Format::I8, at.panel, a.in_features);
    const auto* scales = reinterpret_cast<const float*>(weight);
    alignas(64) uint32_t sums[32 * kPanelColumns];
    int64_t height = 0;  // of the shapes loaded
    for (int64_t row = at.row; row < end; row += 32) {
        const int64_t rows = smaller(32, end - row);
        if (rows != height) product_shapes(smaller(16, rows), larger(0, rows - 16), 64).load();
        height = rows;
        const int8_t* q = a.q + row * q_stride;
        const std::byte* codes = weight + 4 * kPanelColumns;
        if (rows > 16) multiply_i8_tiles<true>(q, q_stride, codes, q_stride / 64, sums);
        else multiply_i8_tiles<false>(q, q_stride, codes, q_stride / 64, sums);
        for (int64_t r = 0; r < rows; ++r)
            finish_i8_row<Vector>(a, sums + r * kPanelColumns, scales, row + r, at.column);
    }
    asm volatile("tilerelease" ::: "memory");
}

}  // namespace octavo::OCTAVO_ISA
