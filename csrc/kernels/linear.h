// Linear layers and embeddings on packed panels.
#pragma once

#include "dequantize.h"
#include "gemm.h"
#include "panel_item.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kSlab = 256;  // k at a time: 32 KiB of fp32, reused by all rows of the item

// Item: a PanelItem. For every row, slabs of 256 k are summed in rising order, and their sums added in rising order.
template <class V>
void linear(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearArguments*>(arguments);
    const PanelItem at = panel_item(a.rows, kLinearRowsPerItem, item);
    const std::byte* weight = panel_at(a.weight, a.format, at.panel, a.in_features);
    const float* x = a.x + at.row * a.x_stride;
    auto* slab = static_cast<float*>(thread_scratch((kSlab + kLinearRowsPerItem) * kPanelColumns * sizeof(float)));
    float* sums = slab + kSlab * kPanelColumns;
    const bool is_dot = at.rows == 1 && can_dot_slab(a.format);
    if (a.in_features == 0)
        for (int64_t i = 0; i < at.rows * kPanelColumns; ++i) sums[i] = 0.0f;
    for (int64_t k = 0; k < a.in_features; k += kSlab) {
        const int64_t size = smaller(kSlab, a.in_features - k);
        if (is_dot) {
            dot_slab<V>(a.format, weight, k, size, x + k, sums, k > 0);
            continue;
        }
        const float* b = slab;
        if (a.format == Format::F32) b = reinterpret_cast<const float*>(weight) + k * kPanelColumns;
        else dequantize_slab<V>(a.format, weight, k, size, slab);
        gemm<V>({x + k, a.x_stride, b, kPanelColumns, sums, kPanelColumns, size, k > 0}, at.rows, kPanelColumns / V::kLanes);
    }
    finish_rows<V>(a, sums, at.row, at.rows, at.column);
}

// Item: one row of W, or, for all rows (ids null), one panel of them.
template <class V>
void embedding(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const EmbeddingArguments*>(arguments);
    auto* slab = static_cast<float*>(thread_scratch(kSlab * kPanelColumns * sizeof(float)));
    const int64_t first = a.ids ? a.ids[item] : item * kPanelColumns;
    const int64_t panel = first / kPanelColumns, column = first % kPanelColumns;
    const int64_t columns = a.ids ? 1 : smaller(kPanelColumns, a.out_features - first);
    float* y = a.y + (a.ids ? item : first) * a.in_features;
    const std::byte* weight = panel_at(a.weight, a.format, panel, a.in_features);
    if (a.format == Format::BF16Tiles) {
        for (int64_t c = 0; c < columns; ++c, y += a.in_features)
            for_column_of_tiles<V>(weight, a.in_features, column + c, [&](int64_t i, typename V::Float w) {
                V::store(y + i, V::mul(V::broadcast(a.scale), w));
            });
        return;
    }
    for (int64_t k = 0; k < a.in_features; k += kSlab) {
        const int64_t size = smaller(kSlab, a.in_features - k);
        dequantize_slab<V>(a.format, weight, k, size, slab);
        for (int64_t c = 0; c < columns; ++c)
            for (int64_t i = 0; i < size; ++i)
                y[c * a.in_features + k + i] = a.scale * slab[i * kPanelColumns + column + c];
    }
}

}  // namespace octavo::OCTAVO_ISA
