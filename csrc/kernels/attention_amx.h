// Attention over a bf16 cache on AMX tiles: FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 1), with q and p
// rounded to bf16, products summed in fp32, softmax in fp32.
//
// Rows go in groups of 32, and keys in tiles of 128 at fixed positions. Two groups take turns, tile after tile: the softmax
// of one runs on the vector units while the AMX tiles work for the other (Shah et al. 2024, arXiv 2407.08608, section 3.1),
//
//     o(last) += p · V              ┐ a few rows after each step:
//     scores(next) = q · Kᵀ         ┘ p(this) = 2^(scores(this)·scale·log₂e − m)
//
// A key that a row does not see has p = 0, and o + 0·v = o: a row's bits depend on its position and on the keys it sees.
// Only 0·∞ is not 0; where a result is NaN, the tokens are done again one by one, among no keys but their own.
#pragma once

#include <type_traits>

#include "attention_amx_few.h"
#include "attention_amx_pack.h"
#include "attention_amx_softmax.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kPackedBytes = 512 << 10;  // of keys and values packed at a time: they stay in the second cache

class AmxAttentionItem {
public:
    AmxAttentionItem(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head)
        : a_(a), tile_(tile), kv_head_(kv_head), queries_(a, tile, kv_head), rows_(queries_.rows()),
          group_rows_(rows_ > 16 ? 32 : 16), num_groups_((rows_ + group_rows_ - 1) / group_rows_),
          key_depth_(round_up(a.key_size, kTileK) / kTileK), value_columns_(round_up(a.value_size, 32)), softmax_(a) {
        const int64_t key_bytes = 2 * (key_depth_ * kTileK + value_columns_);
        chunk_ = num_groups_ <= 2 ? kAmxKvTile : smaller(kKvSplit, kPackedBytes / key_bytes / kAmxKvTile * kAmxKvTile);
        const int64_t padded = num_groups_ * group_rows_;
        std::byte* next = nullptr;
        const auto place = [&](auto*& part, int64_t count) {
            using Element = std::remove_reference_t<decltype(*part)>;
            part = reinterpret_cast<Element*>(next);
            next += round_up(count * static_cast<int64_t>(sizeof(Element)), 64);
        };
        for (int pass = 0; pass < 2; ++pass) {  // the first finds the size
            place(q_, padded * key_depth_ * kTileK);
            place(k_, chunk_ * key_depth_ * kTileK);
            place(v_, chunk_ * value_columns_);
            place(scores_, 2 * 32 * kScoreStride);
            place(limits_, padded);
            place(sums_, padded * AmxSoftmax::kLanes);
            place(o_, padded * value_columns_);
            place(partials_, 2 * PartialRows::floats(rows_, a.value_size));
            if (pass == 0) next = static_cast<std::byte*>(thread_scratch(reinterpret_cast<size_t>(next)));
        }
    }

    // False where a result is NaN. Beside tokens that see others' keys that may be those' doing: an infinite value times p = 0.
    bool run() {
        std::memset(q_, 0, static_cast<size_t>(2 * num_groups_ * group_rows_ * key_depth_ * kTileK));
        for (int64_t row = 0; row < rows_; ++row) pack_query(queries_.query(row), a_.key_size, q_ + row * key_depth_ * kTileK);
        AmxShapes(smaller(rows_, 16)).load();
        for_splits<Vector>(a_, tile_, kv_head_, queries_, partials_, [&](const PartialRows& part, KeyRange keys) {
            if (rows_ > 16) walk<2>(part, keys);
            else walk<1>(part, keys);
        });
        asm volatile("tilerelease" ::: "memory");
        return is_clean_;
    }

private:
    static constexpr int64_t kScoreStride = kAmxKvTile + 16;  // not a power of two: its rows share no cache sets

    // A group at a KV tile.
    struct Visit {
        int64_t pair, start, member;  // of two groups, by turns
        int64_t row, num_rows;
        KeyRange blocks;  // of 32 keys of the tile, that some row sees a key of
        bool is_whole;    // every row sees every key of them
    };

