// What a tile of attention's backward pass knows of its rows: probabilities from scores, and gradients of scores.
//
// With keys as rows and query rows as lanes, S and the log-sum-exp give P without a sum (Dao 2023, arXiv 2307.08691,
// algorithm 2):
//
//     P = e^min(0, S − lse),   dS = scale·cap′·P ∘ (dP ∘ Z − δ),   Z = 0 where dropped, else 1 / (1 − probability)
//     δ = rowsum(dO ∘ O) − dLSE
#pragma once

#include "attention_scores.h"
#include "dropout.h"

namespace octavo::OCTAVO_ISA {

// A block of Rows rows of one request under one KV head.
template <class V, int64_t Rows>
class GradientRows {
public:
    GradientRows(const AttentionBackwardArguments& a, const QueryTile& queries, int64_t first_row, int64_t stop_row)
        : scores_(a.forward.scores), first_(first_row), count_(smaller(Rows, stop_row - first_row)),
          position_(queries.position(first_row)) {
        const AttentionArguments& f = a.forward;
        const int64_t num_tokens = f.query_starts[f.num_requests];
        for (int64_t lane = 0; lane < Rows; ++lane) {
            const int64_t row = first_ + smaller(lane, count_ - 1), head = queries.head(row);
            const int64_t index = head * num_tokens + queries.token(row);
            const float lse = lane < count_ ? f.lse[index] : -kInfinity;
            lse_[lane] = lse == -kInfinity ? kInfinity : lse * kLog2e;  // of a row that sees no key: P = e^(… − ∞) = 0
            delta_[lane] = a.delta[index];
            offset_[lane] = static_cast<float>(queries.position(row) - position_);
            slope_[lane] = scores_.slopes ? scores_.slopes[queries.request() * scores_.slopes_stride + head] : 0.0f;
            bias_[lane] = !scores_.bias ? nullptr
                                        : scores_.bias + queries.request() * scores_.bias_request_stride +
                                              head * scores_.bias_head_stride + queries.token_of_request(row) * scores_.bias_row_stride;
        }
    }

    int64_t count() const { return count_; }

    // log₂e · lse, and scale · δ, of rows from `row` on.
    typename V::Float lse_in_log2(int64_t row) const { return V::load(lse_ + row); }
    typename V::Float scaled_delta(int64_t row) const { return V::mul(V::load(delta_ + row), V::broadcast(scores_.scale)); }

    // Of one key and rows first … stop − 1, whole vectors: products q·k to P ∘ Z, and dO·v to dS, in place. z: Z, or null for ones.
    void differentiate(int64_t key, int64_t first, int64_t stop, float* s, float* dp, const float* z) const {
        const auto zero = V::broadcast(0.0f), scale = V::broadcast(scores_.scale), log2e = V::broadcast(kLog2e);
        const bool has_left = scores_.left != kNoWindow, has_right = scores_.right != kNoWindow;
        const auto oldest = offset_of(key - scores_.right), newest = offset_of(key + scores_.left);  // rows that see the key
        for (int64_t i = first; i < stop; i += V::kLanes) {
            const auto offset = V::load(offset_ + i);
            auto x = V::mul(V::load(s + i), scale);
            auto factor = scale;
            if (scores_.softcap != 0.0f) {
                const auto cap = V::broadcast(scores_.softcap);
                const auto t = tanh<V>(V::div(x, cap));
                x = V::mul(cap, t);
                factor = V::mul(factor, V::fma(V::sub(zero, t), t, V::broadcast(1.0f)));
            }
            if (scores_.slopes) {
                const auto ahead = V::sub(V::broadcast(static_cast<float>(key - position_)), offset);
                x = V::sub(x, V::mul(V::load(slope_ + i), V::max(ahead, V::sub(zero, ahead))));
            }
            if (scores_.bias) x = V::add(x, biases(key, i));
            x = V::sub(V::mul(x, log2e), V::load(lse_ + i));
            auto p = exp2<V>(V::select_less(zero, x, zero, x));  // of a large lse, rounding may leave P above 1 by much
            auto d = V::load(dp + i), kept = p;
            if (z) {
                d = V::mul(d, V::load(z + i));
                kept = V::mul(p, V::load(z + i));
            }
            auto ds = V::mul(V::mul(factor, p), V::sub(d, V::load(delta_ + i)));
            if (has_right) {
                kept = V::select_less(offset, oldest, zero, kept);
                ds = V::select_less(offset, oldest, zero, ds);
            }
            if (has_left) {
                kept = V::select_less(newest, offset, zero, kept);
                ds = V::select_less(newest, offset, zero, ds);
            }
            V::store(s + i, kept);
            V::store(dp + i, ds);
        }
    }

    // Z of keys first … first + 63, (64, Rows); first is a multiple of 64.
    void take_dropout(const QueryTile& queries, int64_t first, float* z) const {
        for (int64_t lane = count_; lane < Rows; ++lane)
            for (int64_t key = 0; key < DropoutRow::kKeys; ++key) z[key * Rows + lane] = 0.0f;
        for (int64_t lane = 0; lane < count_; ++lane) {
            uint32_t drops[DropoutRow::kKeys];
            const int64_t row = first_ + lane;
            DropoutRow(scores_, queries.request(), queries.head(row), queries.token_of_request(row)).decide(first, drops);
            for (int64_t key = 0; key < DropoutRow::kKeys; ++key)
                z[key * Rows + lane] = drops[key] ? 0.0f : scores_.kept_factor;
        }
    }

private:
    // A position as offset_ counts, exact: those before all rows are one number, those behind them another.
    typename V::Float offset_of(int64_t position) const {
        return V::broadcast(static_cast<float>(larger(-1, smaller(Rows, position - position_))));
    }

    typename V::Float biases(int64_t key, int64_t i) const {
        float values[V::kLanes];
        for (int lane = 0; lane < V::kLanes; ++lane) values[lane] = bias_[i + lane][key];
        return V::load(values);
    }

    const AttentionScores& scores_;
    int64_t first_, count_, position_;  // the first row's
    alignas(64) float lse_[Rows], delta_[Rows], offset_[Rows], slope_[Rows];  // position − position_
    const float* bias_[Rows];
};

// delta: one item is a run of tokens.
template <class V>
void attention_delta(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AttentionBackwardArguments*>(arguments);
    const AttentionArguments& f = a.forward;
    const int64_t num_tokens = f.query_starts[f.num_requests], element = element_bytes(f.q_type);
    const RowRange tokens = row_range(num_tokens, f.heads * f.value_size, item);
    for (int64_t token = tokens.first; token < tokens.end; ++token)
        for (int64_t head = 0; head < f.heads; ++head) {
            const int64_t at = (token * f.heads + head) * f.value_size * element;
            auto sum = V::broadcast(0.0f);
            for_vectors<V>(f.value_size, [&](int64_t i, int lanes) {
                sum = V::fma(load_as<V>(f.q_type, f.o + at, i, lanes), load_as<V>(f.q_type, a.d_o + at, i, lanes), sum);
            });
            const int64_t index = head * num_tokens + token;
            a.delta[index] = V::reduce_add(sum) - (a.d_lse ? a.d_lse[index] : 0.0f);
        }
}

}  // namespace octavo::OCTAVO_ISA
