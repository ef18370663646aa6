// What all kernels over a weight's panels begin and end with: an item's panel and rows, and its sums as rows of y.
#pragma once

#include "math.h"

namespace octavo::OCTAVO_ISA {

struct PanelItem {
    int64_t panel, column;  // and its first column
    int64_t row, rows;      // the first row of the chunk, and how many
};

// Item (panel, chunk of rows), chunks fastest; num_panel_items of dispatch.cpp counts the items.
inline PanelItem panel_item(int64_t rows, int64_t rows_per_item, int64_t item) {
    const int64_t num_chunks = (rows + rows_per_item - 1) / rows_per_item;
    const int64_t panel = item / num_chunks, row = item % num_chunks * rows_per_item;
    return {panel, panel * kPanelColumns, row, smaller(rows_per_item, rows - row)};
}

// sum_of(i), the vector from column + i on, to a row of y, with the bias; columns beyond the weight's are left out.
// `Block` is an argument block with y, y_stride, bias and out_features.
template <class V, class Block, class SumOf>
inline void finish_row(const Block& a, int64_t row, int64_t column, SumOf sum_of) {
    float* y = a.y + row * a.y_stride + column;
    for_vectors<V>(smaller(kPanelColumns, a.out_features - column), [&](int64_t i, int lanes) {
        auto sum = sum_of(i);
        if (a.bias) sum = V::add(sum, load_lanes<V>(a.bias + column + i, lanes));
        store_lanes<V>(y + i, sum, lanes);
    });
}

// The same of sums (rows, 32).
template <class V, class Block>
inline void finish_rows(const Block& a, const float* sums, int64_t row, int64_t rows, int64_t column) {
    for (int64_t r = 0; r < rows; ++r, sums += kPanelColumns)
        finish_row<V>(a, row + r, column, [&](int64_t i) { return V::load(sums + i); });
}

}  // namespace octavo::OCTAVO_ISA
