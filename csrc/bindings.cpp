// The Python face of the kernels: addresses as integers, sizes, strides in elements. Callers have checked everything.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <limits>

#include "dispatch.h"
#include "panel.h"
#include "thread_pool.h"

namespace nb = nanobind;
using namespace octavo;

namespace {

template <class T>
T* at(uintptr_t address) { return reinterpret_cast<T*>(address); }

const auto without_gil = nb::call_guard<nb::gil_scoped_release>();

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "CPU kernels of octavo.ops; only octavo.ops.cpu calls them";

    nb::enum_<Format>(m, "Format")
        .value("F32", Format::F32).value("F16", Format::F16).value("BF16", Format::BF16)
        .value("Q4_0", Format::Q4_0).value("Q4_1", Format::Q4_1).value("Q5_0", Format::Q5_0)
        .value("Q5_1", Format::Q5_1).value("Q8_0", Format::Q8_0).value("Q4_K", Format::Q4_K)
        .value("Q5_K", Format::Q5_K).value("Q6_K", Format::Q6_K);
    nb::enum_<CacheType>(m, "CacheType")
        .value("F32", CacheType::F32).value("BF16", CacheType::BF16).value("F16", CacheType::F16);
    nb::enum_<GatedActivation>(m, "GatedActivation")
        .value("SILU", GatedActivation::SiLU).value("GELU_TANH", GatedActivation::GELUTanh);

    m.def("available_isas", &available_isas);
    m.def("isa", &isa);
    m.def("force_isa", &force_isa, nb::arg("name"));
    m.def("int8_paths", &int8_paths);
    m.def("force_int8_path", &force_int8_path, nb::arg("name"));
    m.def("attention_paths", &attention_paths);
    m.def("force_attention_path", &force_attention_path, nb::arg("name"));
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", &set_num_threads, nb::arg("num_threads"));
    m.def("num_usable_cores", &num_usable_cores);

    m.def("packed_bytes", &packed_bytes, nb::arg("format"), nb::arg("n"), nb::arg("k"));
    m.def("pack", [](Format format, uintptr_t rows, int64_t row_stride_bytes, int64_t n, int64_t k, uintptr_t out) {
        pack(format, at<const std::byte>(rows), row_stride_bytes, n, k, at<std::byte>(out));
    }, nb::arg("format"), nb::arg("rows"), nb::arg("row_stride_bytes"), nb::arg("n"), nb::arg("k"), nb::arg("out"),
        without_gil);

    m.def("linear", [](uintptr_t x, int64_t x_stride, uintptr_t weight, Format format, uintptr_t bias, uintptr_t y,
                       int64_t rows, int64_t in_features, int64_t out_features) {
        linear({at<const float>(x), x_stride, at<const std::byte>(weight), format, at<const float>(bias), at<float>(y),
                out_features, rows, in_features, out_features});
    }, nb::arg("x"), nb::arg("x_stride"), nb::arg("weight"), nb::arg("format"), nb::arg("bias"), nb::arg("y"),
        nb::arg("rows"), nb::arg("in_features"), nb::arg("out_features"), without_gil);

    m.def("quantize", [](uintptr_t x, int64_t x_stride, uintptr_t q, uintptr_t scales, uintptr_t sums, int64_t rows,
                         int64_t in_features) {
        quantize({at<const float>(x), x_stride, at<int8_t>(q), at<float>(scales), at<int32_t>(sums), rows,
                  in_features});
    }, nb::arg("x"), nb::arg("x_stride"), nb::arg("q"), nb::arg("scales"), nb::arg("sums"), nb::arg("rows"),
        nb::arg("in_features"), without_gil);

    m.def("linear_int8", [](uintptr_t q, uintptr_t scales, uintptr_t sums, uintptr_t weight, Format format,
                            uintptr_t bias, uintptr_t y, int64_t rows, int64_t in_features, int64_t out_features) {
        linear_int8({at<const int8_t>(q), at<const float>(scales), at<const int32_t>(sums),
                     at<const std::byte>(weight), format, at<const float>(bias), at<float>(y), out_features, rows,
                     in_features, out_features});
    }, nb::arg("q"), nb::arg("scales"), nb::arg("sums"), nb::arg("weight"), nb::arg("format"), nb::arg("bias"),
        nb::arg("y"), nb::arg("rows"), nb::arg("in_features"), nb::arg("out_features"), without_gil);

    m.def("embedding", [](uintptr_t ids, uintptr_t weight, Format format, uintptr_t y, int64_t rows,
                          int64_t in_features, int64_t out_features) {
        embedding({at<const int64_t>(ids), at<const std::byte>(weight), format, at<float>(y), rows, in_features,
                   out_features});
    }, nb::arg("ids"), nb::arg("weight"), nb::arg("format"), nb::arg("y"), nb::arg("rows"), nb::arg("in_features"),
        nb::arg("out_features"), without_gil);

    m.def("rms_norm", [](uintptr_t x, int64_t x_stride, uintptr_t residual, uintptr_t total, uintptr_t weight,
                         uintptr_t y, int64_t rows, int64_t channels, float eps) {
        rms_norm({at<const float>(x), x_stride, at<const float>(residual), at<float>(total), at<const float>(weight),
                  at<float>(y), rows, channels, eps});
    }, nb::arg("x"), nb::arg("x_stride"), nb::arg("residual"), nb::arg("total"), nb::arg("weight"), nb::arg("y"),
        nb::arg("rows"), nb::arg("channels"), nb::arg("eps"), without_gil);

