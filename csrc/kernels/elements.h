// Elements of queries, caches and outputs, of any type, to and from fp32.
#pragma once

#include <cstring>

#include "math.h"

namespace octavo::OCTAVO_ISA {

constexpr int64_t element_bytes(ElementType type) {
    return type == ElementType::F32 ? 4 : type == ElementType::BF16 || type == ElementType::F16 ? 2 : 1;
}

// fp8 of OCP's E4M3: no infinities, 0x7f and 0xff are NaN (Micikevicius et al. 2022, arXiv 2209.05433).
struct E4M3Values {
    float of[256] = {};
    constexpr E4M3Values() {
        for (int code = 0; code < 256; ++code) {
            const int exponent = code >> 3 & 15, fraction = code & 7;
            float value = static_cast<float>(exponent ? 8 + fraction : fraction) / 512.0f;  // in units of 2⁻⁶
            for (int i = 1; i < exponent; ++i) value *= 2.0f;
            if (exponent == 15 && fraction == 7) value = __builtin_nanf("");
            of[code] = code & 128 ? -value : value;
        }
    }
};

inline constexpr E4M3Values kE4M3;

template <class V, class T>
inline const T* padded(const T* from, int lanes, T (&copy)[V::kLanes]) {
    if (lanes == V::kLanes) return from;
    std::memcpy(copy, from, sizeof(T) * static_cast<size_t>(lanes));
    return copy;
}

// Elements i … i + lanes − 1 of a row; zeros in the other lanes.
template <class V>
inline typename V::Float load_as(ElementType type, const std::byte* row, int64_t i, int lanes) {
    if (type == ElementType::F32) return load_lanes<V>(reinterpret_cast<const float*>(row) + i, lanes);
    if (type == ElementType::BF16 || type == ElementType::F16) {
        uint16_t copy[V::kLanes] = {};
        const uint16_t* p = padded<V>(reinterpret_cast<const uint16_t*>(row) + i, lanes, copy);
        return type == ElementType::BF16 ? V::load_bf16(p) : V::load_f16(p);
    }
    if (type == ElementType::I8) {
        int8_t copy[V::kLanes] = {};
        return V::load_i8(padded<V>(reinterpret_cast<const int8_t*>(row) + i, lanes, copy));
    }
    const auto* codes = reinterpret_cast<const uint8_t*>(row) + i;
    float values[V::kLanes] = {};
    for (int lane = 0; lane < lanes; ++lane) values[lane] = kE4M3.of[codes[lane]];
    return V::load(values);
}

// Rounds to fp32, bf16 or fp16, to nearest even.
template <class V>
inline void store_as(ElementType type, std::byte* row, int64_t i, typename V::Float v, int lanes) {
    if (type == ElementType::F32) return store_lanes<V>(reinterpret_cast<float*>(row) + i, v, lanes);
    uint16_t rounded[V::kLanes];
    if (type == ElementType::BF16) V::store_bf16(rounded, v);
    else V::store_f16(rounded, v);
    std::memcpy(reinterpret_cast<uint16_t*>(row) + i, rounded, sizeof(uint16_t) * static_cast<size_t>(lanes));
}

}  // namespace octavo::OCTAVO_ISA
