// Gradients of attention on AMX tiles: FlashAttention-2's backward pass (Dao 2023, arXiv 2307.08691, algorithm 2), numbers as
// sums of terms of bf16 (bf16_terms.h).
//
// With keys as rows, as in attention_backward.h: for each chunk of keys, each block of 256 rows and each 32 keys of the chunk
//
//     Sᵀ = K·Qᵀ, dPᵀ = V·dOᵀ (32 keys, rows)   → Pᵀ, dSᵀ, first operands of   dV += Pᵀ·dO,   dK += dSᵀ·Q
//     and behind the chunk's keys                 dSᵀ, second operand of      dQᵀ += Kᵀ·dSᵀ
//
// so that nothing is transposed but inputs, once a chunk or a block, and dQᵀ at the end.
#pragma once

#include "attention_amx_pack.h"
#include "attention_gradients.h"
#include "scratch_layout.h"

namespace octavo::OCTAVO_ISA {

template <ElementType Type>
class AmxBackward {
public:
    AmxBackward(const AttentionBackwardArguments& a, int64_t item)
        : a_(a), f_(a.forward), tile_(a.tiles[item / f_.kv_heads]), kv_head_(item % f_.kv_heads),
          whole_(whole_request(f_, tile_.request)), queries_(f_, whole_, kv_head_), key_columns_(round_up(f_.key_size, 32)),
          value_columns_(round_up(f_.value_size, 32)) {
        // Of a power of two keys, so that a tile's keys are whole chunks: what lies for each fits the second cache.
        const int64_t key_bytes = 2 * kTerms * (2 * key_columns_ + value_columns_ + kRows) + 4 * (key_columns_ + value_columns_);
        for (chunk_ = kGradientKeys; chunk_ > 128 && chunk_ * key_bytes > kChunkBytes;) chunk_ /= 2;
        const int64_t num_blocks = tile_.of_rows ? (tile_.stop_row - tile_.first_row + kRows - 1) / kRows : 0;
        ScratchLayout::lay_out([&](ScratchLayout& scratch) {
            scratch.place(k_, chunk_ * kTerms * key_columns_);
            scratch.place(v_, chunk_ * kTerms * value_columns_);
            scratch.place(k_t_, key_columns_ * kTerms * chunk_);
            scratch.place(dk_, chunk_ * key_columns_);
            scratch.place(dv_, chunk_ * value_columns_);
            scratch.place(q_t_, kRows * kTerms * key_columns_);
            scratch.place(do_t_, kRows * kTerms * value_columns_);
            scratch.place(q_, kRows * kTerms * key_columns_);
            scratch.place(do_, kRows * kTerms * value_columns_);
            scratch.place(s_, 32 * kScoreStride);
            scratch.place(dp_, 32 * kScoreStride);
            scratch.place(p_, 32 * kTermStride);
            scratch.place(ds_, 32 * kTermStride);
            scratch.place(ds_columns_, chunk_ * kTerms * kRows);
            scratch.place(dq_t_, num_blocks * key_columns_ * kRows);
            scratch.place(row_, larger(key_columns_, value_columns_));
            scratch.place(z_, f_.scores.kept_factor != 0.0f ? DropoutRow::kKeys * kRows : 0);
        });
    }

    void run() {
        product_shapes(16, 16, 64).load();
        if (tile_.of_rows) clear(dq_t_, round_up(tile_.stop_row - tile_.first_row, kRows) * key_columns_);
        const KeyRange seen = seen_by(tile_.first_row, tile_.stop_row);
        for (int64_t start = tile_.first_key; start < tile_.stop_key; start += chunk_) {
            const int64_t stop = smaller(start + chunk_, tile_.stop_key);
            take_keys(start, {larger(seen.first, start), smaller(seen.stop, stop)});
            for (int64_t row = tile_.first_row; row < tile_.stop_row; row += kRows) add_rows(start, stop, row);
            if (tile_.of_keys) write_keys(start, stop);
        }
        asm volatile("tilerelease" ::: "memory");
        if (tile_.of_rows) write_rows();
    }

private:
    static constexpr int kTerms = num_terms(Type);
    static constexpr int64_t kRows = 256, kChunkBytes = 1 << 20;
    static constexpr int64_t kScoreStride = kRows + 16, kTermStride = kTerms * kRows + 32;  // not powers of two
    static_assert(kRows % kGradientRows == 0);
    using Product = AmxProduct<kTerms>;

    static void clear(float* x, int64_t count) { std::memset(x, 0, sizeof(float) * static_cast<size_t>(count)); }

