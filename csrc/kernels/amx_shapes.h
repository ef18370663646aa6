// The shapes of AMX's tiles, the operand of LDTILECFG.
#pragma once

#include <cstdint>

namespace octavo::OCTAVO_ISA {

struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    // A tile without rows, or without bytes, is off.
    void set(int tile, int64_t tile_rows, int64_t bytes) {
        rows[tile] = static_cast<uint8_t>(bytes ? tile_rows : 0);
        row_bytes[tile] = static_cast<uint16_t>(tile_rows ? bytes : 0);
    }

    void load() const { asm volatile("ldtilecfg %0" ::"m"(*this) : "memory"); }
};

// For products of blocks of 2 by 2 tiles. Tiles 0 and 1 hold sums of the first rows, 2 and 3 of the second, each of 16
// columns; 4 and 5 the activations of these rows, `depth_bytes` a row; 6 and 7 weights, four bytes of K a row.
inline TileShapes product_shapes(int64_t first_rows, int64_t second_rows, int64_t depth_bytes) {
    TileShapes shapes;
    for (int i = 0; i < 2; ++i) {
        shapes.set(i, first_rows, 64);
        shapes.set(2 + i, second_rows, 64);
        shapes.set(4 + i, i == 0 ? first_rows : second_rows, depth_bytes);
        shapes.set(6 + i, depth_bytes / 4, 64);
    }
    return shapes;
}

}  // namespace octavo::OCTAVO_ISA
