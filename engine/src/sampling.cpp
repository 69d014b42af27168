#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace onebit {

double chance(std::uint64_t seed, std::uint64_t index) {
    // SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): any number of the stream without those before it.
    std::uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<double>(z >> 11) * 0x1p-53;
}

std::int32_t choose_token(const std::vector<float>& logits, const std::vector<std::int32_t>& never, double temperature, std::int32_t top_k,
                          double random) {
    constexpr double least = -std::numeric_limits<double>::infinity();
    std::vector<double> scores(logits.begin(), logits.end());
    for (const std::int32_t token : never) scores[static_cast<std::size_t>(token)] = least;
    for (double& score : scores) {
        if (std::isnan(score)) score = least;
    }
    const auto best = std::max_element(scores.begin(), scores.end());
    if (best == scores.end() || *best == least) return -1;
    const double largest = *best;
    if (temperature == 0 || std::isinf(largest)) return static_cast<std::int32_t>(best - scores.begin());
    for (double& score : scores) score = std::exp((score - largest) / temperature);
    std::vector<std::int32_t> tokens(scores.size());
    std::iota(tokens.begin(), tokens.end(), 0);
    const auto power = [&](std::int32_t token) { return scores[static_cast<std::size_t>(token)]; };
    if (top_k > 0 && static_cast<std::size_t>(top_k) < tokens.size()) {
        const auto before = [&](std::int32_t a, std::int32_t b) { return power(a) != power(b) ? power(a) > power(b) : a < b; };
        std::partial_sort(tokens.begin(), tokens.begin() + top_k, tokens.end(), before);
        tokens.resize(static_cast<std::size_t>(top_k));
    }
    double total = 0;
    for (const std::int32_t token : tokens) total += power(token);
    double sum = 0;
    std::int32_t last = -1;
    for (const std::int32_t token : tokens) {
        if (power(token) == 0) continue;
        last = token;
        sum += power(token);
        if (sum > random * total) break;
    }
    return last;
}

}  // namespace onebit
