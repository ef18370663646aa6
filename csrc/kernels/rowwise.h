// Kernels that work on one row at a time: norms, rotary, gated activations, and the cache's writes.
#pragma once

#include "elements.h"
#include "quantize.h"

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
    const RowRange range = row_range(rows, row_elements, item);
    for (int64_t row = range.first; row < range.end; ++row) f(row);
}

template <class V>
inline void rms_norm_row(const float* x, const float* weight, float* y, int64_t channels, float eps) {
    const float squares = sum_of<V>(channels, [&](int64_t i, int lanes) {
        const auto value = load_lanes<V>(x + i, lanes);
        return V::mul(value, value);
    });
    const auto scale = V::broadcast(1.0f / __builtin_sqrtf(squares / static_cast<float>(channels) + eps));
    for_vectors<V>(channels, [&](int64_t i, int lanes) {
        const auto normed = V::mul(load_lanes<V>(x + i, lanes), scale);
        store_lanes<V>(y + i, V::mul(normed, load_lanes<V>(weight + i, lanes)), lanes);
    });
}

template <class V>
inline void add_row(const float* x, const float* y, float* total, int64_t channels) {
    for_vectors<V>(channels, [&](int64_t i, int lanes) {
        store_lanes<V>(total + i, V::add(load_lanes<V>(x + i, lanes), load_lanes<V>(y + i, lanes)), lanes);
    });
}

template <class V>
void rms_norm(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const RmsNormArguments*>(arguments);
    for_narrowed_rows<V>(a.y, a.narrow, a.rows, a.channels, item, [&](int64_t row, float* y) {
        const float* x = a.x + row / a.heads * a.x_stride + row % a.heads * a.head_stride;
        if (a.residual) {
            float* total = a.total + row * a.channels;
            add_row<V>(x, a.residual + row * a.channels, total, a.channels);
            x = total;
        }
        rms_norm_row<V>(x, a.weight, y, a.channels, a.eps);
    });
}

template <class V>
void add(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const AddArguments*>(arguments);
    for_rows(a.rows, a.channels, item, [&](int64_t row) {
        const int64_t start = row * a.channels;
        add_row<V>(a.x + start, a.y + start, a.total + start, a.channels);
    });
}

template <class V>
void take_rows(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const TakeRowsArguments*>(arguments);
    for_rows(a.rows, a.channels, item, [&](int64_t row) {
        __builtin_memcpy(a.y + row * a.channels, a.x + a.ids[row] * a.x_stride,
                         static_cast<size_t>(a.channels) * sizeof(float));
    });
}

