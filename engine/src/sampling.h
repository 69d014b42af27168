// Choosing the next token from its logits; the same rules as in src/onebit/runtime/generation.py.
#pragma once

#include <cstdint>
#include <vector>

namespace onebit {

// A number from 0 up to below 1: the `index`-th of those that a seed gives.
double chance(std::uint64_t seed, std::uint64_t index);

// The next token, or -1 where no logit is a number. `temperature` divides the logits, 0 takes the largest; `top_k` leaves only the k largest, 0
// all; tokens in `never` are not chosen; `random` is from 0 up to below 1.
std::int32_t choose_token(const std::vector<float>& logits, const std::vector<std::int32_t>& never, double temperature, std::int32_t top_k,
                          double random);

}  // namespace onebit
