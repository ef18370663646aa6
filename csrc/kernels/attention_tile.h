// What an item of attention works on: query rows of one request under one KV head, and the keys they see.
//
// The heads of the group are folded into rows, token-major: row = token · group + head of the group.
#pragma once

#include "elements.h"

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

    std::byte* next() {
        if (slot_ == block_size_) {
            slot_ = 0;
            ++table_;
        }
        return data_ + *table_ * block_bytes_ + slot_++ * slot_bytes_;
    }

private:
    std::byte* data_;
    int64_t block_bytes_, slot_bytes_, block_size_;
    const int32_t* table_;
    int64_t slot_;
};

// The whole request as a tile of queries.
inline AttentionTile whole_request(const AttentionArguments& a, int64_t request) {
    AttentionTile tile{};
    tile.request = static_cast<int32_t>(request);
    tile.first_row = a.query_starts[request];
    tile.num_tokens = a.query_starts[request + 1] - a.query_starts[request];
    return tile;
}

class QueryTile {
public:
    QueryTile(const AttentionArguments& a, const AttentionTile& tile, int64_t kv_head)
        : a_(a), table_(a.block_tables + tile.request * a.max_blocks), request_(tile.request), kv_head_(kv_head),
          group_(a.heads / a.kv_heads), element_(element_bytes(a.type)), q_element_(element_bytes(a.q_type)),
          first_token_(tile.first_row), tokens_(tile.num_tokens), seq_len_(a.seq_lens[tile.request]),
          first_position_(seq_len_ - (a.query_starts[tile.request + 1] - tile.first_row)),
          key_start_(a.key_starts ? a.key_starts[tile.request] : 0) {}

    int64_t tokens() const { return tokens_; }
    int64_t group() const { return group_; }
    int64_t rows() const { return tokens_ * group_; }
    int64_t head(int64_t row) const { return kv_head_ * group_ + row % group_; }

    int64_t request() const { return request_; }
    int64_t kv_head() const { return kv_head_; }
    int64_t seq_len() const { return seq_len_; }
    int64_t token(int64_t row) const { return first_token_ + row / group_; }  // of the step
    int64_t token_of_request(int64_t row) const { return token(row) - a_.query_starts[request_]; }
    int64_t position(int64_t row) const { return first_position_ + row / group_; }

    const std::byte* query(int64_t row) const {
        return a_.q + (token(row) * a_.q_token_stride + head(row) * a_.q_head_stride) * q_element_;
    }
    std::byte* output(int64_t row) const {
        return a_.o + (token(row) * a_.o_token_stride + head(row) * a_.o_head_stride) * q_element_;
    }

    // Positions of the keys that tokens begin … end − 1 see, taken together. Positions below 0 are those of rows beyond the keys.
    KeyRange keys(int64_t begin, int64_t end) const {
        return {larger(0, first_position_ + begin - a_.scores.left), smaller(seq_len_, first_position_ + end + a_.scores.right)};
    }

    // Of rows first … stop − 1.
    KeyRange keys_of_rows(int64_t first, int64_t stop) const {
        return first < stop ? keys(first / group_, (stop - 1) / group_ + 1) : KeyRange{0, 0};
    }

    // Those of tokens in a KV tile, counted from its start.
    KeyRange keys(int64_t begin, int64_t end, int64_t start, int64_t size) const {
        const KeyRange all = keys(begin, end);
        return {larger(0, all.first - start), smaller(size, all.stop - start)};
    }

    // Keys, or values, from a position on.
    CacheRows keys_from(int64_t position) const { return rows_of(a_.k, position); }
    CacheRows values_from(int64_t position) const { return rows_of(a_.v, position); }

    // The same slots of a cache of that type.
    CacheRows rows_of(const CacheView& cache, int64_t position) const {
        return {cache, a_.block_size, element_, kv_head_, table_, key_start_ + position};
    }

    // Whether 16 keys from a position on, a multiple of 16, lie one slot after the other, all of them in the cache.
    bool are_together(int64_t position) const {
        const int64_t slot = (key_start_ + position) % a_.block_size;
        return slot + 16 <= a_.block_size;
    }

private:
    const AttentionArguments& a_;
    const int32_t* table_;
    int64_t request_, kv_head_, group_, element_, q_element_, first_token_, tokens_, seq_len_, first_position_, key_start_;
};

}  // namespace octavo::OCTAVO_ISA
