#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "arguments.h"

namespace octavo {
namespace {

constexpr auto kSpin = std::chrono::microseconds(200);  // before a worker sleeps: longer than the pause between two kernels

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Workers join an *open* job and leave it; the caller closes it when the items are handed out, and
// then waits only for those that joined: a worker that is still asleep never delays a job.
//
// Each thread begins with a share of its own, the same part of every job, and then helps with the others': what a
// kernel writes is mostly in the cache of the thread that reads it next.
class Pool {
public:
    explicit Pool(int num_workers) : shares_(static_cast<size_t>(num_workers) + 1) {
        workers_.reserve(static_cast<size_t>(num_workers));
        try {
            for (int i = 0; i < num_workers; ++i) workers_.emplace_back([this, i] { work(static_cast<size_t>(i) + 1); });
        } catch (const std::system_error&) {
            const size_t started = workers_.size();
            stop();
            throw std::runtime_error("the system starts only " + std::to_string(started) + " of " + std::to_string(num_workers) +
                                     " worker threads; use fewer threads, or raise the limit of processes or memory");
        } catch (...) {  // no memory
            stop();
            throw;
        }
    }

    ~Pool() { stop(); }

    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    void run(int64_t num_items, void (*function)(const void*, int64_t), const void* arguments) {
        function_ = function;
        arguments_ = arguments;
        const auto num_shares = static_cast<int64_t>(shares_.size());
        for (int64_t i = 0; i < num_shares; ++i) {
            shares_[i].next.store(num_items * i / num_shares, std::memory_order_relaxed);
            shares_[i].end = num_items * (i + 1) / num_shares;
        }
        state_.store(kOpen, std::memory_order_release);
        job_.fetch_add(1, std::memory_order_release);
        job_.notify_all();
        take_items(0);
        state_.fetch_and(~kOpen, std::memory_order_acq_rel);
        while (state_.load(std::memory_order_acquire) != 0) relax();
        if (has_failed_.exchange(false)) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    static constexpr uint32_t kOpen = 1u << 31;

    struct alignas(64) Share {
        std::atomic<int64_t> next{0};
        int64_t end = 0;
    };

    void take_items(size_t own) {
        for (size_t i = 0; i < shares_.size(); ++i) {
            Share& share = shares_[(own + i) % shares_.size()];
            try {
                for (int64_t item; (item = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;)
                    function_(arguments_, item);
            } catch (...) {  // no memory: the first failure is the caller's, and what is left is not done
                if (!has_failed_.exchange(true)) failure_ = std::current_exception();
                for (Share& each : shares_) each.next.store(each.end, std::memory_order_relaxed);
            }
        }
    }

    void stop() {
        is_stopped_.store(true, std::memory_order_release);
        job_.fetch_add(1, std::memory_order_release);
        job_.notify_all();
        for (std::thread& worker : workers_) worker.join();
        workers_.clear();
    }

    bool join() {
        uint32_t state = state_.load(std::memory_order_acquire);
        while (state & kOpen)
            if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) return true;
        return false;
    }

    void work(size_t own) {
        int seen = 0;
        while (!is_stopped_.load(std::memory_order_acquire)) {
            if (join()) {
                take_items(own);
                state_.fetch_sub(1, std::memory_order_acq_rel);
            }
            const auto deadline = std::chrono::steady_clock::now() + kSpin;
            while (job_.load(std::memory_order_acquire) == seen) {
                if (std::chrono::steady_clock::now() > deadline) job_.wait(seen, std::memory_order_acquire);
                relax();
            }
            seen = job_.load(std::memory_order_acquire);
        }
    }

    void (*function_)(const void*, int64_t) = nullptr;
    const void* arguments_ = nullptr;
    std::vector<Share> shares_;  // the caller's, then the workers'
    alignas(64) std::atomic<uint32_t> state_{0};  // kOpen while items may be left, plus the number of workers inside
    alignas(64) std::atomic<int> job_{0};         // counts jobs; workers sleep on it
    std::atomic<bool> is_stopped_{false}, has_failed_{false};
    std::exception_ptr failure_;
    std::vector<std::thread> workers_;
};

std::mutex pool_mutex;
Pool* pool = nullptr;  // never destroyed at exit: its sleeping threads end with the process
int pool_threads = 0;  // what `pool` was made for
std::atomic<int> wanted_threads{0};

// Threads do not survive a fork: the child forgets the pool and makes its own when it needs one.
void forget_pool() {
    pool = nullptr;
    pool_threads = 0;
    new (&pool_mutex) std::mutex;
}

int cgroup_quota() {
    std::ifstream v2("/sys/fs/cgroup/cpu.max");
    std::string quota;
    double period = 0;
    if (v2 >> quota >> period && quota != "max" && period > 0)
        return static_cast<int>(std::strtod(quota.c_str(), nullptr) / period + 0.999);
    std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    double microseconds = 0;
    if (v1_quota >> microseconds && v1_period >> period && microseconds > 0 && period > 0)
        return static_cast<int>(microseconds / period + 0.999);
    return 0;
}

}  // namespace

int num_usable_cores() {
    int cores = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
#endif
    const int quota = cgroup_quota();
    if (quota > 0 && quota < cores) cores = quota;
    return cores < 1 ? 1 : cores;
}

void set_num_threads(int num_threads) { wanted_threads.store(num_threads); }

int num_threads() {
    int wanted = wanted_threads.load();
    if (wanted == 0) wanted_threads.store(wanted = num_usable_cores());
    return wanted;
}

void parallel_for(int64_t num_items, void (*function)(const void*, int64_t), const void* arguments) {
    const int threads = num_threads();
    std::unique_lock lock(pool_mutex, std::defer_lock);
    if (num_items < 2 || threads < 2 || !lock.try_lock()) {
        for (int64_t item = 0; item < num_items; ++item) function(arguments, item);
        return;
    }
    if (pool_threads != threads) {
        static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
        (void)registered;
        delete pool;
        pool = nullptr;
        pool_threads = 0;
        pool = new Pool(threads - 1);
        pool_threads = threads;
    }
    pool->run(num_items, function, arguments);
}

namespace {

struct Scratch {
    void* data = nullptr;
    size_t size = 0;
    ~Scratch() { std::free(data); }

    void resize(size_t bytes) {
        std::free(data);
        size = 0;
        data = bytes ? std::aligned_alloc(64, bytes) : nullptr;
        if (bytes && !data) throw std::bad_alloc();
        size = bytes;
    }
};

thread_local Scratch scratch;

}  // namespace

void* thread_scratch(size_t bytes) {
    if (scratch.size < bytes) scratch.resize((bytes + 4095) / 4096 * 4096);
    return scratch.data;
}

void trim_thread_scratch() {
    constexpr size_t kKeptBytes = size_t{64} << 20;
    if (scratch.size > kKeptBytes) scratch.resize(0);
}

}  // namespace octavo
