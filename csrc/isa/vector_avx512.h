// Sixteen lanes: AVX-512 F, BW, DQ, VL; dot products of bytes by VNNI where the file is compiled with it.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace octavo::OCTAVO_ISA {

struct Vector {
    using Float = __m512;
    using Word = __m512i;
    static constexpr int kLanes = 16;
    static constexpr int kRegisters = 32;

    static Float load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Float v) { _mm512_storeu_ps(p, v); }
    static Float load_partial(const float* p, int n) { return _mm512_maskz_loadu_ps(mask(n), p); }
    static void store_partial(float* p, Float v, int n) { _mm512_mask_storeu_ps(p, mask(n), v); }
    static Float broadcast(float x) { return _mm512_set1_ps(x); }

    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
    // Of 2⁻¹²⁶ … 2¹²⁶, within 1 ulp: a division takes as long as sixteen multiplications.
    static Float reciprocal(Float x) {
        const Float r = _mm512_rcp14_ps(x);
        return _mm512_fmadd_ps(r, _mm512_fnmadd_ps(x, r, broadcast(1.0f)), r);
    }
    static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
    static Float select_less(Float a, Float b, Float yes, Float no) {
        return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
    }
    static float reduce_add(Float v) { return _mm512_reduce_add_ps(v); }
    static float reduce_max(Float v) { return _mm512_reduce_max_ps(v); }

    static Float round(Float x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Float scale_by_power(Float x, Float n) { return _mm512_scalef_ps(x, n); }

    // Row i, lane j becomes row j, lane i: pairs, then fours within 128-bit lanes, then the lanes.
    [[gnu::always_inline]] static void transpose(Float (&rows)[16]) {
        Float pairs[16], fours[16];
        for (int i = 0; i < 16; i += 2) {
            pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
        }
        for (int i = 0; i < 16; i += 4) {
            for (int j = 0; j < 2; ++j) {
                const __m512d a = _mm512_castps_pd(pairs[i + j]), b = _mm512_castps_pd(pairs[i + j + 2]);
                fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
            }
        }
        for (int j = 0; j < 4; ++j) {
            const Float even_ab = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0x88);
            const Float odd_ab = _mm512_shuffle_f32x4(fours[j], fours[4 + j], 0xdd);
            const Float even_cd = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0x88);
            const Float odd_cd = _mm512_shuffle_f32x4(fours[8 + j], fours[12 + j], 0xdd);
            rows[j] = _mm512_shuffle_f32x4(even_ab, even_cd, 0x88);
            rows[4 + j] = _mm512_shuffle_f32x4(odd_ab, odd_cd, 0x88);
            rows[8 + j] = _mm512_shuffle_f32x4(even_ab, even_cd, 0xdd);
            rows[12 + j] = _mm512_shuffle_f32x4(odd_ab, odd_cd, 0xdd);
        }
    }

    static Word load_words(const uint32_t* p) { return _mm512_loadu_si512(p); }
    static Word shift_right(Word v, int n) { return _mm512_srli_epi32(v, static_cast<unsigned>(n)); }
    static Word shift_left(Word v, int n) { return _mm512_slli_epi32(v, static_cast<unsigned>(n)); }
    static Word bit_and(Word v, uint32_t mask) { return _mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(mask))); }
    static Word bit_or(Word a, Word b) { return _mm512_or_si512(a, b); }
    static Float to_float(Word v) { return _mm512_cvtepi32_ps(v); }
    static Float top_byte_to_float(Word v) { return _mm512_cvtepi32_ps(_mm512_srai_epi32(v, 24)); }

    static Float load_u8(const uint8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static Float load_i8(const int8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static Float load_bf16(const uint16_t* p) {
        const Word v = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
        return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
    }
    static Float load_f16(const uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    // Rounded to bf16, to nearest even, in the lower halves.
    static Word bf16_words(Float v) {
        const Word bits = _mm512_castps_si512(v);
        const Word odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        Word rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc00000));
        return _mm512_srli_epi32(rounded, 16);
    }
    static void store_bf16(uint16_t* p, Float v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(bf16_words(v)));
    }
    static void store_f16(uint16_t* p, Float v) {
        const __m256i packed = _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), packed);
    }

    // Dot products of bytes: kernels/linear_int8.h.
    static Float fused(Float a, Float b, Float c) { return fma(a, b, c); }
    static Word broadcast_word(int32_t x) { return _mm512_set1_epi32(x); }
    static Word broadcast_bytes(const int8_t* p) {
        int32_t word;
        std::memcpy(&word, p, 4);
        return _mm512_set1_epi32(word);
    }
#if defined(__AVX512VNNI__)
    static constexpr int kByteBias = 128;
    static Word signed_operand(Word bytes) { return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)); }
    static Word dot(Word sum, Word codes, Word x) { return _mm512_dpbusd_epi32(sum, codes, x); }
    static Word dot_signed(Word sum, Word bytes, Word x) { return _mm512_dpbusd_epi32(sum, bytes, x); }
#else
    static constexpr int kByteBias = 0;
    static Word signed_operand(Word bytes) { return bytes; }
    static Word dot(Word sum, Word codes, Word x) {
        const Word pairs = _mm512_maddubs_epi16(codes, x);
        return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    }
    static Word dot_signed(Word sum, Word bytes, Word x) {
        const Word turned = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(bytes), _mm512_setzero_si512(), x);
        return dot(sum, _mm512_abs_epi8(bytes), turned);
    }
#endif

    static Word magnitude_bits(Float v) { return bit_and(_mm512_castps_si512(v), 0x7fffffff); }
    static Word max_words(Word a, Word b) { return _mm512_max_epu32(a, b); }
    static uint32_t reduce_max_words(Word v) { return _mm512_reduce_max_epu32(v); }
    static void store_words(void* p, Word v) { _mm512_storeu_si512(p, v); }
    static Word sub_bytes(Word a, int b) { return _mm512_sub_epi8(a, _mm512_set1_epi8(static_cast<char>(b))); }
    static Word round_to_words(Float v) { return _mm512_cvtps_epi32(v); }
    // The low bytes of 16 words, signed; returns their sum.
    static int32_t store_sixteen_bytes(int8_t* p, const Word* words) {
        const __m128i bytes = _mm512_cvtepi32_epi8(words[0]);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
        const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
        return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128;
    }

private:
    static __mmask16 mask(int n) { return static_cast<__mmask16>((1u << n) - 1); }
};

}  // namespace octavo::OCTAVO_ISA
