// Gradients of attention on AMX tiles: FlashAttention-2's backward pass (Dao 2023, arXiv 2307.08691, algorithm 2), numbers as
// sums of terms of bf16 (bf16_terms.h).
//
// With keys as rows, as in attention_backward.h: for each chunk of keys, each block of 256 rows and each 32 keys of the chunk
//
//     Sᵀ = K·Qᵀ, dPᵀ = V·dOᵀ (32 keys, rows)   → Pᵀ, dSᵀ, first operands of   dV += Pᵀ·dO,   dK += dSᵀ·Q
//     and behind the chunk's keys                 dSᵀ, second operand of      dQᵀ += Kᵀ·dSᵀ
//
// so that nothing is transposed but inputs, once a chunk or a block (once a visit, where the blocks are too many to be kept), and dQᵀ at the end.
#pragma once

#include "attention_amx_pack.h"
#include "attention_gradients.h"
#include "power_of_two.h"
#include "scratch_layout.h"

namespace octavo::OCTAVO_ISA {

template <ElementType Type>
class AmxBackward {
public:
    AmxBackward(const AttentionBackwardArguments& a, int64_t item)
        : a_(a), f_(a.forward), tile_(a.tiles[item / f_.kv_heads]), kv_head_(item % f_.kv_heads),
          whole_(whole_request(f_, tile_.request)), queries_(f_, whole_, kv_head_), key_columns_(round_up(f_.key_size, 32)),
          value_columns_(round_up(f_.value_size, 32)), is_plain_(is_only_scaled(f_.scores) && f_.scores.kept_factor == 0.0f) {
        // Of a power of two keys, so that a tile's keys are whole chunks: what lies for each fits the second cache.
        const int64_t key_bytes = 2 * kTerms * (2 * key_columns_ + value_columns_ + kRows) + 4 * (key_columns_ + value_columns_);
        for (chunk_ = kGradientKeys; chunk_ > 128 && chunk_ * key_bytes > kChunkBytes;) chunk_ /= 2;
        const int64_t row_blocks = (tile_.stop_row - tile_.first_row + kRows - 1) / kRows;
        num_slots_ = row_blocks * slot() * 2 <= a.kept_bytes ? row_blocks : 1;
        const int64_t num_blocks = tile_.of_rows ? (tile_.stop_row - tile_.first_row + kRows - 1) / kRows : 0;
        ScratchLayout::lay_out([&](ScratchLayout& scratch) {
            scratch.place(k_, chunk_ * kTerms * key_columns_);
            scratch.place(v_, chunk_ * kTerms * value_columns_);
            scratch.place(k_t_, key_columns_ * key_stride());
            scratch.place(dk_, chunk_ * key_columns_);
            scratch.place(dv_, chunk_ * value_columns_);
            scratch.place(rows_, num_slots_ * slot());
            scratch.place(s_, 2 * 32 * kScoreStride);
            scratch.place(dp_, 2 * 32 * kScoreStride);
            scratch.place(p_, 2 * 32 * kTermStride);
            scratch.place(ds_, 2 * 32 * kTermStride);
            scratch.place(ds_columns_, chunk_ * kTerms * kRows);
            scratch.place(dq_t_, num_blocks * key_columns_ * kRows);
            scratch.place(row_, larger(key_columns_, value_columns_));
            scratch.place(z_, f_.scores.kept_factor != 0.0f ? DropoutRow::kKeys * kRows : 0);
        });
    }

