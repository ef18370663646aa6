// Four lanes in the compiler's own vectors: any architecture. No fused multiply-add unless the target has one.
#pragma once

#include <cstdint>
#include <cstring>

namespace octavo::OCTAVO_ISA {

struct Vector {
    typedef float Float __attribute__((vector_size(16)));
    typedef int32_t Int __attribute__((vector_size(16)));
    typedef uint32_t Word __attribute__((vector_size(16)));
    typedef int16_t Short __attribute__((vector_size(16)));
    typedef double Double __attribute__((vector_size(32)));
    typedef int64_t Long __attribute__((vector_size(32)));
    static constexpr int kLanes = 4;
    static constexpr int kRegisters = 16;

    static Float load(const float* p) { Float v; std::memcpy(&v, p, 16); return v; }
    static void store(float* p, Float v) { std::memcpy(p, &v, 16); }
    static Float load_partial(const float* p, int n) { Float v = {}; std::memcpy(&v, p, 4 * n); return v; }
    static void store_partial(float* p, Float v, int n) { std::memcpy(p, &v, 4 * n); }
    static Float broadcast(float x) { return Float{x, x, x, x}; }

    static Float add(Float a, Float b) { return a + b; }
    static Float sub(Float a, Float b) { return a - b; }
    static Float mul(Float a, Float b) { return a * b; }
    static Float div(Float a, Float b) { return a / b; }
    static Float reciprocal(Float x) { return div(broadcast(1.0f), x); }
#if defined(__FP_FAST_FMAF)
    static Float fma(Float a, Float b, Float c) {
        for (int i = 0; i < kLanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
        return c;
    }
#else
    static Float fma(Float a, Float b, Float c) { return a * b + c; }
#endif
    static Float max(Float a, Float b) { return select_less(a, b, b, a); }
    static Float select_less(Float a, Float b, Float yes, Float no) {
        const Int mask = a < b;
        return reinterpret_cast<Float>((mask & reinterpret_cast<Int>(yes)) | (~mask & reinterpret_cast<Int>(no)));
    }
    static float reduce_add(Float v) { return (v[0] + v[2]) + (v[1] + v[3]); }
    static float reduce_max(Float v) {
        const float a = v[0] < v[2] ? v[2] : v[0], b = v[1] < v[3] ? v[3] : v[1];
        return a < b ? b : a;
    }

    // The nearest integer (ties to even) of |x| < 2²², as a float; and x·2ⁿ for such an n in −126 … 127.
    static Float round(Float x) { const Float magic = broadcast(12582912.0f); return (x + magic) - magic; }
    static Float scale_by_power(Float x, Float n) {
        return x * reinterpret_cast<Float>((__builtin_convertvector(n, Int) + 127) << 23);
    }

    // Row i, lane j becomes row j, lane i.
    [[gnu::always_inline]] static void transpose(Float (&rows)[4]) {
        const Float a = rows[0], b = rows[1], c = rows[2], d = rows[3];
        for (int i = 0; i < kLanes; ++i) rows[i] = Float{a[i], b[i], c[i], d[i]};
    }

    static Word load_words(const uint32_t* p) { Word v; std::memcpy(&v, p, 16); return v; }
    static Word shift_right(Word v, int n) { return v >> n; }
    static Word shift_left(Word v, int n) { return v << n; }
    static Word bit_and(Word v, uint32_t mask) { return v & mask; }
    static Word bit_or(Word a, Word b) { return a | b; }
    static Float to_float(Word v) { return __builtin_convertvector(reinterpret_cast<Int>(v), Float); }
    static Float top_byte_to_float(Word v) { return __builtin_convertvector(reinterpret_cast<Int>(v) >> 24, Float); }

    static Float load_u8(const uint8_t* p) { return Float{float(p[0]), float(p[1]), float(p[2]), float(p[3])}; }
    static Float load_i8(const int8_t* p) { return Float{float(p[0]), float(p[1]), float(p[2]), float(p[3])}; }
    static Float load_bf16(const uint16_t* p) {
        const Word v = {p[0], p[1], p[2], p[3]};
        return reinterpret_cast<Float>(v << 16);
    }
    // Exponent and mantissa moved up and rescaled by 2¹¹² (exact, subnormals included); infinities and NaNs kept.
    static Float load_f16(const uint16_t* p) {
        const Word v = {p[0], p[1], p[2], p[3]};
        const Float scaled = reinterpret_cast<Float>((v & 0x7fff) << 13) * broadcast(0x1p112f);
        const Word special = reinterpret_cast<Word>((v & 0x7c00) == 0x7c00) & 0x7f800000;
        return reinterpret_cast<Float>(reinterpret_cast<Word>(scaled) | special | (v & 0x8000) << 16);
    }
    static void store_bf16(uint16_t* p, Float v) {
        for (int i = 0; i < kLanes; ++i) {
            const uint32_t bits = reinterpret_cast<Word>(v)[i];
            const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
            p[i] = is_nan ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        }
    }
    static void store_f16(uint16_t* p, Float v) {
        for (int i = 0; i < kLanes; ++i) p[i] = to_f16(reinterpret_cast<Word>(v)[i]);
    }

    // Dot products of bytes: kernels/linear_int8.h.
    // a·b + c rounded once, on every target: the product is exact in fp64; its sum with c is rounded to odd there, so
    // that rounding to fp32 is as if from the exact sum (Boldo and Melquiond 2008, Emulation of FMA).
    static Float fused(Float a, Float b, Float c) {
        const Double product = __builtin_convertvector(a, Double) * __builtin_convertvector(b, Double);
        const Double addend = __builtin_convertvector(c, Double), sum = product + addend;
        const Double part = sum - product, error = (product - (sum - part)) + (addend - part);
        Long bits = reinterpret_cast<Long>(sum);
        const Long is_even_inexact = ((error > 0.0) | (error < 0.0)) & ((bits & 1) == 0);
        const Long is_outward = (error > 0.0) == (sum > 0.0);
        bits += is_even_inexact & ((is_outward & 1) | (~is_outward & -1));
        return __builtin_convertvector(reinterpret_cast<Double>(bits), Float);
    }
    static Word broadcast_word(int32_t x) { const uint32_t u = static_cast<uint32_t>(x); return Word{u, u, u, u}; }
    static Word broadcast_bytes(const int8_t* p) { int32_t word; std::memcpy(&word, p, 4); return broadcast_word(word); }
    static constexpr int kByteBias = 0;
    static Word signed_operand(Word bytes) { return bytes; }
    static Word dot_signed(Word sum, Word bytes, Word x) {
        const Short a = reinterpret_cast<Short>(bytes), b = reinterpret_cast<Short>(x);
        const Int pairs = reinterpret_cast<Int>(Short((a << 8 >> 8) * (b << 8 >> 8) + (a >> 8) * (b >> 8)));
        return sum + reinterpret_cast<Word>((pairs << 16 >> 16) + (pairs >> 16));
    }
    static Word dot(Word sum, Word codes, Word x) { return dot_signed(sum, codes, x); }

    static Word magnitude_bits(Float v) { return reinterpret_cast<Word>(v) & 0x7fffffff; }
    static Word max_words(Word a, Word b) { const Word mask = reinterpret_cast<Word>(a < b); return (mask & b) | (~mask & a); }
    static uint32_t reduce_max_words(Word v) {
        const uint32_t a = v[0] < v[1] ? v[1] : v[0], b = v[2] < v[3] ? v[3] : v[2];
        return a < b ? b : a;
    }
    static void store_words(void* p, Word v) { std::memcpy(p, &v, 16); }
    static Word round_to_words(Float v) { return reinterpret_cast<Word>(__builtin_convertvector(round(v), Int)); }
    // The low bytes of 16 words, signed; returns their sum.
    static int32_t store_sixteen_bytes(int8_t* p, const Word* words) {
        Int sum = {};
        for (int v = 0; v < 4; ++v) {
            sum += reinterpret_cast<Int>(words[v]);
            for (int i = 0; i < kLanes; ++i) p[v * kLanes + i] = static_cast<int8_t>(words[v][i]);
        }
        return sum[0] + sum[1] + sum[2] + sum[3];
    }

private:
    static uint16_t to_f16(uint32_t bits) {
        const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
        bits &= 0x7fffffff;
        if (bits > 0x7f800000) return sign | 0x7e00;
        if (bits >= 0x477ff000) return sign | 0x7c00;  // 65520 and above round to infinity
        if (bits < 0x38800000) {                       // below 2⁻¹⁴: an addition lines up and rounds the subnormal
            float x;
            std::memcpy(&x, &bits, 4);
            x += 0.5f;
            std::memcpy(&bits, &x, 4);
            return sign | static_cast<uint16_t>(bits - 0x3f000000);
        }
        return sign | static_cast<uint16_t>((bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13);
    }
};

}  // namespace octavo::OCTAVO_ISA
