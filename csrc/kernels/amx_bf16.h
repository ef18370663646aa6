// Products of bf16 matrices on AMX tiles, cut into steps that can be put between other work.
//
// Operands lie as TDPBF16PS reads them. A: rows of k. B: tiles of 32 k by 16 columns, 1 KiB each, [k / 2][column][2].
// An element of C is a chain over k in rising order, 32 at a time (even and odd k apart, then together): its bits do not
// depend on the other rows and columns. Not by intrinsics: GCC's do not say what memory they read.
#pragma once

#include "amx_shapes.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kTileK = 32, kTileColumns = 16;
constexpr int64_t kTileElements = kTileK * kTileColumns;  // of a tile of bf16

// The products of terms that make up a product: those of i and j with i + j < Terms, about 8 · Terms bits. In an order in which
// the next one has a term in common with the last.
template <int Terms>
struct TermPairs {
    static constexpr int kCount = Terms * (Terms + 1) / 2;
    int a[kCount] = {}, b[kCount] = {};
    constexpr TermPairs() {
        for (int i = 0, pair = 0; i < Terms; ++i)
            for (int j = 0; j < Terms - i; ++j, ++pair) {
                a[pair] = i;
                b[pair] = i % 2 == 0 ? Terms - 1 - i - j : j;
            }
    }
};

// C (32 rows, 32 · pairs) = A · B, or += where it accumulates. Strides of A and C in bytes, of B in tiles. For the shapes of
// product_shapes(16, 16, 64). Numbers are sums of Terms of bf16 (Henry et al. 2019, Leveraging the bfloat16 artificial
// intelligence datatype for higher-precision computation, arXiv 1904.06376): one for bf16, two for fp16, three for fp32.
template <int Terms>
class AmxProduct {
public:
    struct Operands {
        const uint16_t* a;
        int64_t a_stride;
        const uint16_t* b;
        int64_t b_stride, b_column_stride;  // from a tile to the one of the next 32 k, and of the next 16 columns
        float* c;
        int64_t c_stride;
        int64_t pairs, depth;  // column pairs, and tiles over k
        bool accumulates;
        int64_t a_term = 0, b_term = 0;  // from a term to the next, in elements and in tiles
    };

    AmxProduct() = default;
    explicit AmxProduct(const Operands& x) : x_(x) {}

    // Of one tile of k for one pair of columns.
    int64_t steps() const { return x_.pairs * x_.depth * kTermPairs.kCount; }

    // Calls after_step() behind each step, for what is to run beside it. The loops are plain for the sake of the branch
    // predictor: a wrong guess costs more while tiles are busy.
    template <class F>
    [[gnu::always_inline]] void run(F after_step) const {
        Operands x = x_;
        for (int64_t pair = 0; pair < x_.pairs; ++pair) {
            if (x.accumulates) load_sums(x);
            else zero_sums();
            const uint16_t* a = x.a;
            const uint16_t* b = x.b;
            for (int64_t k = 0; k < x.depth; ++k, a += kTileK, b += x.b_stride * kTileElements) multiply(x, a, b, after_step);
            store_sums(x);
            x.b += 2 * x.b_column_stride * kTileElements;
            x.c += 2 * kTileColumns;
        }
    }

private:
    static constexpr int64_t kBlockRows = 16;
    static constexpr TermPairs<Terms> kTermPairs{};

    static void zero_sums() {
        asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3" ::: "memory");
    }

    static void load_sums(const Operands& x) {
        asm volatile("tileloadd (%0,%1,1), %%tmm0\n\ttileloadd 64(%0,%1,1), %%tmm1" ::"r"(x.c), "r"(x.c_stride) : "memory");
        asm volatile("tileloadd (%0,%1,1), %%tmm2\n\ttileloadd 64(%0,%1,1), %%tmm3" ::"r"(lower(x.c, x.c_stride)),
                     "r"(x.c_stride) : "memory");
    }

    static void store_sums(const Operands& x) {
        asm volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilestored %%tmm1, 64(%0,%1,1)" ::"r"(x.c), "r"(x.c_stride) : "memory");
        asm volatile("tilestored %%tmm2, (%0,%1,1)\n\ttilestored %%tmm3, 64(%0,%1,1)" ::"r"(lower(x.c, x.c_stride)),
                     "r"(x.c_stride) : "memory");
    }

    template <class F>
    [[gnu::always_inline]] static void multiply(const Operands& x, const uint16_t* a, const uint16_t* b, F after_step) {
        if constexpr (Terms == 1) {
            multiply_one(x, a, b);
            after_step();
        } else {
#pragma GCC unroll 6
            for (int pair = 0; pair < kTermPairs.kCount; ++pair) {
                const int i = kTermPairs.a[pair], j = kTermPairs.b[pair];
                if (pair == 0 || i != kTermPairs.a[pair - 1]) load_rows(a + i * x.a_term, x.a_stride);
                if (pair == 0 || j != kTermPairs.b[pair - 1])
                    load_columns(b + j * x.b_term * kTileElements, x.b_column_stride * kTileElements);
                asm volatile(
                    "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
                    "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::: "memory");
                after_step();
            }
        }
    }

    static void load_rows(const uint16_t* a, int64_t stride) {
        asm volatile("tileloadd (%0,%2,1), %%tmm4\n\ttileloadd (%1,%2,1), %%tmm5" ::"r"(a), "r"(lower(a, stride)), "r"(stride)
                     : "memory");
    }

    static void load_columns(const uint16_t* b, int64_t next) {
        asm volatile("tileloadd (%0,%2,1), %%tmm6\n\ttileloadd (%1,%2,1), %%tmm7" ::"r"(b), "r"(b + next), "r"(int64_t{64})
                     : "memory");
    }

    static void multiply_one(const Operands& x, const uint16_t* a, const uint16_t* b) {
        const uint16_t* right = b + x.b_column_stride * kTileElements;
        asm volatile(
            "tileloaddt1 (%[b],%[line],1), %%tmm6\n\t"
            "tileloadd (%[a],%[a_stride],1), %%tmm4\n\t"
            "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
            "tileloaddt1 (%[right],%[line],1), %%tmm7\n\t"
            "tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
            "tileloadd (%[lower],%[a_stride],1), %%tmm5\n\t"
            "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\t"
            "tdpbf16ps %%tmm7, %%tmm5, %%tmm3"
            :
            : [a] "r"(a), [lower] "r"(lower(a, x.a_stride)), [a_stride] "r"(x.a_stride), [b] "r"(b),
              [right] "r"(right), [line] "r"(int64_t{64})
            : "memory");
    }

    template <class T>
    static T* lower(T* p, int64_t stride_bytes) { return p + kBlockRows * stride_bytes / static_cast<int64_t>(sizeof(T)); }

    Operands x_{};
};

}  // namespace octavo::OCTAVO_ISA
