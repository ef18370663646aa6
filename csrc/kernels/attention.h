// Attention over a paged cache in fp32: FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 1).
//
// An item is one query tile of one request and one KV head (attention_tile.h). For each tile of 64 keys, at fixed
// absolute positions:
//
//     scores (rows, 64) = q (rows, D) · Kᵀ (D, 64)        K transposed once a tile, so keys are lanes
//     p = 2^(scores − m), o = o·2^(m_old − m) + p · V (64, E)
//
// A row visits the tiles that hold a key it sees, in order, and in a tile only the keys it sees: its bits
// depend on its position and its keys, not on the other rows of the tile.
#pragma once

#include "attention_scores.h"
#include "dropout.h"
#include "gemm.h"
#include "scratch_layout.h"

namespace octavo::OCTAVO_ISA {

template <class V>
class AttentionItem {
public:
    AttentionItem(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head)
        : a_(a), tile_(tile), kv_head_(kv_head), queries_(a, tile_, kv_head_),
          rows_(queries_.rows()), value_lanes_(round_up(a.value_size, V::kLanes)),
          scale_(score_scale(a.scores, tile_.request, kv_head_)), is_only_scaled_(is_only_scaled(a.scores)) {
        ScratchLayout::lay_out([&](ScratchLayout& scratch) {
            scratch.place(q_, rows_ * a.key_size);
            scratch.place(k_, round_up(a.key_size, V::kLanes) * kKvTile);
            scratch.place(v_, kKvTile * value_lanes_);
            scratch.place(scores_, rows_ * kKvTile);
            scratch.place(partials_, 2 * PartialRows::floats(rows_, a.value_size));
        });
    }

    void run() {
        for (int64_t row = 0; row < rows_; ++row) {
            const std::byte* q = queries_.query(row);
            for_vectors<V>(a_.key_size, [&](int64_t i, int lanes) {
                store_lanes<V>(q_ + row * a_.key_size + i, load_as<V>(a_.q_type, q, i, lanes), lanes);
            });
        }
        for_splits<V>(a_, tile_, kv_head_, queries_, partials_,
                      [&](const PartialRows& part, KeyRange keys) { walk(part, keys); });
    }

private:
    static constexpr int64_t kKvTile = 64;

    void walk(const PartialRows& part, KeyRange keys) {
        for (int64_t i = 0; i < rows_ * part.o_stride; ++i) part.o[i] = 0.0f;
        for (int64_t start = keys.first / kKvTile * kKvTile; start < keys.stop; start += kKvTile) {
            int64_t token = 0, end = queries_.tokens();
            while (visible(start, token).is_empty()) ++token;
            while (visible(start, end - 1).is_empty()) --end;
            const KeyRange some = queries_.keys(token, end, start, kKvTile);
            gather(start, some);
            const int64_t low = some.first / V::kLanes * V::kLanes, row = token * queries_.group();
            gemm<V>({q_ + row * a_.key_size, a_.key_size, k_ + low, kKvTile, scores_ + row * kKvTile + low, kKvTile,
                     a_.key_size, false},
                    end * queries_.group() - row, (some.stop - low + V::kLanes - 1) / V::kLanes);
            while (token < end) token = add_keys(part, start, token, end);
        }
    }

    KeyRange visible(int64_t start, int64_t token) const { return queries_.keys(token, token + 1, start, kKvTile); }

    // Those keys of the tile at `start` into k_ (D, 64) and v_ (64, E). Only whole vectors that hold one of them are
    // written, and read.
    void gather(int64_t start, KeyRange keys) {
        CacheRows k = queries_.keys_from(start + keys.first), v = queries_.values_from(start + keys.first);
        for (int64_t key = keys.first / V::kLanes * V::kLanes; key < keys.stop; key += V::kLanes) {
            const std::byte* from[V::kLanes];
            const int64_t first = larger(keys.first - key, 0), stop = smaller(keys.stop - key, V::kLanes);
            for (int64_t lane = first; lane < stop; ++lane) {
                from[lane] = k.next();
                const std::byte* value = v.next();
                for_vectors<V>(a_.value_size, [&](int64_t i, int lanes) {
                    V::store(v_ + (key + lane) * value_lanes_ + i, load_as<V>(a_.type, value, i, lanes));
                });
            }
            // Lanes that no row sees repeat one that some row does.
            for (int64_t lane = 0; lane < first; ++lane) from[lane] = from[first];
            for (int64_t lane = stop; lane < V::kLanes; ++lane) from[lane] = from[first];
            for_vectors<V>(a_.key_size, [&](int64_t i, int lanes) {
                typename V::Float block[V::kLanes];
                for (int lane = 0; lane < V::kLanes; ++lane) block[lane] = load_as<V>(a_.type, from[lane], i, lanes);
                V::transpose(block);
                for (int d = 0; d < V::kLanes; ++d) V::store(k_ + (i + d) * kKvTile + key, block[d]);
            });
        }
    }