    void run() {
        product_shapes(16, 16, 64).load();
        if (tile_.of_rows) clear(dq_t_, round_up(tile_.stop_row - tile_.first_row, kRows) * key_columns_);
        const KeyRange seen = queries_.keys_of_rows(tile_.first_row, tile_.stop_row);
        if (are_rows_kept())
            for (int64_t row = tile_.first_row; row < tile_.stop_row; row += kRows) {
                use_slot(row);
                take_rows(row, smaller(kRows, tile_.stop_row - row));
            }
        for (int64_t start = tile_.first_key; start < tile_.stop_key; start += chunk_) {
            const int64_t stop = smaller(start + chunk_, tile_.stop_key);
            const KeyRange keys{larger(seen.first, start), smaller(seen.stop, stop)};
            if (keys.is_empty()) continue;
            take_keys(start, keys);
            for (int64_t row = tile_.first_row; row < tile_.stop_row; row += kRows) add_rows(start, stop, row);
            if (tile_.of_keys) write_keys(start, keys);
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

    // Elements of a block of rows: q_t_, do_t_, q_ and do_.
    int64_t slot() const { return 2 * kRows * kTerms * (key_columns_ + value_columns_); }
    bool are_rows_kept() const { return num_slots_ * kRows >= tile_.stop_row - tile_.first_row; }

    void use_slot(int64_t row) {
        q_t_ = rows_ + (row - tile_.first_row) / kRows % num_slots_ * slot();
        do_t_ = q_t_ + kRows * kTerms * key_columns_;
        q_ = do_t_ + kRows * kTerms * value_columns_;
        do_ = q_ + kRows * kTerms * key_columns_;
    }

    // Of k_t_'s rows: not a power of two.
    int64_t key_stride() const { return kTerms * chunk_ + 32; }

    static void clear(float* x, int64_t count) { std::memset(x, 0, sizeof(float) * static_cast<size_t>(count)); }

    // Keys of the chunk at `start`, zeros but for those that some row of the tile sees.
    void take_keys(int64_t start, KeyRange keys) {
        const KeyRange own{keys.first - start, keys.stop - start};
        CacheRows k = queries_.keys_from(keys.first), v = queries_.values_from(keys.first);
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
                for (int term = 0; term < kTerms; ++term) _mm512_storeu_si512(to + (d + i) * key_stride() + term * chunk_, terms[term]);
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
            interleave_values<Type>(rows, e, chunk_mask(e, size), columns / kTileColumns,
                                           to + e / kTileColumns * kTileElements, [] {});
    }

    using Rows = GradientRows<Vector, kRows>;

    // 32 keys from `key` on, and groups first … end − 1 of 32 rows, all that see one of them.
    struct Block {
        int64_t key, first, end;
        uint32_t whole;    // groups whose rows see all of the keys, a bit each
        int64_t number;    // two take turns
    };

    // The keys of the chunk that the block of rows from `row` on sees. While the vector units work on 32 of them, the tiles
    // multiply for the last 32 and the next.
    void add_rows(int64_t start, int64_t stop, int64_t row) {
        const Rows rows(a_, queries_, row, tile_.stop_row);
        const KeyRange all = queries_.keys_of_rows(row, row + rows.count());
        const KeyRange keys{larger(all.first, start), smaller(all.stop, stop)};
        if (keys.is_empty()) return;
        use_slot(row);
        if (!are_rows_kept()) take_rows(row, rows.count());
        const int64_t num_groups = (rows.count() + 31) / 32;
        KeyRange seen[kRows / 32], seen_by_all[kRows / 32];  // by 32 rows
        for (int64_t g = 0; g < num_groups; ++g) {
            const int64_t first = row + 32 * g, end = smaller(first + 32, row + rows.count());
            seen[g] = queries_.keys_of_rows(first, end);
            seen_by_all[g] = {queries_.keys_of_rows(end - 1, end).first, smaller(stop, queries_.keys_of_rows(first, first + 1).stop)};
        }
        Block blocks[kGradientKeys / 32];
        int64_t count = 0;
        for (int64_t key = keys.first / 32 * 32; key < keys.stop; key += 32) {
            Block block{key, 0, num_groups, 0, count % 2};
            const auto sees = [&](int64_t g) { return seen[g].first < key + 32 && seen[g].stop > key; };
            while (block.first < block.end && !sees(block.first)) ++block.first;
            while (block.end > block.first && !sees(block.end - 1)) --block.end;
            for (int64_t g = 0; is_plain_ && g < num_groups; ++g)
                if (seen_by_all[g].first <= key && seen_by_all[g].stop >= key + 32) block.whole |= 1u << g;
            if (block.first < block.end) blocks[count++] = block;
        }
        for (int64_t i = 0; i < count; ++i) {
            if (i == 0) multiply(scores_of(blocks[0], start), gradients_of(blocks[0], start), [] {});
            const bool is_last = i + 1 == count;
            differentiate(rows, blocks[i], start, stop, i ? keys_of(blocks[i - 1], start) : Products{},
                          is_last ? Products{} : Products{scores_of(blocks[i + 1], start), gradients_of(blocks[i + 1], start)});
        }
        if (count) {
            const Products last = keys_of(blocks[count - 1], start);
            multiply(last.first, last.second, [] {});
        }
        if (tile_.of_rows) add_keys_to_rows(start, stop, row, num_groups, seen);
    }

    struct Products {
        Product first, second;
        int64_t steps() const { return first.steps() + second.steps(); }
    };

    template <class F>
    [[gnu::always_inline]] static void multiply(const Product& first, const Product& second, F after_step) {
        first.run(after_step);
        second.run(after_step);
    }

    Product scores_of(const Block& b, int64_t start) const {
        return operand_of_rows(b, k_ + (b.key - start) * kTerms * key_columns_, q_t_, key_columns_, s_);
    }
    Product gradients_of(const Block& b, int64_t start) const {
        return operand_of_rows(b, v_ + (b.key - start) * kTerms * value_columns_, do_t_, value_columns_, dp_);
    }
    // 32 keys by rows.
    Product operand_of_rows(const Block& b, const uint16_t* keys, const uint16_t* rows, int64_t columns, float* to) const {
        const int64_t depth = columns / kTileK;
        return Product({keys, 2 * kTerms * columns, rows + b.first * 32 * kTerms * columns, 1, kTerms * depth,
                        to + b.number * 32 * kScoreStride + 32 * b.first, 4 * kScoreStride, b.end - b.first, depth, false, columns,
                        depth});
    }

    Products keys_of(const Block& b, int64_t start) const {
        if (!tile_.of_keys) return {};
        return {sum_over_rows(b, p_, do_, value_columns_, dv_ + (b.key - start) * value_columns_),
                sum_over_rows(b, ds_, q_, key_columns_, dk_ + (b.key - start) * key_columns_)};
    }
    Product sum_over_rows(const Block& b, const uint16_t* terms, const uint16_t* rows, int64_t columns, float* to) const {
        const int64_t tiles = columns / kTileColumns;
        return Product({terms + b.number * 32 * kTermStride + 32 * b.first, 2 * kTermStride, rows + b.first * 32 * kTerms * columns,
                        kTerms * tiles, 1, to, 4 * columns, columns / 32, b.end - b.first, true, kRows, tiles});
    }

    // dQᵀ += Kᵀ·dSᵀ.
    void add_keys_to_rows(int64_t start, int64_t stop, int64_t row, int64_t num_groups, const KeyRange* seen) const {
        constexpr int64_t kTiles = kRows / kTileColumns;
        float* dq_t = dq_t_ + (row - tile_.first_row) * key_columns_;
        for (int64_t g = 0; g < num_groups; ++g) {
            const int64_t first = larger(seen[g].first, start) / 32 * 32, end = round_up(smaller(seen[g].stop, stop), 32);
            if (first >= end) continue;
            for (int64_t d = 0; d < key_columns_; d += 32)
                Product({k_t_ + d * key_stride() + first - start, 2 * key_stride(),
                         ds_columns_ + (first - start) * kTerms * kRows + 2 * g * kTileElements, kTerms * kTiles, 1,
                         dq_t + d * kRows + 32 * g, 4 * kRows, 1, (end - first) / 32, true, chunk_, kTiles})
                    .run([] {});
        }
    }

    // Sᵀ and dPᵀ of a block to the terms of Pᵀ and dSᵀ, between the steps of the products, evenly.
    void differentiate(const Rows& rows, const Block& b, int64_t start, int64_t stop, const Products& of_last, const Products& of_next) {
        if (f_.scores.kept_factor != 0.0f) rows.take_dropout(queries_, b.key / DropoutRow::kKeys * DropoutRow::kKeys, z_);
        constexpr int64_t kUnit = 1 << 16;
        const int64_t num_units = 16 * (b.end - b.first), units_a_step = kUnit * num_units / larger(1, of_last.steps() + of_next.steps());
        int64_t done = 0, credit = 0;
        const auto work_until = [&](int64_t end) __attribute__((always_inline)) {
            for (; done < end; ++done) {
                const int64_t group = b.first + done / 16, key = done % 16 * 2;
                if (b.whole >> group & 1) take_pair(rows, b, key, 32 * group, start);
                else take_any_pair(rows, b, key, 32 * group, start, stop);
            }
        };
        const auto after_step = [&]() __attribute__((always_inline)) {
            credit += units_a_step;
            work_until(credit / kUnit);
        };
        multiply(of_last.first, of_last.second, after_step);
        multiply(of_next.first, of_next.second, after_step);
        work_until(num_units);
    }

    // Two keys of the block, counted from its first, by 32 rows that see both: no more than P = 2^(S·scale·log₂e − lse) and
    // dS = P·(dP·scale − δ·scale).
    [[gnu::always_inline]] void take_pair(const Rows& rows, const Block& b, int64_t key, int64_t row, int64_t start) const {
        using V = Vector;
        const auto scale = V::broadcast(f_.scores.scale), factor = V::broadcast(f_.scores.scale * kLog2e);
        const int64_t at = (b.number * 32 + key) * kScoreStride + row;
        __m512 p[2][2], ds[2][2];
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const auto lse = rows.lse_in_log2(row + 16 * half), delta = rows.scaled_delta(row + 16 * half);
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i) {
                const int64_t from = at + i * kScoreStride + 16 * half;
                const auto x = _mm512_fmsub_ps(V::load(s_ + from), factor, lse);
                p[i][half] = power_of_two(_mm512_min_ps(_mm512_setzero_ps(), x));  // as differentiate(); a NaN stays one
                ds[i][half] = V::mul(p[i][half], _mm512_fmsub_ps(V::load(dp_ + from), scale, delta));
            }
        }
        store_pair(b, key, row, start, p, ds);
    }

