// Attention on AMX tiles: FlashAttention-2 (Dao 2023, arXiv 2307.08691, algorithm 1). Over caches of bf16 and narrower types q
// and p are rounded to bf16; over fp16 and fp32 all are sums of two and of three terms of bf16 (bf16_terms.h), to 16 and
// 24 bits. Products are summed in fp32, and softmax is in fp32.
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

#include "attention_amx_few.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kPackedBytes = 256 << 10;  // of keys and values packed at a time: they stay in the second cache

// Where the packed keys and values of a KV head lie, in those of a request with so many keys.
template <ElementType Type>
struct PackedHead {
    uint16_t *k, *v;

    PackedHead(const AttentionArguments& a, const std::byte* packed, int64_t keys, int64_t kv_head) {
        const int64_t padded = round_up(keys, kAmxKvTile), terms = num_terms(Type);
        auto* head = reinterpret_cast<uint16_t*>(const_cast<std::byte*>(packed)) + kv_head * elements(a, keys);
        k = head;
        v = head + padded * terms * round_up(a.key_size, 32);
    }

    static int64_t elements(const AttentionArguments& a, int64_t keys) {
        return round_up(keys, kAmxKvTile) * num_terms(Type) * (round_up(a.key_size, 32) + round_up(a.value_size, 32));
    }
};

template <ElementType Type>
class AmxManyRows {
public:
    // `packed`: the request's, as pack_request leaves them, or null.
    AmxManyRows(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head, const std::byte* packed)
        : a_(a), tile_(tile), kv_head_(kv_head), packed_(packed), queries_(a, tile, kv_head), rows_(queries_.rows()),
          num_groups_((rows_ + kGroupRows - 1) / kGroupRows), key_depth_(round_up(a.key_size, kTileK) / kTileK),
          value_columns_(round_up(a.value_size, 32)), softmax_(a, queries_), ahead_(queries_) {
        const int64_t key_bytes = 2 * kTerms * (key_depth_ * kTileK + value_columns_);
        chunk_ = larger(kAmxKvTile, smaller(kKvSplit, kPackedBytes / key_bytes / kAmxKvTile * kAmxKvTile));
        const int64_t padded = num_groups_ * kGroupRows;
        ScratchLayout::lay_out([&](ScratchLayout& scratch) {
            scratch.place(q_, padded * kTerms * key_depth_ * kTileK);
            scratch.place(k_, packed_ ? 0 : chunk_ * kTerms * key_depth_ * kTileK);
            scratch.place(v_, packed_ ? 0 : chunk_ * kTerms * value_columns_);
            scratch.place(scores_, 2 * kGroupRows * kScoreStride);
            scratch.place(p_, kTerms == 1 ? 0 : 2 * kGroupRows * kProbabilityStride);
            scratch.place(limits_, rows_);
            scratch.place(sums_, rows_ * AmxSoftmax<kTerms>::kLanes);
            scratch.place(o_, padded * value_columns_);
            scratch.place(partials_, 2 * PartialRows::floats(rows_, a.value_size));
        });
    }

    // False where a result is NaN. Beside tokens that see others' keys that may be those' doing: an infinite value times p = 0.
    bool run() {
        const int64_t depth = key_depth_ * kTileK;
        std::memset(q_, 0, static_cast<size_t>(2 * num_groups_ * kGroupRows * kTerms * depth));
        for (int64_t row = 0; row < rows_; ++row)
            pack_query<kTerms>(a_.q_type, queries_.query(row), 0, a_.key_size, depth, q_ + row * kTerms * depth);
        product_shapes(16, 16, 64).load();
        for_splits<Vector>(a_, tile_, kv_head_, queries_, partials_,
                           [&](const PartialRows& part, KeyRange keys) { walk(part, keys); });
        asm volatile("tilerelease" ::: "memory");
        return is_clean_;
    }

private:
    static constexpr int kTerms = num_terms(Type);
    using Product = AmxProduct<kTerms>;
    static constexpr int64_t kGroupRows = 32;
    static constexpr int64_t kScoreStride = kAmxKvTile + 16;  // not a power of two: its rows share no cache sets
    static constexpr int64_t kProbabilityStride = kTerms * kAmxKvTile + 32;

    // A group of rows at a KV tile.
    struct Visit {
        int64_t pair, start, member;  // of two groups, by turns
        int64_t row, num_rows;
        KeyRange keys;  // of the tile: blocks of 32 that some row sees a key of
        bool is_whole;  // every row sees every one of them
    };

    static int64_t scores_of(int64_t number) { return number % 2 * kGroupRows * kScoreStride; }

