// What an item of attention works on: query rows of one request under one KV head, and the keys they see.
//
// The heads of the group are folded into rows, token-major: row = token · group + head of the group.
#pragma once

#include "math.h"

namespace octavo::OCTAVO_ISA {

struct KeyRange {
    int64_t first, stop;
    bool is_empty() const { return first >= stop; }
    bool operator==(const KeyRange& other) const { return first == other.first && stop == other.stop; }
};

// Rows of one KV head of a cache, one position after the other.
class CacheRows {
public:
    CacheRows(const CacheView& cache, int64_t block_size, int64_t element_bytes, int64_t kv_head, const int32_t* table,
              int64_t position)
        : data_(cache.data + kv_head * cache.head_stride * element_bytes), block_bytes_(cache.block_stride * element_bytes),
          slot_bytes_(cache.slot_stride * element_bytes), block_size_(block_size), table_(table + position / block_size),
          slot_(position % block_size) {}

    const std::byte* next() {
        if (slot_ == block_size_) {
            slot_ = 0;
            ++table_;
        }
        return data_ + *table_ * block_bytes_ + slot_++ * slot_bytes_;
    }


private:
    const std::byte* data_;
    int64_t block_bytes_, slot_bytes_, block_size_;
    const int32_t* table_;
    int64_t slot_;
};

class QueryTile {
public:
    QueryTile(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head)
        : a_(a), table_(a.block_tables + tile.request * a.max_blocks), kv_head_(kv_head), group_(a.heads / a.kv_heads),
          element_(a.type == CacheType::F32 ? 4 : 2), first_token_(tile.first_row), tokens_(tile.num_tokens),
          seq_len_(a.seq_lens[tile.request]),
          first_position_(seq_len_ - (a.query_starts[tile.request + 1] - tile.first_row)) {}

    int64_t tokens() const { return tokens_; }
    int64_t group() const { return group_; }
    int64_t rows() const { return tokens_ * group_; }
    int64_t head(int64_t row) const { return kv_head_ * group_ + row % group_; }

    const float* query(int64_t row) const {
        return a_.q + (first_token_ + row / group_) * a_.q_token_stride + head(row) * a_.q_head_stride;
    }
    float* output(int64_t row) const {
        return a_.o + ((first_token_ + row / group_) * a_.heads + head(row)) * a_.value_size;
    }

    // Positions of the keys that tokens begin … end − 1 see, taken together.
    KeyRange keys(int64_t begin, int64_t end) const {
        if (!a_.is_causal) return {0, seq_len_};
        const int64_t position = first_position_ + begin;
        return {position < a_.window ? 0 : position - a_.window + 1, first_position_ + end};
    }

    // Those of them in a KV tile, counted from its start.
    KeyRange keys(int64_t begin, int64_t end, int64_t start, int64_t size) const {
        const KeyRange all = keys(begin, end);
        return {larger(0, all.first - start), smaller(size, all.stop - start)};
    }

    // Keys, or values, from a position on.
    CacheRows keys_from(int64_t position) const { return {a_.k, a_.block_size, element_, kv_head_, table_, position}; }
    CacheRows values_from(int64_t position) const { return {a_.v, a_.block_size, element_, kv_head_, table_, position}; }

private:
    const AttentionArguments& a_;
    const int32_t* table_;
    int64_t kv_head_, group_, element_, first_token_, tokens_, seq_len_, first_position_;
};

}  // namespace octavo::OCTAVO_ISA
