// Attention of at most 16 rows on AMX tiles: decodes. What it costs is to read the keys and values once.
//
//     scoresᵀ (16 keys, rows) = K · qᵀ        K as it lies in the cache, q packed once an item
//     o (rows, E) += p · V                    V interleaved by pairs of keys, 32 of them at a time
//
// Every element is the same chain of products as in attention_amx.h, and so are its bits. While a tile of 128 keys is worked
// on, the next one is called for; behind the last one, the first of the next item.
#pragma once

#include "attention_amx_pack.h"
#include "attention_amx_softmax.h"
#include "scratch_layout.h"

namespace octavo::OCTAVO_ISA {

// Tiles 0 to 3 hold sums of o, 4 p, 5 scoresᵀ (`columns` of q), 6 keys or values, 7 qᵀ.
inline TileShapes few_rows_shapes(int64_t num_rows, int64_t columns) {
    TileShapes shapes;
    for (int i = 0; i < 5; ++i) shapes.set(i, num_rows, 64);
    shapes.set(5, 16, 4 * columns);
    shapes.set(6, 16, 64);
    shapes.set(7, 16, 4 * columns);
    return shapes;
}

// What is prefetched at the end of an item.
struct NextItem {
    QueryTile queries;
    KeyRange keys;

    NextItem(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head) : queries(a, tile, kv_head) {
        const KeyRange all = queries.keys(0, queries.tokens());
        keys = {larger(all.first, tile.first_split * kKvSplit), smaller(all.stop, (tile.first_split + tile.num_splits) * kKvSplit)};
    }
};

template <ElementType Type>
class AmxFewRows {
public:
    static constexpr int64_t kMaxRows = 16;

    AmxFewRows(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head, const NextItem* next)
        : a_(a), tile_(tile), kv_head_(kv_head), queries_(a, tile, kv_head), next_(next), rows_(queries_.rows()),
          key_depth_(round_up(a.key_size, kTileK) / kTileK), value_columns_(round_up(a.value_size, 32)),
          score_columns_(rows_ <= 4 ? 4 : 16), reads_cache_(Type == ElementType::BF16 && a.key_size % kTileK == 0), softmax_(a, queries_) {
        ScratchLayout::lay_out([&](ScratchLayout& scratch) {
            scratch.place(q_, kTerms * key_depth_ * kTileElements);
            scratch.place(k_, 16 * kTerms * key_depth_ * kTileK);
            scratch.place(v_, 2 * kTerms * kValueTiles * kTileElements);
            scratch.place(tile_scores_, kAmxKvTile * 16);
            scratch.place(scores_, kMaxRows * kScoreStride);
            scratch.place(p_, kTerms == 1 ? 0 : kMaxRows * kProbabilityStride);
            scratch.place(limits_, kMaxRows);
            scratch.place(sums_, kMaxRows * AmxSoftmax<kTerms>::kLanes);
            scratch.place(o_, kMaxRows * value_columns_);
            scratch.place(partials_, 2 * PartialRows::floats(rows_, a.value_size));
        });
    }

    // False where a result is NaN, as AmxManyRows::run.
    bool run() {
        pack_queries();
        few_rows_shapes(rows_, score_columns_).load();
        for_splits<Vector>(a_, tile_, kv_head_, queries_, partials_,
                           [&](const PartialRows& part, KeyRange keys) { walk(part, keys); });
        asm volatile("tilerelease" ::: "memory");
        return is_clean_;
    }

private:
    static constexpr int kTerms = num_terms(Type);
    static constexpr TermPairs<kTerms> kTermPairs{};
    static constexpr int64_t kScoreStride = kAmxKvTile + 16, kBytes = element_bytes(Type);
    static constexpr int64_t kProbabilityStride = kTerms * kAmxKvTile + 32;
    static constexpr int64_t kValueTiles = 4;  // that are multiplied at a time, 16 columns each

    // qᵀ: tiles [term][32 of D][16 rows], rows beyond the last of zeros.
    void pack_queries() {
        for (int64_t k = 0; k < key_depth_; ++k) {
            alignas(64) uint16_t chunks[16][kTerms][kTileK] = {};
            for (int64_t row = 0; row < rows_; ++row)
                pack_query<kTerms>(a_.q_type, queries_.query(row), k * kTileK, smaller(kTileK, a_.key_size - k * kTileK), kTileK,
                                   chunks[row][0]);
            for (int term = 0; term < kTerms; ++term) {
                __m512 words[16];
                for (int64_t row = 0; row < 16; ++row) words[row] = _mm512_load_ps(chunks[row][term]);
                Vector::transpose(words);
                for (int64_t i = 0; i < 16; ++i) _mm512_store_ps(q_ + (term * key_depth_ + k) * kTileElements + i * 32, words[i]);
            }
        }
    }

