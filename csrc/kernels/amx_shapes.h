// The shapes of AMX's tiles, the operand of LDTILECFG.
#pragma once

#include <cstdint>

namespace octavo::OCTAVO_ISA {

// Tiles 0 and 1 hold sums of the first rows, 2 and 3 of the second, each of 16 columns; 4 and 5 the activations of these
// rows, `depth_bytes` a row; 6 and 7 weights, four bytes of K a row. Tiles without rows are off.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    TileShapes(int64_t first_rows, int64_t second_rows, int64_t depth_bytes) {
        const int64_t weight_rows = depth_bytes / 4;
        const int64_t heights[8] = {first_rows, first_rows,  second_rows, second_rows,
                                    first_rows, second_rows, weight_rows, weight_rows};
        for (int i = 0; i < 8; ++i) {
            if (heights[i] == 0) continue;
            rows[i] = static_cast<uint8_t>(heights[i]);
            row_bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? depth_bytes : 64);
        }
    }

    void load() const { asm volatile("ldtilecfg %0" ::"m"(*this) : "memory"); }
};

}  // namespace octavo::OCTAVO_ISA
