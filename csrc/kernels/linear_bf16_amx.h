// Linear layers on packed panels with bf16 activations, on AMX tiles: yᵀ = W·xᵀ.
//
// The weights are the first operand, [column][k], as weight_tiles.h makes them, and the activations the second, [k / 2][row][2],
// as bf16_pairs.h leaves them: nothing else is packed. An element of y is a chain over k in rising order, 32 at a time (even
// and odd k apart, then together), and stays in its tile over a slab: its bits do not depend on the other rows and columns.
//
// Two strips of 16 columns are multiplied together: neighbours for a plain layer, a gate and its other factor for a gated
// one, whose activation then takes the sums from the tiles, and leaves pairs for the next layer.
#pragma once

#include "panel_item.h"
#include "rowwise.h"
#include "weight_tiles.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kSlabGroups = 20;              // of 32 k, made at a time for more rows than kBlockRows: 40 KiB
constexpr int64_t kBlockRows = 2 * kPairedRows;  // that are multiplied together
constexpr int64_t kRing = 8, kLag = 4;           // groups made before they are multiplied: their stores have reached the cache

// Tiles 0 and 1 hold sums of the strips for the first paired rows, 2 and 3 for the second; 4 and 5 weights of the strips; 6
// and 7 the rows.
inline TileShapes block_shapes(int64_t block_rows) {
    constexpr int64_t kBytes = 4;  // of a sum, and of a pair
    const int64_t first = kBytes * smaller(block_rows, kPairedRows), second = kBytes * block_rows - first;
    const int64_t bytes[8] = {first, first, second, second, 64, 64, first, second};
    TileShapes shapes;
    for (int tile = 0; tile < 8; ++tile) shapes.set(tile, 16, bytes[tile]);
    return shapes;
}

// Up to kBlockRows rows, and where the sums of two strips with them go: [column of both strips][row].
struct RowBlock {
    const uint16_t* x;
    int64_t rows, in_features;
    float* sums;

    int64_t first_rows() const { return smaller(rows, kPairedRows); }
    int64_t sums_stride() const { return rows == 1 ? 1 : kBlockRows; }
};

// What is to stay in the first cache: of few rows all, while weights pass by; of many the weights, while rows pass by
// (TILELOADDT1).
enum class Reuse { Rows, Weights };

// 32 k of two strips.
struct TilePair {
    const uint16_t *left, *right;
};

// sums = before + W·xᵀ over 32 k `depth` times, from group `start` of x on; next(g) gives both tiles of the g-th. `before`
// lies as the sums do, or is null for zero.
template <int Halves, Reuse kReuse, class Next>
[[gnu::always_inline]] inline void multiply_halves(const RowBlock& block, const float* before, int64_t start, int64_t depth, Next next) {
    const int64_t stride = 4 * block.sums_stride(), first = block.first_rows(), second = block.rows - first;
    float *sums = block.sums, *lower = sums + 16 * block.sums_stride();
    if (before) {
        const float* lower_before = before + 16 * block.sums_stride();
        asm volatile("tileloadd (%0,%2,1), %%tmm0\n\ttileloadd (%1,%2,1), %%tmm1" ::"r"(before), "r"(lower_before), "r"(stride) : "memory");
        if constexpr (Halves == 2)
            asm volatile("tileloadd 64(%0,%2,1), %%tmm2\n\ttileloadd 64(%1,%2,1), %%tmm3" ::"r"(before), "r"(lower_before), "r"(stride) : "memory");
    } else {
        asm volatile("tilezero %%tmm0\n\ttilezero %%tmm1" ::: "memory");
        if constexpr (Halves == 2) asm volatile("tilezero %%tmm2\n\ttilezero %%tmm3" ::: "memory");
    }
    const uint16_t* x = block.x + start * first * kTileK;
    const uint16_t* right = block.x + kPairedRows * block.in_features + start * second * kTileK;
    for (int64_t g = 0; g < depth; ++g, x += first * kTileK, right += second * kTileK) {
        const TilePair tiles = next(g);
        if constexpr (kReuse == Reuse::Rows) asm volatile("tileloadd (%0,%1,1), %%tmm6" ::"r"(x), "r"(4 * first) : "memory");
        else asm volatile("tileloaddt1 (%0,%1,1), %%tmm6" ::"r"(x), "r"(4 * first) : "memory");
        asm volatile(
            "tileloadd (%[left],%[line],1), %%tmm4\n\t"
            "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
            "tileloadd (%[right],%[line],1), %%tmm5\n\t"
            "tdpbf16ps %%tmm6, %%tmm5, %%tmm1" ::[left] "r"(tiles.left), [right] "r"(tiles.right), [line] "r"(int64_t{64})
            : "memory");
        if constexpr (Halves == 1) continue;
        if constexpr (kReuse == Reuse::Rows) asm volatile("tileloadd (%0,%1,1), %%tmm7" ::"r"(right), "r"(4 * second) : "memory");
        else asm volatile("tileloaddt1 (%0,%1,1), %%tmm7" ::"r"(right), "r"(4 * second) : "memory");
        asm volatile("tdpbf16ps %%tmm7, %%tmm4, %%tmm2\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm3" ::: "memory");
    }
    asm volatile("tilestored %%tmm0, (%0,%2,1)\n\ttilestored %%tmm1, (%1,%2,1)" ::"r"(sums), "r"(lower), "r"(stride) : "memory");
    if constexpr (Halves == 2)
        asm volatile("tilestored %%tmm2, 64(%0,%2,1)\n\ttilestored %%tmm3, 64(%1,%2,1)" ::"r"(sums), "r"(lower), "r"(stride) : "memory");
}

