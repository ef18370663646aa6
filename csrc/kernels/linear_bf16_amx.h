// Linear layers on packed panels with bf16 activations, on AMX tiles (amx_bf16.h).
//
// A slab of a panel, whatever its format, becomes bf16 once an item, rounded to nearest even, in the order in which a tile
// is read; then all rows of the item pass over it. Nothing is scaled after the product, so that a sum stays in its tile
// over the whole slab, and the order of K is that of amx_bf16.h for every number of rows.
#pragma once

#include "amx_bf16.h"
#include "linear.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kBf16Slab = 1024;  // k at a time: 64 KiB of tiles, reused by all rows of the item
constexpr int64_t kPairElements = 2 * kTileElements;  // of both column halves of 32 k

// w0 and w1 of sixteen columns as the pairs of a tile's row.
inline __m512i bf16_pairs(__m512 w0, __m512 w1) {
    const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(w1, w0));
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                           20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, both);
}

inline void store_pairs(uint16_t* tiles, int k, int vector, __m512 w0, __m512 w1) {
    _mm512_store_si512(tiles + vector * kTileElements + k / 2 * 2 * kTileColumns, bf16_pairs(w0, w1));
}

// A code of four bits as a float: a permutation takes the low four bits of an index, whatever stands above them.
inline __m512 nibble_to_float(__m512i codes) {
    const __m512 values = _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return _mm512_permutexvar_ps(codes, values);
}

// 32 k of a panel to its two tiles, each [16][16 columns][2].
template <Format F>
[[gnu::always_inline]] inline void group_to_tiles(const std::byte* block, int64_t group, uint16_t* tiles) {
    using V = Vector;
    constexpr PanelBlock layout = block_of<F>();
    const auto* high = reinterpret_cast<const uint32_t*>(block + layout.header_bytes * kPanelColumns +
                                                         group * layout.group_bytes());
    const uint32_t* low = high + layout.high_words * kPanelColumns;
#pragma GCC unroll 2
    for (int vector = 0; vector < 2; ++vector) {
        const int64_t column = vector * V::kLanes;
        const auto scale = affine<V, F>(block, 2 * group, column);
        if constexpr (layout.low_words == 4 && layout.high_words == 0) {
#pragma GCC unroll 4
            for (int word = 0; word < 4; ++word) {
                const auto codes = V::load_words(low + word * kPanelColumns + column);
#pragma GCC unroll 8
                for (int pair = 0; pair < 4; ++pair) {  // of half pair / 2, bytes 2·(pair % 2) and the next
                    const int shift = pair / 2 * 4 + pair % 2 * 16;
                    const auto even = V::fma(scale.step, nibble_to_float(V::shift_right(codes, shift)), scale.offset);
                    const auto odd = V::fma(scale.step, nibble_to_float(V::shift_right(codes, shift + 8)), scale.offset);
                    store_pairs(tiles, pair / 2 * 16 + 4 * word + pair % 2 * 2, vector, even, odd);
                }
            }
        } else {
            __m512 even = _mm512_setzero_ps();
            const auto emit = [&](int k, __m512 w) {
                if (k % 2 == 0) even = w;
                else store_pairs(tiles, k - 1, vector, even, w);
            };
            for_unit<V, F, 0>(high + column, low + column, scale, emit);
            if constexpr (F == Format::Q6_K)
                for_unit<V, F, 1>(high + column, low + column, affine<V, F>(block, 2 * group + 1, column), emit);
            else
                for_unit<V, F, 1>(high + column, low + column, scale, emit);
        }
    }
}

// The same of floats, which lie as [k][32].
template <class Load>
[[gnu::always_inline]] inline void floats_to_tiles(uint16_t* tiles, Load load) {
    for (int k = 0; k < kTileK; k += 2)
        for (int vector = 0; vector < 2; ++vector) {
            const int64_t at = k * kPanelColumns + vector * kTileColumns;
            store_pairs(tiles, k, vector, load(at), load(at + kPanelColumns));
        }
}

