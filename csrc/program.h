// A forward pass, recorded: kernels with their argument blocks, run in order without a word from Python.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "arguments.h"

namespace octavo {

using Arguments = std::variant<LinearArguments, RoundArguments, LinearBf16Arguments, GatedLinearArguments,
                               QuantizeGroupsArguments,
                               LinearInt8Arguments, QuantizeRowsArguments, LinearI8Arguments, EmbeddingArguments,
                               TakeRowsArguments, AddArguments, SoftcapArguments, TileMaxArguments, SoftmaxArguments,
                               RmsNormArguments, LayerNormArguments, RotaryArguments, GatedArguments, StoreArguments, HeadsArguments, AttentionArguments>;

// Runs one kernel on the thread pool.
void run(const Arguments& arguments);

// Which requests attend to which blocks in a step: the fields of that name of AttentionArguments.
struct AttentionPlan {
    const int32_t* query_starts;
    const int32_t* seq_lens;
    const int32_t* block_tables;
    const int32_t* key_starts;
    int64_t num_requests, max_blocks;
};

void take_plan(const AttentionPlan& plan, AttentionArguments& arguments);

// What a step's number of rows is counted in: its tokens, or those whose logits are wanted.
enum class RowSet : int32_t { Tokens, Sampled };

class Program {
public:
    // Rows in a replay: rows_per_entry times the entries of the set. `plan` is the index of attention's plan, else −1.
    void append(const Arguments& arguments, RowSet set, int64_t rows_per_entry, int64_t plan);

    // Runs all launches in order. The caller has checked that the sizes fit the buffers, and gives all plans.
    void replay(int64_t num_tokens, int64_t num_sampled, const std::vector<AttentionPlan>& plans);

    // The same, and the seconds that each launch took.
    std::vector<double> time(int64_t num_tokens, int64_t num_sampled, const std::vector<AttentionPlan>& plans);

    size_t size() const { return launches_.size(); }

private:
    struct Launch {
        Arguments arguments;
        RowSet set;
        int64_t rows_per_entry;
        int64_t plan;
    };

    void run_launch(Launch& launch, int64_t num_tokens, int64_t num_sampled, const std::vector<AttentionPlan>& plans);

    std::vector<Launch> launches_;
};

}  // namespace octavo
