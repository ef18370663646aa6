// Products of bf16 matrices on AMX tiles, cut into steps that can be put between other work.
//
// Operands lie as TDPBF16PS reads them. A: rows of k. B: tiles of 32 k by 16 columns, 1 KiB each, [k / 2][column][2].
// An element of C is a chain over k in rising order, 32 at a time (even and odd k apart, then together): its bits do not
// depend on the other rows and columns. Not by intrinsics: GCC's do not say what memory they read.
#pragma once

#include <cstdint>

namespace octavo::OCTAVO_ISA {

constexpr int64_t kTileK = 32, kTileColumns = 16;
constexpr int64_t kTileElements = kTileK * kTileColumns;  // of an operand B

// Tiles 0 to 3 hold sums, (row block, column block); 4 and 5 row blocks of A; 6 and 7 column blocks of B. The operand of
// LDTILECFG.
struct alignas(64) AmxShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    explicit AmxShapes(int64_t row_block) {
        for (int i = 0; i < 8; ++i) {
            rows[i] = static_cast<uint8_t>(i < 6 ? row_block : kTileK / 2);
            row_bytes[i] = 64;
        }
    }

    void load() const { asm volatile("ldtilecfg %0" ::"m"(*this) : "memory"); }
};

// C (Blocks row blocks, 32 · pairs) = A · B, or += where it accumulates. Strides of A and C in bytes, of B in tiles.
template <int Blocks>
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
    };

    AmxProduct() = default;
    explicit AmxProduct(const Operands& x) : x_(x), left_(x.pairs * x.depth) {}

    int64_t steps_left() const { return left_; }

    // One tile of k for one pair of columns. Its sums are stored by a later step, or by flush: a store of tiles that are
    // still being computed would hold up every later load whose address has the same last 12 bits.
    void step() {
        if (k_ == 0) {
            flush();
            if (x_.accumulates) load_sums();
            else zero_sums();
        }
        multiply();
        --left_;
        if (++k_ == x_.depth) {
            k_ = 0;
            is_pending_ = true;
        }
    }

    void flush() {
        if (!is_pending_) return;
        is_pending_ = false;
        store_sums();
        x_.b += 2 * x_.b_column_stride * kTileElements;
        x_.c += 2 * kTileColumns;
    }

    void finish() {
        while (left_ > 0) step();
        flush();
    }

private:
    static constexpr int64_t kBlockRows = 16;

    void zero_sums() {
        if constexpr (Blocks == 2)
            asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3" ::: "memory");
        else
            asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1" ::: "memory");
    }

    void load_sums() {
        asm volatile("tileloadd (%0,%1,1), %%tmm0\n\ttileloadd 64(%0,%1,1), %%tmm1" ::"r"(x_.c), "r"(x_.c_stride) : "memory");
        if constexpr (Blocks == 2)
            asm volatile("tileloadd (%0,%1,1), %%tmm2\n\ttileloadd 64(%0,%1,1), %%tmm3" ::"r"(lower(x_.c, x_.c_stride)),
                         "r"(x_.c_stride) : "memory");
    }

    void store_sums() {
        asm volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilestored %%tmm1, 64(%0,%1,1)" ::"r"(x_.c), "r"(x_.c_stride) : "memory");
        if constexpr (Blocks == 2)
            asm volatile("tilestored %%tmm2, (%0,%1,1)\n\ttilestored %%tmm3, 64(%0,%1,1)" ::"r"(lower(x_.c, x_.c_stride)),
                         "r"(x_.c_stride) : "memory");
    }

    void multiply() {
        const uint16_t* a = x_.a + k_ * kTileK;
        const uint16_t* b = x_.b + k_ * x_.b_stride * kTileElements;
        const uint16_t* right = b + x_.b_column_stride * kTileElements;
        if constexpr (Blocks == 2)
            asm volatile(
                "tileloadd (%[b],%[line],1), %%tmm6\n\t"
                "tileloadd (%[a],%[a_stride],1), %%tmm4\n\t"
                "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
                "tileloadd (%[right],%[line],1), %%tmm7\n\t"
                "tdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
                "tileloadd (%[lower],%[a_stride],1), %%tmm5\n\t"
                "tdpbf16ps %%tmm6, %%tmm5, %%tmm2\n\t"
                "tdpbf16ps %%tmm7, %%tmm5, %%tmm3"
                :
                : [a] "r"(a), [lower] "r"(lower(a, x_.a_stride)), [a_stride] "r"(x_.a_stride), [b] "r"(b),
                  [right] "r"(right), [line] "r"(int64_t{64})
                : "memory");
        else
            asm volatile(
                "tileloadd (%[a],%[a_stride],1), %%tmm4\n\t"
                "tileloadd (%[b],%[line],1), %%tmm6\n\t"
                "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
                "tileloadd (%[right],%[line],1), %%tmm7\n\t"
                "tdpbf16ps %%tmm7, %%tmm4, %%tmm1"
                :
                : [a] "r"(a), [a_stride] "r"(x_.a_stride), [b] "r"(b), [right] "r"(right), [line] "r"(int64_t{64})
                : "memory");
    }

    template <class T>
    static T* lower(T* p, int64_t stride_bytes) { return p + kBlockRows * stride_bytes / static_cast<int64_t>(sizeof(T)); }

    Operands x_{};
    int64_t k_ = 0, left_ = 0;
    bool is_pending_ = false;  // sums of a pair of columns lie in the tiles
};

}  // namespace octavo::OCTAVO_ISA
