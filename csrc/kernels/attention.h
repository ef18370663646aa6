// Causal attention over a paged cache: FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 1).
//
// An item is one query tile of one request and one KV head. The heads of the group are folded into rows,
// token-major: row = token · group + head. For each tile of 64 keys, at fixed absolute positions:
//
//     scores (rows, 64) = q (rows, D) · Kᵀ (D, 64)        K transposed once a tile, so keys are lanes
//     p = exp(scores − m), o = o·exp(m_old − m) + p · V (64, E)
//
// A row visits the tiles that hold a key it sees, in order, and in a tile only the keys it sees: its bits
// depend on its position and its keys, not on the other rows of the tile.
#pragma once

#include "gemm.h"

namespace octavo::OCTAVO_ISA {

template <class V>
class AttentionItem {
public:
    AttentionItem(const AttentionArguments& a, int64_t item)
        : a_(a), kv_head_(item / a.num_tiles), group_(a.heads / a.kv_heads),
          key_lanes_(round_up(a.key_size, V::kLanes)),
          value_lanes_(round_up(a.value_size, V::kLanes)) {
        const int64_t tile = item % a.num_tiles;
        request_ = a.tile_request[tile];
        first_token_ = a.tile_row[tile];
        const int64_t end = a.query_starts[request_ + 1];
        tokens_ = smaller(a.tile_tokens, end - first_token_);
        first_position_ = a.seq_lens[request_] - (end - first_token_);
        allocate();
    }

    void run() {
        start_rows();
        const int64_t last = first_position_ + tokens_ - 1;
        const int64_t oldest = oldest_key(first_position_);
        for (int64_t start = oldest / kKvTile * kKvTile; start <= last; start += kKvTile) {
            const int64_t first = larger(start, oldest) - start, stop = smaller(kKvTile, last + 1 - start);
            gather(start, first, stop);
            const int64_t low = first / V::kLanes * V::kLanes;
            gemm<V>({q_, a_.key_size, k_ + low, kKvTile, scores_ + low, kKvTile, a_.key_size, false}, rows(),
                    (stop - low + V::kLanes - 1) / V::kLanes);
            for (int64_t token = 0; token < tokens_;) token = merge(start, token);
        }
        finish_rows();
    }

private:
    struct KeyRange {  // of the keys that a token sees in a tile
        int64_t first, stop;
        bool operator==(const KeyRange& other) const { return first == other.first && stop == other.stop; }
    };

    int64_t rows() const { return tokens_ * group_; }
    int64_t oldest_key(int64_t position) const { return position < a_.window ? 0 : position - a_.window + 1; }

    KeyRange visible(int64_t start, int64_t token) const {
        const int64_t position = first_position_ + token;
        return {larger(0, oldest_key(position) - start), smaller(kKvTile, position + 1 - start)};
    }

    void allocate() {
        const int64_t n = rows();
        const int64_t sizes[] = {n * a_.key_size, key_lanes_ * kKvTile, kKvTile * value_lanes_, n * kKvTile,
                                 n * value_lanes_, n, n};
        float** parts[] = {&q_, &k_, &v_, &scores_, &o_, &max_, &sum_};
        int64_t total = 0;
        for (const int64_t size : sizes) total += round_up(size, 16);
        auto* next = static_cast<float*>(thread_scratch(static_cast<size_t>(total) * sizeof(float)));
        for (int i = 0; i < 7; ++i) {
            *parts[i] = next;
            next += round_up(sizes[i], 16);
        }
    }

    void start_rows() {
        for (int64_t row = 0; row < rows(); ++row) {
            const int64_t token = first_token_ + row / group_, head = kv_head_ * group_ + row % group_;
            const float* q = a_.q + token * a_.q_token_stride + head * a_.q_head_stride;
            for_vectors<V>(a_.key_size, [&](int64_t i, int lanes) {
                store_lanes<V>(q_ + row * a_.key_size + i, load_lanes<V>(q + i, lanes), lanes);
            });
            for (int64_t i = 0; i < value_lanes_; ++i) o_[row * value_lanes_ + i] = 0.0f;
            max_[row] = -__builtin_inff();
            sum_[row] = 0.0f;
        }
    }

    static typename V::Float load_cached(CacheType type, const std::byte* from, int64_t i, int lanes) {
        if (type == CacheType::F32) return load_lanes<V>(reinterpret_cast<const float*>(from) + i, lanes);
        const auto* p = reinterpret_cast<const uint16_t*>(from) + i;
        uint16_t padded[V::kLanes] = {};
        if (lanes < V::kLanes) {
            __builtin_memcpy(padded, p, sizeof(uint16_t) * static_cast<size_t>(lanes));
            p = padded;
        }
        return type == CacheType::BF16 ? V::load_bf16(p) : V::load_f16(p);
    }

