// The Python face of the kernels: addresses as integers, sizes, strides in elements. Callers have checked everything.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <new>

#include "dispatch.h"
#include "panel.h"
#include "program.h"
#include "thread_pool.h"

namespace nb = nanobind;
using namespace octavo;

namespace {

template <class T>
T* at(uintptr_t address) { return reinterpret_cast<T*>(address); }

const auto without_gil = nb::call_guard<nb::gil_scoped_release>();

// A constructor of keyword arguments; `make` returns the block.
template <class Block, class... Parameters, class... Names>
void define_block(nb::module_& m, const char* name, Block (*make)(Parameters...), const Names&... names) {
    nb::class_<Block>(m, name).def("__init__", [make](Block* self, Parameters... parameters) {
        new (self) Block(make(parameters...));
    }, nb::kw_only(), names...);
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "CPU kernels of octavo.ops; only octavo.ops.cpu calls them";

    nb::enum_<Format>(m, "Format")
        .value("F32", Format::F32).value("F16", Format::F16).value("BF16", Format::BF16)
        .value("Q4_0", Format::Q4_0).value("Q4_1", Format::Q4_1).value("Q5_0", Format::Q5_0)
        .value("Q5_1", Format::Q5_1).value("Q8_0", Format::Q8_0).value("Q4_K", Format::Q4_K)
        .value("Q5_K", Format::Q5_K).value("Q6_K", Format::Q6_K)
        .value("I8", Format::I8).value("BF16_TILES", Format::BF16Tiles);
    nb::enum_<ElementType>(m, "ElementType")
        .value("F32", ElementType::F32).value("BF16", ElementType::BF16).value("F16", ElementType::F16)
        .value("F8_E4M3", ElementType::F8E4M3).value("I8", ElementType::I8);
    nb::enum_<GatedActivation>(m, "GatedActivation")
        .value("SILU", GatedActivation::SiLU).value("GELU_TANH", GatedActivation::GELUTanh);

    m.def("available_isas", &available_isas);
    m.def("isa", &isa);
    m.def("force_isa", &force_isa, nb::arg("name"));
    m.def("int8_paths", &int8_paths);
    m.def("force_int8_path", &force_int8_path, nb::arg("name"));
    m.def("has_bf16_tiles", &has_bf16_tiles);
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

    nb::class_<CacheView>(m, "CacheView").def("__init__", [](CacheView* self, uintptr_t data, int64_t block_stride,
                                                              int64_t slot_stride, int64_t head_stride) {
        new (self) CacheView{at<std::byte>(data), block_stride, slot_stride, head_stride};
    }, nb::kw_only(), nb::arg("data"), nb::arg("block_stride"), nb::arg("slot_stride"), nb::arg("head_stride"));
    define_block(m, "AttentionPlan", +[](
        uintptr_t query_starts, uintptr_t seq_lens, uintptr_t block_tables, uintptr_t key_starts, int64_t num_requests,
        int64_t max_blocks) {
        return AttentionPlan{at<const int32_t>(query_starts), at<const int32_t>(seq_lens), at<const int32_t>(block_tables),
                             at<const int32_t>(key_starts), num_requests, max_blocks};
    },
        nb::arg("query_starts"), nb::arg("seq_lens"), nb::arg("block_tables"), nb::arg("key_starts"), nb::arg("num_requests"),
        nb::arg("max_blocks"));
    define_block(m, "AttentionScores", +[](
        float scale, float softcap, int64_t left, int64_t right, uintptr_t sinks, uintptr_t slopes, int64_t slopes_stride,
        uintptr_t bias, int64_t bias_request_stride, int64_t bias_head_stride, int64_t bias_row_stride, int64_t bias_keys,
        uintptr_t k_scales, uintptr_t v_scales, int64_t k_scales_stride, int64_t v_scales_stride, uint64_t seed,
        uint32_t threshold, float kept_factor) {
        return AttentionScores{scale, softcap, left < 0 ? kNoWindow : left, right < 0 ? kNoWindow : right,
                               at<const float>(sinks), at<const float>(slopes), slopes_stride, at<const float>(bias),
                               bias_request_stride, bias_head_stride, bias_row_stride, bias_keys,
                               at<const float>(k_scales), at<const float>(v_scales), k_scales_stride, v_scales_stride, seed,
                               threshold, kept_factor};
    },
        nb::arg("scale"), nb::arg("softcap"), nb::arg("left"), nb::arg("right"), nb::arg("sinks"), nb::arg("slopes"),
        nb::arg("slopes_stride"), nb::arg("bias"), nb::arg("bias_request_stride"), nb::arg("bias_head_stride"),
        nb::arg("bias_row_stride"), nb::arg("bias_keys"), nb::arg("k_scales"), nb::arg("v_scales"),
        nb::arg("k_scales_stride"), nb::arg("v_scales_stride"), nb::arg("seed"), nb::arg("threshold"),
        nb::arg("kept_factor"));

    define_block(m, "LinearArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t weight, Format format, uintptr_t bias, uintptr_t y, int64_t
        y_stride, int64_t rows, int64_t in_features, int64_t out_features) {
        return LinearArguments{
            at<const float>(x), x_stride, at<const std::byte>(weight), format, at<const float>(bias), at<float>(y),
            y_stride, rows, in_features, out_features};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("weight"), nb::arg("format"), nb::arg("bias"), nb::arg("y"),
        nb::arg("y_stride"), nb::arg("rows"), nb::arg("in_features"), nb::arg("out_features"));
    define_block(m, "RoundArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t y, bool is_paired, int64_t rows, int64_t channels) {
        return RoundArguments{at<const float>(x), x_stride, at<uint16_t>(y), is_paired, rows, channels};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("y"), nb::arg("is_paired"), nb::arg("rows"), nb::arg("channels"));
    define_block(m, "LinearBf16Arguments", +[](
        uintptr_t x, uintptr_t weight, Format format, uintptr_t bias, uintptr_t y, int64_t y_stride, int64_t rows,
        int64_t in_features, int64_t out_features) {
        return LinearBf16Arguments{at<const uint16_t>(x), at<const std::byte>(weight), format, at<const float>(bias),
                                   at<float>(y), y_stride, rows, in_features, out_features, 0, 0};
    },
        nb::arg("x"), nb::arg("weight"), nb::arg("format"), nb::arg("bias"), nb::arg("y"), nb::arg("y_stride"),
        nb::arg("rows"), nb::arg("in_features"), nb::arg("out_features"));
    define_block(m, "GatedLinearArguments", +[](
        uintptr_t x, uintptr_t weight, Format format, uintptr_t y, int64_t rows, int64_t in_features, int64_t features,
        GatedActivation activation) {
        return GatedLinearArguments{at<const uint16_t>(x), at<const std::byte>(weight), format, at<uint16_t>(y), rows,
                                    in_features, features, activation, 0, 0};
    },
        nb::arg("x"), nb::arg("weight"), nb::arg("format"), nb::arg("y"), nb::arg("rows"), nb::arg("in_features"),
        nb::arg("features"), nb::arg("activation"));
    define_block(m, "QuantizeGroupsArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t q, uintptr_t scales, uintptr_t sums, int64_t rows, int64_t
        in_features) {
        return QuantizeGroupsArguments{
            at<const float>(x), x_stride, at<int8_t>(q), at<float>(scales), at<int32_t>(sums), rows, in_features};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("q"), nb::arg("scales"), nb::arg("sums"), nb::arg("rows"),
        nb::arg("in_features"));
    define_block(m, "LinearInt8Arguments", +[](
        uintptr_t q, uintptr_t scales, uintptr_t sums, uintptr_t weight, Format format, uintptr_t bias, uintptr_t y,
        int64_t y_stride, int64_t rows, int64_t in_features, int64_t out_features) {
        return LinearInt8Arguments{
            at<const int8_t>(q), at<const float>(scales), at<const int32_t>(sums), at<const std::byte>(weight),
            format, at<const float>(bias), at<float>(y), y_stride, rows, in_features, out_features};
    },
        nb::arg("q"), nb::arg("scales"), nb::arg("sums"), nb::arg("weight"), nb::arg("format"), nb::arg("bias"),
        nb::arg("y"), nb::arg("y_stride"), nb::arg("rows"), nb::arg("in_features"), nb::arg("out_features"));
    define_block(m, "QuantizeRowsArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t q, uintptr_t scales, uintptr_t sums, int64_t rows, int64_t
        in_features) {
        return QuantizeRowsArguments{
            at<const float>(x), x_stride, at<int8_t>(q), at<float>(scales), at<int32_t>(sums), rows, in_features};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("q"), nb::arg("scales"), nb::arg("sums"), nb::arg("rows"),
        nb::arg("in_features"));
    define_block(m, "LinearI8Arguments", +[](
        uintptr_t q, uintptr_t scales, uintptr_t sums, uintptr_t weight, uintptr_t bias, uintptr_t y, int64_t y_stride,
        int64_t rows, int64_t in_features, int64_t out_features) {
        return LinearI8Arguments{
            at<const int8_t>(q), at<const float>(scales), at<const int32_t>(sums), at<const std::byte>(weight),
            at<const float>(bias), at<float>(y), y_stride, rows, in_features, out_features};
    },
        nb::arg("q"), nb::arg("scales"), nb::arg("sums"), nb::arg("weight"), nb::arg("bias"), nb::arg("y"),
        nb::arg("y_stride"), nb::arg("rows"), nb::arg("in_features"), nb::arg("out_features"));
    define_block(m, "EmbeddingArguments", +[](
        uintptr_t ids, uintptr_t weight, Format format, float scale, uintptr_t y, int64_t rows, int64_t in_features,
        int64_t out_features) {
        return EmbeddingArguments{
            at<const int64_t>(ids), at<const std::byte>(weight), format, scale, at<float>(y), rows, in_features,
            out_features};
    },
        nb::arg("ids"), nb::arg("weight"), nb::arg("format"), nb::arg("scale"), nb::arg("y"), nb::arg("rows"),
        nb::arg("in_features"), nb::arg("out_features"));
    define_block(m, "TakeRowsArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t ids, uintptr_t y, int64_t rows, int64_t channels) {
        return TakeRowsArguments{
            at<const float>(x), x_stride, at<const int64_t>(ids), at<float>(y), rows, channels};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("ids"), nb::arg("y"), nb::arg("rows"), nb::arg("channels"));
    define_block(m, "AddArguments", +[](
        uintptr_t x, uintptr_t y, uintptr_t total, int64_t rows, int64_t channels) {
        return AddArguments{
            at<const float>(x), at<const float>(y), at<float>(total), rows, channels};
    },
        nb::arg("x"), nb::arg("y"), nb::arg("total"), nb::arg("rows"), nb::arg("channels"));
    define_block(m, "SoftcapArguments", +[](
        uintptr_t x, uintptr_t y, int64_t rows, int64_t channels, float cap) {
        return SoftcapArguments{
            at<const float>(x), at<float>(y), rows, channels, cap};
    },
        nb::arg("x"), nb::arg("y"), nb::arg("rows"), nb::arg("channels"), nb::arg("cap"));
    define_block(m, "TileMaxArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t maximums, int64_t rows, int64_t channels, int64_t tile) {
        return TileMaxArguments{at<const float>(x), x_stride, at<float>(maximums), rows, channels, tile};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("maximums"), nb::arg("rows"), nb::arg("channels"), nb::arg("tile"));
    define_block(m, "SoftmaxArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t temperatures, uintptr_t y, int64_t rows, int64_t channels,
        bool is_log) {
        return SoftmaxArguments{at<const float>(x), x_stride, at<const float>(temperatures), at<float>(y), rows, channels,
                                is_log};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("temperatures"), nb::arg("y"), nb::arg("rows"), nb::arg("channels"),
        nb::arg("is_log"));
    define_block(m, "RmsNormArguments", +[](
        uintptr_t x, int64_t x_stride, int64_t head_stride, uintptr_t residual, uintptr_t total, uintptr_t weight,
        uintptr_t y, uintptr_t q, uintptr_t scales, uintptr_t sums, uintptr_t bf16,
        bool is_paired, int64_t rows, int64_t heads, int64_t channels, float eps) {
        return RmsNormArguments{
            at<const float>(x), x_stride, head_stride, at<const float>(residual), at<float>(total), at<const float>(weight),
            at<float>(y), {at<int8_t>(q), at<float>(scales), at<int32_t>(sums), at<uint16_t>(bf16), is_paired}, rows,
            heads, channels, eps};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("head_stride"), nb::arg("residual"), nb::arg("total"),
        nb::arg("weight"), nb::arg("y"), nb::arg("q"), nb::arg("scales"), nb::arg("sums"), nb::arg("bf16"),
        nb::arg("is_paired"), nb::arg("rows"), nb::arg("heads"), nb::arg("channels"), nb::arg("eps"));
    define_block(m, "LayerNormArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t weight, uintptr_t bias, uintptr_t y, int64_t rows, int64_t channels,
        float eps) {
        return LayerNormArguments{
            at<const float>(x), x_stride, at<const float>(weight), at<const float>(bias), at<float>(y), rows,
            channels, eps};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("weight"), nb::arg("bias"), nb::arg("y"), nb::arg("rows"),
        nb::arg("channels"), nb::arg("eps"));
    define_block(m, "RotaryArguments", +[](
        uintptr_t x, int64_t token_stride, int64_t head_stride, uintptr_t cos_sin, uintptr_t positions, int64_t rows,
        int64_t heads, int64_t rotary_size) {
        return RotaryArguments{
            at<float>(x), token_stride, head_stride, at<const float>(cos_sin), at<const int64_t>(positions), rows,
            heads, rotary_size};
    },
        nb::arg("x"), nb::arg("token_stride"), nb::arg("head_stride"), nb::arg("cos_sin"), nb::arg("positions"),
        nb::arg("rows"), nb::arg("heads"), nb::arg("rotary_size"));
    define_block(m, "GatedArguments", +[](
        uintptr_t x, int64_t x_stride, uintptr_t y, uintptr_t q, uintptr_t scales, uintptr_t sums, uintptr_t bf16,
        bool is_paired, int64_t rows, int64_t features, GatedActivation activation) {
        return GatedArguments{
            at<const float>(x), x_stride, at<float>(y),
            {at<int8_t>(q), at<float>(scales), at<int32_t>(sums), at<uint16_t>(bf16), is_paired}, rows, features,
            activation};
    },
        nb::arg("x"), nb::arg("x_stride"), nb::arg("y"), nb::arg("q"), nb::arg("scales"), nb::arg("sums"),
        nb::arg("bf16"), nb::arg("is_paired"), nb::arg("rows"), nb::arg("features"), nb::arg("activation"));
    define_block(m, "StoreArguments", +[](
        uintptr_t x, int64_t token_stride, int64_t head_stride, const CacheView& cache, ElementType type, uintptr_t
        slots, int64_t rows, int64_t heads, int64_t head_size, int64_t block_size) {
        return StoreArguments{
            at<const float>(x), token_stride, head_stride, cache, type, at<const int64_t>(slots), rows, heads,
            head_size, block_size};
    },
        nb::arg("x"), nb::arg("token_stride"), nb::arg("head_stride"), nb::arg("cache"), nb::arg("type"),
        nb::arg("slots"), nb::arg("rows"), nb::arg("heads"), nb::arg("head_size"), nb::arg("block_size"));
    define_block(m, "HeadsArguments", +[](
        uintptr_t q, int64_t q_token_stride, int64_t q_head_stride, uintptr_t q_out, int64_t q_out_token_stride, int64_t q_out_head_stride, uintptr_t k, int64_t
        k_token_stride, int64_t k_head_stride, uintptr_t v, int64_t v_token_stride, int64_t v_head_stride, uintptr_t
        q_weight, uintptr_t k_weight, float eps, uintptr_t cos_sin, uintptr_t positions, const CacheView& k_cache,
        const CacheView& v_cache, ElementType type, uintptr_t slots, int64_t rows, int64_t heads, int64_t kv_heads,
        int64_t key_size, int64_t value_size, int64_t rotary_size, int64_t block_size) {
        return HeadsArguments{
            at<const float>(q), q_token_stride, q_head_stride, at<float>(q_out), q_out_token_stride, q_out_head_stride, at<const float>(k), k_token_stride,
            k_head_stride, at<const float>(v), v_token_stride, v_head_stride, at<const float>(q_weight), at<const
            float>(k_weight), eps, at<const float>(cos_sin), at<const int64_t>(positions), k_cache, v_cache, type,
            at<const int64_t>(slots), rows, heads, kv_heads, key_size, value_size, rotary_size, block_size};
    },
        nb::arg("q"), nb::arg("q_token_stride"), nb::arg("q_head_stride"), nb::arg("q_out"), nb::arg("q_out_token_stride"), nb::arg("q_out_head_stride"), nb::arg("k"),
        nb::arg("k_token_stride"), nb::arg("k_head_stride"), nb::arg("v"), nb::arg("v_token_stride"),
        nb::arg("v_head_stride"), nb::arg("q_weight"), nb::arg("k_weight"), nb::arg("eps"), nb::arg("cos_sin"),
        nb::arg("positions"), nb::arg("k_cache"), nb::arg("v_cache"), nb::arg("type"), nb::arg("slots"),
        nb::arg("rows"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("key_size"), nb::arg("value_size"),
        nb::arg("rotary_size"), nb::arg("block_size"));
    define_block(m, "AttentionArguments", +[](
        uintptr_t q, ElementType q_type, int64_t q_token_stride, int64_t q_head_stride, const CacheView& k, const CacheView& v,
        ElementType type, uintptr_t o, int64_t o_token_stride, int64_t o_head_stride, uintptr_t lse, const AttentionPlan& plan,
        int64_t block_size, int64_t heads, int64_t kv_heads, int64_t key_size, int64_t value_size,
        const AttentionScores& options) {
        AttentionArguments a{};
        a.q = at<const std::byte>(q);
        a.q_type = q_type;
        a.q_token_stride = q_token_stride;
        a.q_head_stride = q_head_stride;
        a.k = k;
        a.v = v;
        a.type = type;
        a.o = at<std::byte>(o);
        a.o_token_stride = o_token_stride;
        a.o_head_stride = o_head_stride;
        a.lse = at<float>(lse);
        take_plan(plan, a);
        a.block_size = block_size;
        a.heads = heads;
        a.kv_heads = kv_heads;
        a.key_size = key_size;
        a.value_size = value_size;
        a.scores = options;
        return a;
    },
        nb::arg("q"), nb::arg("q_type"), nb::arg("q_token_stride"), nb::arg("q_head_stride"), nb::arg("k"), nb::arg("v"),
        nb::arg("type"), nb::arg("o"), nb::arg("o_token_stride"), nb::arg("o_head_stride"), nb::arg("lse"), nb::arg("plan"),
        nb::arg("block_size"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("key_size"), nb::arg("value_size"),
        nb::arg("options"));

    nb::class_<AttentionBackwardArguments>(m, "AttentionBackwardArguments").def("__init__", [](
        AttentionBackwardArguments* self, const AttentionArguments& forward, uintptr_t d_o, uintptr_t d_lse, uintptr_t delta, uintptr_t dq,
        const CacheView& dk, const CacheView& dv) {
        new (self) AttentionBackwardArguments{forward, at<const std::byte>(d_o), at<const float>(d_lse), at<float>(delta), at<std::byte>(dq), dk, dv,
                                              nullptr, 0};
    },
        nb::kw_only(), nb::arg("forward"), nb::arg("d_o"), nb::arg("d_lse"), nb::arg("delta"), nb::arg("dq"), nb::arg("dk"), nb::arg("dv"));
    m.def("attention_backward", [](const AttentionBackwardArguments& arguments) { run(arguments); }, nb::arg("arguments"),
          without_gil);

    m.def("run", [](const Arguments& arguments) { run(arguments); }, nb::arg("arguments"), without_gil);

    nb::enum_<RowSet>(m, "RowSet").value("TOKENS", RowSet::Tokens).value("SAMPLED", RowSet::Sampled);
    nb::class_<Program>(m, "Program")
        .def(nb::init<>())
        .def("append", &Program::append, nb::arg("arguments"), nb::kw_only(), nb::arg("set"), nb::arg("rows_per_entry"),
             nb::arg("plan"))
        .def("replay", &Program::replay, nb::arg("num_tokens"), nb::arg("num_sampled"), nb::arg("plans"), without_gil)
        .def("time", &Program::time, nb::arg("num_tokens"), nb::arg("num_sampled"), nb::arg("plans"), without_gil)
        .def("__len__", &Program::size);
}
