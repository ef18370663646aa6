// Kernels that work on one row at a time: norms, rotary, gated activations, and the cache's writes.
#pragma once

#include "math.h"

namespace octavo::OCTAVO_ISA {

// Four partial sums of vectors, taken in turn, then a fixed tree: the order depends on n alone.
template <class V, class F>
inline float sum_of(int64_t n, F term) {
    typename V::Float sums[4];
    for (auto& sum : sums) sum = V::broadcast(0.0f);
    for_vectors<V>(n, [&](int64_t i, int lanes) {
        auto& sum = sums[i / V::kLanes % 4];
        sum = V::add(sum, term(i, lanes));
    });
    return V::reduce_add(V::add(V::add(sums[0], sums[1]), V::add(sums[2], sums[3])));
}

template <class F>
inline void for_rows(int64_t rows, int64_t row_elements, int64_t item, F f) {
    const int64_t count = larger(1, kElementsPerItem / larger(1, row_elements));
    const int64_t end = smaller(rows, (item + 1) * count);
    for (int64_t row = item * count; row < end; ++row) f(row);
}

template <class V>
void rms_norm(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const RmsNormArguments*>(arguments);
    for_rows(a.rows, a.channels, item, [&](int64_t row) {
        const float* x = a.x + row * a.x_stride;
        if (a.residual) {
            float* total = a.total + row * a.channels;
            for_vectors<V>(a.channels, [&](int64_t i, int lanes) {
                const auto residual = load_lanes<V>(a.residual + row * a.channels + i, lanes);
                store_lanes<V>(total + i, V::add(load_lanes<V>(x + i, lanes), residual), lanes);
            });
            x = total;
        }
        const float squares = sum_of<V>(a.channels, [&](int64_t i, int lanes) {
            const auto value = load_lanes<V>(x + i, lanes);
            return V::mul(value, value);
        });
        const auto scale = V::broadcast(1.0f / __builtin_sqrtf(squares / static_cast<float>(a.channels) + a.eps));
        float* y = a.y + row * a.channels;
        for_vectors<V>(a.channels, [&](int64_t i, int lanes) {
            const auto normed = V::mul(load_lanes<V>(x + i, lanes), scale);
            store_lanes<V>(y + i, V::mul(normed, load_lanes<V>(a.weight + i, lanes)), lanes);
        });
    });
}

template <class V>
void layer_norm(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const LayerNormArguments*>(arguments);
    for_rows(a.rows, a.channels, item, [&](int64_t row) {
        const float* x = a.x + row * a.x_stride;
        const float count = static_cast<float>(a.channels);
        const float sum = sum_of<V>(a.channels, [&](int64_t i, int lanes) { return load_lanes<V>(x + i, lanes); });
        const auto mean = V::broadcast(sum / count), zero = V::broadcast(0.0f);
        float* y = a.y + row * a.channels;
        for_vectors<V>(a.channels, [&](int64_t i, int lanes) {
            store_lanes<V>(y + i, V::sub(load_lanes<V>(x + i, lanes), mean), lanes);
        });
        const float squares = sum_of<V>(a.channels, [&](int64_t i, int lanes) {
            const auto centred = load_lanes<V>(y + i, lanes);
            return V::mul(centred, centred);
        });
        const auto scale = V::broadcast(1.0f / __builtin_sqrtf(squares / count + a.eps));
        for_vectors<V>(a.channels, [&](int64_t i, int lanes) {
            auto value = V::mul(V::mul(load_lanes<V>(y + i, lanes), scale), load_lanes<V>(a.weight + i, lanes));
            value = V::add(value, a.bias ? load_lanes<V>(a.bias + i, lanes) : zero);
            store_lanes<V>(y + i, value, lanes);
        });
    });
}

template <class V>
void rotary(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const RotaryArguments*>(arguments);
    const int64_t half = a.rotary_size / 2;
    for_rows(a.tokens, a.heads * a.rotary_size, item, [&](int64_t token) {
        const float* cos = a.cos_sin + a.positions[token] * a.rotary_size;
        const float* sin = cos + half;
        for (int64_t head = 0; head < a.heads; ++head) {
            float* x = a.x + token * a.token_stride + head * a.head_stride;
            for_vectors<V>(half, [&](int64_t i, int lanes) {
                const auto first = load_lanes<V>(x + i, lanes), second = load_lanes<V>(x + half + i, lanes);
                const auto c = load_lanes<V>(cos + i, lanes), s = load_lanes<V>(sin + i, lanes);
                store_lanes<V>(x + i, V::sub(V::mul(first, c), V::mul(second, s)), lanes);
                store_lanes<V>(x + half + i, V::add(V::mul(second, c), V::mul(first, s)), lanes);
            });
        }
    });
}

template <class V>
inline typename V::Float silu(typename V::Float x) {
    const auto one = V::broadcast(1.0f);
    return V::div(x, V::add(one, exp<V>(V::sub(V::broadcast(0.0f), x))));
}

template <class V>
inline typename V::Float gelu_tanh(typename V::Float x) {
    const auto cube = V::mul(V::mul(x, x), x);
    const auto inner = V::mul(V::broadcast(0.7978845608f), V::add(x, V::mul(V::broadcast(0.044715f), cube)));
    return V::mul(V::mul(V::broadcast(0.5f), x), V::add(V::broadcast(1.0f), tanh<V>(inner)));
}

template <class V>
void gated(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const GatedArguments*>(arguments);
    const bool is_silu = a.activation == GatedActivation::SiLU;
    for_rows(a.rows, a.features, item, [&](int64_t row) {
        const float* gate = a.x + row * a.x_stride;
        const float* up = gate + a.features;
        for_vectors<V>(a.features, [&](int64_t i, int lanes) {
            const auto x = load_lanes<V>(gate + i, lanes);
            const auto activated = is_silu ? silu<V>(x) : gelu_tanh<V>(x);
            store_lanes<V>(a.y + row * a.features + i, V::mul(activated, load_lanes<V>(up + i, lanes)), lanes);
        });
    });
}

// Rounds to the cache's type, to nearest even.
template <class V>
inline void store_as(CacheType type, std::byte* to, int64_t i, typename V::Float v, int lanes) {
    if (type == CacheType::F32) return store_lanes<V>(reinterpret_cast<float*>(to) + i, v, lanes);
    uint16_t rounded[V::kLanes];
    if (type == CacheType::BF16) V::store_bf16(rounded, v);
    else V::store_f16(rounded, v);
    __builtin_memcpy(reinterpret_cast<uint16_t*>(to) + i, rounded, sizeof(uint16_t) * static_cast<size_t>(lanes));
}

template <class V>
void store(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const StoreArguments*>(arguments);
    const int64_t element = a.type == CacheType::F32 ? 4 : 2;
    for_rows(a.tokens, a.heads * a.head_size, item, [&](int64_t token) {
        const int64_t block = a.slots[token] / a.block_size, offset = a.slots[token] % a.block_size;
        for (int64_t head = 0; head < a.heads; ++head) {
            const CacheView& cache = a.cache;
            std::byte* to = cache.data + (block * cache.block_stride + offset * cache.slot_stride +
                                          head * cache.head_stride) * element;
            const float* x = a.x + token * a.token_stride + head * a.head_stride;
            for_vectors<V>(a.head_size, [&](int64_t i, int lanes) {
                store_as<V>(a.type, to, i, load_lanes<V>(x + i, lanes), lanes);
            });
        }
    });
}

}  // namespace octavo::OCTAVO_ISA
