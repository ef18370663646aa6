// Scores of attention rows to p = 2^(score·scale·log₂e − m) in bf16, in place; their running m and sums, and o, which m scales.
//
// Every row is worked on alone, in tiles of keys at fixed positions, whoever computed its scores: so the paths that share
// this give the same bits. m need not be the maximum, only near it: it is raised when a score passes it by more than
// kSlack, so that o is seldom rescaled.
#pragma once

#include <cstring>

#include "attention_scores.h"
#include "bf16_terms.h"
#include "dropout.h"
#include "power_of_two.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t kAmxKvTile = 128;
constexpr float kSlack = 8.0f;  // p ≤ 2⁸
constexpr float kLargeMax = 1 << 22;

template <int Terms>
class AmxSoftmax {
public:
    static constexpr int64_t kLanes = 16;

    AmxSoftmax(const AttentionArguments& a, const QueryTile& queries)
        : a_(a), queries_(queries), scale_(score_scale(a.scores, queries.request(), queries.kv_head())),
          is_plain_(is_only_scaled(a.scores) && scale_ > 0.0f), factor_(is_plain_ ? scale_ * kLog2e : 1.0f) {}

    // Memory for rows: their m, the score above which m is raised, sums (16 lanes) and o.
    void place(float* max, float* limit, float* sums, float* o, int64_t o_stride) {
        max_ = max;
        limit_ = limit;
        sums_ = sums;
        o_ = o;
        o_stride_ = o_stride;
    }

    void start(int64_t rows) const {
        for (int64_t row = 0; row < rows; ++row) max_[row] = limit_[row] = -kInfinity;
        std::memset(sums_, 0, static_cast<size_t>(4 * rows * kLanes));
        std::memset(o_, 0, static_cast<size_t>(4 * rows * o_stride_));
    }

    float sum(int64_t row) const { return Vector::reduce_add(Vector::load(sums_ + row * kLanes)); }

    // Scores of a row to p, each 32 in the order of PowersOfTwo: terms of kAmxKvTile of them. A single term may lie where the
    // scores do. `keys` are blocks of 32 that hold all that it sees of the tile at `start`.
    [[gnu::always_inline]] void soften(int64_t row, float* s, uint16_t* p, int64_t start, KeyRange keys, KeyRange seen) const {
        if (!is_plain_) take_logarithms(row, s, start, keys);
        if (seen.first > keys.first || seen.stop < keys.stop) hide(s, keys, seen);
        if (keys.stop - keys.first == kAmxKvTile) take_powers(row, s, p, kAmxKvTile);
        else take_powers(row, s + keys.first, p, keys.stop - keys.first);
        if (a_.scores.kept_factor != 0.0f) drop(row, p, start, keys);
    }

private:
    [[gnu::noinline]] void take_logarithms(int64_t row, float* s, int64_t start, KeyRange keys) const {
        using V = Vector;
        const RowScores<V> in_log2 = row_scores<V>(a_, queries_, scale_, row);
        for (int64_t i = keys.first; i < keys.stop; i += kLanes) V::store(s + i, in_log2(V::load(s + i), start + i));
    }

    // Dropped probabilities to 0.
    [[gnu::noinline]] void drop(int64_t row, uint16_t* p, int64_t start, KeyRange keys) const {
        const DropoutRow dropout(a_.scores, queries_.request(), queries_.head(row), queries_.token_of_request(row));
        uint32_t drops[DropoutRow::kKeys];
        for (int64_t i = keys.first; i < keys.stop; i += 32, p += 32) {
            if (i == keys.first || i % DropoutRow::kKeys == 0)
                dropout.decide(start + i / DropoutRow::kKeys * DropoutRow::kKeys, drops);
            const uint32_t* words = drops + i % DropoutRow::kKeys;
            const __m512i drop = _mm512_packs_epi32(_mm512_loadu_si512(words), _mm512_loadu_si512(words + kLanes));
            for (int term = 0; term < Terms; ++term) {
                uint16_t* some = p + term * kAmxKvTile;
                _mm512_storeu_si512(some, _mm512_andnot_si512(drop, _mm512_loadu_si512(some)));
            }
        }
    }

    // −∞ for the keys that a row does not see.
    [[gnu::noinline]] static void hide(float* s, KeyRange keys, KeyRange seen) {
        for (int64_t i = keys.first; i < keys.stop; i += kLanes) {
            const int64_t first = larger(0, seen.first - i), stop = smaller(kLanes, seen.stop - i);
            const uint32_t below_stop = stop <= 0 ? 0 : (1u << stop) - 1, below_first = first >= kLanes ? ~0u : (1u << first) - 1;
            Vector::store(s + i, _mm512_mask_mov_ps(Vector::broadcast(-kInfinity),
                                                    static_cast<__mmask16>(below_stop & ~below_first), Vector::load(s + i)));
        }
    }

