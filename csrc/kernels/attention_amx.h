// Attention over a bf16 cache on AMX tiles: FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 1), with q and p
// rounded to bf16, products summed in fp32, softmax in fp32.
//
// Rows go in groups of 32. A group's softmax runs on the vector units while the tiles compute the scores of the next
// group and the output of the one before:
//
//     scores(g + 1) = q · Kᵀ  ┐
//     o(g − 1) += p · V       ┴ one step after every row of  p(g) = 2^(scores(g)·scale·log₂e − m)
//
// KV tiles lie at fixed positions. A key that a row does not see has p = 0, and o + 0·v = o: a row's bits depend on its
// position and on the keys it sees. A key with a value that is not finite would still be seen, as NaN, by rows of its
// tile: where one shows, the tokens are done one by one, each with no keys but its own.
#pragma once

#include "attention_amx_pack.h"
#include "attention_state.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kAmxKvTile = 128;

class AmxAttentionItem {
public:
    AmxAttentionItem(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head)
        : a_(a), tile_(tile), kv_head_(kv_head), queries_(a, tile, kv_head), rows_(queries_.rows()),
          row_block_(smaller(rows_, 16)), group_rows_(rows_ > 16 ? 32 : 16), num_groups_((rows_ + group_rows_ - 1) / group_rows_),
          key_depth_(round_up(a.key_size, kTileK) / kTileK), value_columns_(round_up(a.value_size, 32)) {
        const int64_t padded = num_groups_ * group_rows_;
        const int64_t bytes[] = {2 * padded * key_depth_ * kTileK, 2 * kAmxKvTile * key_depth_ * kTileK,
                                 2 * kAmxKvTile * value_columns_, 4 * kBuffers * 32 * kScoreStride,
                                 4 * padded * kLanes, 4 * padded * value_columns_, 4 * PartialRows::floats(rows_, a.value_size) * 2};
        void** parts[] = {(void**)&q_, (void**)&k_, (void**)&v_, (void**)&scores_, (void**)&sums_, (void**)&o_, (void**)&partials_};
        int64_t total = 0;
        for (const int64_t size : bytes) total += round_up(size, 64);
        auto* next = static_cast<std::byte*>(thread_scratch(static_cast<size_t>(total)));
        for (int i = 0; i < 7; ++i) {
            *parts[i] = next;
            next += round_up(bytes[i], 64);
        }
    }

    void run() {
        std::memset(q_, 0, static_cast<size_t>(2 * num_groups_ * group_rows_ * key_depth_ * kTileK));
        for (int64_t row = 0; row < rows_; ++row) pack_query(queries_.query(row), a_.key_size, q_ + row * key_depth_ * kTileK);
        AmxShapes(row_block_).load();
        for_splits<Vector>(a_, tile_, kv_head_, queries_, partials_, [&](const PartialRows& part, KeyRange keys) {
            if (rows_ > 16) walk<2>(part, keys);
            else walk<1>(part, keys);
        });
        asm volatile("tilerelease" ::: "memory");
    }

private:
    static constexpr int64_t kLanes = 16, kBuffers = 3;
    static constexpr int64_t kScoreStride = kAmxKvTile + 16;

    struct Group {
        int64_t row, num_rows;
        KeyRange keys;    // that some row sees, in the tile
        KeyRange blocks;  // of 32 keys that hold them
    };

    Group group(int64_t index, int64_t start) const {
        const int64_t row = index * group_rows_, num_rows = smaller(group_rows_, rows_ - row);
        const KeyRange keys = queries_.keys(row / queries_.group(), (row + num_rows - 1) / queries_.group() + 1, start, kAmxKvTile);
        return {row, num_rows, keys, {keys.first / 32, (keys.stop + 31) / 32}};
    }

    float* scores(int64_t index) const { return scores_ + index % kBuffers * 32 * kScoreStride; }

    template <int Blocks>
    void walk(const PartialRows& part, KeyRange keys) {
        std::memset(o_, 0, static_cast<size_t>(4 * num_groups_ * group_rows_ * value_columns_));
        std::memset(sums_, 0, static_cast<size_t>(4 * rows_ * kLanes));
        for (int64_t start = keys.first / kAmxKvTile * kAmxKvTile; start < keys.stop; start += kAmxKvTile) {
            int64_t begin = 0, end = num_groups_;
            while (group(begin, start).keys.is_empty()) ++begin;
            while (group(end - 1, start).keys.is_empty()) --end;
            const KeyRange some{larger(0, keys.first - start), smaller(kAmxKvTile, keys.stop - start)};
            pack_keys(queries_, a_.key_size, start, some, k_);
            pack_values(queries_, a_.value_size, start, some, kAmxKvTile / 32, v_);
            add_tile<Blocks>(part, start, begin, end);
        }
        for (int64_t row = 0; row < rows_; ++row) {
            part.sum[row] = Vector::reduce_add(Vector::load(sums_ + row * kLanes));
            float* o = o_ + row * value_columns_;
            unpack_columns(o, a_.value_size);
            std::memcpy(part.o + row * part.o_stride, o, static_cast<size_t>(4 * value_columns_));
        }
    }

    template <int Blocks>
    AmxProduct<Blocks> score_product(const Group& g, int64_t index) const {
        const int64_t columns = 2 * key_depth_ * kTileElements;
        return AmxProduct<Blocks>({q_ + g.row * key_depth_ * kTileK, 2 * key_depth_ * kTileK, k_ + g.blocks.first * columns,
                                   2 * key_depth_ * kTileElements, scores(index) + g.blocks.first * 32, 4 * kScoreStride,
                                   g.blocks.stop - g.blocks.first, key_depth_, false});
    }

