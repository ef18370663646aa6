// Arrays side by side in the scratch of a thread, each from a cache line of its own.
#pragma once

#include "math.h"

namespace octavo::OCTAVO_ISA {

class ScratchLayout {
public:
    template <class T>
    void place(T*& array, int64_t count) {
        if (base_) array = reinterpret_cast<T*>(base_ + size_);
        size_ += static_cast<size_t>(round_up(count * static_cast<int64_t>(sizeof(T)), 64));
    }

    // Calls arrays(layout) twice; the first finds the size.
    template <class F>
    static void lay_out(F arrays) {
        ScratchLayout sizes, layout;
        arrays(sizes);
        layout.base_ = static_cast<std::byte*>(thread_scratch(sizes.size_));
        arrays(layout);
    }

private:
    std::byte* base_ = nullptr;
    size_t size_ = 0;
};

}  // namespace octavo::OCTAVO_ISA