// The same of bf16, which only changes places.
[[gnu::always_inline]] inline void bf16_to_tiles(uint16_t* tiles, const uint16_t* from) {
    const __m512i order = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5,
                                           36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i other = _mm512_add_epi16(order, _mm512_set1_epi16(16));
    for (int k = 0; k < kTileK; k += 2) {
        const __m512i even = _mm512_loadu_si512(from + k * kPanelColumns);
        const __m512i odd = _mm512_loadu_si512(from + (k + 1) * kPanelColumns);
        _mm512_store_si512(tiles + k * kTileColumns, _mm512_permutex2var_epi16(even, order, odd));
        _mm512_store_si512(tiles + kTileElements + k * kTileColumns, _mm512_permutex2var_epi16(even, other, odd));
    }
}

// Calls use(convert) once, where convert(g, tiles) makes the tiles of the g-th 32 k of a panel.
template <class Use>
[[gnu::always_inline]] inline void with_conversion(Format format, const std::byte* panel, Use use) {
    using V = Vector;
    const auto prefetch = [](const std::byte* from, int64_t bytes) {
        for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + kPrefetchBytes + line);
    };
    const auto of_floats = [&](int64_t element_bytes, auto load) {
        use([&, element_bytes](int64_t group, uint16_t* tiles) {
            const std::byte* from = panel + group * kTileK * kPanelColumns * element_bytes;
            prefetch(from, kTileK * kPanelColumns * element_bytes);
            floats_to_tiles(tiles, [&](int64_t i) { return load(from, i); });
        });
    };
    const auto half = [](const std::byte* from, int64_t i) { return reinterpret_cast<const uint16_t*>(from) + i; };
    switch (format) {
        case Format::F32:
            return of_floats(4, [](const std::byte* from, int64_t i) { return V::load(reinterpret_cast<const float*>(from) + i); });
        case Format::F16: return of_floats(2, [&](const std::byte* from, int64_t i) { return V::load_f16(half(from, i)); });
        case Format::BF16:
            return use([&](int64_t group, uint16_t* tiles) {
                const std::byte* from = panel + group * kTileK * kPanelColumns * 2;
                prefetch(from, kTileK * kPanelColumns * 2);
                bf16_to_tiles(tiles, half(from, 0));
            });
        default: break;
    }
    with_block_format(format, [&]<Format F>() {
        constexpr PanelBlock layout = block_of<F>();
        constexpr int64_t kGroups = layout.k / kTileK;
        use([&](int64_t group, uint16_t* tiles) {
            const std::byte* block = panel + group / kGroups * layout.bytes();
            prefetch(block + group % kGroups * layout.group_bytes(), layout.group_bytes() + layout.header_bytes * kPanelColumns / kGroups);
            group_to_tiles<F>(block, group % kGroups, tiles);
        });
    });
}

constexpr int64_t kTileRows = 16;

// sums (rows, 32) = x · slab, or +=, in blocks of 32, then 16, then what is left; strides in bytes.
inline void multiply_slab(const uint16_t* x, int64_t x_stride, int64_t rows, const uint16_t* tiles, int64_t depth,
                          float* sums, int64_t sums_stride, bool accumulates) {
    const auto run = [&]<int Blocks>(int64_t row_block) {
        AmxProduct<Blocks>({x, x_stride, tiles, 2, 1, sums, sums_stride, 1, depth, accumulates}).run([] {});
        x += Blocks * row_block * x_stride / 2;
        sums += Blocks * row_block * sums_stride / 4;
        rows -= Blocks * row_block;
    };
    if (rows >= 16) AmxShapes(16).load();
    while (rows >= 32) run.template operator()<2>(16);
    if (rows >= 16) run.template operator()<1>(16);
    if (rows == 0) return;
    AmxShapes(rows).load();
    run.template operator()<1>(rows);
}

