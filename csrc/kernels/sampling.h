// What choosing tokens asks of logits, a row at a time: maximums of tiles, softmax and its logarithm.
#pragma once

#include <cmath>

#include "rowwise.h"

namespace octavo::OCTAVO_ISA {

// Item: one row.
template <class V>
void tile_max(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const TileMaxArguments*>(arguments);
    const int64_t num_tiles = (a.channels + a.tile - 1) / a.tile;
    const auto zero = V::broadcast(0.0f), infinity = V::broadcast(__builtin_inff());
    for (int64_t tile = 0; tile < num_tiles; ++tile) {
        const float* x = a.x + item * a.x_stride + tile * a.tile;
        auto highest = V::broadcast(-__builtin_inff());
        auto sign_of_nan = zero;  // NaN once a NaN was seen: whatever is less than infinity adds 0
        for_vectors<V>(smaller(a.tile, a.channels - tile * a.tile), [&](int64_t i, int lanes) {
            if (lanes == V::kLanes) {
                const auto value = V::load(x + i);
                highest = V::max(highest, value);
                sign_of_nan = V::add(sign_of_nan, V::select_less(value, infinity, zero, value));
                return;
            }
            for (int lane = 0; lane < lanes; ++lane) {
                const auto value = V::broadcast(x[i + lane]);
                highest = V::max(highest, value);
                sign_of_nan = V::add(sign_of_nan, V::select_less(value, infinity, zero, value));
            }
        });
        const float nan = V::reduce_add(sign_of_nan);
        a.maximums[item * num_tiles + tile] = nan != nan ? nan : V::reduce_max(highest);
    }
}

// Item: one row. With m = max x / t: e = exp(x / t − m), y = e / Σ e, or x / t − m − ln Σ e. A row of −∞ gives NaN.
template <class V>
void softmax(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const SoftmaxArguments*>(arguments);
    const float* x = a.x + item * a.x_stride;
    float* y = a.y + item * a.channels;
    const float temperature = a.temperatures ? a.temperatures[item] : 1.0f;
    const auto t = V::broadcast(temperature);
    auto highest = V::broadcast(-__builtin_inff());
    float maximum = -__builtin_inff();
    for_vectors<V>(a.channels, [&](int64_t i, int lanes) {
        if (lanes == V::kLanes) highest = V::max(highest, V::load(x + i));
        else for (int lane = 0; lane < lanes; ++lane) maximum = maximum < x[i + lane] ? x[i + lane] : maximum;
    });
    const float of_vectors = V::reduce_max(highest);
    const auto shift = V::broadcast((maximum < of_vectors ? of_vectors : maximum) / temperature);
    const auto shifted = [&](int64_t i, int lanes) { return V::sub(V::div(load_lanes<V>(x + i, lanes), t), shift); };
    // Lanes beyond a row's end hold 0 − shift: they are kept out of the sum.
    const int64_t whole = a.channels / V::kLanes * V::kLanes;
    float total = sum_of<V>(whole, [&](int64_t i, int lanes) {
        const auto e = exp<V>(shifted(i, lanes));
        if (!a.is_log) V::store(y + i, e);
        return e;
    });
    for (int64_t i = whole; i < a.channels; ++i) {
        float e[V::kLanes];
        V::store(e, exp<V>(shifted(i, 1)));
        if (!a.is_log) y[i] = e[0];
        total += e[0];
    }
    const auto sum = V::broadcast(total), logarithm = V::broadcast(std::log(total));
    for_vectors<V>(a.channels, [&](int64_t i, int lanes) {
        const auto value = a.is_log ? V::sub(shifted(i, lanes), logarithm) : V::div(load_lanes<V>(y + i, lanes), sum);
        store_lanes<V>(y + i, value, lanes);
    });
}

}  // namespace octavo::OCTAVO_ISA