    // Keys first … stop − 1 of the tile at `start` into k_ (D, 64) and v_ (64, E). Only whole vectors that hold
    // one of them are written, and read.
    void gather(int64_t start, int64_t first, int64_t stop) {
        const int64_t element = a_.type == CacheType::F32 ? 4 : 2;
        const int32_t* table = a_.block_tables + request_ * a_.max_blocks;
        for (int64_t key = first / V::kLanes * V::kLanes; key < stop; key += V::kLanes) {
            const std::byte* keys[V::kLanes];
            for (int64_t lane = 0; lane < V::kLanes; ++lane) {
                // Lanes that no row sees repeat one that some row does.
                const int64_t position = start + larger(first, smaller(key + lane, stop - 1));
                const int64_t id = table[position / a_.block_size], offset = position % a_.block_size;
                keys[lane] = a_.k.data + (id * a_.k.block_stride + offset * a_.k.slot_stride +
                                          kv_head_ * a_.k.head_stride) * element;
                if (key + lane < first || key + lane >= stop) continue;
                const std::byte* value = a_.v.data + (id * a_.v.block_stride + offset * a_.v.slot_stride +
                                                      kv_head_ * a_.v.head_stride) * element;
                for_vectors<V>(a_.value_size, [&](int64_t i, int lanes) {
                    V::store(v_ + (key + lane) * value_lanes_ + i, load_cached(a_.type, value, i, lanes));
                });
            }
            for_vectors<V>(a_.key_size, [&](int64_t i, int lanes) {
                typename V::Float block[V::kLanes];
                for (int lane = 0; lane < V::kLanes; ++lane) block[lane] = load_cached(a_.type, keys[lane], i, lanes);
                V::transpose(block);
                for (int d = 0; d < V::kLanes; ++d) V::store(k_ + (i + d) * kKvTile + key, block[d]);
            });
        }
    }

    // Merges the tile into the rows of `token` and of those after it that see the same keys; returns the next token.
    int64_t merge(int64_t start, int64_t token) {
        const KeyRange keys = visible(start, token);
        int64_t end = token + 1;
        while (end < tokens_ && visible(start, end) == keys) ++end;
        if (keys.first >= keys.stop) return end;
        for (int64_t row = token * group_; row < end * group_; ++row) soften(row, keys);
        const int64_t row = token * group_;
        gemm<V>({scores_ + row * kKvTile + keys.first, kKvTile, v_ + keys.first * value_lanes_, value_lanes_,
                 o_ + row * value_lanes_, value_lanes_, keys.stop - keys.first, true},
                (end - token) * group_, value_lanes_ / V::kLanes);
        return end;
    }

    // Scores of one row to p, in place; its maximum, sum and output are brought to the new maximum.
    // Vectors without a key it sees are left out: they would add zeros.
    void soften(int64_t row, KeyRange keys) {
        float* s = scores_ + row * kKvTile;
        const int64_t low = keys.first / V::kLanes * V::kLanes, high = round_up(keys.stop, V::kLanes);
        const auto scale = V::broadcast(a_.scale);
        const auto cap = V::broadcast(a_.softcap);
        for (int64_t i = low; i < high; i += V::kLanes) {
            auto score = V::mul(V::load(s + i), scale);
            if (a_.softcap != 0.0f) score = V::mul(cap, tanh<V>(V::div(score, cap)));
            V::store(s + i, score);
        }
        for (int64_t i = low; i < keys.first; ++i) s[i] = -__builtin_inff();
        for (int64_t i = keys.stop; i < high; ++i) s[i] = -__builtin_inff();
        auto highest = V::load(s + low);
        for (int64_t i = low + V::kLanes; i < high; i += V::kLanes) highest = V::max(highest, V::load(s + i));
        const float tile_max = V::reduce_max(highest);
        const float new_max = max_[row] < tile_max ? tile_max : max_[row];
        auto sum = V::broadcast(0.0f);
        for (int64_t i = low; i < high; i += V::kLanes) {
            const auto p = exp<V>(V::sub(V::load(s + i), V::broadcast(new_max)));
            V::store(s + i, p);
            sum = V::add(sum, p);
        }
        rescale(row, new_max);
        sum_[row] += V::reduce_add(sum);
    }

    void rescale(int64_t row, float new_max) {
        if (new_max == max_[row]) return;  // the factor would be exactly 1
        float factor[V::kLanes];
        V::store(factor, exp<V>(V::broadcast(max_[row] - new_max)));
        max_[row] = new_max;
        sum_[row] *= factor[0];
        for (int64_t i = 0; i < value_lanes_; i += V::kLanes) {
            float* o = o_ + row * value_lanes_ + i;
            V::store(o, V::mul(V::load(o), V::broadcast(factor[0])));
        }
    }

    void finish_rows() {
        for (int64_t row = 0; row < rows(); ++row) {
            const int64_t token = first_token_ + row / group_, head = kv_head_ * group_ + row % group_;
            if (a_.sinks) {
                const float sink = a_.sinks[head];
                rescale(row, max_[row] < sink ? sink : max_[row]);
                float extra[V::kLanes];
                V::store(extra, exp<V>(V::broadcast(sink - max_[row])));
                sum_[row] += extra[0];
            }
            const auto sum = V::broadcast(sum_[row]);
            float* o = a_.o + (token * a_.heads + head) * a_.value_size;
            for_vectors<V>(a_.value_size, [&](int64_t i, int lanes) {
                store_lanes<V>(o + i, V::div(V::load(o_ + row * value_lanes_ + i), sum), lanes);
            });
        }
    }

    const AttentionArguments& a_;
    int64_t kv_head_, group_, key_lanes_, value_lanes_;
    int64_t request_, first_token_, tokens_, first_position_;
    float *q_, *k_, *v_, *scores_, *o_, *max_, *sum_;
};

template <class V>
void attention(const void* arguments, int64_t item) {
    AttentionItem<V>(*static_cast<const AttentionArguments*>(arguments), item).run();
}

}  // namespace octavo::OCTAVO_ISA
