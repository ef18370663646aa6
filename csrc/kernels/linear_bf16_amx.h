// Linear layers on packed panels with bf16 activations, on AMX tiles: yᵀ = W·xᵀ.
//
// The weights are the first operand, [column][k], as weight_tiles.h makes them, and the activations the second, [k / 2][row][2],
// as bf16_pairs.h leaves them: nothing else is packed. An element of y is a chain over k in rising order, 32 at a time (even
// and odd k apart, then together), and stays in its tile over a slab: its bits do not depend on the other rows and columns.
#pragma once

#include "panel_item.h"
#include "weight_tiles.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kSlabGroups = 24;                // of 32 k, made at a time for more rows than kBlockRows: 48 KiB
constexpr int64_t kBlockRows = 2 * kPairedRows;    // that are multiplied together
constexpr int64_t kRing = 8, kLag = 4;             // groups made before they are multiplied: their stores have reached the cache

// Tiles 0 to 3 hold sums, two of columns for the first paired rows and two for the second; 4 and 5 weights; 6 and 7 the
// rows. The operand of LDTILECFG.
struct alignas(64) BlockShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    explicit BlockShapes(int64_t block_rows) {
        const int64_t first = smaller(block_rows, kPairedRows), second = block_rows - first;
        const auto set = [&](int tile, int64_t bytes) {
            row_bytes[tile] = static_cast<uint16_t>(bytes);
            rows[tile] = bytes ? 16 : 0;
        };
        constexpr int64_t kBytes = 4;  // of a sum, and of a pair
        for (int tile = 0; tile < 4; ++tile) set(tile, kBytes * (tile < 2 ? first : second));
        set(4, 64);
        set(5, 64);
        set(6, kBytes * first);
        set(7, kBytes * second);
    }

    void load() const { asm volatile("ldtilecfg %0" ::"m"(*this) : "memory"); }
};

// Up to kBlockRows rows of one panel.
struct RowBlock {
    const uint16_t* x;
    int64_t rows, in_features, first_group;  // of 32 k
    float* sums;  // [column][row], rows sums_stride() apart

    int64_t first_rows() const { return smaller(rows, kPairedRows); }
    int64_t sums_stride() const { return rows == 1 ? 1 : kBlockRows; }
};

// sums = W·xᵀ, or +=, over `depth` times 32 k; next(g) gives the tiles of the g-th.
template <int Halves, class Next>
[[gnu::always_inline]] inline void multiply(const RowBlock& block, int64_t depth, bool accumulates, Next next) {
    const int64_t stride = 4 * block.sums_stride(), first = block.first_rows(), second = block.rows - first;
    float *sums = block.sums, *lower = sums + 16 * block.sums_stride();
    if (accumulates) {
        asm volatile("tileloadd (%0,%2,1), %%tmm0\n\ttileloadd (%1,%2,1), %%tmm1" ::"r"(sums), "r"(lower), "r"(stride) : "memory");
        if constexpr (Halves == 2)
            asm volatile("tileloadd 64(%0,%2,1), %%tmm2\n\ttileloadd 64(%1,%2,1), %%tmm3" ::"r"(sums), "r"(lower), "r"(stride) : "memory");
    } else {
        asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1" ::: "memory");
        if constexpr (Halves == 2) asm volatile("tilezero %%tmm2\n\ttilezero %%tmm3" ::: "memory");
    }
    const uint16_t* x = block.x + block.first_group * first * kTileK;
    const uint16_t* right = block.x + kPairedRows * block.in_features + block.first_group * second * kTileK;
    for (int64_t g = 0; g < depth; ++g, x += first * kTileK, right += second * kTileK) {
        const uint16_t* tiles = next(g);
        asm volatile(
            "tileloadd (%[x],%[x_stride],1), %%tmm6\n\t"
            "tileloadd (%[w],%[line],1), %%tmm4\n\t"
            "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
            "tileloadd 1024(%[w],%[line],1), %%tmm5\n\t"
            "tdpbf16ps %%tmm6, %%tmm5, %%tmm1"
            :
            : [x] "r"(x), [x_stride] "r"(4 * first), [w] "r"(tiles), [line] "r"(int64_t{64})
            : "memory");
        if constexpr (Halves == 2)
            asm volatile(
                "tileloadd (%[x],%[x_stride],1), %%tmm7\n\t"
                "tdpbf16ps %%tmm7, %%tmm4, %%tmm2\n\t"
                "tdpbf16ps %%tmm7, %%tmm5, %%tmm3"
                :
                : [x] "r"(right), [x_stride] "r"(4 * second)
                : "memory");
    }
    asm volatile("tilestored %%tmm0, (%0,%2,1)\n\ttilestored %%tmm1, (%1,%2,1)" ::"r"(sums), "r"(lower), "r"(stride) : "memory");
    if constexpr (Halves == 2)
        asm volatile("tilestored %%tmm2, 64(%0,%2,1)\n\ttilestored %%tmm3, 64(%1,%2,1)" ::"r"(sums), "r"(lower), "r"(stride) : "memory");
}

template <class Next>
inline void multiply(const RowBlock& block, int64_t depth, bool accumulates, Next next) {
    if (block.rows > kPairedRows) multiply<2>(block, depth, accumulates, next);
    else multiply<1>(block, depth, accumulates, next);
}

