#include <cstring>

#include "panel.h"
#include "thread_pool.h"

namespace octavo {
namespace {

uint32_t word(const uint8_t* bytes, int64_t i) {
    uint32_t value;
    std::memcpy(&value, bytes + 4 * i, 4);
    return value;
}

// Bit k of 32 to bit 8·b + 4·half + w, k = 16·half + 4·w + b: nibble j = 4·half + w, its bits spread over the bytes.
uint32_t spread_bits(uint32_t bits) {
    uint32_t spread = 0;
    for (int j = 0; j < 8; ++j) spread |= ((bits >> (4 * j) & 15) * 0x00204081 & 0x01010101) << j;
    return spread;
}

// The words of one group of 32, as panel.h has them, of a block as ggml-quants.c of llama.cpp (dequantize_row_*) reads it.
// ggml's blocks of 32 hold the second half of a group in the high nibbles of the first: its 16 bytes are the four words.
template <Format F>
void unpack_group(const uint8_t* block, int64_t group, uint32_t* high, uint32_t* low) {
    if constexpr (F == Format::Q4_0) std::memcpy(low, block + 2, 16);
    if constexpr (F == Format::Q4_1) std::memcpy(low, block + 4, 16);
    if constexpr (F == Format::Q8_0) std::memcpy(low, block + 2, 32);
    if constexpr (F == Format::Q5_0 || F == Format::Q5_1) {
        constexpr int64_t kBits = F == Format::Q5_0 ? 2 : 4;
        high[0] = spread_bits(word(block + kBits, 0));
        std::memcpy(low, block + kBits + 4, 16);
    }
    if constexpr (F == Format::Q4_K || F == Format::Q5_K || F == Format::Q6_K) {
        // A run of bytes is the codes of one group in its low nibbles, and of a later group in its high ones.
        constexpr int64_t kLow = F == Format::Q4_K ? 16 : F == Format::Q5_K ? 48 : 0;
        const bool is_high = F == Format::Q6_K ? group / 2 % 2 : group % 2;
        const int64_t run = F == Format::Q6_K ? group / 4 * 2 + group % 2 : group / 2;
        const uint8_t* nibbles = block + kLow + 32 * run;
        for (int64_t w = 0; w < 4; ++w) {
            const uint32_t first = word(nibbles, w), second = word(nibbles, w + 4);
            low[w] = is_high ? (first >> 4 & 0x0f0f0f0f) | (second & 0xf0f0f0f0)
                             : (first & 0x0f0f0f0f) | (second & 0x0f0f0f0f) << 4;
        }
    }
    if constexpr (F == Format::Q5_K) {
        high[0] = 0;
        for (int64_t j = 0; j < 8; ++j) high[0] |= (word(block + 16, j) >> group & 0x01010101) << j;
    }
    if constexpr (F == Format::Q6_K) {
        const uint8_t* bits = block + 128 + group / 4 * 32;
        for (int64_t half = 0; half < 2; ++half) {
            high[half] = 0;
            for (int64_t w = 0; w < 4; ++w)
                high[half] |= (word(bits, 4 * half + w) >> (group % 4 * 2) & 0x03030303) << (2 * w);
        }
    }
}

// Bytes of the header of one block, in the order panel.h gives; fp16 fields stay as they are.
void unpack_header(Format format, const uint8_t* block, uint8_t* header) {
    switch (format) {
        case Format::Q4_K:
        case Format::Q5_K: {
            std::memcpy(header, block, 4);
            const uint8_t* packed = block + 4;  // 4 scales, 4 minimums, 4 pairs of low nibbles
            for (int i = 0; i < 4; ++i) {
                header[4 + i] = packed[i] & 63;
                header[12 + i] = packed[4 + i] & 63;
                header[8 + i] = (packed[8 + i] & 15) | ((packed[i] >> 2) & 48);
                header[16 + i] = (packed[8 + i] >> 4) | ((packed[4 + i] >> 2) & 48);
            }
            break;
        }
        case Format::Q6_K:
            std::memcpy(header, block + 208, 2);
            std::memcpy(header + 2, block + 192, 16);
            break;
        default: std::memcpy(header, block, kPanelBlocks[static_cast<int>(format)].header_bytes);
    }
}

void store_word(uint8_t* words, int64_t row, int64_t column, uint32_t value) {
    std::memcpy(words + (row * kPanelColumns + column) * 4, &value, 4);
}

template <Format F>
void pack_block(const uint8_t* source, int64_t column, uint8_t* out) {
    constexpr PanelBlock layout = kPanelBlocks[static_cast<int>(F)];
    constexpr int64_t halves = F == Format::Q6_K || layout.header_bytes == 2 ? 1 : 2;  // fp16 fields; bytes follow
    uint8_t header[32];
    unpack_header(F, source, header);
    for (int64_t i = 0; i < halves; ++i) std::memcpy(out + (i * kPanelColumns + column) * 2, header + 2 * i, 2);
    for (int64_t i = 2 * halves; i < layout.header_bytes; ++i) out[i * kPanelColumns + column] = header[i];
    out += layout.header_bytes * kPanelColumns;
    for (int64_t group = 0; group < layout.k / 32; ++group, out += layout.group_bytes()) {
        uint32_t high[2], low[8];
        unpack_group<F>(source, group, high, low);
        for (int64_t w = 0; w < layout.high_words; ++w) store_word(out, w, column, high[w]);
        for (int64_t w = 0; w < layout.low_words; ++w) store_word(out, layout.high_words + w, column, low[w]);
    }
}

// Rows of elements of type T to [k][32], in squares that the first cache holds.
template <class T>
void transpose(const uint8_t* rows, int64_t row_stride_bytes, int64_t columns, int64_t k, uint8_t* out) {
    constexpr int64_t kSquare = 32;
    for (int64_t first = 0; first < k; first += kSquare)
        for (int64_t column = 0; column < columns; ++column) {
            const uint8_t* from = rows + column * row_stride_bytes;
            const int64_t end = first + kSquare < k ? first + kSquare : k;
            for (int64_t i = first; i < end; ++i)
                std::memcpy(out + (i * kPanelColumns + column) * sizeof(T), from + i * sizeof(T), sizeof(T));
        }
}

// A scale and k bytes a row.
void pack_i8(const uint8_t* rows, int64_t row_stride_bytes, int64_t columns, int64_t k, uint8_t* out) {
    for (int64_t column = 0; column < columns; ++column) {
        const uint8_t* row = rows + column * row_stride_bytes;
        uint8_t* last = out + ((k / 4 + 1) * kPanelColumns + column) * 4;
        std::memcpy(out + 4 * column, row, 4);
        if (k % 4) std::memcpy(last, row + 4 + k / 4 * 4, static_cast<size_t>(k % 4));
    }
    transpose<uint32_t>(rows + 4, row_stride_bytes, columns, k / 4, out + 4 * kPanelColumns);
}

// Runs of 32 k of a column side by side.
void pack_tiles(const uint8_t* rows, int64_t row_stride_bytes, int64_t columns, int64_t k, uint8_t* out) {
    constexpr int64_t kRun = 32 * sizeof(uint16_t);
    for (int64_t run = 0; run < k / 32; ++run)
        for (int64_t column = 0; column < columns; ++column)
            std::memcpy(out + (run * kPanelColumns + column) * kRun, rows + column * row_stride_bytes + run * kRun, kRun);
}

struct PackArguments {
    Format format;
    const std::byte* rows;
    int64_t row_stride_bytes, n, k;
    std::byte* out;
};

template <Format F>
void pack_blocks(const PackArguments& a, const uint8_t* rows, int64_t columns, uint8_t* out) {
    constexpr PanelBlock layout = kPanelBlocks[static_cast<int>(F)];
    for (int64_t column = 0; column < columns; ++column)
        for (int64_t block = 0; block < a.k / layout.k; ++block)
            pack_block<F>(rows + column * a.row_stride_bytes + block * layout.source_bytes, column,
                          out + block * layout.bytes());
}

void pack_panel(const void* arguments, int64_t panel) {
    const auto& a = *static_cast<const PackArguments*>(arguments);
    const int64_t bytes = panel_bytes(a.format, a.k), first = panel * kPanelColumns;
    const int64_t columns = a.n - first < kPanelColumns ? a.n - first : kPanelColumns;
    auto* out = reinterpret_cast<uint8_t*>(a.out) + panel * bytes;
    const auto* rows = reinterpret_cast<const uint8_t*>(a.rows) + first * a.row_stride_bytes;
    const bool is_filled_up = columns < kPanelColumns || (a.format == Format::I8 && a.k % kRowPadding);
    if (is_filled_up) std::memset(out, 0, static_cast<size_t>(bytes));
    switch (a.format) {
        case Format::F32: return transpose<uint32_t>(rows, a.row_stride_bytes, columns, a.k, out);
        case Format::F16:
        case Format::BF16: return transpose<uint16_t>(rows, a.row_stride_bytes, columns, a.k, out);
        case Format::Q4_0: return pack_blocks<Format::Q4_0>(a, rows, columns, out);
        case Format::Q4_1: return pack_blocks<Format::Q4_1>(a, rows, columns, out);
        case Format::Q5_0: return pack_blocks<Format::Q5_0>(a, rows, columns, out);
        case Format::Q5_1: return pack_blocks<Format::Q5_1>(a, rows, columns, out);
        case Format::Q8_0: return pack_blocks<Format::Q8_0>(a, rows, columns, out);
        case Format::Q4_K: return pack_blocks<Format::Q4_K>(a, rows, columns, out);
        case Format::Q5_K: return pack_blocks<Format::Q5_K>(a, rows, columns, out);
        case Format::Q6_K: return pack_blocks<Format::Q6_K>(a, rows, columns, out);
        case Format::I8: return pack_i8(rows, a.row_stride_bytes, columns, a.k, out);
        case Format::BF16Tiles: return pack_tiles(rows, a.row_stride_bytes, columns, a.k, out);
    }
}

}  // namespace

int64_t packed_bytes(Format format, int64_t n, int64_t k) {
    return (n + kPanelColumns - 1) / kPanelColumns * panel_bytes(format, k);
}

void pack(Format format, const std::byte* rows, int64_t row_stride_bytes, int64_t n, int64_t k, std::byte* out) {
    const PackArguments arguments{format, rows, row_stride_bytes, n, k, out};
    parallel_for((n + kPanelColumns - 1) / kPanelColumns, pack_panel, &arguments);
}

}  // namespace octavo
