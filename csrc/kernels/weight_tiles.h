// A panel's weights as tiles of bf16: 32 k of 16 columns, [column][k], the first operand of TDPBF16PS. Layout of panels:
// ../panel.h.
//
// A column's codes of four or five bits have at most 32 values in a group. They are computed once, as a table, and 32
// weights of the column are then one permutation of bytes.
#pragma once

#include "amx_bf16.h"
#include "dequantize.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kGroupElements = 2 * kTileElements;  // of the tiles of 32 k of two strips

// Four words of each of 16 columns, [word][32] with `words` the first, to [column][word], in the order w0, w1, w2, w3: the
// 16 bytes of column c are at 16·(c % 4 · 4 + c / 4).
inline void gather_columns(const uint32_t* w0, const uint32_t* w1, const uint32_t* w2, const uint32_t* w3, std::byte* columns) {
    const __m512i a = _mm512_loadu_si512(w0), b = _mm512_loadu_si512(w1), c = _mm512_loadu_si512(w2), d = _mm512_loadu_si512(w3);
    const __m512i low = _mm512_unpacklo_epi32(a, b), high = _mm512_unpackhi_epi32(a, b);
    const __m512i low_next = _mm512_unpacklo_epi32(c, d), high_next = _mm512_unpackhi_epi32(c, d);
    _mm512_store_si512(columns, _mm512_unpacklo_epi64(low, low_next));
    _mm512_store_si512(columns + 64, _mm512_unpackhi_epi64(low, low_next));
    _mm512_store_si512(columns + 128, _mm512_unpacklo_epi64(high, high_next));
    _mm512_store_si512(columns + 192, _mm512_unpackhi_epi64(high, high_next));
}

constexpr int64_t column_at(int64_t column) { return 16 * (column % 4 * 4 + column / 4); }

// step and offset of 16 columns, in memory, to be broadcast one by one. Any NaN becomes one that survives an addition of bits.
struct ColumnScales {
    alignas(64) float step[16], offset[16];

    explicit ColumnScales(const Affine<Vector>& scale) {
        const auto plain = [](__m512 v) {
            return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_ps(__builtin_nanf("")));
        };
        _mm512_store_ps(step, plain(scale.step));
        _mm512_store_ps(offset, plain(scale.offset));
    }
};

// Half a unit in bf16's last place, to be added to a float's bits before they are cut: a tie goes away from zero.
inline __m512i half_unit() { return _mm512_set1_epi32(0x8000); }

// What has been stored is loaded again from here on. A load that broadcasts costs no port of the vector units; the compiler
// would permute the registers that it has.
inline void forget_registers() { asm volatile("" ::: "memory"); }

struct Selector {
    alignas(64) uint8_t bytes[64];
};

// For each byte of 32 words of k, where its bits start in a quadword: `bit` says at which bit of the quadword the code of
// k begins, and `place` at which bit of the byte it is to stand.
template <class F>
constexpr Selector select_bits(int place, F bit) {
    Selector s{};
    for (int i = 0; i < 64; ++i) s.bytes[i] = static_cast<uint8_t>((bit(i / 2) - place) & 63);
    return s;
}

// Words w0, w2 | w1, w3 of a column side by side, so that in each quarter of a vector the codes of four k are in the same half.
inline constexpr auto nibble_at = [](int k) { return k % 16 / 8 * 32 + k % 4 * 8 + k / 16 * 4; };
inline constexpr auto high_bit_at = [](int k) { return k % 4 * 8 + k / 16 * 4 + k % 16 / 4; };
inline constexpr Selector kNibbleTimes4 = select_bits(2, nibble_at), kNibbleTimes2 = select_bits(1, nibble_at);
inline constexpr Selector kHighBit = select_bits(5, high_bit_at);

inline __m512i load(const Selector& s) { return _mm512_load_si512(s.bytes); }

inline __m512 small_integers(int first) {
    return _mm512_add_ps(_mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_ps(static_cast<float>(first)));
}

