// The layout of packed weights: 32 output features side by side, so that they are the lanes of a vector.
//
// A panel holds 32 columns (output features) and all of K; panels follow one another; the last is
// padded with columns of zero. Floats lie as [k][32]. Block formats lie block by block along K:
//
//   header   each field as [32], in this order (bytes a column):
//              step fp16 (2); Q4_1, Q5_1: minimum fp16 (2);
//              Q4_K, Q5_K: minimum step fp16 (2), scales u8 [8], minimums u8 [8]; Q6_K: scales i8 [16]
//   groups   of 32 k each; k = 16·half + 4·w + b (half 0 … 1, w 0 … 3, b 0 … 3) is byte b of a word:
//              high planes, [high_words][32] u32: 1 bit (Q5_*) at bit 8·b + 4·half + w, or 2 bits (Q6_K) at bit 8·b + 2·w
//              of word `half`
//              low planes, [low_words][32] u32: 4 bits at bit 8·b + 4·half of word w, or 8 bits at bit 8·b of word 4·half + w
//
// So one shift and one mask of a word give four codes of neighbouring k, a byte each: the operand of a dot product
// of bytes. The kernels that multiply fp32 activations read the same words, a code at a time.
//
// I8 lies as the scales [32] fp32, then bytes [k/4][32][4], K filled up with zeros to a multiple of kRowPadding: what dot
// products of bytes and AMX's tiles read as it is. Its rows as given are a scale (4 bytes), then bytes; w = scale·byte.
//
// BF16Tiles is BF16 as [k / 32][column][32]: 16 columns of 32 k are what AMX's tiles read as it is.
//
// An element is step·code + offset, in one fma; step and offset per 32 (Q6_K: 16) elements. The
// product is exact, so this is bitwise ggml's value, but for the sign of a zero.
#pragma once

#include "arguments.h"

namespace octavo {

struct PanelBlock {
    int64_t k;             // elements along K a block
    int64_t header_bytes;  // a column
    int64_t high_words, low_words;
    int64_t source_bytes;  // a block, as ggml stores it

    // Always inlined: a copy compiled for one instruction set must not serve another.
    [[gnu::always_inline]] constexpr int64_t group_bytes() const { return (high_words + low_words) * 4 * kPanelColumns; }
    [[gnu::always_inline]] constexpr int64_t bytes() const { return header_bytes * kPanelColumns + (k < 32 ? 0 : k / 32 * group_bytes()); }
};

// Floats are blocks of one element whose "header" is the element itself.
constexpr PanelBlock kPanelBlocks[] = {
    {1, 4, 0, 0, 4},        // F32
    {1, 2, 0, 0, 2},        // F16
    {1, 2, 0, 0, 2},        // BF16
    {32, 2, 0, 4, 18},      // Q4_0
    {32, 4, 0, 4, 20},      // Q4_1
    {32, 2, 1, 4, 22},      // Q5_0
    {32, 4, 1, 4, 24},      // Q5_1
    {32, 2, 0, 8, 34},      // Q8_0
    {256, 20, 0, 4, 144},   // Q4_K
    {256, 20, 1, 4, 176},   // Q5_K
    {256, 18, 2, 4, 210},   // Q6_K
    {4, 4, 0, 0, 4},        // I8: a block is a word, beside the scales
    {32, 64, 0, 0, 64},     // BF16Tiles
};

// Bytes of a panel.
[[gnu::always_inline]] constexpr int64_t panel_bytes(Format format, int64_t k) {
    const PanelBlock& block = kPanelBlocks[static_cast<int>(format)];
    if (format == Format::I8) return (4 + (k + kRowPadding - 1) / kRowPadding * kRowPadding) * kPanelColumns;
    return k / block.k * block.bytes();
}

// Bytes of the packed form of an (n, k) weight.
int64_t packed_bytes(Format format, int64_t n, int64_t k);

// Packs rows as ggml stores them into panels. Runs on the thread pool.
void pack(Format format, const std::byte* rows, int64_t row_stride_bytes, int64_t n, int64_t k, std::byte* out);

}  // namespace octavo
