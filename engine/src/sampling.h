// Chooses the next token from its logits. src/onebit/sampling.py says what the settings mean.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace onebit {

// A random number from 0 up to below 1: number `index` of the stream of a seed.
double chance(std::uint64_t seed, std::uint64_t index);

struct Choosing {
    double temperature = 1;  // divides the scores; 0 takes the largest
    std::int32_t top_k = 0;  // keeps the k largest; 0 keeps all
    double top_p = 1;        // keeps the largest with this share of what top_k keeps
    double min_p = 0;        // keeps what has this share of the largest
};

// The next token, or -1 if no score is a number. -infinity and NaN are not chosen, and of equally probable tokens the first come first. `random` is
// from 0 up to below 1. Overwrites the scores.
std::int32_t choose_token(const Kernels& kernels, std::span<double> scores, const Choosing& how, double random);

}  // namespace onebit