// Formats of four bits, and of five: the lower four, and one of a plane of its own.
template <Format F>
[[gnu::always_inline]] inline void codes_to_tile(const std::byte* block, int64_t unit, const uint32_t* high, const uint32_t* low,
                                                 int64_t column, uint16_t* tile) {
    constexpr bool has_high = block_of<F>().high_words == 1;
    const ColumnScales scales(affine<Vector, F>(block, unit, column));
    alignas(64) std::byte columns[256];
    const uint32_t* words = low + column;
    gather_columns(words, words + 2 * kPanelColumns, words + kPanelColumns, words + 3 * kPanelColumns, columns);
    forget_registers();
    const __m512 codes = small_integers(0), more_codes = small_integers(16);
#pragma GCC unroll 16
    for (int c = 0; c < 16; ++c) {
        const auto value = [&](__m512 code) __attribute__((always_inline)) {
            const __m512 w = _mm512_fmadd_ps(code, _mm512_set1_ps(scales.step[c]), _mm512_set1_ps(scales.offset[c]));
            return _mm512_add_epi32(_mm512_castps_si512(w), half_unit());
        };
        const __m512i nibbles = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(columns + column_at(c))));
        __m512i table, index;
        if constexpr (has_high) {  // a table of 32 words; an index is 2·code, and 2·code + 1
            const __m512i upper_halves = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31,
                                                          29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
            table = _mm512_permutex2var_epi16(value(codes), upper_halves, value(more_codes));
            const __m512i top = _mm512_set1_epi32(static_cast<int>(high[column + c]));
            index = _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x1e), _mm512_multishift_epi64_epi8(load(kNibbleTimes2), nibbles),
                                              _mm512_multishift_epi64_epi8(load(kHighBit), top), 0xca);  // first ? second : third
            index = _mm512_ternarylogic_epi32(index, _mm512_set1_epi8(0x3e), _mm512_set1_epi16(0x0100), 0xea);  // 1 & 2 | 3
        } else {  // a table of 16 floats, of which the upper halves are taken: bytes 4·code + 2 and 4·code + 3
            table = value(codes);
            index = _mm512_ternarylogic_epi32(_mm512_multishift_epi64_epi8(load(kNibbleTimes4), nibbles), _mm512_set1_epi8(0x3c),
                                              _mm512_set1_epi16(0x0302), 0xea);
        }
        _mm512_store_si512(tile + c * kTileK, _mm512_permutexvar_epi8(index, table));
    }
}

// What a byte is read as, beyond its value.
inline constexpr float kShift = 32768.0f + 128.0f;

// Where the bytes of 16 words of k, of even or odd ones, come from: quarters of a vector hold k 0 … 15 twice, and 16 … 31 twice.
constexpr Selector every_other_byte(int first) {
    Selector s{};
    for (int i = 0; i < 16; ++i) s.bytes[4 * i + 1] = static_cast<uint8_t>(2 * (i % 8) + first);
    return s;
}
inline constexpr Selector kEvenBytes = every_other_byte(0), kOddBytes = every_other_byte(1);

// Bytes [word][32][4], times scale where there is one, else as they are.
//
// A byte c + 128 in the middle of the float 2^15 makes it 2^15 + 128 + c, and one fma scale·c: 2^15 + 128 has nine bits, so its
// product with a scale of fp16 is exact. The upper halves of even and odd k are then one word each of the tile.
[[gnu::always_inline]] inline void bytes_to_tile(const uint32_t* words, const ColumnScales* scales, uint16_t* tile) {
    alignas(64) std::byte columns[2][256];
    for (int half = 0; half < 2; ++half, words += 4 * kPanelColumns)
        gather_columns(words, words + kPanelColumns, words + 2 * kPanelColumns, words + 3 * kPanelColumns, columns[half]);
    for (int half = 0; half < 2; ++half)
        for (int i = 0; i < 256; i += 64)
            _mm512_store_si512(columns[half] + i, _mm512_xor_si512(_mm512_load_si512(columns[half] + i), _mm512_set1_epi8(-128)));
    forget_registers();
    const __m512i power = _mm512_set1_epi32(0x47000000);
#pragma GCC unroll 16
    for (int c = 0; c < 16; ++c) {
        const auto quarter = [&](int half) __attribute__((always_inline)) {
            return _mm_load_si128(reinterpret_cast<const __m128i*>(columns[half] + column_at(c)));
        };
        const __m512i bytes = _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(quarter(0)), 0xff00, quarter(1));
        const auto sixteen = [&](const Selector& which) __attribute__((always_inline)) {
            const __m512 shifted = _mm512_castsi512_ps(_mm512_mask_shuffle_epi8(power, 0x2222222222222222, bytes, load(which)));
            if (!scales) return _mm512_castps_si512(_mm512_sub_ps(shifted, _mm512_set1_ps(kShift)));
            const __m512 w = _mm512_fmadd_ps(shifted, _mm512_set1_ps(scales->step[c]), _mm512_set1_ps(scales->offset[c]));
            return _mm512_add_epi32(_mm512_castps_si512(w), half_unit());
        };
        const __m512i even = _mm512_srli_epi32(sixteen(kEvenBytes), 16), odd = sixteen(kOddBytes);
        _mm512_store_si512(tile + c * kTileK, _mm512_ternarylogic_epi32(even, odd, _mm512_set1_epi32(-65536), 0xf8));  // 1 | 2 & 3
    }
}

