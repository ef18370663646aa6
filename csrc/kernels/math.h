// Vector functions. Each lane's result depends on that lane alone, so a tail gives the bits of a full vector.
#pragma once

#include "../arguments.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

struct RowRange {
    int64_t first, end;
};

// The rows of an item of a row-wise kernel, a multiple of `batch` but at the end; num_row_items of dispatch.cpp counts the items.
inline RowRange row_range(int64_t rows, int64_t row_elements, int64_t item, int64_t batch = 1) {
    const int64_t count = round_up(larger(1, kElementsPerItem / larger(1, row_elements)), batch);
    return {item * count, smaller(rows, (item + 1) * count)};
}

// Calls f(offset, lanes) for vectors over n elements; only the last may have fewer lanes than V::kLanes.
template <class V, class F>
inline void for_vectors(int64_t n, F f) {
    int64_t i = 0;
    for (; i + V::kLanes <= n; i += V::kLanes) f(i, V::kLanes);
    if (i < n) f(i, static_cast<int>(n - i));
}

template <class V>
inline typename V::Float load_lanes(const float* p, int lanes) {
    return lanes == V::kLanes ? V::load(p) : V::load_partial(p, lanes);
}

template <class V>
inline void store_lanes(float* p, typename V::Float v, int lanes) {
    if (lanes == V::kLanes) V::store(p, v);
    else V::store_partial(p, v, lanes);
}

// e^x within 2 ulp for −87.3 ≤ x ≤ 88.3; e^0 = 1 exactly. x = n·ln 2 + r, e^x = 2ⁿ·e^r. Cephes (Moshier) expf.
template <class V>
inline typename V::Float exp_in_range(typename V::Float x) {
    const auto n = V::round(V::mul(x, V::broadcast(1.44269504088896341f)));
    auto r = V::fma(n, V::broadcast(-0.693359375f), x);
    r = V::fma(n, V::broadcast(2.12194440e-4f), r);
    auto p = V::broadcast(1.9875691500e-4f);
    p = V::fma(p, r, V::broadcast(1.3981999507e-3f));
    p = V::fma(p, r, V::broadcast(8.3334519073e-3f));
    p = V::fma(p, r, V::broadcast(4.1665795894e-2f));
    p = V::fma(p, r, V::broadcast(1.6666665459e-1f));
    p = V::fma(p, r, V::broadcast(5.0000001201e-1f));
    p = V::add(V::fma(V::mul(p, r), r, r), V::broadcast(1.0f));
    return V::scale_by_power(p, n);
}

// e^x; 0 below −87.3 (where e^x is subnormal), infinity above 88.3.
template <class V>
inline typename V::Float exp(typename V::Float x) {
    const auto low = V::broadcast(-87.3f), high = V::broadcast(88.3f);
    auto y = V::select_less(x, low, low, x);
    y = V::select_less(high, y, high, y);
    const auto result = V::select_less(high, x, V::broadcast(__builtin_inff()), exp_in_range<V>(y));
    return V::select_less(x, low, V::broadcast(0.0f), result);
}

// 2^r for |r| ≤ 1/2; 2^0 = 1 exactly. Cephes (Moshier) exp2f.
template <class V>
inline typename V::Float exp2_of_fraction(typename V::Float r) {
    auto p = V::broadcast(1.535336188319500e-4f);
    p = V::fma(p, r, V::broadcast(1.339887440266574e-3f));
    p = V::fma(p, r, V::broadcast(9.618437357674640e-3f));
    p = V::fma(p, r, V::broadcast(5.550332471162809e-2f));
    p = V::fma(p, r, V::broadcast(2.402264791363012e-1f));
    p = V::fma(p, r, V::broadcast(6.931472028550421e-1f));
    return V::fma(p, r, V::broadcast(1.0f));
}

// 2^x within 2 ulp for x up to 127; 0 below −126, 2^0 = 1 exactly. x = n + r, 2^x = 2ⁿ·2^r.
template <class V>
inline typename V::Float exp2(typename V::Float x) {
    const auto low = V::broadcast(-126.0f);
    const auto y = V::select_less(x, low, low, x);
    const auto n = V::round(y);
    return V::select_less(x, low, V::broadcast(0.0f), V::scale_by_power(exp2_of_fraction<V>(V::sub(y, n)), n));
}

// tanh x within 3 ulp: an odd polynomial below 0.625, 1 − 2 / (e^2|x| + 1) above. Cephes (Moshier) tanhf.
template <class V>
inline typename V::Float tanh(typename V::Float x) {
    const auto zero = V::broadcast(0.0f), one = V::broadcast(1.0f), two = V::broadcast(2.0f);
    const auto magnitude = V::select_less(x, zero, V::sub(zero, x), x);
    const auto square = V::mul(x, x);
    auto p = V::broadcast(-5.70498872745e-3f);
    p = V::fma(p, square, V::broadcast(2.06390887954e-2f));
    p = V::fma(p, square, V::broadcast(-5.37397155531e-2f));
    p = V::fma(p, square, V::broadcast(1.33314422036e-1f));
    p = V::fma(p, square, V::broadcast(-3.33332819422e-1f));
    const auto small = V::fma(V::mul(p, square), x, x);
    const auto above = V::sub(one, V::div(two, V::add(exp<V>(V::mul(magnitude, two)), one)));
    const auto large = V::select_less(x, zero, V::sub(zero, above), above);
    return V::select_less(magnitude, V::broadcast(0.625f), small, large);
}

}  // namespace octavo::OCTAVO_ISA
