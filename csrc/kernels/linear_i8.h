// Linear layers on I8 panels, bytes with one scale an output feature, with activations quantised by row (quantize_rows.h).
//
//     y = float(Σ_k w·q)·(scale_x·scale_w) + bias          the sum over all of K exact, in int32
//
// Every operation is rounded once, so that all instruction sets, and all numbers of rows, give the same bits. Where a dot
// product takes unsigned bytes, 128 is added to w, and −128·Σ q is where the sum starts.
#pragma once

#include "dequantize.h"
#include "panel_item.h"

namespace octavo::OCTAVO_ISA {

// Sums of `columns` (32 at most) of one row to y.
template <class V>
inline void finish_i8_row(const LinearI8Arguments& a, const uint32_t* sums, const float* scales, int64_t row, int64_t column) {
    const auto scale = V::broadcast(a.scales[row]);
    finish_row<V>(a, row, column, [&](int64_t i) {
        return V::mul(V::to_float(V::load_words(sums + i)), V::mul(scale, V::load(scales + i)));
    });
}

// sums (Rows, 32 columns) of rows q, q + q_stride, …: the sums of two vectors of columns stay in registers for all of K.
template <class V, int Rows>
[[gnu::noinline]] void dot_i8_tile(const int8_t* q, int64_t q_stride, const int32_t* row_sums, const uint32_t* codes,
                                   int64_t num_words, uint32_t* sums) {
    constexpr int kVectors = 2;
    for (int64_t column = 0; column < kPanelColumns; column += kVectors * V::kLanes) {
        typename V::Word sum[Rows][kVectors];
        for (int r = 0; r < Rows; ++r)
            for (int v = 0; v < kVectors; ++v) sum[r][v] = V::broadcast_word(-V::kByteBias * row_sums[r]);
        const uint32_t* from = codes + column;
        for (int64_t word = 0; word < num_words; ++word, from += kPanelColumns) {
            if (Rows == 1) __builtin_prefetch(reinterpret_cast<const std::byte*>(from) + kPrefetchBytes);
            typename V::Word operand[kVectors];
            for (int v = 0; v < kVectors; ++v) operand[v] = V::signed_operand(V::load_words(from + v * V::kLanes));
            for (int r = 0; r < Rows; ++r) {
                const auto x = V::broadcast_bytes(q + r * q_stride + 4 * word);
                for (int v = 0; v < kVectors; ++v) sum[r][v] = V::dot_signed(sum[r][v], operand[v], x);
            }
        }
        for (int r = 0; r < Rows; ++r)
            for (int v = 0; v < kVectors; ++v)
                V::store_words(sums + r * kPanelColumns + column + v * V::kLanes, sum[r][v]);
    }
}

template <class V>
constexpr int kI8TileRows = V::kRegisters == 32 ? 8 : 4;

template <class V, int Rows = kI8TileRows<V>>
inline void dot_i8_rows(const int8_t* q, int64_t q_stride, const int32_t* row_sums, const uint32_t* codes,
                        int64_t num_words, int64_t rows, uint32_t* sums) {
    if constexpr (Rows > 1) {
        if (rows < Rows) return dot_i8_rows<V, Rows - 1>(q, q_stride, row_sums, codes, num_words, rows, sums);
    }
    dot_i8_tile<V, Rows>(q, q_stride, row_sums, codes, num_words, sums);
}

// Item: a PanelItem.
template <class V>
void linear_i8(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearI8Arguments*>(arguments);
    const PanelItem at = panel_item(a.rows, kInt8RowsPerItem, item);
    const int64_t end = at.row + at.rows, q_stride = round_up(a.in_features, kRowPadding);
    const std::byte* weight = panel_at(a.weight, Format::I8, at.panel, a.in_features);
    const auto* scales = reinterpret_cast<const float*>(weight);
    const auto* codes = reinterpret_cast<const uint32_t*>(weight) + kPanelColumns;
    uint32_t sums[kI8TileRows<V> * kPanelColumns];
    for (int64_t row = at.row; row < end;) {
        const int64_t rows = smaller(kI8TileRows<V>, end - row);
        dot_i8_rows<V>(a.q + row * q_stride, q_stride, a.sums + row, codes, q_stride / 4, rows, sums);
        for (int64_t r = 0; r < rows; ++r)
            finish_i8_row<V>(a, sums + r * kPanelColumns, scales, row + r, at.column);
        row += rows;
    }
}

}  // namespace octavo::OCTAVO_ISA