    // The next one that has a key, of those after v; false when there is none.
    bool advance(Visit& v, KeyRange keys) const {
        while (true) {
            if (++v.member == 2 || 2 * v.pair + v.member == num_groups_) {
                v.member = 0;
                v.start += kAmxKvTile;
                if (v.start >= keys.stop) {
                    v.start = keys.first / kAmxKvTile * kAmxKvTile;
                    if (++v.pair * 2 >= num_groups_) return false;
                }
            }
            v.row = (2 * v.pair + v.member) * group_rows_;
            v.num_rows = smaller(group_rows_, rows_ - v.row);
            const int64_t first = v.row / queries_.group(), last = (v.row + v.num_rows - 1) / queries_.group();
            const KeyRange some = queries_.keys(first, last + 1, v.start, smaller(kAmxKvTile, keys.stop - v.start));
            if (some.is_empty()) continue;
            v.blocks = {some.first / 32, (some.stop + 31) / 32};
            v.is_whole = queries_.keys(first, first + 1, v.start, kAmxKvTile).stop >= 32 * v.blocks.stop &&
                         queries_.keys(last, last + 1, v.start, kAmxKvTile).first <= 32 * v.blocks.first;
            return true;
        }
    }

    template <int Blocks>
    void walk(const PartialRows& part, KeyRange keys) {
        softmax_.place(part.max, limits_, sums_, o_, value_columns_);
        softmax_.start(rows_);
        for (int64_t start = keys.first / kAmxKvTile * kAmxKvTile; start < keys.stop; start += chunk_) {
            const KeyRange own{larger(keys.first, start), smaller(keys.stop, start + chunk_)};
            const KeyRange packed{own.first - start, own.stop - start};
            const int64_t ahead = larger(0, smaller(chunk_, keys.stop - own.stop));
            const int64_t next = ahead ? own.stop : start;  // a position that has a block, in any case
            pack_keys(queries_, a_.key_size, start, packed, {queries_.keys_from(next), ahead, a_.key_size}, k_);
            pack_values(queries_, a_.value_size, start, packed, {queries_.values_from(next), ahead, a_.value_size}, v_);
            add_keys<Blocks>(own);
        }
        for (int64_t row = 0; row < rows_; ++row) {
            part.sum[row] = softmax_.sum(row);
            is_clean_ &= unpack_columns(o_ + row * value_columns_, a_.value_size, part.o + row * part.o_stride);
        }
    }

    // Keys that are packed, all of one split, into the rows.
    template <int Blocks>
    void add_keys(KeyRange keys) {
        const int64_t start = keys.first / kAmxKvTile * kAmxKvTile;
        Visit next{0, start, -1, 0, 0, {0, 0}, false};
        if (!advance(next, keys)) return;
        int64_t buffer = 0;
        auto scores_of_next = score_product<Blocks>(next, start, buffer);
        scores_of_next.run([] {});
        AmxProduct<Blocks> output_of_last;
        for (bool is_left = true; is_left; buffer ^= 1) {
            const Visit v = next;
            is_left = advance(next, keys);
            scores_of_next = is_left ? score_product<Blocks>(next, start, buffer ^ 1) : AmxProduct<Blocks>();
            soften_rows<Blocks>(v, scores_ + buffer * 32 * kScoreStride, output_of_last, scores_of_next);
            output_of_last = output_product<Blocks>(v, start, buffer);
            if (is_left && next.row == v.row) {  // the softmax may rescale what it adds to
                output_of_last.run([] {});
                output_of_last = {};
            }
        }
        output_of_last.run([] {});
    }

