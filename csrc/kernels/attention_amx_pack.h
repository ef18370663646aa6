// Queries, keys and values as operands of AmxProduct (amx_bf16.h).
#pragma once

#include <immintrin.h>

#include "amx_bf16.h"
#include "attention_tile.h"
#include "bf16_terms.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kMaxHeadSize = 512;
alignas(64) inline constexpr float kZeroRow[kMaxHeadSize] = {};  // of a key that no row sees

// The elements from i to i + 31 of a row of n.
inline __mmask32 chunk_mask(int64_t i, int64_t n) {
    return i + 32 <= n ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << (n - i)) - 1);
}

// Rows of keys first … first + count − 1, of zeros where they are not among `keys`.
template <int64_t Count>
inline void find_keys(CacheRows& cache, int64_t first, KeyRange keys, const std::byte* (&rows)[Count]) {
    for (int64_t i = 0; i < Count; ++i)
        rows[i] = first + i < keys.first || first + i >= keys.stop ? reinterpret_cast<const std::byte*>(kZeroRow) : cache.next();
}

// Lines of keys and values that will be read later, called for one after the other: many at once would hold up what is read
// now.
class LinesAhead {
public:
    explicit LinesAhead(const QueryTile& queries) : LinesAhead(queries, 0, 0, 0, 0) {}
    LinesAhead(const QueryTile& queries, int64_t position, int64_t count, int64_t key_bytes, int64_t value_bytes)
        : k_(queries.keys_from(position)), v_(queries.values_from(position)), left_(count), k_bytes_(key_bytes),
          v_bytes_(value_bytes) {}

    void fetch(int64_t rows) {
        for (; rows > 0 && left_ > 0; --rows, --left_) {
            const auto* k = reinterpret_cast<const char*>(k_.next());
            const auto* v = reinterpret_cast<const char*>(v_.next());
            for (int64_t i = 0; i < k_bytes_; i += 64) _mm_prefetch(k + i, _MM_HINT_T1);
            for (int64_t i = 0; i < v_bytes_; i += 64) _mm_prefetch(v + i, _MM_HINT_T1);
        }
    }

private:
    CacheRows k_, v_;
    int64_t left_, k_bytes_, v_bytes_;
};

// Terms of elements first … first + n − 1 of a query, depth elements a term; the last one rounded to bf16. Padded with zeros to
// a multiple of 32.
template <int Terms>
inline void pack_query(ElementType type, const std::byte* row, int64_t first, int64_t n, int64_t depth, uint16_t* to) {
    for (int64_t i = 0; i < n; i += 32) {
        __m512 half[2];
        for (int h = 0; h < 2; ++h)
            half[h] = load_as<Vector>(type, row, first + i + 16 * h, static_cast<int>(larger(0, smaller(16, n - i - 16 * h))));
        __m512i terms[Terms];
        to_terms(half[0], half[1], terms);
        for (int term = 0; term < Terms; ++term) _mm512_storeu_si512(to + term * depth + i, terms[term]);
    }
}

// 16 rows as columns: tiles [term][32 of size][16 rows], depth tiles a term.
template <ElementType Type>
inline void pack_columns(const std::byte* const (&rows)[16], int64_t size, int64_t depth, uint16_t* to) {
    constexpr int kTerms = num_terms(Type);
    for (int64_t d = 0; d < depth; ++d) {
        const __mmask32 mask = chunk_mask(d * kTileK, size);
        __m512i chunks[kTerms][16];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
            __m512i terms[kTerms];
            load_terms<Type>(rows[i], d * kTileK, mask, terms);
            for (int term = 0; term < kTerms; ++term) chunks[term][i] = terms[term];
        }
        for (int term = 0; term < kTerms; ++term) {
            __m512 words[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) words[i] = _mm512_castsi512_ps(chunks[term][i]);
            Vector::transpose(words);
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) _mm512_storeu_ps(to + (term * depth + d) * kTileElements + i * 32, words[i]);
        }
    }
}

