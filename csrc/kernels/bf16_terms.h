// Numbers of any type as sums of terms of bf16, 32 at a time.
//
// A term is what the last ones left, cut to bf16's eight bits: so three of them are a number of fp32, and two one of fp16,
// exactly. Of fp32 in two terms the second is rounded. Of infinities and NaN the first term is all there is; an infinity times a number whose second term is 0 is NaN.
#pragma once

#include <immintrin.h>

#include "elements.h"

namespace octavo::OCTAVO_ISA {

constexpr int num_terms(ElementType type) { return type == ElementType::F32 ? 3 : type == ElementType::F16 ? 2 : 1; }

// What is left of x behind its first term.
inline __m512 behind_first_term(__m512 x) {
    constexpr int kNotFinite = 0x01 | 0x08 | 0x10 | 0x80;  // NaN of both kinds, infinities of both signs
    const __m512 first = _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(-65536)));
    return _mm512_maskz_sub_ps(static_cast<__mmask16>(~_mm512_fpclass_ps_mask(x, kNotFinite)), x, first);
}

// What the last of Terms terms is cut from: rounded, where there may be more bits.
template <int Terms>
inline __m512i last_term(__m512i bits) { return Terms < 3 ? _mm512_add_epi32(bits, _mm512_set1_epi32(0x8000)) : bits; }

// The terms of 32 finite floats, in groups of four by turns, as VPACKSSDW leaves them.
template <int Terms>
[[gnu::always_inline]] inline void split_by_turns(__m512 low, __m512 high, __m512i (&terms)[Terms]) {
    const __m512i first = _mm512_set1_epi32(-65536);
#pragma GCC unroll 3
    for (int term = 0; term < Terms; ++term) {
        __m512i a = _mm512_castps_si512(low), b = _mm512_castps_si512(high);
        if (term == Terms - 1) {
            a = last_term<Terms>(a);
            b = last_term<Terms>(b);
        }
        terms[term] = _mm512_packs_epi32(_mm512_srai_epi32(a, 16), _mm512_srai_epi32(b, 16));
        low = _mm512_sub_ps(low, _mm512_castsi512_ps(_mm512_and_si512(a, first)));
        high = _mm512_sub_ps(high, _mm512_castsi512_ps(_mm512_and_si512(b, first)));
    }
}

// 32 floats to their terms, in order.
template <int Terms>
inline void split(__m512 low, __m512 high, __m512i (&terms)[Terms]) {
    const __m512i upper_halves = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25,
                                                  23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
#pragma GCC unroll 3
    for (int term = 0; term < Terms; ++term) {
        __m512i a = _mm512_castps_si512(low), b = _mm512_castps_si512(high);
        if (term == Terms - 1) {
            a = last_term<Terms>(a);
            b = last_term<Terms>(b);
        }
        terms[term] = _mm512_permutex2var_epi16(a, upper_halves, b);
        low = behind_first_term(low);
        high = behind_first_term(high);
    }
}

// The same; a single term is rounded.
template <int Terms>
inline void to_terms(__m512 low, __m512 high, __m512i (&terms)[Terms]) {
    if constexpr (Terms == 1) terms[0] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
    else split(low, high, terms);
}

// The terms of elements i … i + 31 of a row; zeros where the mask is not set.
template <ElementType Type>
inline void load_terms(const std::byte* row, int64_t i, __mmask32 mask, __m512i (&terms)[num_terms(Type)]) {
    if constexpr (Type == ElementType::BF16) {
        terms[0] = _mm512_maskz_loadu_epi16(mask, row + 2 * i);
    } else if constexpr (Type == ElementType::F32) {
        split(_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), row + 4 * i),
              _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), row + 4 * i + 64), terms);
    } else if constexpr (Type == ElementType::F16) {
        const __m512i halves = _mm512_maskz_loadu_epi16(mask, row + 2 * i);
        split(_mm512_cvtph_ps(_mm512_castsi512_si256(halves)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1)), terms);
    } else {
        const __m256i bytes = _mm256_maskz_loadu_epi8(mask, row + i);
        const __m128i half[2] = {_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)};
        __m512 x[2];
        for (int h = 0; h < 2; ++h) {
            if constexpr (Type == ElementType::I8) {
                x[h] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(half[h]));
            } else {  // exponent and fraction lie as in fp32, 120 powers of two lower
                const __m512i code = _mm512_cvtepu8_epi32(half[h]);
                const __m512i magnitude = _mm512_and_si512(code, _mm512_set1_epi32(127));
                const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(code, _mm512_set1_epi32(128)), 24);
                const __m512 value = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(magnitude, 20)), _mm512_set1_ps(0x1p120f));
                const __m512i bits = _mm512_mask_mov_epi32(_mm512_castps_si512(value), _mm512_cmpeq_epi32_mask(magnitude, _mm512_set1_epi32(127)),
                                                           _mm512_set1_epi32(0x7fc00000));
                x[h] = _mm512_castsi512_ps(_mm512_or_si512(bits, sign));
            }
        }
        terms[0] = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(x[1], x[0]));
    }
}

}  // namespace octavo::OCTAVO_ISA