// 16 columns of pairs of k, [k / 2][column][2], to a tile. Moved as floats, never computed with.
[[gnu::always_inline]] inline void pairs_to_tile(__m512 (&pairs)[16], uint16_t* tile) {
    Vector::transpose(pairs);
    for (int c = 0; c < 16; ++c) _mm512_store_ps(tile + c * kTileK, pairs[c]);
}

// w0 and w1 of sixteen columns in pairs, rounded to nearest even.
inline __m512 pair_up(__m512 w0, __m512 w1) {
    const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(w1, w0));
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                           20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, both));
}

// 32 k of 16 columns of a block, from `column` on.
template <Format F>
[[gnu::always_inline]] inline void group_to_tile(const std::byte* block, int64_t group, int64_t column, uint16_t* tile) {
    constexpr PanelBlock layout = block_of<F>();
    const auto* high = reinterpret_cast<const uint32_t*>(block + layout.header_bytes * kPanelColumns + group * layout.group_bytes());
    const uint32_t* low = high + layout.high_words * kPanelColumns;
    if constexpr (layout.low_words == 4 && layout.high_words <= 1) {
        codes_to_tile<F>(block, 2 * group, high, low, column, tile);
    } else if constexpr (F == Format::Q8_0) {
        const __m512 step = affine<Vector, F>(block, 0, column).step;
        const ColumnScales scales({step, _mm512_mul_ps(step, _mm512_set1_ps(-kShift))});
        bytes_to_tile(low + column, &scales, tile);
    } else {
        __m512 pairs[16], even = _mm512_setzero_ps();
        const auto emit = [&](int k, __m512 w) __attribute__((always_inline)) {
            if (k % 2 == 0) even = w;
            else pairs[k / 2] = pair_up(even, w);
        };
        for_unit<Vector, F, 0>(high + column, low + column, affine<Vector, F>(block, 2 * group, column), emit);
        for_unit<Vector, F, 1>(high + column, low + column, affine<Vector, F>(block, 2 * group + 1, column), emit);
        pairs_to_tile(pairs, tile);
    }
}

// Of floats that lie as [k][32]; load(i) gives the vector that starts at element i.
template <class Load>
[[gnu::always_inline]] inline void floats_to_tile(Load load, uint16_t* tile) {
    __m512 pairs[16];
    for (int64_t pair = 0; pair < 16; ++pair) {
        const int64_t at = 2 * pair * kPanelColumns;
        pairs[pair] = pair_up(load(at), load(at + kPanelColumns));
    }
    pairs_to_tile(pairs, tile);
}

// Of bf16, which only changes places.
[[gnu::always_inline]] inline void bf16_to_tile(const uint16_t* from, uint16_t* tile) {
    const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5,
                                           36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    __m512 pairs[16];
    for (int64_t pair = 0; pair < 16; ++pair) {
        const auto row = [&](int64_t k) __attribute__((always_inline)) {
            return _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + k * kPanelColumns)));
        };
        pairs[pair] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(row(2 * pair), order, row(2 * pair + 1)));
    }
    pairs_to_tile(pairs, tile);
}

// The 16 columns of a strip of a packed weight, and what its sums are to be multiplied with at the end (I8), else null.
struct Strip {
    const std::byte* panel;
    const float* scales;
    int64_t half;  // of the panel's columns

    Strip(const std::byte* weight, Format format, int64_t in_features, int64_t index)
        : panel(panel_at(weight, format, index / 2, in_features)),
          scales(format == Format::I8 ? reinterpret_cast<const float*>(panel) + index % 2 * 16 : nullptr), half(index % 2) {}
};

// BF16Tiles need not be made: they are multiplied where they lie.
struct TilesInPlace {
    // The first cache has no room: its lines on their way are the rows' (4 KiB ahead and there, 32 rows took a tenth longer).
    static constexpr int64_t kGroupsAhead = 8, kParts = 8;