// Sums of a block to y, in four parts of 16 rows and 16 columns.
class BlockOutput {
public:
    BlockOutput(const LinearBf16Arguments& a, int64_t panel, int64_t column) : a_(a), column_(column) {
        if (a.format == Format::I8) scales_ = reinterpret_cast<const float*>(panel_at(a.weight, a.format, panel, a.in_features));
    }

    // Begins a block of y's rows from `row` on; the one before has been written.
    void begin(const RowBlock& block, int64_t row) {
        block_ = block;
        row_ = row;
        part_ = 0;
    }

    void write_part() {
        const int64_t half = part_ / 2 * kPairedRows, offset = part_ % 2 * 16, column = column_ + offset;
        const int64_t rows = smaller(kPairedRows, block_.rows - half);
        const int lanes = static_cast<int>(smaller(16, a_.out_features - column));
        ++part_;
        if (rows <= 0 || lanes <= 0) return;
        const float* sums = block_.sums + offset * block_.sums_stride() + half;
        float* y = a_.y + (row_ + half) * a_.y_stride + column;
        if (block_.rows == 1) return store_lanes<Vector>(y, finished(Vector::load(sums), offset, column, lanes), lanes);
        __m512 columns[16];
        for (int c = 0; c < 16; ++c) columns[c] = Vector::load(sums + c * kBlockRows);
        Vector::transpose(columns);
        if (rows == 16 && lanes == 16 && !scales_ && !a_.bias) {
            for (int64_t row = 0; row < 16; ++row) Vector::store(y + row * a_.y_stride, columns[row]);
            return;
        }
        for (int64_t row = 0; row < rows; ++row)
            store_lanes<Vector>(y + row * a_.y_stride, finished(columns[row], offset, column, lanes), lanes);
    }

    bool is_left() const { return part_ < kParts; }

    void write_rest() {
        while (is_left()) write_part();
    }

private:
    static constexpr int kParts = 4;

    __m512 finished(__m512 sum, int64_t offset, int64_t column, int lanes) const {
        if (scales_) sum = Vector::mul(sum, Vector::load(scales_ + offset));
        return a_.bias ? Vector::add(sum, load_lanes<Vector>(a_.bias + column, lanes)) : sum;
    }

    const LinearBf16Arguments& a_;
    int64_t column_;
    const float* scales_ = nullptr;  // of I8's columns
    RowBlock block_{};
    int64_t row_ = 0;
    int part_ = kParts;
};

// Item (panel, chunk of rows), chunks fastest. in_features is a multiple of 32.
inline void linear_bf16_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearBf16Arguments*>(arguments);
    const auto [panel, column, first_row, rows] = panel_item(a.rows, kBf16RowsPerItem, item);
    const int64_t depth = a.in_features / kTileK;
    struct Scratch {
        alignas(64) uint16_t tiles[kSlabGroups * kGroupElements];
        alignas(64) float sums[kBf16RowsPerItem * kPanelColumns];
    };
    static_assert(kRing <= kSlabGroups);
    auto& scratch = *static_cast<Scratch*>(thread_scratch(sizeof(Scratch)));
    const auto block_at = [&](int64_t row, int64_t group) {
        return RowBlock{a.x + (first_row + row) * a.in_features, smaller(kBlockRows, rows - row), a.in_features, group,
                        scratch.sums + row * kPanelColumns};
    };
    BlockOutput output(a, panel, column);
    with_conversion(a.format, panel_at(a.weight, a.format, panel, a.in_features), [&](auto convert) {
        BlockShapes(smaller(rows, kBlockRows)).load();
        if (rows <= kBlockRows) {  // each 32 k are multiplied while later ones are made
            const auto make = [&](int64_t g) {
                if (g < depth) convert(g, scratch.tiles + g % kRing * kGroupElements);
            };
            for (int64_t g = 0; g < kLag; ++g) make(g);
            const RowBlock block = block_at(0, 0);
            multiply(block, depth, false, [&](int64_t g) {
                make(g + kLag);
                return scratch.tiles + g % kRing * kGroupElements;
            });
            output.begin(block, first_row);
            return;
        }
        const int64_t num_slabs = larger(1, (depth + kSlabGroups - 1) / kSlabGroups), slab = (depth + num_slabs - 1) / num_slabs;
        for (int64_t start = 0; start == 0 || start < depth; start += slab) {
            const int64_t stop = smaller(depth, start + slab);
            for (int64_t g = start; g < stop; ++g) convert(g, scratch.tiles + (g - start) * kGroupElements);
            for (int64_t row = 0; row < rows; row += kBlockRows) {
                const RowBlock block = block_at(row, start);
                if (row > 0 && block.rows < kBlockRows) BlockShapes(block.rows).load();
                multiply(block, stop - start, start > 0, [&](int64_t g) {
                    if (g % 4 == 3 && output.is_left()) output.write_part();  // of the block before, beside the tiles' work
                    return scratch.tiles + g * kGroupElements;
                });
                output.write_rest();
                if (stop == depth) output.begin(block, first_row + row);
            }
            if (stop < depth && rows % kBlockRows) BlockShapes(kBlockRows).load();
        }
    });
    output.write_rest();
    asm volatile("tilerelease" ::: "memory");
}

}  // namespace octavo::OCTAVO_ISA
