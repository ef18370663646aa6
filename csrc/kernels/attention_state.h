// The running softmax of attention rows (FlashAttention-2, Dao 2023, arXiv 2307.08691), and how its parts are merged.
//
// With scores x in units of log 2, a row that has seen some keys is m = max x, l = Σ 2^(x − m), o = Σ 2^(x − m)·v. A split
// (kKvSplit keys at fixed positions) starts from nothing; the splits are merged in order of position,
//
//     m' = max(m, m_split), l' = l·2^(m − m') + l_split·2^(m_split − m'), o' likewise,
//
// whether one item walks them all or each is an item of its own: so its bits do not tell who computed it.
#pragma once

#include <cmath>

#include "attention_tile.h"

namespace octavo::OCTAVO_ISA {

constexpr float kLog2e = 1.44269504088896341f;
constexpr float kInfinity = __builtin_inff();

// m, l and o of `rows` rows in one block of memory.
struct PartialRows {
    float *o, *max, *sum;
    int64_t o_stride;

    static int64_t floats(int64_t rows, int64_t value_size) { return rows * (round_up(value_size, kPartialAlignment) + 2); }

    PartialRows(float* memory, int64_t rows, int64_t value_size)
        : o(memory), max(memory + rows * round_up(value_size, kPartialAlignment)), sum(max + rows),
          o_stride(round_up(value_size, kPartialAlignment)) {}
};

// The rows of a tile in the partial results of one of its splits.
inline PartialRows partial_rows(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head, int64_t split) {
    const int64_t group = a.heads / a.kv_heads, rows = tile.partial_tokens * group, row = tile.partial_token * group;
    const int64_t index = (split - tile.first_split) * a.kv_heads + kv_head;
    PartialRows part(tile.partial + index * PartialRows::floats(rows, a.value_size), rows, a.value_size);
    part.o += row * part.o_stride;
    part.max += row;
    part.sum += row;
    return part;
}

template <class V>
inline float exp2_of(float x) {
    float lanes[V::kLanes];
    V::store(lanes, exp2<V>(V::broadcast(x)));
    return lanes[0];
}

// Row of `total` = it merged with the same row of `part`. A total that has seen nothing has m = −∞, and o of zeros.
template <class V>
inline void merge_row(const PartialRows& total, const PartialRows& part, int64_t row) {
    const float part_max = part.max[row], old_max = total.max[row];
    if (part_max == -kInfinity && part.sum[row] == 0.0f) return;  // saw no key
    const float new_max = old_max < part_max ? part_max : old_max;
    const bool is_first = old_max == -kInfinity && total.sum[row] == 0.0f;
    const float kept = is_first ? 0.0f : exp2_of<V>(old_max - new_max), added = exp2_of<V>(part_max - new_max);
    float* o = total.o + row * total.o_stride;
    const float* from = part.o + row * part.o_stride;
    for (int64_t i = 0; i < total.o_stride; i += V::kLanes) {
        const auto scaled = V::mul(V::load(from + i), V::broadcast(added));
        V::store(o + i, is_first ? scaled : V::fma(V::load(o + i), V::broadcast(kept), scaled));
    }
    total.sum[row] = is_first ? part.sum[row] * added : total.sum[row] * kept + part.sum[row] * added;
    total.max[row] = new_max;
}

inline void start_rows(const PartialRows& part, int64_t rows) {
    for (int64_t row = 0; row < rows; ++row) {
        part.max[row] = -kInfinity;
        part.sum[row] = 0.0f;
    }
}

// Rows that parts are merged into; o of zeros, for a row whose scores are all −∞.
inline void start_total(const PartialRows& total, int64_t rows) {
    start_rows(total, rows);
    __builtin_memset(total.o, 0, sizeof(float) * static_cast<size_t>(rows * total.o_stride));
}

// The splits that a tile's rows see, in order: walk(part, keys) leaves the rows of one in `part`, and they are merged and
// written, or left in the tile's partial results. `memory` holds PartialRows twice. To merge a single split changes no bit.
template <class V, class Walk>
inline void for_splits(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head, const QueryTile& queries,
                       float* memory, Walk walk) {
    const int64_t rows = queries.rows();
    const bool is_merged = !tile.partial && tile.num_splits > 1;
    const PartialRows total(memory, rows, a.value_size);
    if (is_merged) start_total(total, rows);
    else start_rows(total, rows);
    for (int64_t split = tile.first_split; split < tile.first_split + tile.num_splits; ++split) {
        const KeyRange all = queries.keys(0, queries.tokens());
        const KeyRange keys{larger(all.first, split * kKvSplit), smaller(all.stop, (split + 1) * kKvSplit)};
        const PartialRows part =
            tile.partial ? partial_rows(a, tile, kv_head, split)
            : is_merged  ? PartialRows(memory + PartialRows::floats(rows, a.value_size), rows, a.value_size)
                         : total;
        start_rows(part, rows);
        if (keys.is_empty()) continue;
        walk(part, keys);
        if (!is_merged) continue;
        for (int64_t row = 0; row < rows; ++row) merge_row<V>(total, part, row);
    }
    if (!tile.partial) write_outputs<V>(a, queries, total);
}

// o / l to the output, and m + log l to the lse, after e^sink has joined l. A row that sees no key gives zeros, and −∞.
template <class V>
inline void write_outputs(const AttentionArguments& a, const QueryTile& tile, const PartialRows& total) {
    const AttentionScores& scores = a.scores;
    float scale = scores.v_scales ? scores.v_scales[tile.request() * scores.v_scales_stride + tile.kv_head()] : 1.0f;
    if (scores.kept_factor != 0.0f) scale *= scores.kept_factor;
    for (int64_t row = 0; row < tile.rows(); ++row) {
        float kept = 1.0f, sum = total.sum[row], max = total.max[row];
        const bool is_empty = max == -kInfinity && sum == 0.0f;
        if (scores.sinks) {
            const float sink = scores.sinks[tile.head(row)] * kLog2e;
            max = total.max[row] < sink ? sink : total.max[row];
            const float offset = max == -kInfinity ? 0.0f : max;
            kept = exp2_of<V>(total.max[row] - offset);
            sum = sum * kept + exp2_of<V>(sink - offset);
        }
        if (a.lse) {
            const double lse = double{max} * 0.693147180559945309 + std::log(double{sum});
            a.lse[tile.head(row) * a.query_starts[a.num_requests] + tile.token(row)] =
                sum == 0.0f ? -kInfinity : static_cast<float>(lse);
        }
        const auto factor = V::broadcast(is_empty ? 0.0f : kept / sum * scale);
        std::byte* o = tile.output(row);
        const float* from = total.o + row * total.o_stride;
        for_vectors<V>(a.value_size, [&](int64_t i, int lanes) {
            const auto sums = is_empty ? V::broadcast(0.0f) : V::load(from + i);
            store_as<V>(a.q_type, o, i, V::mul(sums, factor), lanes);
        });
    }
}

// The splits of a tile, each an item before, merged and written. One item is (tile, KV head).
template <class V>
void attention_merge(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AttentionArguments*>(arguments);
    const int64_t kv_head = item % a.kv_heads;
    const AttentionTile& tile = a.tiles[item / a.kv_heads];
    const QueryTile queries(a, tile, kv_head);
    const int64_t rows = queries.rows();
    const PartialRows total(static_cast<float*>(thread_scratch(
        static_cast<size_t>(PartialRows::floats(rows, a.value_size)) * sizeof(float))), rows, a.value_size);
    start_total(total, rows);
    for (int64_t split = tile.first_split; split < tile.first_split + tile.num_splits; ++split) {
        const PartialRows part = partial_rows(a, tile, kv_head, split);
        for (int64_t row = 0; row < rows; ++row) merge_row<V>(total, part, row);
    }
    write_outputs<V>(a, queries, total);
}

}  // namespace octavo::OCTAVO_ISA