template <Reuse kReuse, class Next>
inline void multiply(const RowBlock& block, const float* before, int64_t start, int64_t depth, Next next) {
    if (block.rows > kPairedRows) multiply_halves<2, kReuse>(block, before, start, depth, next);
    else multiply_halves<1, kReuse>(block, before, start, depth, next);
}

// A plain layer. Its pairs of strips are its panels.
class PlainOutput {
public:
    explicit PlainOutput(const LinearBf16Arguments& a) : a_(a) {}

    Strip strip(int64_t pair, int side) const { return {a_.weight, a_.format, a_.in_features, 2 * pair + side}; }

    static constexpr int kParts = 2, kStepsPerPart = 4;

    // A part of 16 rows is the strip of one side.
    [[gnu::always_inline]] void write(const float* sums, int64_t stride, int64_t pair, int64_t row, int64_t rows, int side) const {
        const int64_t column = (2 * pair + side) * 16;
        const int lanes = static_cast<int>(smaller(16, a_.out_features - column));
        if (lanes <= 0) return;
        // Factors of one and additions of −0 leave a sum as it is.
        const float* scales = strip(pair, side).scales;
        const __m512 scale = scales ? Vector::load(scales) : Vector::broadcast(1.0f);
        const __m512 bias = a_.bias ? load_lanes<Vector>(a_.bias + column, lanes) : Vector::broadcast(-0.0f);
        const auto finished = [&](__m512 sum) __attribute__((always_inline)) { return Vector::add(Vector::mul(sum, scale), bias); };
        float* y = a_.y + row * a_.y_stride + column;
        sums += side * 16 * stride;
        if (stride == 1) return store_lanes<Vector>(y, finished(Vector::load(sums)), lanes);
        __m512 columns[16];
        for (int c = 0; c < 16; ++c) columns[c] = Vector::load(sums + c * stride);
        Vector::transpose(columns);
        // Unrolled, so that the columns stay in registers.
        if (rows == 16 && lanes == 16) {
#pragma GCC unroll 16
            for (int r = 0; r < 16; ++r) Vector::store(y + r * a_.y_stride, finished(columns[r]));
            return;
        }
#pragma GCC unroll 16
        for (int r = 0; r < 16; ++r)
            if (r < rows) Vector::store_partial(y + r * a_.y_stride, finished(columns[r]), lanes);
    }

private:
    const LinearBf16Arguments& a_;
};

// A gated layer: h = act(gate)·up, paired. A pair of strips is 16 of its features.
class GatedOutput {
public:
    explicit GatedOutput(const GatedLinearArguments& a) : a_(a) {}

    Strip strip(int64_t pair, int side) const { return {a_.weight, a_.format, a_.in_features, pair + side * a_.features / 16}; }

    static constexpr int kParts = 8, kStepsPerPart = 1;

    // A part of 16 rows is two features: exponentials are long, and go best a few at a time.
    [[gnu::always_inline]] void write(const float* sums, int64_t stride, int64_t pair, int64_t row, int64_t rows, int part) const {
        const Strip gate = strip(pair, 0), up = strip(pair, 1);
        const float* factors = sums + 16 * stride;
        uint16_t* y = a_.y + row * a_.features;  // the block of rows
        if (stride == 1) {
            if (part > 0) return;
            auto x = Vector::load(sums), factor = Vector::load(factors);
            if (gate.scales) {
                x = Vector::mul(x, Vector::load(gate.scales));
                factor = Vector::mul(factor, Vector::load(up.scales));
            }
            return Vector::store_bf16(y + 16 * pair, Vector::mul(activated(x), factor));
        }
        const int lanes = static_cast<int>(rows);  // beyond them lies anything
        const auto feature = [&](int c) __attribute__((always_inline)) {
            auto x = load_lanes<Vector>(sums + c * stride, lanes), factor = load_lanes<Vector>(factors + c * stride, lanes);
            if (gate.scales) {
                x = Vector::mul(x, Vector::broadcast(gate.scales[c]));
                factor = Vector::mul(factor, Vector::broadcast(up.scales[c]));
            }
            return Vector::bf16_words(Vector::mul(activated(x), factor));
        };
        auto* pairs = reinterpret_cast<float*>(y) + (8 * pair + part) * rows;  // moved as floats, never computed with
        const __m512i both = Vector::bit_or(feature(2 * part), Vector::shift_left(feature(2 * part + 1), 16));
        store_lanes<Vector>(pairs, _mm512_castsi512_ps(both), lanes);
    }

private:
    [[gnu::always_inline]] __m512 activated(__m512 x) const {
        return a_.activation == GatedActivation::SiLU ? silu<Vector>(x) : gelu_tanh<Vector>(x);
    }