    // The next one that has a key, of those after v; false when there is none. Two groups take turns over all the tiles: what
    // is theirs stays in the first cache.
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
            v.row = (2 * v.pair + v.member) * kGroupRows;
            v.num_rows = smaller(kGroupRows, rows_ - v.row);
            const int64_t first = v.row / queries_.group(), last = (v.row + v.num_rows - 1) / queries_.group();
            const KeyRange some = queries_.keys(first, last + 1, v.start, smaller(kAmxKvTile, keys.stop - v.start));
            if (some.is_empty()) continue;
            v.keys = {some.first / 32 * 32, round_up(some.stop, 32)};
            v.is_whole = queries_.keys(first, first + 1, v.start, kAmxKvTile).stop >= v.keys.stop &&
                         queries_.keys(last, last + 1, v.start, kAmxKvTile).first <= v.keys.first;
            return true;
        }
    }

    // Keys of one split into the rows.
    void walk(const PartialRows& part, KeyRange keys) {
        softmax_.place(part.max, limits_, sums_, o_, value_columns_);
        softmax_.start(rows_);
        // Rows beyond the last are multiplied, too.
        std::memset(o_ + rows_ * value_columns_, 0, static_cast<size_t>(4 * (num_groups_ * kGroupRows - rows_) * value_columns_));
        for (int64_t start = keys.first / kAmxKvTile * kAmxKvTile; start < keys.stop; start += chunk_) {
            const KeyRange own{larger(keys.first, start), smaller(keys.stop, start + chunk_)};
            pack(start, own);
            if (own.stop < keys.stop && !packed_)
                ahead_ = {queries_, own.stop, smaller(chunk_, keys.stop - own.stop), element_bytes(Type) * a_.key_size,
                          element_bytes(Type) * a_.value_size};
            add_keys(start, own);
        }
        for (int64_t row = 0; row < rows_; ++row) {
            part.sum[row] = softmax_.sum(row);
            is_clean_ &= unpack_columns(o_ + row * value_columns_, a_.value_size, part.o + row * part.o_stride);
        }
    }

    void pack(int64_t start, KeyRange keys) {
        if (packed_) {
            const PackedHead<Type> head(a_, packed_, queries_.seq_len(), kv_head_);
            k_ = head.k + start * kTerms * key_depth_ * kTileK;
            v_ = head.v + start * kTerms * value_columns_;
            return;
        }
        const KeyRange own{keys.first - start, keys.stop - start};
        pack_keys<Type>(queries_, a_.key_size, start, own, k_);
        pack_values<Type>(queries_, a_.value_size, start, own, v_);
    }

    // Keys that are packed, from `start` on, into the rows.
    void add_keys(int64_t start, KeyRange keys) {
        Visit next{0, start, -1, 0, 0, {0, 0}, false};
        if (!advance(next, keys)) return;
        score_product(next, start, 0).run([] {});
        Product output_of_last;
        int64_t number = 0;
        for (bool is_left = true; is_left; ++number) {
            const Visit v = next;
            is_left = advance(next, keys);
            const Product scores_of_next = is_left ? score_product(next, start, number + 1) : Product();
            soften_rows(v, scores_ + scores_of(number), probabilities(v, number), output_of_last, scores_of_next);
            output_of_last = output_product(v, start, number);
            if (is_left && next.row == v.row) {  // the softmax may rescale what it adds to
                output_of_last.run([] {});
                output_of_last = {};
            }
        }
        output_of_last.run([] {});
    }

    Product score_product(const Visit& v, int64_t packed_start, int64_t number) const {
        const int64_t depth = kTerms * key_depth_;
        const uint16_t* k = k_ + (v.start - packed_start + v.keys.first) * depth * kTileK;
        return Product({q_ + v.row * depth * kTileK, 2 * depth * kTileK, k, 1, depth, scores_ + scores_of(number) + v.keys.first,
                        4 * kScoreStride, (v.keys.stop - v.keys.first) / 32, key_depth_, false, key_depth_ * kTileK, key_depth_});
    }

    // Of the rows that are to be probabilities of that visit. A single term takes the place of its scores.
    uint16_t* probabilities(const Visit& v, int64_t number) const {
        if constexpr (kTerms == 1) return reinterpret_cast<uint16_t*>(scores_ + scores_of(number) + v.keys.first);
        else return p_ + number % 2 * kGroupRows * kProbabilityStride;
    }
    static constexpr int64_t kRowOfProbabilities = kTerms == 1 ? 2 * kScoreStride : kProbabilityStride;

    Product output_product(const Visit& v, int64_t packed_start, int64_t number) const {
        const int64_t tiles = value_columns_ / kTileColumns;
        const uint16_t* values = v_ + (v.start - packed_start + v.keys.first) * kTerms * value_columns_;
        return Product({probabilities(v, number), 2 * kRowOfProbabilities, values, kTerms * tiles, 1, o_ + v.row * value_columns_,
                        4 * value_columns_, value_columns_ / 32, (v.keys.stop - v.keys.first) / 32, true, kAmxKvTile, tiles});
    }

    // Scores of the visit's rows to p, between the steps of the products, evenly.
    void soften_rows(const Visit& v, float* scores, uint16_t* p, const Product& output, const Product& next_scores) {
        constexpr int64_t kUnit = 1 << 16;
        const int64_t rows_a_step = kUnit * v.num_rows / larger(1, output.steps() + next_scores.steps());
        int64_t done = 0, credit = 0;
        const auto soften_until = [&](int64_t end) __attribute__((always_inline)) {
            for (; done < end; ++done) {
                KeyRange seen = v.keys;
                if (!v.is_whole) {
                    const int64_t token = (v.row + done) / queries_.group();
                    seen = queries_.keys(token, token + 1, v.start, kAmxKvTile);
                }
                softmax_.soften(v.row + done, scores + done * kScoreStride, p + done * kRowOfProbabilities, v.start, v.keys, seen);
            }
        };
        const auto after_step = [&]() __attribute__((always_inline)) {
            credit += rows_a_step;
            soften_until(credit / kUnit);
            ahead_.fetch(1);
        };
        output.run(after_step);
        next_scores.run(after_step);
        soften_until(v.num_rows);
    }

    const AttentionArguments& a_;
    const AttentionTile& tile_;
    int64_t kv_head_;
    const std::byte* packed_;
    QueryTile queries_;
    int64_t rows_, num_groups_, key_depth_, value_columns_, chunk_;
    AmxSoftmax<kTerms> softmax_;
    LinesAhead ahead_;  // that will be packed next
    bool is_clean_ = true;
    uint16_t *q_, *k_, *v_, *p_;
    float *scores_, *limits_, *sums_, *o_, *partials_;
};

