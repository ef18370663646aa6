// Gradients of attention in fp32: FlashAttention-2's backward pass (Dao 2023, arXiv 2307.08691, algorithm 2).
//
// For each chunk of kGradientKeys keys, and for each block of kGradientRows rows that sees some of them:
//
//     Sᵀ = K·Qᵀ, dPᵀ = V·dOᵀ (keys, rows)        → Pᵀ, dSᵀ (attention_gradients.h)
//     dV += Pᵀ·dO,   dK += dSᵀ·Q,   dQ += dS·K
//
// Chunks and blocks lie at fixed positions of the request and come in order, in whatever tiles they are computed: so a
// gradient's bits depend on its request alone.
#pragma once

#include "attention_gradients.h"
#include "gemm.h"
#include "scratch_layout.h"

namespace octavo::OCTAVO_ISA {

template <class V>
class AttentionBackwardItem {
public:
    AttentionBackwardItem(const AttentionBackwardArguments& a, int64_t item)
        : a_(a), f_(a.forward), tile_(a.tiles[item / f_.kv_heads]), kv_head_(item % f_.kv_heads),
          whole_(whole_request(f_, tile_.request)), queries_(f_, whole_, kv_head_), key_lanes_(round_up(f_.key_size, V::kLanes)),
          value_lanes_(round_up(f_.value_size, V::kLanes)) {
        ScratchLayout::lay_out([&](ScratchLayout& scratch) {
            scratch.place(k_, kGradientKeys * key_lanes_);
            scratch.place(v_, kGradientKeys * value_lanes_);
            scratch.place(dk_, kGradientKeys * key_lanes_);
            scratch.place(dv_, kGradientKeys * value_lanes_);
            scratch.place(q_, kGradientRows * key_lanes_);
            scratch.place(do_, kGradientRows * value_lanes_);
            scratch.place(q_t_, key_lanes_ * kGradientRows);
            scratch.place(do_t_, value_lanes_ * kGradientRows);
            scratch.place(s_, kGradientKeys * kGradientRows);
            scratch.place(dp_, kGradientKeys * kGradientRows);
            scratch.place(z_, f_.scores.kept_factor != 0.0f ? kGradientKeys * kGradientRows : 0);
            scratch.place(dq_, tile_.of_rows ? (tile_.stop_row - tile_.first_row) * key_lanes_ : 0);
        });
    }

    void run() {
        if (tile_.of_rows) clear(dq_, (tile_.stop_row - tile_.first_row) * key_lanes_);
        const KeyRange seen = queries_.keys_of_rows(tile_.first_row, tile_.stop_row);
        for (int64_t start = tile_.first_key; start < tile_.stop_key; start += kGradientKeys) {
            const int64_t stop = smaller(start + kGradientKeys, tile_.stop_key);
            const KeyRange keys{larger(seen.first, start), smaller(seen.stop, stop)};
            if (keys.is_empty()) continue;
            take_keys(start, keys);
            for (int64_t row = tile_.first_row; row < tile_.stop_row; row += kGradientRows) add_rows(start, stop, row);
            if (tile_.of_keys) write_keys(start, keys);
        }
        if (!tile_.of_rows) return;
        const int64_t row_bytes = f_.key_size * element_bytes(f_.q_type);
        for (int64_t row = tile_.first_row; row < tile_.stop_row; ++row)
            write_row(a_.dq + (queries_.token(row) * f_.heads + queries_.head(row)) * row_bytes,
                      dq_ + (row - tile_.first_row) * key_lanes_, f_.key_size);
    }

private:
    static void clear(float* x, int64_t count) { std::memset(x, 0, sizeof(float) * static_cast<size_t>(count)); }

    void write_row(std::byte* to, const float* from, int64_t size) const {
        for_vectors<V>(size, [&](int64_t i, int lanes) { store_as<V>(f_.q_type, to, i, V::load(from + i), lanes); });
    }

    // A row as floats, padded with zeros to whole vectors.
    static void read_row(ElementType type, const std::byte* from, int64_t size, float* to) {
        for_vectors<V>(size, [&](int64_t i, int lanes) { V::store(to + i, load_as<V>(type, from, i, lanes)); });
    }

    // Those keys of the chunk at `start` that some row of the tile sees.
    void take_keys(int64_t start, KeyRange keys) {
        CacheRows k = queries_.keys_from(keys.first), v = queries_.values_from(keys.first);
        for (int64_t i = keys.first - start; i < keys.stop - start; ++i) {
            read_row(f_.type, k.next(), f_.key_size, k_ + i * key_lanes_);
            read_row(f_.type, v.next(), f_.value_size, v_ + i * value_lanes_);
        }
        if (!tile_.of_keys) return;
        clear(dk_, kGradientKeys * key_lanes_);
        clear(dv_, kGradientKeys * value_lanes_);
    }