    m.def("layer_norm", [](uintptr_t x, int64_t x_stride, uintptr_t weight, uintptr_t bias, uintptr_t y, int64_t rows,
                           int64_t channels, float eps) {
        layer_norm({at<const float>(x), x_stride, at<const float>(weight), at<const float>(bias), at<float>(y), rows,
                    channels, eps});
    }, nb::arg("x"), nb::arg("x_stride"), nb::arg("weight"), nb::arg("bias"), nb::arg("y"), nb::arg("rows"),
        nb::arg("channels"), nb::arg("eps"), without_gil);

    m.def("rotary", [](uintptr_t x, int64_t token_stride, int64_t head_stride, uintptr_t cos_sin, uintptr_t positions,
                       int64_t tokens, int64_t heads, int64_t rotary_size) {
        rotary({at<float>(x), token_stride, head_stride, at<const float>(cos_sin), at<const int64_t>(positions),
                tokens, heads, rotary_size});
    }, nb::arg("x"), nb::arg("token_stride"), nb::arg("head_stride"), nb::arg("cos_sin"), nb::arg("positions"),
        nb::arg("tokens"), nb::arg("heads"), nb::arg("rotary_size"), without_gil);

    m.def("gated", [](uintptr_t x, int64_t x_stride, uintptr_t y, int64_t rows, int64_t features,
                      GatedActivation activation) {
        gated({at<const float>(x), x_stride, at<float>(y), rows, features, activation});
    }, nb::arg("x"), nb::arg("x_stride"), nb::arg("y"), nb::arg("rows"), nb::arg("features"), nb::arg("activation"),
        without_gil);

    m.def("store", [](uintptr_t x, int64_t token_stride, int64_t head_stride, uintptr_t cache, int64_t block_stride,
                      int64_t slot_stride, int64_t cache_head_stride, CacheType type, uintptr_t slots, int64_t tokens,
                      int64_t heads, int64_t head_size, int64_t block_size) {
        store({at<const float>(x), token_stride, head_stride,
               {at<std::byte>(cache), block_stride, slot_stride, cache_head_stride}, type, at<const int64_t>(slots),
               tokens, heads, head_size, block_size});
    }, nb::arg("x"), nb::arg("token_stride"), nb::arg("head_stride"), nb::arg("cache"), nb::arg("block_stride"),
        nb::arg("slot_stride"), nb::arg("cache_head_stride"), nb::arg("type"), nb::arg("slots"), nb::arg("tokens"),
        nb::arg("heads"), nb::arg("head_size"), nb::arg("block_size"), without_gil);

    m.def("attention", [](uintptr_t q, int64_t q_token_stride, int64_t q_head_stride, uintptr_t k_cache,
                          int64_t k_block_stride, int64_t k_slot_stride, int64_t k_head_stride, uintptr_t v_cache,
                          int64_t v_block_stride, int64_t v_slot_stride, int64_t v_head_stride, CacheType type,
                          uintptr_t o, uintptr_t query_starts, uintptr_t seq_lens, uintptr_t block_tables,
                          int64_t num_requests, int64_t max_blocks, int64_t block_size, int64_t heads,
                          int64_t kv_heads, int64_t key_size, int64_t value_size, float scale, float softcap,
                          int64_t window, uintptr_t sinks, bool is_causal) {
        AttentionArguments a{};
        a.q = at<const float>(q);
        a.q_token_stride = q_token_stride;
        a.q_head_stride = q_head_stride;
        a.k = {at<std::byte>(k_cache), k_block_stride, k_slot_stride, k_head_stride};
        a.v = {at<std::byte>(v_cache), v_block_stride, v_slot_stride, v_head_stride};
        a.type = type;
        a.o = at<float>(o);
        a.query_starts = at<const int32_t>(query_starts);
        a.seq_lens = at<const int32_t>(seq_lens);
        a.block_tables = at<const int32_t>(block_tables);
        a.max_blocks = max_blocks;
        a.block_size = block_size;
        a.heads = heads;
        a.kv_heads = kv_heads;
        a.key_size = key_size;
        a.value_size = value_size;
        a.scale = scale;
        a.softcap = softcap;
        a.window = window > 0 ? window : std::numeric_limits<int64_t>::max();
        a.sinks = at<const float>(sinks);
        a.is_causal = is_causal;
        attention(a, num_requests);
    }, nb::arg("q"), nb::arg("q_token_stride"), nb::arg("q_head_stride"), nb::arg("k_cache"),
        nb::arg("k_block_stride"), nb::arg("k_slot_stride"), nb::arg("k_head_stride"), nb::arg("v_cache"),
        nb::arg("v_block_stride"), nb::arg("v_slot_stride"), nb::arg("v_head_stride"), nb::arg("type"), nb::arg("o"),
        nb::arg("query_starts"), nb::arg("seq_lens"), nb::arg("block_tables"), nb::arg("num_requests"),
        nb::arg("max_blocks"), nb::arg("block_size"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("key_size"),
        nb::arg("value_size"), nb::arg("scale"), nb::arg("softcap"), nb::arg("window"), nb::arg("sinks"),
        nb::arg("is_causal"), without_gil);
}
