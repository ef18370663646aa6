// A pool of threads that share the items of one job at a time; the calling thread takes part.
#pragma once

#include <cstdint>

namespace octavo {

// Runs function(arguments, item) for every item below num_items, and returns when all are done.
// Each thread begins with a part of the items of its own, the same of every job, and then helps with the others'. A call while another runs (from a second thread) works alone.
void parallel_for(int64_t num_items, void (*function)(const void* arguments, int64_t item), const void* arguments);

// Threads of a job, the caller included. Takes effect at the next job.
void set_num_threads(int num_threads);
int num_threads();

// Cores this process may use: the smaller of its affinity mask and its cgroup's CPU quota, at least 1.
int num_usable_cores();

}  // namespace octavo
