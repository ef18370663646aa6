// Queries, keys and values as operands of AmxProduct (amx_bf16.h).
#pragma once

#include <immintrin.h>

#include "amx_bf16.h"
#include "attention_tile.h"

namespace octavo::OCTAVO_ISA {

// 32 elements of bf16 at i of n, zero beyond.
inline __m512i load_bf16_chunk(const std::byte* from, int64_t i, int64_t n) {
    const auto* p = reinterpret_cast<const uint16_t*>(from) + i;
    if (i + 32 <= n) return _mm512_loadu_si512(p);
    return _mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint32_t{1} << (n - i)) - 1), p);
}

// A row of fp32 rounded to bf16; depth is n rounded up to 32.
inline void pack_query(const float* from, int64_t n, uint16_t* to) {
    for (int64_t i = 0; i < n; i += 32) {
        __m512 half[2];
        for (int h = 0; h < 2; ++h) {
            const int64_t left = larger(0, smaller(16, n - i - 16 * h));
            half[h] = _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << left) - 1), from + i + 16 * h);
        }
        _mm512_storeu_si512(to + i, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(half[1], half[0])));
    }
}

// Keys `keys` of the KV tile at `start` as Kᵀ: [16 keys][32 of D] in tiles, depth = D rounded up to 32. Whole pairs of
// column blocks are written, zero where no row sees the key.
inline void pack_keys(const QueryTile& queries, int64_t key_size, int64_t start, KeyRange keys, uint16_t* to) {
    const int64_t depth = round_up(key_size, kTileK) / kTileK;
    for (int64_t block = keys.first / 32 * 2; block < (keys.stop + 31) / 32 * 2; ++block) {
        const std::byte* rows[16];
        for (int64_t i = 0; i < 16; ++i) {
            const int64_t key = block * 16 + i;
            rows[i] = key < keys.first || key >= keys.stop ? nullptr : queries.key(start + key);
        }
        for (int64_t d = 0; d < depth; ++d) {
            __m512 words[16];
            for (int i = 0; i < 16; ++i)
                words[i] = rows[i] ? _mm512_castsi512_ps(load_bf16_chunk(rows[i], d * kTileK, key_size)) : _mm512_setzero_ps();
            Vector::transpose(words);
            auto* tile = reinterpret_cast<float*>(to + (block * depth + d) * kTileElements);
            for (int i = 0; i < 16; ++i) Vector::store(tile + i * 16, words[i]);
        }
    }
}

// Values of those keys as V: tiles [16 of E][32 keys], tile_depth of them from one column block to the next. Of each 32
// columns the first block holds 0–3, 8–11, 16–19, 24–27 and the second the others, as UNPACK leaves them: unpack_columns.
inline void pack_values(const QueryTile& queries, int64_t value_size, int64_t start, KeyRange keys, int64_t tile_depth,
                        uint16_t* to) {
    for (int64_t key = keys.first / 32 * 32; key < (keys.stop + 31) / 32 * 32; key += 2) {
        const std::byte* rows[2];
        for (int64_t i = 0; i < 2; ++i)
            rows[i] = key + i < keys.first || key + i >= keys.stop ? nullptr : queries.value(start + key + i);
        uint16_t* line = to + key / 32 * kTileElements + key % 32 * kTileColumns;
        for (int64_t e = 0; e < value_size; e += 32, line += 2 * tile_depth * kTileElements) {
            __m512i pair[2];
            for (int i = 0; i < 2; ++i) pair[i] = rows[i] ? load_bf16_chunk(rows[i], e, value_size) : _mm512_setzero_si512();
            _mm512_storeu_si512(line, _mm512_unpacklo_epi16(pair[0], pair[1]));
            _mm512_storeu_si512(line + tile_depth * kTileElements, _mm512_unpackhi_epi16(pair[0], pair[1]));
        }
    }
}

// A row of sums over pack_values' columns, put in order.
inline void unpack_columns(float* row, int64_t value_size) {
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    for (int64_t e = 0; e < value_size; e += 32) {
        const __m512 even = _mm512_loadu_ps(row + e), odd = _mm512_loadu_ps(row + e + 16);
        _mm512_storeu_ps(row + e, _mm512_permutex2var_ps(even, low, odd));
        _mm512_storeu_ps(row + e + 16, _mm512_permutex2var_ps(even, high, odd));
    }
}

}  // namespace octavo::OCTAVO_ISA
