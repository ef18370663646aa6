#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstring>

#include "panel.h"
#include "thread_pool.h"

namespace octavo {
namespace {

constexpr int64_t kMaxBlock = 256;

// The codes of one block, one a byte, in order of k: unsigned as stored, Q8_0's as its bytes.
// Bit layouts: ggml-quants.c of llama.cpp (dequantize_row_*).
void unpack_codes(Format format, const uint8_t* block, uint8_t* codes) {
    const auto halves = [codes](const uint8_t* nibbles) {
        for (int i = 0; i < 16; ++i) {
            codes[i] = nibbles[i] & 15;
            codes[16 + i] = nibbles[i] >> 4;
        }
    };
    const auto fifth_bit = [codes](const uint8_t* bits) {
        for (int i = 0; i < 32; ++i) codes[i] |= ((bits[i / 8] >> (i % 8)) & 1) << 4;
    };
    const auto k_nibbles = [codes](const uint8_t* nibbles, int run) {
        for (int i = 0; i < 128; ++i) {
            uint8_t* out = codes + i / run * 2 * run + i % run;
            out[0] = nibbles[i] & 15;
            out[run] = nibbles[i] >> 4;
        }
    };
    switch (format) {
        case Format::Q4_0: halves(block + 2); break;
        case Format::Q4_1: halves(block + 4); break;
        case Format::Q5_0: halves(block + 6); fifth_bit(block + 2); break;
        case Format::Q5_1: halves(block + 8); fifth_bit(block + 4); break;
        case Format::Q8_0: std::memcpy(codes, block + 2, 32); break;
        case Format::Q4_K: k_nibbles(block + 16, 32); break;
        case Format::Q5_K:
            k_nibbles(block + 48, 32);
            for (int k = 0; k < 256; ++k) codes[k] |= ((block[16 + k % 32] >> (k / 32)) & 1) << 4;
            break;
        case Format::Q6_K:
            k_nibbles(block, 64);
            for (int k = 0; k < 256; ++k) {
                const uint8_t bits = block[128 + k / 128 * 32 + k % 32] >> (k % 128 / 32 * 2);
                codes[k] |= (bits & 3) << 4;
            }
            break;
        default: break;
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

// Bytes of the header's field that starts at `offset`: two leading fp16 fields at most, then single bytes.
int64_t field_bytes(Format format, int64_t offset) {
    if (!kPanelBlocks[static_cast<int>(format)].low_words) return kPanelBlocks[static_cast<int>(format)].header_bytes;
    if (format == Format::Q6_K) return offset < 2 ? 2 : 1;
    return offset < 4 ? 2 : 1;
}

void pack_block(Format format, const uint8_t* source, int64_t column, uint8_t* out) {
    const PanelBlock& layout = kPanelBlocks[static_cast<int>(format)];
    uint8_t header[32];
    unpack_header(format, source, header);
    for (int64_t offset = 0; offset < layout.header_bytes;) {
        const int64_t size = field_bytes(format, offset);
        std::memcpy(out + offset * kPanelColumns + column * size, header + offset, size);
        offset += size;
    }
    if (!layout.low_words) return;
    uint8_t codes[kMaxBlock];
    unpack_codes(format, source, codes);
    for (int64_t group = 0; group < layout.k / 32; ++group) {
        uint32_t high[2] = {0, 0}, low[8] = {};
        for (int64_t k = 0; k < 32; ++k) {
            const uint32_t code = codes[group * 32 + k];
            const int64_t half = k / 16, word = k % 16 / 4, byte = 8 * (k % 4);
            if (layout.low_words == 8) low[4 * half + word] |= code << byte;
            else low[word] |= (code & 15) << (byte + 4 * half);
            if (layout.high_words == 1) high[0] |= (code >> 4) << (byte + 4 * half + word);
            if (layout.high_words == 2) high[half] |= (code >> 4) << (byte + 2 * word);
        }
        uint8_t* words = out + layout.header_bytes * kPanelColumns + group * layout.group_bytes();
        for (int64_t w = 0; w < layout.high_words; ++w) std::memcpy(words + (w * kPanelColumns + column) * 4, high + w, 4);
        words += layout.high_words * kPanelColumns * 4;
        for (int64_t w = 0; w < layout.low_words; ++w) std::memcpy(words + (w * kPanelColumns + column) * 4, low + w, 4);
    }
}

void pack_i8_row(const uint8_t* row, int64_t k, int64_t column, uint8_t* out) {
    std::memcpy(out + 4 * column, row, 4);
    out += 4 * kPanelColumns;
    for (int64_t i = 0; i < k; ++i) out[(i / 4 * kPanelColumns + column) * 4 + i % 4] = row[4 + i];
}

// Asks for huge pages where whole ones fit, before they are written: reading large weights is bound by memory, and a
// hardware prefetcher stops at a page's end. Advice only: nothing depends on its being taken.
void advise_huge_pages(std::byte* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) & ~(kHugePage - 1);
    const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) & ~(kHugePage - 1);
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
    (void)data, (void)bytes;
#endif
}

struct PackArguments {
    Format format;
    const std::byte* rows;
    int64_t row_stride_bytes, n, k;
    std::byte* out;
};

void pack_panel(const void* arguments, int64_t panel) {
    const auto& a = *static_cast<const PackArguments*>(arguments);
    const PanelBlock& layout = kPanelBlocks[static_cast<int>(a.format)];
    const int64_t num_blocks = a.k / layout.k;
    auto* out = reinterpret_cast<uint8_t*>(a.out) + panel * panel_bytes(a.format, a.k);
    std::memset(out, 0, static_cast<size_t>(panel_bytes(a.format, a.k)));
    const int64_t first = panel * kPanelColumns;
    const int64_t columns = a.n - first < kPanelColumns ? a.n - first : kPanelColumns;
    for (int64_t column = 0; column < columns; ++column) {
        const auto* row = reinterpret_cast<const uint8_t*>(a.rows) + (first + column) * a.row_stride_bytes;
        if (a.format == Format::I8) {
            pack_i8_row(row, a.k, column, out);
            continue;
        }
        for (int64_t block = 0; block < num_blocks; ++block)
            pack_block(a.format, row + block * layout.source_bytes, column, out + block * layout.bytes());
    }
}

}  // namespace

int64_t packed_bytes(Format format, int64_t n, int64_t k) {
    return (n + kPanelColumns - 1) / kPanelColumns * panel_bytes(format, k);
}

void pack(Format format, const std::byte* rows, int64_t row_stride_bytes, int64_t n, int64_t k, std::byte* out) {
    advise_huge_pages(out, packed_bytes(format, n, k));
    const PackArguments arguments{format, rows, row_stride_bytes, n, k, out};
    parallel_for((n + kPanelColumns - 1) / kPanelColumns, pack_panel, &arguments);
}

}  // namespace octavo
