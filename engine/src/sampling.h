// Chooses the next token from its logits, by the same rules as src/onebit/sampling.py.
#pragma once

#include <cstdint>
#include <vector>

namespace onebit {

// A random number from 0 up to below 1: number `index` of the stream of a seed.
double chance(std::uint64_t seed, std::uint64_t index);

// The next token, or -1 if no logit is a number. `temperature` divides the logits; 0 takes the largest. `top_k` keeps only the k largest; 0 keeps
// all. Tokens in `never` are not chosen. `random` is from 0 up to below 1.
std::int32_t choose_token(const std::vector<float>& logits, const std::vector<std::int32_t>& never, double temperature, std::int32_t top_k,
                          double random);

}  // namespace onebit
