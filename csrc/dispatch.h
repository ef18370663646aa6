// The instruction set in use, and the ops run on it: each cuts its work into items for the thread pool.
#pragma once

#include <string>
#include <vector>

#include "arguments.h"

namespace octavo {

// Slowest first; the last one is in use unless forced.
std::vector<std::string> available_isas();
std::string isa();
// Throws std::invalid_argument for a name that is not available. Not while a kernel runs.
void force_isa(const std::string& name);

// The ways to run linear_int8 on the instruction set in use; the last one that the number of rows allows is taken,
// unless one is forced ("" for none). force_isa ends the force. Throws std::invalid_argument as force_isa does.
std::vector<std::string> int8_paths();
void force_int8_path(const std::string& name);

// Likewise the ways to run attention; a cache whose type the last, or the forced one does not take goes the first way.
std::vector<std::string> attention_paths();
void force_attention_path(const std::string& name);

void linear(const LinearArguments& arguments);
void quantize(const QuantizeArguments& arguments);
void linear_int8(const LinearInt8Arguments& arguments);
void embedding(const EmbeddingArguments& arguments);
void rms_norm(const RmsNormArguments& arguments);
void layer_norm(const LayerNormArguments& arguments);
void rotary(const RotaryArguments& arguments);
void gated(const GatedArguments& arguments);
void store(const StoreArguments& arguments);
// Fills in the tiles; the caller leaves them empty.
void attention(AttentionArguments arguments, int64_t num_requests);

}  // namespace octavo
