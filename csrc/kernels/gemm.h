// The register tile that every matrix product here is made of: linear layers, q·Kᵀ and p·V.
//
// C (rows, columns) = or += A (rows, k) · B (k, columns), columns in the lanes. Every element of A · B is
// one chain of multiply-adds over k in rising order, starting from zero: its bits do not depend on how
// many rows or columns are computed with it. Long sums add such chains up, which also keeps them accurate.
#pragma once

#include "math.h"

namespace octavo::OCTAVO_ISA {

struct Gemm {
    const float* a;
    int64_t a_stride;
    const float* b;
    int64_t b_stride;
    float* c;
    int64_t c_stride;
    int64_t k;
    bool accumulates;
    int64_t a_step = 1;  // from an element of A to the one of the next k
};

template <class V, int Rows, int Vectors>
inline void gemm_tile(const Gemm& g) {
    typename V::Float sum[Rows][Vectors];
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < Vectors; ++v)
            sum[r][v] = V::broadcast(0.0f);
    const float* a = g.a;
    const float* b = g.b;
    for (int64_t k = 0; k < g.k; ++k, a += g.a_step, b += g.b_stride) {
        typename V::Float column[Vectors];
        for (int v = 0; v < Vectors; ++v) column[v] = V::load(b + v * V::kLanes);
        for (int r = 0; r < Rows; ++r) {
            const auto x = V::broadcast(a[r * g.a_stride]);
            for (int v = 0; v < Vectors; ++v) sum[r][v] = V::fma(x, column[v], sum[r][v]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int v = 0; v < Vectors; ++v) {
            float* c = g.c + r * g.c_stride + v * V::kLanes;
            V::store(c, g.accumulates ? V::add(V::load(c), sum[r][v]) : sum[r][v]);
        }
}

// Sums that fit the registers beside a row of B and one broadcast; of 32 registers, 8 rows measured best.
template <class V>
constexpr int max_tile_rows() { return V::kRegisters == 32 ? 8 : 6; }

template <class V, int Rows>
inline void gemm_row_tile(Gemm g, int64_t vectors) {
    constexpr int kWide = Rows * 4 <= V::kRegisters - 6 ? 4 : 2;
    for (; vectors >= kWide; vectors -= kWide, g.b += kWide * V::kLanes, g.c += kWide * V::kLanes)
        gemm_tile<V, Rows, kWide>(g);
    if constexpr (kWide == 4)
        for (; vectors >= 2; vectors -= 2, g.b += 2 * V::kLanes, g.c += 2 * V::kLanes) gemm_tile<V, Rows, 2>(g);
    if (vectors) gemm_tile<V, Rows, 1>(g);
}

template <class V, int Rows = max_tile_rows<V>()>
inline void gemm_rows(const Gemm& g, int64_t rows, int64_t vectors) {
    if constexpr (Rows > 1) {
        if (rows < Rows) return gemm_rows<V, Rows - 1>(g, rows, vectors);
    }
    gemm_row_tile<V, Rows>(g, vectors);
}

// Any number of rows, in tiles of nearly equal height; columns in whole vectors.
template <class V>
[[gnu::noinline]] void gemm(Gemm g, int64_t rows, int64_t vectors) {
    const int64_t num_tiles = (rows + max_tile_rows<V>() - 1) / max_tile_rows<V>();
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
        const int64_t height = (rows * (tile + 1)) / num_tiles - rows * tile / num_tiles;
        gemm_rows<V>(g, height, vectors);
        g.a += height * g.a_stride;
        g.c += height * g.c_stride;
    }
}

}  // namespace octavo::OCTAVO_ISA
