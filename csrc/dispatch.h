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

// The ways to run linear_int8 and linear_i8 on the instruction set in use; the last one that the number of rows allows is taken,
// unless one is forced ("" for none). force_isa ends the force. Throws std::invalid_argument as force_isa does.
std::vector<std::string> int8_paths();
void force_int8_path(const std::string& name);

// Likewise the ways to run attention.
std::vector<std::string> attention_paths();
void force_attention_path(const std::string& name);

// Whether the instruction set in use multiplies bf16 on AMX tiles.
bool has_bf16_tiles();

// Each cuts its work into items and runs them on the thread pool.
void run(const LinearArguments& arguments);
void run(const RoundArguments& arguments);
void run(LinearBf16Arguments arguments);   // where has_bf16_tiles(); chooses num_runs and rows_per_item
void run(GatedLinearArguments arguments);  // likewise
void run(const QuantizeGroupsArguments& arguments);
void run(const LinearInt8Arguments& arguments);
void run(const QuantizeRowsArguments& arguments);
void run(const LinearI8Arguments& arguments);
void run(const EmbeddingArguments& arguments);
void run(const TakeRowsArguments& arguments);
void run(const AddArguments& arguments);
void run(const SoftcapArguments& arguments);
void run(const TileMaxArguments& arguments);
void run(const SoftmaxArguments& arguments);
void run(const RmsNormArguments& arguments);
void run(const LayerNormArguments& arguments);
void run(const RotaryArguments& arguments);
void run(const GatedArguments& arguments);
void run(const StoreArguments& arguments);
void run(const HeadsArguments& arguments);
void run(AttentionBackwardArguments arguments);  // makes its tiles
void run(AttentionArguments arguments);  // makes its tiles; the caller leaves them empty

}  // namespace octavo