    KeyRange seen_by(int64_t first_row, int64_t stop_row) const {
        if (first_row >= stop_row) return {0, 0};
        return queries_.keys(first_row / queries_.group(), (stop_row - 1) / queries_.group() + 1);
    }

    // Keys of the chunk at `start`, zeros but for those that some row of the tile sees.
    void take_keys(int64_t start, KeyRange keys) {
        const KeyRange own = keys.is_empty() ? KeyRange{0, 0} : KeyRange{keys.first - start, keys.stop - start};
        CacheRows k = queries_.keys_from(start + own.first), v = queries_.values_from(start + own.first);
        for (int64_t first = 0; first < chunk_; first += 32) {
            const std::byte *k_rows[32], *v_rows[32];
            find_keys(k, first, own, k_rows);
            find_keys(v, first, own, v_rows);
            for (int64_t i = 0; i < 32; ++i) {
                take_row(k_rows[i], f_.key_size, key_columns_, k_ + (first + i) * kTerms * key_columns_);
                take_row(v_rows[i], f_.value_size, value_columns_, v_ + (first + i) * kTerms * value_columns_);
            }
            if (tile_.of_rows) transpose_keys(k_rows, k_t_ + first);
        }
        if (!tile_.of_keys) return;
        clear(dk_, chunk_ * key_columns_);
        clear(dv_, chunk_ * value_columns_);
    }

    // A row as first operand: [term][columns].
    static void take_row(const std::byte* row, int64_t size, int64_t columns, uint16_t* to) {
        for (int64_t i = 0; i < columns; i += 32) {
            __m512i terms[kTerms];
            load_terms<Type>(row, i, chunk_mask(i, size), terms);
            for (int term = 0; term < kTerms; ++term) _mm512_storeu_si512(to + term * columns + i, terms[term]);
        }
    }

    // 32 keys as columns of a first operand: [column of K][term][keys].
    void transpose_keys(const std::byte* const (&rows)[32], uint16_t* to) const {
        for (int64_t d = 0; d < key_columns_; d += 16) {
            const int lanes = static_cast<int>(larger(0, smaller(16, f_.key_size - d)));
            __m512 half[2][16];
            for (int h = 0; h < 2; ++h) {
                for (int i = 0; i < 16; ++i) half[h][i] = load_as<Vector>(Type, rows[16 * h + i], d, lanes);
                Vector::transpose(half[h]);
            }
            for (int i = 0; i < 16; ++i) {
                __m512i terms[kTerms];
                to_terms(half[0][i], half[1][i], terms);
                for (int term = 0; term < kTerms; ++term) _mm512_storeu_si512(to + ((d + i) * kTerms + term) * chunk_, terms[term]);
            }
        }
    }

    const std::byte* gradient_of_output(int64_t row) const {
        return a_.d_o + (queries_.token(row) * f_.heads + queries_.head(row)) * f_.value_size * element_bytes(Type);
    }

    // Rows of a block from `first` on as second operands, of S and dP with rows as columns, and of dK and dV; zeros beyond
    // the last.
    void take_rows(int64_t first, int64_t count) {
        for (int64_t i = 0; i < round_up(count, 32); i += 32) {
            const std::byte *q[32], *d_o[32];
            for (int64_t j = 0; j < 32; ++j) {
                const bool is_row = i + j < count;
                q[j] = is_row ? queries_.query(first + i + j) : reinterpret_cast<const std::byte*>(kZeroRow);
                d_o[j] = is_row ? gradient_of_output(first + i + j) : reinterpret_cast<const std::byte*>(kZeroRow);
            }
            take_columns(q, f_.key_size, key_columns_, q_t_ + i * kTerms * key_columns_);
            take_columns(d_o, f_.value_size, value_columns_, do_t_ + i * kTerms * value_columns_);
            if (!tile_.of_keys) continue;
            take_pairs(q, f_.key_size, key_columns_, q_ + i * kTerms * key_columns_);
            take_pairs(d_o, f_.value_size, value_columns_, do_ + i * kTerms * value_columns_);
        }
    }

    static void take_columns(const std::byte* const (&rows)[32], int64_t size, int64_t columns, uint16_t* to) {
        for (int64_t half = 0; half < 2; ++half) {
            const std::byte* some[16];
            for (int i = 0; i < 16; ++i) some[i] = rows[16 * half + i];
            pack_columns<Type>(some, size, columns / kTileK, to + half * 16 * kTerms * columns);
        }
    }

    static void take_pairs(const std::byte* const (&rows)[32], int64_t size, int64_t columns, uint16_t* to) {
        for (int64_t e = 0; e < columns; e += 32)
            interleave_values<Type, false>(rows, e, chunk_mask(e, size), columns / kTileColumns,
                                           to + e / kTileColumns * kTileElements, [] {});
    }