    template <int Blocks>
    AmxProduct<Blocks> score_product(const Visit& v, int64_t packed_start, int64_t buffer) const {
        const int64_t block = (v.start - packed_start) / 32 + v.blocks.first;
        return AmxProduct<Blocks>({q_ + v.row * key_depth_ * kTileK, 2 * key_depth_ * kTileK,
                                   k_ + 2 * block * key_depth_ * kTileElements, 1, key_depth_,
                                   scores_ + buffer * 32 * kScoreStride + 32 * v.blocks.first, 4 * kScoreStride,
                                   v.blocks.stop - v.blocks.first, key_depth_, false});
    }

    template <int Blocks>
    AmxProduct<Blocks> output_product(const Visit& v, int64_t packed_start, int64_t buffer) const {
        const int64_t block = (v.start - packed_start) / 32 + v.blocks.first;
        const auto* p = reinterpret_cast<const uint16_t*>(scores_ + buffer * 32 * kScoreStride) + 32 * v.blocks.first;
        return AmxProduct<Blocks>({p, 4 * kScoreStride, v_ + 32 * block * value_columns_, value_columns_ / kTileColumns, 1,
                                   o_ + v.row * value_columns_, 4 * value_columns_, value_columns_ / 32,
                                   v.blocks.stop - v.blocks.first, true});
    }

    // Scores of the visit's rows to p, and in between the products, evenly. Maxima come first, of all rows: the exponentials of
    // a row would wait for its maximum, and fill the processor's window meanwhile.
    template <int Blocks>
    void soften_rows(const Visit& v, float* scores, const AmxProduct<Blocks>& output,
                     const AmxProduct<Blocks>& next_scores) {
        constexpr int64_t kUnit = 1 << 16;
        const KeyRange keys{32 * v.blocks.first, 32 * v.blocks.stop};
        const int64_t rows_a_step = kUnit * v.num_rows / larger(1, output.steps() + next_scores.steps());
        int64_t done = 0, credit = 0;
        const auto take_powers_until = [&](int64_t end) {
            for (; done < end; ++done) softmax_.take_powers(v.row + done, scores + done * kScoreStride, keys);
        };
        const auto after_step = [&] {
            credit += rows_a_step;
            take_powers_until(credit / kUnit);
        };
        for (int64_t r = 0; r < v.num_rows; ++r) {
            const int64_t token = (v.row + r) / queries_.group();
            const KeyRange seen = v.is_whole ? keys : queries_.keys(token, token + 1, v.start, kAmxKvTile);
            softmax_.update_maximum(v.row + r, scores + r * kScoreStride, keys, seen);
        }
        output.run(after_step);
        next_scores.run(after_step);
        take_powers_until(v.num_rows);
    }

    const AttentionArguments& a_;
    const AttentionTile& tile_;
    int64_t kv_head_;
    QueryTile queries_;
    int64_t rows_, group_rows_, num_groups_, key_depth_, value_columns_, chunk_;
    AmxSoftmax softmax_;
    bool is_clean_ = true;
    uint16_t *q_, *k_, *v_;
    float *scores_, *limits_, *sums_, *o_, *partials_;
};

inline bool attend(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head, const QueryTile* next) {
    if (tile.num_tokens * (a.heads / a.kv_heads) <= AmxFewRows::kMaxRows) return AmxFewRows(a, tile, kv_head, next).run();
    return AmxAttentionItem(a, tile, kv_head).run();
}

inline void attention_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AttentionArguments*>(arguments);
    const AttentionTile& tile = a.tiles[item / a.kv_heads];
    const int64_t kv_head = item % a.kv_heads, last = a.num_tiles * a.kv_heads - 1, next = smaller(item + 1, last);
    const QueryTile ahead(a, a.tiles[next / a.kv_heads], next % a.kv_heads);
    if (attend(a, tile, kv_head, item < last ? &ahead : nullptr) || tile.num_tokens == 1) return;
    for (int32_t token = 0; token < tile.num_tokens; ++token) {
        AttentionTile one = tile;
        one.first_row += token;
        one.num_tokens = 1;
        one.partial_token += token;
        attend(a, one, kv_head, nullptr);
    }
}

}  // namespace octavo::OCTAVO_ISA