// False where a result is NaN.
template <ElementType Type>
inline bool attend(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head, const NextItem* next) {
    if (tile.num_tokens * (a.heads / a.kv_heads) <= AmxFewRows<Type>::kMaxRows) return AmxFewRows<Type>(a, tile, kv_head, next).run();
    const std::byte* packed = a.packed ? a.packed[tile.request] : nullptr;
    return AmxManyRows<Type>(a, tile, kv_head, packed).run();
}

template <ElementType Type>
inline void attend_item(const AttentionArguments& all, int64_t item) {
    AttentionArguments a = all;
    const AttentionTile& tile = a.tiles[item / a.kv_heads];
    const int64_t kv_head = item % a.kv_heads, last = a.num_tiles * a.kv_heads - 1, next = smaller(item + 1, last);
    const NextItem ahead(a, a.tiles[next / a.kv_heads], next % a.kv_heads);
    if (attend<Type>(a, tile, kv_head, item < last ? &ahead : nullptr)) return;
    a.packed = nullptr;  // which hold keys that a token does not see
    for (int32_t token = 0; token < tile.num_tokens; ++token) {
        AttentionTile one = tile;
        one.first_row += token;
        one.num_tokens = 1;
        one.partial_token += token;
        attend<Type>(a, one, kv_head, nullptr);
    }
}

template <ElementType Type>
inline void pack_request_of(const AttentionArguments& a, const PackTile& tile) {
    const AttentionTile rows = whole_request(a, tile.request);
    const QueryTile queries(a, rows, tile.kv_head);
    const int64_t start = tile.first_key, terms = num_terms(Type);
    const KeyRange keys = queries.keys(0, queries.tokens(), start, kPackKeys);
    if (keys.is_empty()) return;
    const PackedHead<Type> head(a, a.packed[tile.request], queries.seq_len(), tile.kv_head);
    pack_keys<Type>(queries, a.key_size, start, keys, head.k + start * terms * round_up(a.key_size, 32));
    pack_values<Type>(queries, a.value_size, start, keys, head.v + start * terms * round_up(a.value_size, 32));
}

// f of the type as a template argument.
template <class F>
inline auto with_type(ElementType type, F f) {
    switch (type) {
        case ElementType::F32: return f.template operator()<ElementType::F32>();
        case ElementType::F16: return f.template operator()<ElementType::F16>();
        case ElementType::BF16: return f.template operator()<ElementType::BF16>();
        case ElementType::F8E4M3: return f.template operator()<ElementType::F8E4M3>();
        default: return f.template operator()<ElementType::I8>();
    }
}

inline void attention_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AttentionArguments*>(arguments);
    with_type(a.type, [&]<ElementType Type>() { attend_item<Type>(a, item); });
}

inline int64_t packed_bytes(const AttentionArguments& a, int64_t keys) {
    return with_type(a.type, [&]<ElementType Type>() { return 2 * PackedHead<Type>::elements(a, keys); });
}

inline void pack_request(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const PackKeysArguments*>(arguments);
    with_type(a.attention.type, [&]<ElementType Type>() { pack_request_of<Type>(a.attention, a.tiles[item]); });
}

}  // namespace octavo::OCTAVO_ISA
