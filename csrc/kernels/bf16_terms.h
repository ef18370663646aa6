// Numbers of any type as sums of terms of bf16, 32 at a time.
//
// A term is the eight leading bits of what the last ones left: so three of them are a number of fp32, and two one of fp16,
// exactly. Of two terms each is rounded, for what the product of the second ones would add is left out (amx_bf16.h). Of
// infinities and NaN the first term is all there is; an infinity times a number whose second term is 0 is NaN.
#pragma once

#include <immintrin.h>

#include "elements.h"

namespace octavo::OCTAVO_ISA {

constexpr int num_terms(ElementType type) { return type == ElementType::F32 ? 3 : type == ElementType::F16 ? 2 : 1; }

// The bits of x, of which the upper half is its first term.
template <int Terms>
inline __m512i leading(__m512 x, __mmask16 is_finite) {
    const __m512i bits = _mm512_castps_si512(x);
    return Terms < 3 ? _mm512_mask_add_epi32(bits, is_finite, bits, _mm512_set1_epi32(0x8000)) : bits;
}

inline __m512 behind(__m512 x, __m512i leading, __mmask16 is_finite) {
    return _mm512_maskz_sub_ps(is_finite, x, _mm512_castsi512_ps(_mm512_and_si512(leading, _mm512_set1_epi32(-65536))));
}

// The terms of 32 floats, NaN among them only the processor's own, in groups of four by turns, as VPACKSSDW leaves them.
template <int Terms>
[[gnu::always_inline]] inline void split_by_turns(__m512 low, __m512 high, __m512i (&terms)[Terms]) {
    constexpr __mmask16 kAll = 0xffff;
#pragma GCC unroll 3
    for (int term = 0; term < Terms; ++term) {
        const __m512i a = leading<Terms>(low, kAll), b = leading<Terms>(high, kAll);
        terms[term] = _mm512_packs_epi32(_mm512_srai_epi32(a, 16), _mm512_srai_epi32(b, 16));
        low = behind(low, a, kAll);
        high = behind(high, b, kAll);
    }
}

// The terms of any 32 floats, in order.
template <int Terms>
inline void split(__m512 low, __m512 high, __m512i (&terms)[Terms]) {
    constexpr int kNotFinite = 0x01 | 0x08 | 0x10 | 0x80;  // NaN of both kinds, infinities of both signs
    const __m512i upper_halves = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25,
                                                  23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const auto low_is_finite = static_cast<__mmask16>(~_mm512_fpclass_ps_mask(low, kNotFinite));
    const auto high_is_finite = static_cast<__mmask16>(~_mm512_fpclass_ps_mask(high, kNotFinite));
#pragma GCC unroll 3
    for (int term = 0; term < Terms; ++term) {
        const __m512i a = leading<Terms>(low, low_is_finite), b = leading<Terms>(high, high_is_finite);
        terms[term] = _mm512_permutex2var_epi16(a, upper_halves, b);
        low = behind(low, a, low_is_finite);
        high = behind(high, b, high_is_finite);
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