    // The same for any rows and scores.
    [[gnu::noinline]] void take_any_pair(const Rows& rows, const Block& b, int64_t key, int64_t row, int64_t start, int64_t stop) const {
        __m512 p[2][2], ds[2][2];
        for (int64_t i = 0; i < 2; ++i) {
            const int64_t from = (b.number * 32 + key + i) * kScoreStride;
            if (b.key + key + i >= stop) {
                clear(s_ + from + row, 32);
                clear(dp_ + from + row, 32);
            } else {
                const float* z = f_.scores.kept_factor != 0.0f ? z_ + (b.key + key + i) % DropoutRow::kKeys * kRows : nullptr;
                rows.differentiate(b.key + key + i, row, row + 32, s_ + from, dp_ + from, z);
            }
            for (int64_t half = 0; half < 2; ++half) {
                p[i][half] = Vector::load(s_ + from + row + 16 * half);
                ds[i][half] = Vector::load(dp_ + from + row + 16 * half);
            }
        }
        store_pair(b, key, row, start, p, ds);
    }

    [[gnu::always_inline]] void store_pair(const Block& b, int64_t key, int64_t row, int64_t start, const __m512 (&p)[2][2],
                                           const __m512 (&ds)[2][2]) const {
        const int64_t at = (b.number * 32 + key) * kTermStride + row;
        __m512i terms[2][kTerms];
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            if (tile_.of_keys) {
                split_by_turns(p[i][0], p[i][1], terms[i]);
                for (int term = 0; term < kTerms; ++term) _mm512_storeu_si512(p_ + at + i * kTermStride + term * kRows, terms[i][term]);
            }
            split_by_turns(ds[i][0], ds[i][1], terms[i]);
            for (int term = 0; term < kTerms; ++term) _mm512_storeu_si512(ds_ + at + i * kTermStride + term * kRows, terms[i][term]);
        }
        if (!tile_.of_rows) return;
        constexpr int64_t kTiles = kRows / kTileColumns;
        uint16_t* columns = ds_columns_ + ((b.key - start) / 32 * kTerms * kTiles + row / kTileColumns) * kTileElements + key * 16;
        for (int term = 0; term < kTerms; ++term, columns += kTiles * kTileElements) {
            _mm512_storeu_si512(columns, _mm512_unpacklo_epi16(terms[0][term], terms[1][term]));  // rows by turns of four: in order
            _mm512_storeu_si512(columns + kTileElements, _mm512_unpackhi_epi16(terms[0][term], terms[1][term]));
        }
    }