    const GatedLinearArguments& a_;
};

// Sums that are to be written, in parts, beside the tiles' work on the next ones.
template <class Output>
class PendingOutput {
public:
    using Sums = float[kBlockRows * kPanelColumns];

    PendingOutput(const Output& output, Sums (&room)[2]) : output_(output), room_(room) {}

    // Where the next sums may be left while those before are written.
    float* room() { return room_[turn_]; }

    // The sums that were left there.
    void begin(const RowBlock& block, int64_t pair, int64_t row) {
        block_ = block;
        pair_ = pair;
        row_ = row;
        part_ = 0;
        turn_ = 1 - turn_;
    }

    [[gnu::always_inline]] void write_part() {
        const int64_t half = part_ / Output::kParts * kPairedRows, rows = smaller(kPairedRows, block_.rows - half);
        const int part = part_++ % Output::kParts;
        if (rows > 0) output_.write(block_.sums + half, block_.sums_stride(), pair_, row_ + half, rows, part);
    }

    bool is_left() const { return part_ < kParts; }

    void write_rest() {
        while (is_left()) write_part();
    }

private:
    static constexpr int kParts = 2 * Output::kParts;

    const Output& output_;
    Sums (&room_)[2];
    RowBlock block_{};
    int64_t pair_ = 0, row_ = 0;
    int part_ = kParts, turn_ = 0;
};

// Rows `first` and on, and pairs of strips, of a layer whose output is `Output`.
template <class Output, class Block>
class Bf16Item {
public:
    Bf16Item(const Block& a, const Output& output, int64_t first_row, int64_t rows)
        : a_(a), output_(output), first_row_(first_row), rows_(rows), depth_(a.in_features / kTileK),
          scratch_(*static_cast<Scratch*>(thread_scratch(sizeof(Scratch)))), pending_(output, scratch_.outputs) {}

    void run(int64_t first_pair, int64_t end_pair) {
        with_tile_maker(a_.format, [&](auto make_tile) {
            block_shapes(smaller(rows_, kBlockRows)).load();
            if (rows_ <= kBlockRows) return stream(first_pair, end_pair, make_tile);
            for (int64_t pair = first_pair; pair < end_pair; ++pair) by_slabs(pair, make_tile);
        });
        pending_.write_rest();
        asm volatile("tilerelease" ::: "memory");
    }

private:
    struct Scratch {
        alignas(64) uint16_t tiles[kSlabGroups * kGroupElements];
        alignas(64) typename PendingOutput<Output>::Sums outputs[2];
        alignas(64) float sums[kMaxBf16RowsPerItem * kPanelColumns];  // of the slabs before
    };
    static_assert(kRing <= kSlabGroups && 2 * kBlockRows <= kMaxBf16RowsPerItem);

    template <class MakeTile>
    [[gnu::always_inline]] void make_tiles(const Strip& left, const Strip& right, int64_t group, MakeTile make_tile, uint16_t* tiles) {
        make_tile(left, group, tiles);
        make_tile(right, group, tiles + kTileElements);
    }

    // What make_tiles made at `tiles`.
    template <class MakeTile>
    [[gnu::always_inline]] TilePair tiles_of(const Strip& left, const Strip& right, int64_t group, const uint16_t* tiles) {
        if constexpr (kIsInPlace<MakeTile>) return {MakeTile::at(left, group), MakeTile::at(right, group)};
        else return {tiles, tiles + kTileElements};
    }

