// Which probabilities dropout takes: words of Philox-4x32-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3).
//
// Word key % 4 of counter (key / 4, row, head, request) decides for a key and a row of a request; see
// octavo.ops.attention_options.Dropout.
#pragma once

#include "math.h"

namespace octavo::OCTAVO_ISA {

class DropoutRow {
public:
    static constexpr int64_t kKeys = 64;  // decided at a time

    DropoutRow(const AttentionScores& scores, int64_t request, int64_t head, int64_t row)
        : seed_(scores.seed), threshold_(scores.threshold), c1_(static_cast<uint32_t>(row)), c2_(static_cast<uint32_t>(head)),
          c3_(static_cast<uint32_t>(request)) {}

    // drops[i] is all ones where key + i is dropped, else 0; key is a multiple of 4.
    void decide(int64_t key, uint32_t (&drops)[kKeys]) const {
        constexpr int kCounters = kKeys / 4;
        uint32_t c0[kCounters], c1[kCounters], c2[kCounters], c3[kCounters];
        for (int i = 0; i < kCounters; ++i) {
            c0[i] = static_cast<uint32_t>(key / 4 + i);
            c1[i] = c1_;
            c2[i] = c2_;
            c3[i] = c3_;
        }
        uint32_t k0 = static_cast<uint32_t>(seed_), k1 = static_cast<uint32_t>(seed_ >> 32);
        for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
            for (int i = 0; i < kCounters; ++i) {
                const uint64_t low = uint64_t{0xD2511F53u} * c0[i], high = uint64_t{0xCD9E8D57u} * c2[i];
                c0[i] = static_cast<uint32_t>(high >> 32) ^ c1[i] ^ k0;
                c1[i] = static_cast<uint32_t>(high);
                c2[i] = static_cast<uint32_t>(low >> 32) ^ c3[i] ^ k1;
                c3[i] = static_cast<uint32_t>(low);
            }
        for (int i = 0; i < kCounters; ++i) {
            drops[4 * i] = c0[i] < threshold_ ? ~0u : 0;
            drops[4 * i + 1] = c1[i] < threshold_ ? ~0u : 0;
            drops[4 * i + 2] = c2[i] < threshold_ ? ~0u : 0;
            drops[4 * i + 3] = c3[i] < threshold_ ? ~0u : 0;
        }
    }

private:
    uint64_t seed_;
    uint32_t threshold_, c1_, c2_, c3_;
};

}  // namespace octavo::OCTAVO_ISA
