// 2^x beside busy AMX tiles, within 6e-5: finer than the rounding of the result to bf16.
//
// While tiles work, multiplications and FMAs of full width have one port of two (measured on a Xeon with AMX: half the
// rate), additions and permutations both. So x = k + r with k the nearest multiple of 1/32 and 2^k from a table:
// 2^x ≈ 2^⌊k⌋ · 2^(k − ⌊k⌋) · (1 + r·ln 2), four of the one and four of the other.
#pragma once

#include <immintrin.h>

namespace octavo::OCTAVO_ISA {

// 2^(i / 32)
alignas(64) inline constexpr float kPowers[32] = {
    1.0f,         1.02189715f, 1.04427378f, 1.06714040f, 1.09050773f, 1.11438674f, 1.13878863f, 1.16372486f,
    1.18920712f,  1.21524736f, 1.24185781f, 1.26905096f, 1.29683955f, 1.32523664f, 1.35425555f, 1.38390988f,
    1.41421356f,  1.44518081f, 1.47682615f, 1.50916443f, 1.54221083f, 1.57598085f, 1.61049033f, 1.64575548f,
    1.68179283f,  1.71861930f, 1.75625216f, 1.79470908f, 1.83400809f, 1.87416763f, 1.91520656f, 1.95714412f,
};

class PowerOfTwo {
public:
    // x up to 100. At −∞, r and so the factor are NaN, and VSCALEF gives 0 for them.
    __m512 operator()(__m512 x) const {
        const __m512 shifted = _mm512_add_ps(x, round_);  // its last five bits count 1/32
        const __m512 k = _mm512_sub_ps(shifted, round_);
        const __m512 r = _mm512_sub_ps(x, k);
        const __m512 power = _mm512_permutex2var_ps(low_, _mm512_castps_si512(shifted), high_);
        return _mm512_scalef_ps(_mm512_mul_ps(power, _mm512_fmadd_ps(r, ln2_, one_)), k);
    }

private:
    __m512 low_ = _mm512_load_ps(kPowers), high_ = _mm512_load_ps(kPowers + 16);
    __m512 round_ = _mm512_set1_ps(1.5f * (1 << 18)), ln2_ = _mm512_set1_ps(0.693147181f), one_ = _mm512_set1_ps(1.0f);
};

}  // namespace octavo::OCTAVO_ISA