// The keys counted from `start` as Kᵀ: pack_columns of every 16. Whole pairs of column blocks are written.
template <ElementType Type>
inline void pack_keys(const QueryTile& queries, int64_t key_size, int64_t start, KeyRange keys, uint16_t* to) {
    const int64_t depth = round_up(key_size, kTileK) / kTileK, block = num_terms(Type) * depth * kTileElements;
    CacheRows cache = queries.keys_from(start + keys.first);
    to += keys.first / 32 * 2 * block;
    for (int64_t key = keys.first / 32 * 32; key < round_up(keys.stop, 32); key += 16, to += block) {
        const std::byte* rows[16];
        find_keys(cache, key, keys, rows);
        pack_columns<Type>(rows, key_size, depth, to);
    }
}

// The tile line of a pair of keys, of the 16 pairs of 32 keys: where PowersOfTwo puts their p.
constexpr int64_t pair_line(int64_t pair) { return pair % 8 / 2 * 4 + pair / 8 * 2 + pair % 2; }

// 32 rows of values from column e on, at most 32 of them, as two tiles [32 keys][16 of E] for each term, which lie `term_tiles`
// apart. The first holds columns 0–3, 8–11, 16–19, 24–27 and the second the others, as UNPACK leaves them; unpack_columns puts
// them in order. Pairs of rows lie as PowersOfTwo leaves p, or in order. Calls after_eight() behind every eight rows, for what is to run beside it.
template <ElementType Type, bool IsByTurns = true, class F>
[[gnu::always_inline]] inline void interleave_values(const std::byte* const (&rows)[32], int64_t e, __mmask32 mask,
                                                     int64_t term_tiles, uint16_t* to, F after_eight) {
    constexpr int kTerms = num_terms(Type);
#pragma GCC unroll 16
    for (int64_t pair = 0; pair < 16; ++pair) {
        __m512i even[kTerms], odd[kTerms];
        load_terms<Type>(rows[2 * pair], e, mask, even);
        load_terms<Type>(rows[2 * pair + 1], e, mask, odd);
        for (int term = 0; term < kTerms; ++term) {
            uint16_t* line = to + term * term_tiles * kTileElements + (IsByTurns ? pair_line(pair) : pair) * 32;
            _mm512_storeu_si512(line, _mm512_unpacklo_epi16(even[term], odd[term]));
            _mm512_storeu_si512(line + kTileElements, _mm512_unpackhi_epi16(even[term], odd[term]));
        }
        if (pair % 4 == 3) after_eight();
    }
}

// The values counted from `start` as V: for each 32 keys and term, the tiles of interleave_values.
template <ElementType Type>
inline void pack_values(const QueryTile& queries, int64_t value_size, int64_t start, KeyRange keys, uint16_t* to) {
    constexpr int kTerms = num_terms(Type);
    CacheRows cache = queries.values_from(start + keys.first);
    const int64_t tiles = round_up(value_size, 32) / kTileColumns;
    to += keys.first / 32 * kTerms * tiles * kTileElements;
    for (int64_t key = keys.first / 32 * 32; key < round_up(keys.stop, 32); key += 32, to += kTerms * tiles * kTileElements) {
        const std::byte* rows[32];
        find_keys(cache, key, keys, rows);
        for (int64_t e = 0; e < value_size; e += 32)
            interleave_values<Type>(rows, e, chunk_mask(e, value_size), tiles, to + e / kTileColumns * kTileElements, [] {});
    }
}

// A row of sums over pack_values' columns, in order; false where one is NaN.
inline bool unpack_columns(const float* from, int64_t value_size, float* to) {
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    __mmask16 is_nan = 0;
    for (int64_t e = 0; e < value_size; e += 32) {
        const __m512 first = _mm512_loadu_ps(from + e), second = _mm512_loadu_ps(from + e + 16);
        is_nan |= _mm512_cmp_ps_mask(first, second, _CMP_UNORD_Q);
        _mm512_storeu_ps(to + e, _mm512_permutex2var_ps(first, low, second));
        _mm512_storeu_ps(to + e + 16, _mm512_permutex2var_ps(first, high, second));
    }
    return is_nan == 0;
}

}  // namespace octavo::OCTAVO_ISA