    // The keys of the chunk that the block of rows from `row` on sees.
    void add_rows(int64_t start, int64_t stop, int64_t row) {
        const GradientRows<Vector, kRows> rows(a_, queries_, row, tile_.stop_row);
        const KeyRange all = seen_by(row, row + rows.count());
        const KeyRange keys{larger(all.first, start), smaller(all.stop, stop)};
        if (keys.is_empty()) return;
        take_rows(row, rows.count());
        const int64_t num_groups = (rows.count() + 31) / 32;
        KeyRange seen[kRows / 32];  // by 32 rows
        for (int64_t g = 0; g < num_groups; ++g) seen[g] = seen_by(row + 32 * g, smaller(row + 32 * g + 32, row + rows.count()));
        for (int64_t key = keys.first / 32 * 32; key < keys.stop; key += 32) {
            const auto sees = [&](int64_t g) { return seen[g].first < key + 32 && seen[g].stop > key; };
            int64_t first = 0, end = num_groups;
            while (first < end && !sees(first)) ++first;
            while (end > first && !sees(end - 1)) --end;
            if (first < end) add_keys(rows, start, key, smaller(stop, key + 32), first, end);
        }
        if (!tile_.of_rows) return;
        float* dq_t = dq_t_ + (row - tile_.first_row) * key_columns_;
        for (int64_t g = 0; g < num_groups; ++g) {
            const int64_t first = larger(seen[g].first, start) / 32 * 32, end = round_up(smaller(seen[g].stop, stop), 32);
            if (first >= end) continue;
            for (int64_t d = 0; d < key_columns_; d += 32)
                Product({k_t_ + d * kTerms * chunk_ + first - start, 2 * kTerms * chunk_,
                         ds_columns_ + (first - start) * kTerms * kRows + 2 * g * kTileElements, kTerms * kRows / kTileColumns, 1,
                         dq_t + d * kRows + 32 * g, 4 * kRows, 1, (end - first) / 32, true, chunk_, kRows / kTileColumns})
                    .run([] {});
        }
    }

    // 32 keys from `key` on, below `stop`, and groups first … end − 1 of 32 rows.
    void add_keys(const GradientRows<Vector, kRows>& rows, int64_t start, int64_t key, int64_t stop, int64_t first, int64_t end) {
        const int64_t at = key - start, key_depth = key_columns_ / kTileK, value_depth = value_columns_ / kTileK;
        Product({k_ + at * kTerms * key_columns_, 2 * kTerms * key_columns_, q_t_ + first * 32 * kTerms * key_columns_, 1,
                 kTerms * key_depth, s_ + 32 * first, 4 * kScoreStride, end - first, key_depth, false, key_columns_, key_depth})
            .run([] {});
        Product({v_ + at * kTerms * value_columns_, 2 * kTerms * value_columns_, do_t_ + first * 32 * kTerms * value_columns_, 1,
                 kTerms * value_depth, dp_ + 32 * first, 4 * kScoreStride, end - first, value_depth, false, value_columns_,
                 value_depth})
            .run([] {});
        differentiate(rows, at, key, stop, 32 * first, 32 * end);
        if (!tile_.of_keys) return;
        Product({p_ + 32 * first, 2 * kTermStride, do_ + first * 32 * kTerms * value_columns_, kTerms * value_columns_ / kTileColumns,
                 1, dv_ + at * value_columns_, 4 * value_columns_, value_columns_ / 32, end - first, true, kRows,
                 value_columns_ / kTileColumns})
            .run([] {});
        Product({ds_ + 32 * first, 2 * kTermStride, q_ + first * 32 * kTerms * key_columns_, kTerms * key_columns_ / kTileColumns, 1,
                 dk_ + at * key_columns_, 4 * key_columns_, key_columns_ / 32, end - first, true, kRows,
                 key_columns_ / kTileColumns})
            .run([] {});
    }

