// linear_i8 on AMX tiles: the same sums, exact in int32. A panel is what tiles read as it lies: row w holds
// k = 4·w … 4·w + 3 of 32 columns, so a tile of 16 rows is 64 k of 16 columns. Two tiles of rows meet two of columns, and
// their four sums stay in tiles for all of K.
#pragma once

#include "linear_i8.h"

namespace octavo::OCTAVO_ISA {

// Tiles 0 to 3 hold sums, 4 and 5 activations, 6 and 7 codes. The operand of LDTILECFG.
struct alignas(64) I8TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    I8TileShapes(int64_t first, int64_t second) {
        const int64_t heights[8] = {first, first, second, second, first, second, 16, 16};
        for (int i = 0; i < 8; ++i) {
            rows[i] = static_cast<uint8_t>(heights[i]);
            row_bytes[i] = heights[i] ? 64 : 0;
        }
    }

    void load() const { asm volatile("ldtilecfg %0" ::"m"(*this) : "memory"); }
};

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

// Item (panel, chunk of rows), chunks fastest.
inline void linear_i8_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearI8Arguments*>(arguments);
    const int64_t num_chunks = (a.rows + kInt8RowsPerItem - 1) / kInt8RowsPerItem;
    const int64_t panel = item / num_chunks, first = item % num_chunks * kInt8RowsPerItem;
    const int64_t end = smaller(a.rows, first + kInt8RowsPerItem), q_stride = round_up(a.in_features, kRowPadding);
    const std::byte* weight = panel_at(a.weight, Format::I8, panel, a.in_features);
    const auto* scales = reinterpret_cast<const float*>(weight);
    alignas(64) uint32_t sums[32 * kPanelColumns];
    int64_t height = 0;  // of the shapes loaded
    for (int64_t row = first; row < end; row += 32) {
        const int64_t rows = smaller(32, end - row);
        if (rows != height) I8TileShapes(smaller(16, rows), larger(0, rows - 16)).load();
        height = rows;
        const int8_t* q = a.q + row * q_stride;
        const std::byte* codes = weight + 4 * kPanelColumns;
        if (rows > 16) multiply_i8_tiles<true>(q, q_stride, codes, q_stride / 64, sums);
        else multiply_i8_tiles<false>(q, q_stride, codes, q_stride / 64, sums);
        for (int64_t r = 0; r < rows; ++r)
            finish_i8_row<Vector>(a, sums + r * kPanelColumns, scales, row + r, panel * kPanelColumns);
    }
    asm volatile("tilerelease" ::: "memory");
}

}  // namespace octavo::OCTAVO_ISA