    [[gnu::always_inline]] void operator()(const Strip& strip, int64_t group, uint16_t*) const {
        for (int64_t part = 0; part < kParts; ++part) prefetch_part(strip, group + kGroupsAhead, part);
    }

    // A few lines of a tile. Behind a panel lies the next; a gated layer takes the halves of its two panels by turns, so that
    // what is fetched for one turn serves the one after the next.
    [[gnu::always_inline]] static void prefetch_part(const Strip& strip, int64_t group, int64_t part) {
        constexpr int64_t kPartBytes = 2 * kTileElements / kParts, kLineBytes = 64;
        constexpr int kToSecondCache = 2;
        const auto* from = reinterpret_cast<const std::byte*>(at(strip, group)) + part * kPartBytes;
        for (int64_t byte = 0; byte < kPartBytes; byte += kLineBytes) __builtin_prefetch(from + byte, 0, kToSecondCache);
    }

    static const uint16_t* at(const Strip& strip, int64_t group) {
        return reinterpret_cast<const uint16_t*>(strip.panel) + (2 * group + strip.half) * kTileElements;
    }
};

template <class MakeTile>
constexpr bool kIsInPlace = false;
template <>
inline constexpr bool kIsInPlace<TilesInPlace> = true;

// Calls use(make_tile) once, where make_tile(strip, g, tile) makes the tile of the g-th 32 k of a strip, or is a
// TilesInPlace. That of I8 is without its scales.
template <class Use>
[[gnu::always_inline]] inline void with_tile_maker(Format format, Use use) {
    using V = Vector;
    // Every other line: a panel's other half is made by turns, as the other strip of a plain layer, or after this one.
    const auto prefetch = [](const std::byte* from, int64_t bytes, int64_t half) __attribute__((always_inline)) {
        for (int64_t line = 64 * half; line < bytes; line += 128) __builtin_prefetch(from + kPrefetchBytes + line);
    };
    const auto of_elements = [&](int64_t header_bytes, int64_t element_bytes, auto make) {
        use([&, header_bytes, element_bytes, make](const Strip& strip, int64_t group, uint16_t* tile) __attribute__((always_inline)) {
            const int64_t size = kTileK * kPanelColumns * element_bytes;
            const std::byte* from = strip.panel + header_bytes + group * size;
            prefetch(from, size, strip.half);
            make(from, strip.half * kTileColumns, tile);
        });
    };
    switch (format) {
        case Format::F32:
            return of_elements(0, 4, [](const std::byte* from, int64_t column, uint16_t* tile) __attribute__((always_inline)) {
                floats_to_tile([&](int64_t i) __attribute__((always_inline)) { return V::load(reinterpret_cast<const float*>(from) + column + i); }, tile);
            });
        case Format::F16:
            return of_elements(0, 2, [](const std::byte* from, int64_t column, uint16_t* tile) __attribute__((always_inline)) {
                floats_to_tile([&](int64_t i) __attribute__((always_inline)) { return V::load_f16(reinterpret_cast<const uint16_t*>(from) + column + i); }, tile);
            });
        case Format::BF16:
            return of_elements(0, 2, [](const std::byte* from, int64_t column, uint16_t* tile) __attribute__((always_inline)) {
                bf16_to_tile(reinterpret_cast<const uint16_t*>(from) + column, tile);
            });
        case Format::I8:
            return of_elements(4 * kPanelColumns, 1, [](const std::byte* from, int64_t column, uint16_t* tile) __attribute__((always_inline)) {
                bytes_to_tile(reinterpret_cast<const uint32_t*>(from) + column, nullptr, tile);
            });
        case Format::BF16Tiles: return use(TilesInPlace{});
        default: break;
    }
    with_block_format(format, [&]<Format F>() {
        constexpr PanelBlock layout = block_of<F>();
        constexpr int64_t kGroups = layout.k / kTileK;
        use([&](const Strip& strip, int64_t group, uint16_t* tile) __attribute__((always_inline)) {
            const std::byte* block = strip.panel + group / kGroups * layout.bytes();
            prefetch(block + group % kGroups * layout.group_bytes(),
                     layout.group_bytes() + layout.header_bytes * kPanelColumns / kGroups, strip.half);
            group_to_tile<F>(block, group % kGroups, strip.half * kTileColumns, tile);
        });
    });
}

}  // namespace octavo::OCTAVO_ISA