    // Sᵀ and dPᵀ of 32 keys to the terms of Pᵀ and dSᵀ, rows first … stop − 1.
    void differentiate(const GradientRows<Vector, kRows>& rows, int64_t at, int64_t key, int64_t stop_key, int64_t first,
                       int64_t stop) {
        if (f_.scores.kept_factor != 0.0f) rows.take_dropout(queries_, key / DropoutRow::kKeys * DropoutRow::kKeys, z_);
        for (int64_t i = 0; i < 32; ++i) {
            float *s = s_ + i * kScoreStride, *dp = dp_ + i * kScoreStride;
            if (key + i >= stop_key) {
                clear(s + first, stop - first);
                clear(dp + first, stop - first);
                continue;
            }
            const float* z = f_.scores.kept_factor != 0.0f ? z_ + (key + i) % DropoutRow::kKeys * kRows : nullptr;
            rows.differentiate(key + i, first, stop, s, dp, z);
        }
        for (int64_t i = 0; i < 32; i += 2)
            for (int64_t row = first; row < stop; row += 32) {
                const float *s = s_ + i * kScoreStride + row, *dp = dp_ + i * kScoreStride + row;
                for (int64_t j = 0; j < 2; ++j) {
                    store_terms(s + j * kScoreStride, p_ + (i + j) * kTermStride + row);
                    store_terms(dp + j * kScoreStride, ds_ + (i + j) * kTermStride + row);
                }
                if (!tile_.of_rows) continue;
                for (int64_t half = 0; half < 2; ++half) {
                    const auto even = Vector::load(dp + 16 * half), odd = Vector::load(dp + kScoreStride + 16 * half);
                    __m512i terms[kTerms];
                    to_terms(even, odd, terms);
                    const int64_t tile = at / 32 * kTerms * (kRows / kTileColumns) + row / kTileColumns + half;
                    for (int term = 0; term < kTerms; ++term)
                        _mm512_storeu_si512(ds_columns_ + (tile + term * (kRows / kTileColumns)) * kTileElements + i / 2 * 32,
                                            side_by_side(terms[term]));
                }
            }
    }

    static void store_terms(const float* from, uint16_t* to) {
        __m512i terms[kTerms];
        to_terms(Vector::load(from), Vector::load(from + 16), terms);
        for (int term = 0; term < kTerms; ++term) _mm512_storeu_si512(to + term * kRows, terms[term]);
    }

    // The first 16 words and the last 16 by turns.
    static __m512i side_by_side(__m512i words) {
        const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20,
                                               4, 19, 3, 18, 2, 17, 1, 16, 0);
        return _mm512_permutexvar_epi16(order, words);
    }

    void write_row(std::byte* to, int64_t size) const {
        for_vectors<Vector>(size, [&](int64_t i, int lanes) { store_as<Vector>(Type, to, i, Vector::load(row_ + i), lanes); });
    }

    void write_keys(int64_t start, int64_t stop) {
        CacheRows dk = queries_.rows_of(a_.dk, start), dv = queries_.rows_of(a_.dv, start);
        for (int64_t i = 0; i < stop - start; ++i) {
            unpack_columns(dk_ + i * key_columns_, f_.key_size, row_);
            write_row(dk.next(), f_.key_size);
            unpack_columns(dv_ + i * value_columns_, f_.value_size, row_);
            write_row(dv.next(), f_.value_size);
        }
    }

    void write_rows() {
        for (int64_t row = tile_.first_row; row < tile_.stop_row; row += 16) {
            const int64_t block = (row - tile_.first_row) / kRows * kRows, lane = row - tile_.first_row - block;
            for (int64_t d = 0; d < key_columns_; d += 16) {
                __m512 some[16];
                for (int i = 0; i < 16; ++i) some[i] = Vector::load(dq_t_ + block * key_columns_ + (d + i) * kRows + lane);
                Vector::transpose(some);
                const int lanes = static_cast<int>(larger(0, smaller(16, f_.key_size - d)));
                for (int64_t i = 0; lanes && i < smaller(16, tile_.stop_row - row); ++i) {
                    std::byte* to = a_.dq + (queries_.token(row + i) * f_.heads + queries_.head(row + i)) * f_.key_size * element_bytes(Type);
                    store_as<Vector>(Type, to, d, some[i], lanes);
                }
            }
        }
    }

    const AttentionBackwardArguments& a_;
    const AttentionArguments& f_;
    const GradientTile& tile_;
    int64_t kv_head_;
    AttentionTile whole_;
    QueryTile queries_;
    int64_t key_columns_, value_columns_, chunk_;
    uint16_t *k_, *v_, *k_t_, *q_t_, *do_t_, *q_, *do_, *p_, *ds_, *ds_columns_;
    float *dk_, *dv_, *s_, *dp_, *dq_t_, *row_, *z_;
};

inline void attention_backward_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AttentionBackwardArguments*>(arguments);
    switch (a.forward.type) {
        case ElementType::F32: return AmxBackward<ElementType::F32>(a, item).run();
        case ElementType::F16: return AmxBackward<ElementType::F16>(a, item).run();
        default: return AmxBackward<ElementType::BF16>(a, item).run();
    }
}

}  // namespace octavo::OCTAVO_ISA
