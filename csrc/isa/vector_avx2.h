// Eight lanes: AVX2, FMA, F16C; dot products of bytes by AVX-VNNI where the file is compiled with it.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace octavo::OCTAVO_ISA {

struct Vector {
    using Float = __m256;
    using Word = __m256i;
    static constexpr int kLanes = 8;
    static constexpr int kRegisters = 16;

    static Float load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Float v) { _mm256_storeu_ps(p, v); }
    static Float load_partial(const float* p, int n) { return _mm256_maskload_ps(p, mask(n)); }
    static void store_partial(float* p, Float v, int n) { _mm256_maskstore_ps(p, mask(n), v); }
    static Float broadcast(float x) { return _mm256_set1_ps(x); }

    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
    static Float reciprocal(Float x) { return div(broadcast(1.0f), x); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
    static Float select_less(Float a, Float b, Float yes, Float no) {
        return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
    }
    static float reduce_add(Float v) {
        __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        half = _mm_add_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
    }
    static float reduce_max(Float v) {
        __m128 half = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        half = _mm_max_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
    }

    static Float round(Float x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Float scale_by_power(Float x, Float n) {
        const Word exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
    }

    // Row i, lane j becomes row j, lane i: pairs, then fours within 128-bit lanes, then the lanes.
    [[gnu::always_inline]] static void transpose(Float (&rows)[8]) {
        Float pairs[8], fours[8];
        for (int i = 0; i < 8; i += 2) {
            pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            for (int j = 0; j < 2; ++j) {
                const __m256d a = _mm256_castps_pd(pairs[i + j]), b = _mm256_castps_pd(pairs[i + j + 2]);
                fours[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
                fours[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
            }
        }
        for (int j = 0; j < 4; ++j) {
            rows[j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x20);
            rows[4 + j] = _mm256_permute2f128_ps(fours[j], fours[4 + j], 0x31);
        }
    }

    static Word load_words(const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const Word*>(p)); }
    static Word shift_right(Word v, int n) { return _mm256_srli_epi32(v, n); }
    static Word shift_left(Word v, int n) { return _mm256_slli_epi32(v, n); }
    static Word bit_and(Word v, uint32_t mask) { return _mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(mask))); }
    static Word bit_or(Word a, Word b) { return _mm256_or_si256(a, b); }
    static Float to_float(Word v) { return _mm256_cvtepi32_ps(v); }
    static Float top_byte_to_float(Word v) { return _mm256_cvtepi32_ps(_mm256_srai_epi32(v, 24)); }

    static Float load_u8(const uint8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static Float load_i8(const int8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static Float load_bf16(const uint16_t* p) {
        const Word v = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
    }
    static Float load_f16(const uint16_t* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static void store_bf16(uint16_t* p, Float v) {
        const Word bits = _mm256_castps_si256(v);
        const Word odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        Word rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const Word is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        rounded = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), is_nan), 16);
        const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
    }
    static void store_f16(uint16_t* p, Float v) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
    }

    // Dot products of bytes: kernels/linear_int8.h.
    static Float fused(Float a, Float b, Float c) { return fma(a, b, c); }
    static Word broadcast_word(int32_t x) { return _mm256_set1_epi32(x); }
    static Word broadcast_bytes(const int8_t* p) {
        int32_t word;
        std::memcpy(&word, p, 4);
        return _mm256_set1_epi32(word);
    }
#if defined(__AVXVNNI__)
    static constexpr int kByteBias = 128;
    static Word signed_operand(Word bytes) { return _mm256_xor_si256(bytes, _mm256_set1_epi8(-128)); }
    static Word dot(Word sum, Word codes, Word x) { return _mm256_dpbusd_avx_epi32(sum, codes, x); }
    static Word dot_signed(Word sum, Word bytes, Word x) { return dot(sum, bytes, x); }
#else
    static constexpr int kByteBias = 0;
    static Word signed_operand(Word bytes) { return bytes; }
    static Word dot(Word sum, Word codes, Word x) {
        const Word pairs = _mm256_maddubs_epi16(codes, x);
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    static Word dot_signed(Word sum, Word bytes, Word x) {
        return dot(sum, _mm256_abs_epi8(bytes), _mm256_sign_epi8(x, bytes));
    }
#endif

    static Word magnitude_bits(Float v) { return bit_and(_mm256_castps_si256(v), 0x7fffffff); }
    static Word max_words(Word a, Word b) { return _mm256_max_epu32(a, b); }
    static uint32_t reduce_max_words(Word v) {
        __m128i half = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
        half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xb1));
        return static_cast<uint32_t>(_mm_cvtsi128_si32(half));
    }
    static void store_words(void* p, Word v) { _mm256_storeu_si256(static_cast<Word*>(p), v); }
    static Word round_to_words(Float v) { return _mm256_cvtps_epi32(v); }
    // The low bytes of 16 words, signed; returns their sum.
    static int32_t store_sixteen_bytes(int8_t* p, const Word* words) {
        const __m128i low = _mm_packs_epi32(_mm256_castsi256_si128(words[0]), _mm256_extracti128_si256(words[0], 1));
        const __m128i high = _mm_packs_epi32(_mm256_castsi256_si128(words[1]), _mm256_extracti128_si256(words[1], 1));
        const __m128i bytes = _mm_packs_epi16(low, high);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
        const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8(-128)), _mm_setzero_si128());
        return _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))) - 16 * 128;
    }

private:
    static Word mask(int n) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
};

}  // namespace octavo::OCTAVO_ISA