    // Where no key has been seen yet, scores are −∞ and p = 0. Nothing here waits for the maximum: that m stays is predicted.
    [[gnu::always_inline]] void take_powers(int64_t row, float* s, uint16_t* p, int64_t count) const {
        using V = Vector;
        auto even = V::load(s), odd = V::load(s + kLanes);
        __mmask16 is_number = _mm512_cmp_ps_mask(even, odd, _CMP_ORD_Q);
        for (int64_t i = 32; i < count; i += 32) {
            const auto x = V::load(s + i), y = V::load(s + i + kLanes);
            is_number = _mm512_mask_cmp_ps_mask(is_number, x, y, _CMP_ORD_Q);
            even = V::max(even, x);
            odd = V::max(odd, y);
        }
        const auto highest = V::max(even, odd);
        const __mmask16 is_low = _mm512_mask_cmp_ps_mask(is_number, highest, V::broadcast(limit_[row]), _CMP_LE_OQ);
        if (is_low != 0xffff) [[unlikely]] raise_maximum(row, highest, is_number == 0xffff);
        // Of so large an m the rounding is itself a power of two to reckon with: then scores are rounded as it was.
        float factor_of_scores = factor_;
        if (std::fabs(max_[row]) >= kLargeMax) [[unlikely]] {
            for (int64_t i = 0; i < count; i += kLanes) V::store(s + i, V::mul(V::load(s + i), V::broadcast(factor_)));
            factor_of_scores = 1.0f;
        }
        auto sum = V::load(sums_ + row * kLanes);
        if constexpr (Terms == 1) {
            const auto offset = V::broadcast(PowersOfTwo::kRound - max_[row] * PowersOfTwo::kUnit);
            const auto factor = V::broadcast(factor_of_scores * PowersOfTwo::kUnit);
            const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
            const PowersOfTwo power;
#pragma GCC unroll 4
            for (int64_t i = 0; i < count; i += 32) {
                const __m512i bits = power(V::fma(V::load(s + i), factor, offset), V::fma(V::load(s + i + kLanes), factor, offset));
                sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(bits), ones);
                _mm512_storeu_si512(p + i, bits);
            }
        } else {
            // Where all scores so far are −∞ their p is 0, not the NaN of −∞ − −∞.
            const auto offset = V::broadcast(max_[row] == -kInfinity ? 0.0f : -max_[row]), factor = V::broadcast(factor_of_scores);
#pragma GCC unroll 2
            for (int64_t i = 0; i < count; i += 32) {
                const auto low = power_of_two(V::fma(V::load(s + i), factor, offset));
                const auto high = power_of_two(V::fma(V::load(s + i + kLanes), factor, offset));
                sum = V::add(sum, V::add(low, high));
                __m512i terms[Terms];
                split_by_turns(low, high, terms);
                for (int term = 0; term < Terms; ++term) _mm512_storeu_si512(p + term * kAmxKvTile + i, terms[term]);
            }
        }
        V::store(sums_ + row * kLanes, sum);
    }

    [[gnu::noinline]] void raise_maximum(int64_t row, __m512 scores, bool are_numbers) const {
        using V = Vector;
        float* sums = sums_ + row * kLanes;
        if (!are_numbers) {  // the row's result is NaN; p of a NaN is 0
            V::store(sums, V::broadcast(__builtin_nanf("")));
            return;
        }
        const float new_max = V::reduce_max(scores) * factor_;
        const float old_max = max_[row];
        max_[row] = new_max;
        limit_[row] = (new_max + kSlack) / factor_;
        if (old_max == -kInfinity) return;  // nothing to rescale
        const auto factor = exp2<V>(V::broadcast(old_max - new_max));
        V::store(sums, V::mul(V::load(sums), factor));
        float* o = o_ + row * o_stride_;
        for (int64_t i = 0; i < o_stride_; i += kLanes) V::store(o + i, V::mul(V::load(o + i), factor));
    }

    const AttentionArguments& a_;
    const QueryTile& queries_;
    float scale_;
    bool is_plain_;
    float factor_;
    float *max_ = nullptr, *limit_ = nullptr, *sums_ = nullptr, *o_ = nullptr;
    int64_t o_stride_ = 0;
};

}  // namespace octavo::OCTAVO_ISA