    // Few rows: each 32 k are multiplied while later ones, of this pair or the next, are made.
    template <class MakeTile>
    void stream(int64_t first_pair, int64_t end_pair, MakeTile make_tile) {
        int64_t made = 0, used = 0, pair_ahead = first_pair, group_ahead = 0;
        Strip left = output_.strip(first_pair, 0), right = output_.strip(first_pair, 1);
        const auto make_next = [&]() __attribute__((always_inline)) {
            if (pair_ahead == end_pair) return;
            make_tiles(left, right, group_ahead, make_tile, scratch_.tiles + made++ % kRing * kGroupElements);
            if (++group_ahead < depth_) return;
            group_ahead = 0;
            if (++pair_ahead == end_pair) return;
            left = output_.strip(pair_ahead, 0);
            right = output_.strip(pair_ahead, 1);
        };
        if (depth_ > 0)
            for (int64_t i = 0; i < kLag; ++i) make_next();
        for (int64_t pair = first_pair; pair < end_pair; ++pair) {
            const RowBlock block{x_of(0), rows_, a_.in_features, pending_.room()};
            const Strip first = output_.strip(pair, 0), second = output_.strip(pair, 1);
            multiply<Reuse::Rows>(block, nullptr, 0, depth_, [&](int64_t g) __attribute__((always_inline)) {
                make_next();
                write_beside(g);
                return tiles_of<MakeTile>(first, second, g, scratch_.tiles + used++ % kRing * kGroupElements);
            });
            pending_.write_rest();
            pending_.begin(block, pair, first_row_);
        }
    }

    // Many rows: a slab of the strips is made, then all rows pass over it.
    template <class MakeTile>
    void by_slabs(int64_t pair, MakeTile make_tile) {
        const Strip left = output_.strip(pair, 0), right = output_.strip(pair, 1);
        const int64_t num_slabs = larger(1, (depth_ + kSlabGroups - 1) / kSlabGroups), size = larger(1, (depth_ + num_slabs - 1) / num_slabs);
        const int64_t num_blocks = (rows_ + kBlockRows - 1) / kBlockRows;
        for (int64_t start = 0; start == 0 || start < depth_; start += size) {
            const int64_t stop = smaller(depth_, start + size);
            for (int64_t g = start; !kIsInPlace<MakeTile> && g < stop; ++g)
                make_tiles(left, right, g, make_tile, scratch_.tiles + (g - start) * kGroupElements);
            for (int64_t i = 0, row = 0; row < rows_; ++i, row += kBlockRows) {
                float* partial = scratch_.sums + row * kPanelColumns;
                const RowBlock block{x_of(row), smaller(kBlockRows, rows_ - row), a_.in_features, stop == depth_ ? pending_.room() : partial};
                if (block.rows < kBlockRows) block_shapes(block.rows).load();
                multiply<Reuse::Weights>(block, start > 0 ? partial : nullptr, start, stop - start, [&](int64_t g) __attribute__((always_inline)) {
                    write_beside(g);
                    if constexpr (kIsInPlace<MakeTile>) {  // the next slab, a part with each block of rows
                        for (int64_t part = i; part < MakeTile::kParts; part += num_blocks) {
                            MakeTile::prefetch_part(left, start + g + size, part);
                            MakeTile::prefetch_part(right, start + g + size, part);
                        }
                    }
                    return tiles_of<MakeTile>(left, right, start + g, scratch_.tiles + g * kGroupElements);
                });
                pending_.write_rest();
                if (stop == depth_) pending_.begin(block, pair, first_row_ + row);
            }
            if (rows_ % kBlockRows) block_shapes(kBlockRows).load();
        }
    }

    [[gnu::always_inline]] void write_beside(int64_t g) {
        if (g % Output::kStepsPerPart == Output::kStepsPerPart - 1 && pending_.is_left()) pending_.write_part();
    }

    const uint16_t* x_of(int64_t row) const { return a_.x + (first_row_ + row) * a_.in_features; }

    const Block& a_;
    const Output& output_;
    int64_t first_row_, rows_, depth_;
    Scratch& scratch_;
    PendingOutput<Output> pending_;
};

// Item (chunk of rows, run of pairs of strips), runs fastest. in_features is a multiple of 32.
template <class Output, class Block>
inline void run_bf16_item(const Block& a, int64_t num_pairs, int64_t item) {
    const int64_t run = item % a.num_runs, row = item / a.num_runs * a.rows_per_item;
    const Output output(a);
    Bf16Item<Output, Block>(a, output, row, smaller(a.rows_per_item, a.rows - row))
        .run(num_pairs * run / a.num_runs, num_pairs * (run + 1) / a.num_runs);
}

inline void linear_bf16_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LinearBf16Arguments*>(arguments);
    run_bf16_item<PlainOutput>(a, (a.out_features + kPanelColumns - 1) / kPanelColumns, item);
}

inline void gated_linear_amx(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const GatedLinearArguments*>(arguments);
    run_bf16_item<GatedOutput>(a, a.features / 16, item);
}

}  // namespace octavo::OCTAVO_ISA
