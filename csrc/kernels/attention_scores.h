// What a score q·k goes through before the softmax, but for what the row does not see: AttentionScores.
#pragma once

#include "attention_state.h"

namespace octavo::OCTAVO_ISA {

alignas(64) inline constexpr float kLaneIndex[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

inline float score_scale(const AttentionScores& scores, int64_t request, int64_t kv_head) {
    return scores.k_scales ? scores.scale * scores.k_scales[request * scores.k_scales_stride + kv_head] : scores.scale;
}

// Whether a score is only scaled.
inline bool is_only_scaled(const AttentionScores& scores) {
    return scores.softcap == 0.0f && !scores.slopes && !scores.bias;
}

// log₂e · (cap(scale·q·k) − slope·|position − key| + bias) of one row.
template <class V>
class RowScores {
public:
    using Float = typename V::Float;

    RowScores(const AttentionScores& scores, float scale, int64_t request, int64_t head, int64_t row, int64_t position)
        : scale_(scale), softcap_(scores.softcap), position_(position),
          slope_(scores.slopes ? scores.slopes[request * scores.slopes_stride + head] : 0.0f), bias_keys_(scores.bias_keys) {
        if (scores.bias)
            bias_ = scores.bias + request * scores.bias_request_stride + head * scores.bias_head_stride + row * scores.bias_row_stride;
    }

    // Of keys from `key` on; lanes beyond the bias's keys get any number.
    Float operator()(Float product, int64_t key) const {
        return V::mul(biased(capped(product), key), V::broadcast(kLog2e));
    }

private:
    Float capped(Float product) const {
        const auto s = V::mul(product, V::broadcast(scale_));
        if (softcap_ == 0.0f) return s;
        const auto cap = V::broadcast(softcap_);
        return V::mul(cap, tanh<V>(V::div(s, cap)));
    }

    Float biased(Float s, int64_t key) const {
        if (slope_ != 0.0f) {
            const auto zero = V::broadcast(0.0f);
            const auto ahead = V::add(V::broadcast(static_cast<float>(key - position_)), V::load(kLaneIndex));
            s = V::sub(s, V::mul(V::broadcast(slope_), V::max(ahead, V::sub(zero, ahead))));
        }
        if (bias_ && key < bias_keys_)
            s = V::add(s, load_lanes<V>(bias_ + key, static_cast<int>(smaller(V::kLanes, bias_keys_ - key))));
        return s;
    }

    float scale_, softcap_;
    int64_t position_;
    float slope_;
    int64_t bias_keys_;
    const float* bias_ = nullptr;
};

// The row of a tile of queries.
template <class V>
inline RowScores<V> row_scores(const AttentionArguments& a, const QueryTile& tile, float scale, int64_t row) {
    return {a.scores, scale, tile.request(), tile.head(row), tile.token_of_request(row), tile.position(row)};
}

}  // namespace octavo::OCTAVO_ISA