    void walk(const PartialRows& part, KeyRange keys) {
        softmax_.place(part.max, limits_, sums_, o_, value_columns_);
        softmax_.start(rows_);
        for (int64_t start = keys.first / kAmxKvTile * kAmxKvTile; start < keys.stop; start += kAmxKvTile) {
            const KeyRange seen{larger(0, keys.first - start), smaller(kAmxKvTile, keys.stop - start)};
            const KeyRange blocks{seen.first / 32 * 32, round_up(seen.stop, 32)};
            LinesAhead ahead = lines_ahead(keys, start + seen.stop);
            take_scores(start, seen, ahead);
            for (int64_t row = 0; row < rows_; ++row) {
                float* s = scores_ + row * kScoreStride;
                const int64_t token = row / queries_.group();
                softmax_.soften(row, s, probabilities(row, blocks.first), start, blocks, queries_.keys(token, token + 1, start, kAmxKvTile));
            }
            add_values(start, seen, ahead);
            ahead.fetch(kAmxKvTile);
        }
        for (int64_t row = 0; row < rows_; ++row) {
            part.sum[row] = softmax_.sum(row);
            is_clean_ &= unpack_columns(o_ + row * value_columns_, a_.value_size, part.o + row * part.o_stride);
        }
    }

    // Of a row; a single term takes the place of its scores from that key on.
    uint16_t* probabilities(int64_t row, int64_t first) const {
        if constexpr (kTerms == 1) return reinterpret_cast<uint16_t*>(scores_ + row * kScoreStride + first);
        else return p_ + row * kProbabilityStride;
    }

    // Of the next tile, behind `stop`: of this item, or the first of the next one.
    LinesAhead lines_ahead(KeyRange keys, int64_t stop) const {
        if (stop < keys.stop || !next_)
            return {queries_, stop < keys.stop ? stop : keys.first, smaller(kAmxKvTile, keys.stop - stop), kBytes * a_.key_size, kBytes * a_.value_size};
        const KeyRange own = next_->keys;
        const int64_t count = smaller(kAmxKvTile - own.first % kAmxKvTile, own.stop - own.first);
        return {next_->queries, own.first, count, kBytes * a_.key_size, kBytes * a_.value_size};
    }

    // Of those keys of the tile, 16 at a time; the others of the 16 get anything.
    void take_scores(int64_t start, KeyRange keys, LinesAhead& ahead) {
        for (int64_t key = keys.first / 16 * 16; key < keys.stop; key += 16) {
            const std::byte* k;
            int64_t stride = 2 * kTerms * key_depth_ * kTileK;
            if (reads_cache_ && queries_.are_together(start + key)) {
                k = queries_.keys_from(start + key).next();
                stride = 2 * a_.k.slot_stride;
            } else {
                k = reinterpret_cast<const std::byte*>(gather_keys(start, key, keys));
            }
            asm volatile("tilezero %%tmm5" ::: "memory");
            for (int64_t d = 0; d < key_depth_; ++d)
                for (int pair = 0; pair < kTermPairs.kCount; ++pair)
                    asm volatile(
                        "tileloadd (%0,%1,1), %%tmm6\n\t"
                        "tileloadd (%2,%3,1), %%tmm7\n\t"
                        "tdpbf16ps %%tmm7, %%tmm6, %%tmm5" ::"r"(k + 64 * (kTermPairs.b[pair] * key_depth_ + d)), "r"(stride),
                        "r"(q_ + (kTermPairs.a[pair] * key_depth_ + d) * kTileElements), "r"(int64_t{64}) : "memory");
            asm volatile("tilestored %%tmm5, (%0,%1,1)" ::"r"(tile_scores_ + key * score_columns_), "r"(4 * score_columns_) : "memory");
            ahead.fetch(8);
        }
        for (int64_t key = keys.first / 16 * 16; key < keys.stop; key += 16) transpose_scores(key);
    }

    void transpose_scores(int64_t key) {
        const float* from = tile_scores_ + key * score_columns_;
        float* to = scores_ + key;
        if (score_columns_ == 16) {
            __m512 words[16];
            for (int64_t i = 0; i < 16; ++i) words[i] = _mm512_load_ps(from + 16 * i);
            Vector::transpose(words);
            for (int64_t row = 0; row < rows_; ++row) _mm512_storeu_ps(to + row * kScoreStride, words[row]);
            return;
        }
        const __m512i first_two = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
        const __m512i last_two = _mm512_add_epi32(first_two, _mm512_set1_epi32(2));
        const __m512 a = _mm512_load_ps(from), b = _mm512_load_ps(from + 16), c = _mm512_load_ps(from + 32), d = _mm512_load_ps(from + 48);
        const __m512 low = _mm512_permutex2var_ps(a, first_two, b), high = _mm512_permutex2var_ps(c, first_two, d);
        _mm512_storeu_ps(to, _mm512_shuffle_f32x4(low, high, 0x44));
        _mm512_storeu_ps(to + kScoreStride, _mm512_shuffle_f32x4(low, high, 0xee));
        const __m512 low2 = _mm512_permutex2var_ps(a, last_two, b), high2 = _mm512_permutex2var_ps(c, last_two, d);
        _mm512_storeu_ps(to + 2 * kScoreStride, _mm512_shuffle_f32x4(low2, high2, 0x44));
        _mm512_storeu_ps(to + 3 * kScoreStride, _mm512_shuffle_f32x4(low2, high2, 0xee));
    }

