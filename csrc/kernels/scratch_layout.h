// Arrays side by side in the scratch of a thread, each from a cache line of its own.
#pragma once

#include "math.h"

namespace octavo::OCTAVO_ISA {

class ScratchLayout {
public:
    template <class T>
    void place(T*& array, int64_t count) {
        array = reinterpret_cast<T*>(next_);
        next_ += round_up(count * static_cast<int64_t>(sizeof(T)), 64);
    }

    // Calls arrays(layout) twice; the first finds the size.
    template <class F>
    static void lay_out(F arrays) {
        ScratchLayout layout;
        arrays(layout);
        layout.next_ = static_cast<std::byte*>(thread_scratch(reinterpret_cast<size_t>(layout.next_)));
        arrays(layout);
    }

private:
    std::byte* next_ = nullptr;
};

}  // namespace octavo::OCTAVO_ISA
