// Queries, keys and values as operands of AmxProduct (amx_bf16.h).
#pragma once

#include <immintrin.h>

#include "amx_bf16.h"
#include "attention_tile.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kMaxHeadSize = 512;
alignas(64) inline constexpr uint16_t kZeroRow[kMaxHeadSize] = {};  // of a key that no row sees

// The elements from i to i + 31 of a row of n.
inline __mmask32 chunk_mask(int64_t i, int64_t n) {
    return i + 32 <= n ? ~__mmask32{0} : static_cast<__mmask32>((uint32_t{1} << (n - i)) - 1);
}

inline __m512i load_chunk(const std::byte* row, int64_t i, __mmask32 mask) {
    return _mm512_maskz_loadu_epi16(mask, row + 2 * i);
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
    LinesAhead(const QueryTile& queries, int64_t position, int64_t count, int64_t key_size, int64_t value_size)
        : k_(queries.keys_from(position)), v_(queries.values_from(position)), left_(count), k_bytes_(2 * key_size),
          v_bytes_(2 * value_size) {}

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

// Elements first … first + n − 1 of a row, rounded to bf16; to is padded with zeros to a multiple of 32.
inline void pack_query(ElementType type, const std::byte* row, int64_t first, int64_t n, uint16_t* to) {
    for (int64_t i = 0; i < n; i += 32) {
        if (type == ElementType::BF16) {
            _mm512_storeu_si512(to + i, load_chunk(row, first + i, chunk_mask(i, n)));
            continue;
        }
        __m512 half[2];
        for (int h = 0; h < 2; ++h) {
            const int lanes = static_cast<int>(larger(0, smaller(16, n - i - 16 * h)));
            half[h] = load_as<Vector>(type, row, first + i + 16 * h, lanes);
        }
        _mm512_storeu_si512(to + i, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(half[1], half[0])));
    }
}

// The keys counted from `start` as Kᵀ: tiles [16 keys][32 of D], depth = D rounded up to 32. Whole pairs of column blocks
// are written.
inline void pack_keys(const QueryTile& queries, int64_t key_size, int64_t start, KeyRange keys, uint16_t* to) {
    const int64_t depth = round_up(key_size, kTileK) / kTileK;
    CacheRows cache = queries.keys_from(start + keys.first);
    to += keys.first / 32 * 2 * depth * kTileElements;
    for (int64_t key = keys.first / 32 * 32; key < round_up(keys.stop, 32); key += 16) {
        const std::byte* rows[16];
        find_keys(cache, key, keys, rows);
        for (int64_t d = 0; d < key_size; d += kTileK, to += kTileElements) {
            const __mmask32 mask = chunk_mask(d, key_size);
            __m512 words[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) words[i] = _mm512_castsi512_ps(load_chunk(rows[i], d, mask));
            Vector::transpose(words);
#pragma GCC unroll 16
            for (int i = 0; i < 16; ++i) _mm512_storeu_ps(to + i * 32, words[i]);
        }
    }
}

// The tile line of a pair of keys, of the 16 pairs of 32 keys: where PowersOfTwo puts their p.
constexpr int64_t pair_line(int64_t pair) { return pair % 8 / 2 * 4 + pair / 8 * 2 + pair % 2; }

// 32 rows of values from column e on, at most 32 of them, as two tiles [32 keys][16 of E]. The first holds columns 0–3,
// 8–11, 16–19, 24–27 and the second the others, as UNPACK leaves them; unpack_columns puts them in order. Calls after_eight()
// behind every eight rows, for what is to run beside it.
template <class F>
inline void interleave_values(const std::byte* const (&rows)[32], int64_t e, __mmask32 mask, uint16_t* to, F after_eight) {
#pragma GCC unroll 16
    for (int64_t pair = 0; pair < 16; ++pair) {
        const __m512i even = load_chunk(rows[2 * pair], e, mask), odd = load_chunk(rows[2 * pair + 1], e, mask);
        uint16_t* line = to + pair_line(pair) * 32;
        _mm512_storeu_si512(line, _mm512_unpacklo_epi16(even, odd));
        _mm512_storeu_si512(line + kTileElements, _mm512_unpackhi_epi16(even, odd));
        if (pair % 4 == 3) after_eight();
    }
}

// The values counted from `start` as V: for each 32 keys, the tiles of interleave_values.
inline void pack_values(const QueryTile& queries, int64_t value_size, int64_t start, KeyRange keys, uint16_t* to) {
    CacheRows cache = queries.values_from(start + keys.first);
    const int64_t columns = round_up(value_size, 32);
    to += keys.first / 32 * 32 * columns;
    for (int64_t key = keys.first / 32 * 32; key < round_up(keys.stop, 32); key += 32) {
        const std::byte* rows[32];
        find_keys(cache, key, keys, rows);
        for (int64_t e = 0; e < value_size; e += 32, to += 2 * kTileElements)
            interleave_values(rows, e, chunk_mask(e, value_size), to, [] {});
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
