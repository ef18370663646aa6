// 2^x beside busy AMX tiles: to bf16, of 32 x at a time, and to fp32.
//
// While tiles work, multiplications and FMAs of full width have one port of two (measured on a Xeon with AMX: half the
// rate), so x is a fixed-point number of 16 bits: n = x · 2¹⁰, and 2^x is nearly linear in x between powers of two,
//
//     2^(n / 2¹⁰) ≈ bits(n − d) >> 3 + bias,  d = 2¹⁰ · (1 + f − 2^f),  f = the fraction of x
//
// with d from a table of 64. The error before rounding is at most 0.3 %, its root mean square 0.07 %; that of rounding to
// bf16 is 0.16 %.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "math.h"

namespace octavo::OCTAVO_ISA {

class PowersOfTwo {
public:
    // x · kUnit + kRound is what is taken. x below −32 (or NaN) gives 0, 0 gives 1; x up to 31.
    static constexpr float kUnit = 1024.0f, kRound = 4.0f;

    // The first 16 and the last 16; they come in groups of four by turns, as VPACKSSDW leaves them.
    __m512i operator()(__m512 first, __m512 last) const {
        const __m512i n = _mm512_packs_epi32(_mm512_cvtps_epi32(first), _mm512_cvtps_epi32(last));
        const __m512i d = _mm512_maskz_permutexvar_epi8(0x5555555555555555, _mm512_srli_epi16(n, 4), table_);
        const __m512i bits = _mm512_srai_epi16(_mm512_sub_epi16(n, d), 3);
        return _mm512_maskz_add_epi16(_mm512_cmpneq_epi16_mask(n, lowest_), bits, bias_);
    }

private:
    // d where n & 1023 is 16·i + 7.5; kRound is part of n.
    alignas(64) static constexpr uint8_t kTable[64] = {
        1, 6, 11, 15, 20, 24, 28, 32, 36, 40, 44, 47, 51, 54, 57, 60,
        63, 66, 68, 71, 73, 75, 77, 79, 80, 82, 83, 84, 85, 86, 87, 88,
        88, 88, 88, 88, 88, 87, 86, 86, 85, 83, 82, 80, 78, 76, 74, 72,
        69, 66, 63, 60, 57, 53, 49, 45, 41, 37, 32, 27, 22, 16, 11, 5,
    };

    __m512i table_ = _mm512_load_si512(kTable);
    __m512i lowest_ = _mm512_set1_epi16(-32768), bias_ = _mm512_set1_epi16(127 << 7);
};

// 2^x as exp2 of math.h, for x that are not above 2⁷: SCALEF takes any n.
inline __m512 power_of_two(__m512 x) {
    using V = Vector;
    const auto low = V::broadcast(-126.0f);
    const __mmask16 is_not_zero = _mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ);
    x = V::max(low, x);  // a NaN stays one
    const auto n = V::round(x);
    return _mm512_maskz_scalef_ps(is_not_zero, exp2_of_fraction<V>(V::sub(x, n)), n);
}

}  // namespace octavo::OCTAVO_ISA