template <class V>
void softcap(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const SoftcapArguments*>(arguments);
    const auto cap = V::broadcast(a.cap);
    for_rows(a.rows, a.channels, item, [&](int64_t row) {
        for_vectors<V>(a.channels, [&](int64_t i, int lanes) {
            const auto x = load_lanes<V>(a.x + row * a.channels + i, lanes);
            store_lanes<V>(a.y + row * a.channels + i, V::mul(cap, tanh<V>(V::div(x, cap))), lanes);
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

// Rotates the first rotary_size elements of a head in place; cos_sin is the row of its position.
template <class V>
inline void rotate_head(float* x, const float* cos_sin, int64_t rotary_size) {
    const int64_t half = rotary_size / 2;
    const float *cos = cos_sin, *sin = cos_sin + half;
    for_vectors<V>(half, [&](int64_t i, int lanes) {
        const auto first = load_lanes<V>(x + i, lanes), second = load_lanes<V>(x + half + i, lanes);
        const auto c = load_lanes<V>(cos + i, lanes), s = load_lanes<V>(sin + i, lanes);
        store_lanes<V>(x + i, V::sub(V::mul(first, c), V::mul(second, s)), lanes);
        store_lanes<V>(x + half + i, V::add(V::mul(second, c), V::mul(first, s)), lanes);
    });
}

template <class V>
void rotary(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const RotaryArguments*>(arguments);
    for_rows(a.rows, a.heads * a.rotary_size, item, [&](int64_t token) {
        for (int64_t head = 0; head < a.heads; ++head)
            rotate_head<V>(a.x + token * a.token_stride + head * a.head_stride,
                           a.cos_sin + a.positions[token] * a.rotary_size, a.rotary_size);
    });
}

// x / (1 + e^−x); 0 below −87, where it is next to nothing.
template <class V>
[[gnu::always_inline]] inline typename V::Float silu(typename V::Float x) {
    const auto zero = V::broadcast(0.0f), low = V::broadcast(-87.0f);
    const auto e = exp_in_range<V>(V::max(V::sub(zero, V::max(x, low)), low));
    return V::select_less(x, low, zero, V::mul(x, V::reciprocal(V::add(V::broadcast(1.0f), e))));
}

template <class V>
[[gnu::always_inline]] inline typename V::Float gelu_tanh(typename V::Float x) {
    const auto cube = V::mul(V::mul(x, x), x);
    const auto inner = V::mul(V::broadcast(0.7978845608f), V::add(x, V::mul(V::broadcast(0.044715f), cube)));
    return V::mul(V::mul(V::broadcast(0.5f), x), V::add(V::broadcast(1.0f), tanh<V>(inner)));
}

template <class V>
void gated(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const GatedArguments*>(arguments);
    const bool is_silu = a.activation == GatedActivation::SiLU;
    for_narrowed_rows<V>(a.y, a.narrow, a.rows, a.features, item, [&](int64_t row, float* y) {
        const float* gate = a.x + row * a.x_stride;
        const float* up = gate + a.features;
        for_vectors<V>(a.features, [&](int64_t i, int lanes) {
            const auto x = load_lanes<V>(gate + i, lanes);
            const auto activated = is_silu ? silu<V>(x) : gelu_tanh<V>(x);
            store_lanes<V>(y + i, V::mul(activated, load_lanes<V>(up + i, lanes)), lanes);
        });
    });
}

template <class V>
inline void store_head(const float* x, const CacheView& cache, ElementType type, int64_t slot, int64_t block_size,
                       int64_t head, int64_t head_size) {
    const int64_t element = element_bytes(type);
    std::byte* to = cache.data + (slot / block_size * cache.block_stride + slot % block_size * cache.slot_stride +
                                  head * cache.head_stride) * element;
    for_vectors<V>(head_size, [&](int64_t i, int lanes) {
        store_as<V>(type, to, i, load_lanes<V>(x + i, lanes), lanes);
    });
}

template <class V>
void store(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const StoreArguments*>(arguments);
    for_rows(a.rows, a.heads * a.head_size, item, [&](int64_t token) {
        for (int64_t head = 0; head < a.heads; ++head)
            store_head<V>(a.x + token * a.token_stride + head * a.head_stride, a.cache, a.type, a.slots[token],
                          a.block_size, head, a.head_size);
    });
}

// rms_norm, rotary and store in one pass over a token's heads: the same operations in the same order.
template <class V>
void heads(const void* arguments, int64_t item) {
    const auto& a = *static_cast<const HeadsArguments*>(arguments);
    auto* key = static_cast<float*>(thread_scratch(static_cast<size_t>(a.key_size) * sizeof(float)));
    const auto prepare = [&](const float* x, const float* weight, float* y, int64_t token) {
        if (weight) rms_norm_row<V>(x, weight, y, a.key_size, a.eps);
        else __builtin_memmove(y, x, static_cast<size_t>(a.key_size) * sizeof(float));
        rotate_head<V>(y, a.cos_sin + a.positions[token] * a.rotary_size, a.rotary_size);
    };
    for_rows(a.rows, (a.heads + a.kv_heads) * a.key_size, item, [&](int64_t token) {
        for (int64_t head = 0; head < a.heads; ++head)
            prepare(a.q + token * a.q_token_stride + head * a.q_head_stride, a.q_weight,
                    a.q_out + token * a.q_out_token_stride + head * a.q_out_head_stride, token);
        for (int64_t head = 0; head < a.kv_heads; ++head) {
            prepare(a.k + token * a.k_token_stride + head * a.k_head_stride, a.k_weight, key, token);
            store_head<V>(key, a.k_cache, a.type, a.slots[token], a.block_size, head, a.key_size);
            store_head<V>(a.v + token * a.v_token_stride + head * a.v_head_stride, a.v_cache, a.type, a.slots[token],
                          a.block_size, head, a.value_size);
        }
    });
}

}  // namespace octavo::OCTAVO_ISA