    // 16 keys as rows of whole tiles, where they do not lie so in the cache.
    const uint16_t* gather_keys(int64_t start, int64_t key, KeyRange keys) {
        const std::byte* rows[16];
        CacheRows cache = queries_.keys_from(start + larger(key, keys.first));
        find_keys(cache, key, keys, rows);
        for (int64_t i = 0; i < 16; ++i)
            for (int64_t d = 0; d < a_.key_size; d += kTileK) {
                __m512i chunk[kTerms];
                load_terms<Type>(rows[i], d, chunk_mask(d, a_.key_size), chunk);
                for (int term = 0; term < kTerms; ++term)
                    _mm512_store_si512(k_ + (i * kTerms + term) * key_depth_ * kTileK + d, chunk[term]);
            }
        return k_;
    }

    // p · V of those keys of the tile to o, 64 columns at a time.
    void add_values(int64_t start, KeyRange keys, LinesAhead& ahead) {
        const int64_t first = keys.first / 32 * 32;
        const uint16_t* p = probabilities(0, first);
        constexpr int64_t kStride = kTerms == 1 ? 4 * kScoreStride : 2 * kProbabilityStride;
        for (int64_t e = 0; e < value_columns_; e += 64) {
            float* o = o_ + e;
            const int64_t o_stride = 4 * value_columns_;
            const bool is_wide = e + 32 < value_columns_;
            asm volatile("tileloadd (%0,%1,1), %%tmm0\n\ttileloadd 64(%0,%1,1), %%tmm1" ::"r"(o), "r"(o_stride) : "memory");
            if (is_wide)
                asm volatile("tileloadd 128(%0,%1,1), %%tmm2\n\ttileloadd 192(%0,%1,1), %%tmm3" ::"r"(o), "r"(o_stride) : "memory");
            CacheRows cache = queries_.values_from(start + keys.first);
            for (int64_t key = first; key < keys.stop; key += 32) {
                const std::byte* rows[32];
                find_keys(cache, key, keys, rows);
                uint16_t* v = v_ + key / 32 % 2 * kTerms * kValueTiles * kTileElements;
                for (int64_t half = 0; half <= is_wide; ++half)
                    interleave_values<Type>(rows, e + 32 * half, chunk_mask(e + 32 * half, a_.value_size), kValueTiles, v + 2 * half * kTileElements,
                                            [&]() __attribute__((always_inline)) { ahead.fetch(2); });
                for (int pair = 0; pair < kTermPairs.kCount; ++pair) {
                    const uint16_t* values = v + kTermPairs.b[pair] * kValueTiles * kTileElements;
                    asm volatile(
                        "tileloadd (%0,%1,1), %%tmm4\n\t"
                        "tileloadd (%2,%3,1), %%tmm6\n\t"
                        "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
                        "tileloadd 1024(%2,%3,1), %%tmm6\n\t"
                        "tdpbf16ps %%tmm6, %%tmm4, %%tmm1" ::"r"(p + kTermPairs.a[pair] * kAmxKvTile + (key - first)), "r"(kStride),
                        "r"(values), "r"(int64_t{64}) : "memory");
                    if (is_wide)
                        asm volatile(
                            "tileloadd 2048(%0,%1,1), %%tmm6\n\t"
                            "tdpbf16ps %%tmm6, %%tmm4, %%tmm2\n\t"
                            "tileloadd 3072(%0,%1,1), %%tmm6\n\t"
                            "tdpbf16ps %%tmm6, %%tmm4, %%tmm3" ::"r"(values), "r"(int64_t{64}) : "memory");
                }
            }
            asm volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilestored %%tmm1, 64(%0,%1,1)" ::"r"(o), "r"(o_stride) : "memory");
            if (is_wide)
                asm volatile("tilestored %%tmm2, 128(%0,%1,1)\n\ttilestored %%tmm3, 192(%0,%1,1)" ::"r"(o), "r"(o_stride) : "memory");
        }
    }

    const AttentionArguments& a_;
    const AttentionTile& tile_;
    int64_t kv_head_;
    QueryTile queries_;
    const NextItem* next_;  // or null
    int64_t rows_, key_depth_, value_columns_;
    int64_t score_columns_;  // rows of q in scoresᵀ: as many as are transposed together
    bool reads_cache_;  // tiles of keys lie in it, if they are together
    AmxSoftmax<kTerms> softmax_;
    bool is_clean_ = true;
    uint16_t *q_, *k_, *v_, *p_;
    float *tile_scores_, *scores_, *limits_, *sums_, *o_, *partials_;
};

}  // namespace octavo::OCTAVO_ISA