    void write_keys(int64_t start, KeyRange keys) const {
        CacheRows dk = queries_.rows_of(a_.dk, keys.first), dv = queries_.rows_of(a_.dv, keys.first);
        for (int64_t i = keys.first - start; i < keys.stop - start; ++i) {
            write_row(dk.next(), dk_ + i * key_lanes_, f_.key_size);
            write_row(dv.next(), dv_ + i * value_lanes_, f_.value_size);
        }
    }

    // A block of rows as it lies, and with rows as lanes; rows beyond the last are zeros.
    void take_rows(int64_t first, int64_t count) {
        clear(q_, kGradientRows * key_lanes_);
        clear(do_, kGradientRows * value_lanes_);
        const int64_t do_bytes = f_.value_size * element_bytes(f_.q_type);
        for (int64_t i = 0; i < count; ++i) {
            const int64_t row = first + i;
            read_row(f_.q_type, queries_.query(row), f_.key_size, q_ + i * key_lanes_);
            read_row(f_.q_type, a_.d_o + (queries_.token(row) * f_.heads + queries_.head(row)) * do_bytes, f_.value_size,
                     do_ + i * value_lanes_);
        }
        transpose(q_, key_lanes_, q_t_);
        transpose(do_, value_lanes_, do_t_);
    }

    static void transpose(const float* from, int64_t columns, float* to) {
        for (int64_t row = 0; row < kGradientRows; row += V::kLanes)
            for (int64_t column = 0; column < columns; column += V::kLanes) {
                typename V::Float block[V::kLanes];
                for (int i = 0; i < V::kLanes; ++i) block[i] = V::load(from + (row + i) * columns + column);
                V::transpose(block);
                for (int i = 0; i < V::kLanes; ++i) V::store(to + (column + i) * kGradientRows + row, block[i]);
            }
    }

    // Those keys of the chunk that the block of rows from `row` on sees.
    void add_rows(int64_t start, int64_t stop, int64_t row) {
        const GradientRows<V, kGradientRows> rows(a_, queries_, row, tile_.stop_row);
        const KeyRange seen = queries_.keys_of_rows(row, row + rows.count());
        const int64_t first = larger(seen.first, start), end = smaller(seen.stop, stop), count = end - first;
        if (count <= 0) return;
        take_rows(row, rows.count());
        constexpr int64_t kVectors = kGradientRows / V::kLanes;
        const float *k = k_ + (first - start) * key_lanes_, *v = v_ + (first - start) * value_lanes_;
        gemm<V>({k, key_lanes_, q_t_, kGradientRows, s_, kGradientRows, f_.key_size, false}, count, kVectors);
        gemm<V>({v, value_lanes_, do_t_, kGradientRows, dp_, kGradientRows, f_.value_size, false}, count, kVectors);
        if (z_in_use())
            for (int64_t key = first / DropoutRow::kKeys * DropoutRow::kKeys; key < end; key += DropoutRow::kKeys)
                rows.take_dropout(queries_, key, z_ + (key - start) * kGradientRows);
        for (int64_t key = first; key < end; ++key) {
            const int64_t at = (key - first) * kGradientRows;
            rows.differentiate(key, 0, kGradientRows, s_ + at, dp_ + at, z_in_use() ? z_ + (key - start) * kGradientRows : nullptr);
        }
        if (tile_.of_keys) {
            gemm<V>({s_, kGradientRows, do_, value_lanes_, dv_ + (first - start) * value_lanes_, value_lanes_, rows.count(), true},
                    count, value_lanes_ / V::kLanes);
            gemm<V>({dp_, kGradientRows, q_, key_lanes_, dk_ + (first - start) * key_lanes_, key_lanes_, rows.count(), true},
                    count, key_lanes_ / V::kLanes);
        }
        if (tile_.of_rows)
            gemm<V>({dp_, 1, k, key_lanes_, dq_ + (row - tile_.first_row) * key_lanes_, key_lanes_, count, true, kGradientRows},
                    rows.count(), key_lanes_ / V::kLanes);
    }

    bool z_in_use() const { return f_.scores.kept_factor != 0.0f; }

    const AttentionBackwardArguments& a_;
    const AttentionArguments& f_;
    const GradientTile& tile_;
    int64_t kv_head_;
    AttentionTile whole_;
    QueryTile queries_;
    int64_t key_lanes_, value_lanes_;
    float *k_ = nullptr, *v_ = nullptr, *dk_ = nullptr, *dv_ = nullptr, *q_ = nullptr, *do_ = nullptr, *q_t_ = nullptr,
          *do_t_ = nullptr, *s_ = nullptr, *dp_ = nullptr, *z_ = nullptr, *dq_ = nullptr;
};

template <class V>
void attention_backward(const void* arguments, int64_t item) {
    AttentionBackwardItem<V>(*static_cast<const AttentionBackwardArguments*>(arguments), item).run();
    trim_thread_scratch();
}

}  // namespace octavo::OCTAVO_ISA
