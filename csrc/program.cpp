#include "program.h"

#include <chrono>
#include <stdexcept>
#include <type_traits>

#include "dispatch.h"

namespace octavo {

void run(const Arguments& arguments) {
    std::visit([](const auto& a) { run(a); }, arguments);
}

void take_plan(const AttentionPlan& plan, AttentionArguments& a) {
    a.query_starts = plan.query_starts;
    a.seq_lens = plan.seq_lens;
    a.block_tables = plan.block_tables;
    a.key_starts = plan.key_starts;
    a.num_requests = plan.num_requests;
    a.max_blocks = plan.max_blocks;
}

void Program::append(const Arguments& arguments, RowSet set, int64_t rows_per_entry, int64_t plan) {
    if (std::holds_alternative<AttentionArguments>(arguments) != (plan >= 0))
        throw std::invalid_argument("a plan belongs to attention, and attention has one");
    launches_.push_back({arguments, set, rows_per_entry, plan});
}

void Program::run_launch(Launch& launch, int64_t num_tokens, int64_t num_sampled,
                         const std::vector<AttentionPlan>& plans) {
    const int64_t rows = launch.rows_per_entry * (launch.set == RowSet::Tokens ? num_tokens : num_sampled);
    if (rows == 0) return;
    std::visit([&](auto& a) {
        if constexpr (std::is_same_v<std::decay_t<decltype(a)>, AttentionArguments>) {
            take_plan(plans.at(static_cast<size_t>(launch.plan)), a);
        } else {
            a.rows = rows;
        }
        run(a);
    }, launch.arguments);
}

void Program::replay(int64_t num_tokens, int64_t num_sampled, const std::vector<AttentionPlan>& plans) {
    for (Launch& launch : launches_) run_launch(launch, num_tokens, num_sampled, plans);
}

std::vector<double> Program::time(int64_t num_tokens, int64_t num_sampled, const std::vector<AttentionPlan>& plans) {
    std::vector<double> seconds;
    for (Launch& launch : launches_) {
        const auto start = std::chrono::steady_clock::now();
        run_launch(launch, num_tokens, num_sampled, plans);
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return seconds;
}

}  // namespace octavo