    void write_row(std::byte* to, int64_t size) const {
        for_vectors<Vector>(size, [&](int64_t i, int lanes) { store_as<Vector>(Type, to, i, Vector::load(row_ + i), lanes); });
    }

    void write_keys(int64_t start, KeyRange keys) {
        CacheRows dk = queries_.rows_of(a_.dk, keys.first), dv = queries_.rows_of(a_.dv, keys.first);
        for (int64_t i = keys.first - start; i < keys.stop - start; ++i) {
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
    bool is_plain_;
    int64_t num_slots_ = 1;  // of blocks of rows that are kept, for all chunks of keys
    uint16_t *k_, *v_, *k_t_, *rows_, *q_t_, *do_t_, *q_, *do_, *p_, *ds_, *ds_columns_;
    float *dk_, *dv_, *s_, *dp_, *dq_t_, *row_, *z_;
};

inline void attention_backward_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AttentionBackwardArguments*>(arguments);
    switch (a.forward.type) {
        case ElementType::F32: AmxBackward<ElementType::F32>(a, item).run(); break;
        case ElementType::F16: AmxBackward<ElementType::F16>(a, item).run(); break;
        default: AmxBackward<ElementType::BF16>(a, item).run();
    }
    trim_thread_scratch();
}

}  // namespace octavo::OCTAVO_ISA