// sums (rows, 32) = x · panel for up to 16 rows: each 32 k are multiplied while later ones are converted, far enough
// behind that their stores have reached the cache.
template <class Convert>
inline void stream_panel(Convert convert, const uint16_t* x, int64_t x_stride, int64_t depth, uint16_t* ring, float* sums,
                         int64_t sums_stride) {
    constexpr int64_t kRing = 4, kLag = 2;
    asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1" ::: "memory");
    for (int64_t step = 0; step < depth + kLag; ++step) {
        if (step < depth) convert(step, ring + step % kRing * kPairElements);
        if (step < kLag) continue;
        const uint16_t* tiles = ring + (step - kLag) % kRing * kPairElements;
        asm volatile(
            "tileloadd (%[x],%[x_stride],1), %%tmm4\n\t"
            "tileloadd (%[b],%[line],1), %%tmm6\n\t"
            "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
            "tileloadd 1024(%[b],%[line],1), %%tmm7\n\t"
            "tdpbf16ps %%tmm7, %%tmm4, %%tmm1"
            :
            : [x] "r"(x + (step - kLag) * kTileK), [x_stride] "r"(x_stride), [b] "r"(tiles), [line] "r"(int64_t{64})
            : "memory");
    }
    asm volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilestored %%tmm1, 64(%0,%1,1)" ::"r"(sums), "r"(sums_stride) : "memory");
}

// Item (panel, chunk of rows), chunks fastest. in_features is a multiple of 32.
inline void linear_bf16_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearBf16Arguments*>(arguments);
    const int64_t num_chunks = (a.rows + kBf16RowsPerItem - 1) / kBf16RowsPerItem;
    const int64_t panel = item / num_chunks, row = item % num_chunks * kBf16RowsPerItem;
    const int64_t rows = smaller(kBf16RowsPerItem, a.rows - row), column = panel * kPanelColumns;
    struct Scratch {
        uint16_t tiles[kBf16Slab * kPanelColumns];
        float sums[kBf16RowsPerItem * kPanelColumns];
    };
    auto& scratch = *static_cast<Scratch*>(thread_scratch(sizeof(Scratch)));
    const bool is_direct = !a.bias && column + kPanelColumns <= a.out_features && a.in_features > 0;
    float* sums = is_direct ? a.y + row * a.y_stride + column : scratch.sums;
    const int64_t sums_stride = (is_direct ? a.y_stride : kPanelColumns) * 4;
    const uint16_t* x = a.x + row * a.in_features;
    const int64_t x_stride = a.in_features * 2;
    with_conversion(a.format, panel_at(a.weight, a.format, panel, a.in_features), [&](auto convert) {
        if (rows <= kTileRows) {
            AmxShapes(rows).load();
            return stream_panel(convert, x, x_stride, a.in_features / kTileK, scratch.tiles, sums, sums_stride);
        }
        for (int64_t k = 0; k < a.in_features; k += kBf16Slab) {
            const int64_t depth = smaller(kBf16Slab, a.in_features - k) / kTileK;
            for (int64_t g = 0; g < depth; ++g) convert(k / kTileK + g, scratch.tiles + g * kPairElements);
            multiply_slab(x + k, x_stride, rows, scratch.tiles, depth, sums, sums_stride, k > 0);
        }
    });
    asm volatile("tilerelease" ::: "memory");
    if (is_direct) return;
    if (a.in_features == 0) std::memset(scratch.sums, 0, sizeof scratch.sums);
    const int64_t columns = smaller(kPanelColumns, a.out_features - column);
    for (int64_t r = 0; r < rows; ++r) {
        float* y = a.y + (row + r) * a.y_stride + column;
        for_vectors<Vector>(columns, [&](int64_t i, int lanes) {
            auto sum = Vector::load(scratch.sums + r * kPanelColumns + i);
            if (a.bias) sum = Vector::add(sum, load_lanes<Vector>(a.bias + column + i, lanes));
            store_lanes<Vector>(y + i, sum, lanes);
        });
    }
}

}  // namespace octavo::OCTAVO_ISA