    template <int Blocks>
    AmxProduct<Blocks> output_product(const Group& g, int64_t index) const {
        const auto* p = reinterpret_cast<const uint16_t*>(scores(index)) + g.blocks.first * 32;
        return AmxProduct<Blocks>({p, 4 * kScoreStride, v_ + g.blocks.first * kTileElements, 2 * kAmxKvTile / 32 * kTileElements,
                                   o_ + g.row * value_columns_, 4 * value_columns_, value_columns_ / 32,
                                   g.blocks.stop - g.blocks.first, true});
    }

    // The tile's keys into groups begin … end − 1.
    template <int Blocks>
    void add_tile(const PartialRows& part, int64_t start, int64_t begin, int64_t end) {
        Group g = group(begin, start);
        auto scores_of_next = score_product<Blocks>(g, begin);
        scores_of_next.finish();
        AmxProduct<Blocks> output_of_last;
        for (int64_t index = begin; index < end; ++index) {
            Group next = g;
            scores_of_next = {};
            if (index + 1 < end) {
                next = group(index + 1, start);
                scores_of_next = score_product<Blocks>(next, index + 1);
            }
            const int64_t steps = output_of_last.steps_left() + scores_of_next.steps_left();
            for (int64_t row = 0, done = 0; row < g.num_rows; ++row) {
                soften(part, g, row, start, scores(index) + row * kScoreStride);
                for (; done < steps * (row + 1) / g.num_rows; ++done) {
                    if (output_of_last.steps_left() > 0) output_of_last.step();
                    else scores_of_next.step();
                }
            }
            output_of_last = output_product<Blocks>(g, index);
            g = next;
        }
        output_of_last.finish();
    }

    // 2^x for x ≤ 0 and a little above, within 3e-6: finer than the rounding of p. x = n + r with 0 ≤ r < 1.
    static __m512 power(__m512 x) {
        const __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
        __m512 p = _mm512_set1_ps(1.342668726e-2f);
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.224246941e-2f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.412802070e-1f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.930448446e-1f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
        return _mm512_scalef_ps(p, x);
    }

    // Scores of one row to p, in place, as bf16; its maximum, sum and output are brought to the new maximum.
    void soften(const PartialRows& part, const Group& g, int64_t row_of_group, int64_t start, float* s) {
        using V = Vector;
        const int64_t row = g.row + row_of_group, token = row / queries_.group();
        const int64_t low = g.blocks.first * 32, high = g.blocks.stop * 32;
        auto* p = reinterpret_cast<uint16_t*>(s);
        const KeyRange seen = queries_.keys(token, token + 1, start, kAmxKvTile);
        if (seen.is_empty()) {
            std::memset(p + low, 0, static_cast<size_t>(2 * (high - low)));
            return;
        }
        float factor = a_.scale * kLog2e;
        if (a_.softcap != 0.0f || a_.scale <= 0.0f) {
            factor = 1.0f;
            for (int64_t i = low; i < high; i += kLanes) V::store(s + i, in_log2(V::load(s + i)));
        }
        for (int64_t i = low; i < seen.first; ++i) s[i] = -kInfinity;
        for (int64_t i = seen.stop; i < high; ++i) s[i] = -kInfinity;
        auto even = V::load(s + low), odd = V::load(s + low + kLanes);
        for (int64_t i = low + 32; i < high; i += 32) {
            even = V::max(even, V::load(s + i));
            odd = V::max(odd, V::load(s + i + kLanes));
        }
        const float highest = V::reduce_max(V::max(even, odd)) * factor;
        if (part.max[row] < highest) raise_maximum(part, row, highest);
        const auto max = V::broadcast(part.max[row]), scale = V::broadcast(factor);
        auto sum = V::load(sums_ + row * kLanes), other = V::broadcast(0.0f);
        for (int64_t i = low; i < high; i += 32) {
            const auto x = power(_mm512_fmsub_ps(V::load(s + i), scale, max));
            const auto y = power(_mm512_fmsub_ps(V::load(s + i + kLanes), scale, max));
            sum = V::add(sum, x);
            other = V::add(other, y);
            _mm512_storeu_si512(p + i, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(y, x)));
        }
        V::store(sums_ + row * kLanes, V::add(sum, other));
    }

    __m512 in_log2(__m512 score) const {
        using V = Vector;
        score = V::mul(score, V::broadcast(a_.scale));
        if (a_.softcap != 0.0f) {
            const auto cap = V::broadcast(a_.softcap);
            score = V::mul(cap, tanh<V>(V::div(score, cap)));
        }
        return V::mul(score, V::broadcast(kLog2e));
    }

    [[gnu::noinline]] void raise_maximum(const PartialRows& part, int64_t row, float new_max) {
        using V = Vector;
        const auto factor = exp2<V>(V::broadcast(part.max[row] - new_max));
        part.max[row] = new_max;
        V::store(sums_ + row * kLanes, V::mul(V::load(sums_ + row * kLanes), factor));
        float* o = o_ + row * value_columns_;
        for (int64_t i = 0; i < value_columns_; i += kLanes) V::store(o + i, V::mul(V::load(o + i), factor));
    }

    const AttentionArguments& a_;
    const AttentionTile& tile_;
    int64_t kv_head_;
    QueryTile queries_;
    int64_t rows_, row_block_, group_rows_, num_groups_, key_depth_, value_columns_;
    uint16_t *q_, *k_, *v_;
    float *scores_, *sums_, *o_, *partials_;
};

inline void attention_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AttentionArguments*>(arguments);
    AmxAttentionItem(a, a.tiles[item % a.num_tiles], item / a.num_tiles).run();
}

}  // namespace octavo::OCTAVO_ISA