    // The tile's keys into the rows of `token` and of those after it that see the same; returns the next token.
    int64_t add_keys(const PartialRows& part, int64_t start, int64_t token, int64_t stop) {
        const KeyRange keys = visible(start, token);
        int64_t end = token + 1;
        while (end < stop && visible(start, end) == keys) ++end;
        const int64_t row = token * queries_.group(), num_rows = (end - token) * queries_.group();
        for (int64_t r = row; r < row + num_rows; ++r) soften(part, r, start, keys);
        gemm<V>({scores_ + row * kKvTile + keys.first, kKvTile, v_ + keys.first * value_lanes_, value_lanes_,
                 part.o + row * part.o_stride, part.o_stride, keys.stop - keys.first, true},
                num_rows, value_lanes_ / V::kLanes);
        return end;
    }

    // Scores of one row to p, in place; its maximum, sum and output are brought to the new maximum.
    // Vectors without a key it sees are left out: they would add zeros.
    void soften(const PartialRows& part, int64_t row, int64_t start, KeyRange keys) {
        float* s = scores_ + row * kKvTile;
        const int64_t low = keys.first / V::kLanes * V::kLanes, high = round_up(keys.stop, V::kLanes);
        if (is_only_scaled_) {
            const auto factor = V::broadcast(scale_ * kLog2e);
            for (int64_t i = low; i < high; i += V::kLanes) V::store(s + i, V::mul(V::load(s + i), factor));
        } else {
            const RowScores<V> in_log2 = row_scores<V>(a_, queries_, scale_, row);
            for (int64_t i = low; i < high; i += V::kLanes) V::store(s + i, in_log2(V::load(s + i), start + i));
        }
        for (int64_t i = low; i < keys.first; ++i) s[i] = -kInfinity;
        for (int64_t i = keys.stop; i < high; ++i) s[i] = -kInfinity;
        auto highest = V::load(s + low);
        for (int64_t i = low + V::kLanes; i < high; i += V::kLanes) highest = V::max(highest, V::load(s + i));
        const float tile_max = V::reduce_max(highest);
        if (part.max[row] < tile_max) raise_maximum(part, row, tile_max);
        // Where all scores so far are −∞ their p is 0, not the NaN of −∞ − −∞.
        const auto offset = V::broadcast(part.max[row] == -kInfinity ? 0.0f : part.max[row]);
        auto sum = V::broadcast(0.0f);
        for (int64_t i = low; i < high; i += V::kLanes) {
            const auto p = exp2<V>(V::sub(V::load(s + i), offset));
            V::store(s + i, p);
            sum = V::add(sum, p);
        }
        part.sum[row] += V::reduce_add(sum);
        if (a_.scores.kept_factor != 0.0f) drop(row, start, keys);
    }

    // Dropped probabilities of the row to 0.
    [[gnu::noinline]] void drop(int64_t row, int64_t start, KeyRange keys) {
        static_assert(DropoutRow::kKeys == kKvTile);
        uint32_t drops[kKvTile];
        DropoutRow(a_.scores, queries_.request(), queries_.head(row), queries_.token_of_request(row)).decide(start, drops);
        float* s = scores_ + row * kKvTile;
        for (int64_t i = keys.first; i < keys.stop; ++i)
            if (drops[i]) s[i] = 0.0f;
    }

    void raise_maximum(const PartialRows& part, int64_t row, float new_max) {
        const float factor = exp2_of<V>(part.max[row] - new_max);
        part.max[row] = new_max;
        part.sum[row] *= factor;
        for (int64_t i = 0; i < value_lanes_; i += V::kLanes) {
            float* o = part.o + row * part.o_stride + i;
            V::store(o, V::mul(V::load(o), V::broadcast(factor)));
        }
    }

    const AttentionArguments& a_;
    const AttentionTile& tile_;
    int64_t kv_head_;
    QueryTile queries_;
    int64_t rows_, value_lanes_;
    float scale_;
    bool is_only_scaled_;
    float *q_ = nullptr, *k_ = nullptr, *v_ = nullptr, *scores_ = nullptr, *partials_ = nullptr;
};

template <class V>
void attention(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AttentionArguments*>(arguments);
    AttentionItem<V>(a, a.tiles[item / a.kv_heads], item % a.kv_heads).run();
}

}  // namespace octavo::OCTAVO_ISA
