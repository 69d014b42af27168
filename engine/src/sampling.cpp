#include "sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace onebit {
namespace {

struct Candidate {
    double power;
    std::int32_t token;
};

bool comes_before(const Candidate& a, const Candidate& b) {
    return a.power != b.power ? a.power > b.power : a.token < b.token;
}

// Those with at least such a power, in the order of the tokens.
std::vector<Candidate> at_least(std::span<const double> powers, double least) {
    std::vector<Candidate> found;
    found.reserve(256);
    for (std::size_t i = 0; i < powers.size(); ++i) {
        if (powers[i] >= least) found.push_back({powers[i], static_cast<std::int32_t>(i)});
    }
    return found;
}

// Powers from 1 down by their upper bits: 8 buckets for each halving, and a last one for all that is below 2^-64.
constexpr std::uint64_t bucket_count = 513;
std::uint64_t bucket_of(double power) {
    constexpr int bits = 49;
    constexpr std::uint64_t one = std::bit_cast<std::uint64_t>(1.0) >> bits;
    return std::min(one - (std::bit_cast<std::uint64_t>(power) >> bits), bucket_count - 1);
}

struct Reached {
    double sum;
    std::int32_t token;
};

// Takes candidates, the largest first, until their number and their sum are enough, or there is none left. Sorting all would take longer than
// computing their logits: they are sorted within the bucket only in which it ends.
template <class Enough>
Reached take_until(std::span<const Candidate> candidates, const Enough& enough) {
    struct Bucket {
        double sum = 0;
        std::size_t count = 0;
    };
    Bucket buckets[bucket_count];
    std::uint64_t last = 0;
    for (const Candidate& each : candidates) {
        const std::uint64_t place = bucket_of(each.power);
        buckets[place].sum += each.power;
        ++buckets[place].count;
        last = std::max(last, place);
    }
    double sum = 0;
    std::size_t count = 0;
    std::uint64_t place = 0;
    for (; place < last && !enough(count + buckets[place].count, sum + buckets[place].sum); ++place) {
        sum += buckets[place].sum;
        count += buckets[place].count;
    }
    std::vector<Candidate> sorted;
    for (const Candidate& each : candidates) {
        if (bucket_of(each.power) == place) sorted.push_back(each);
    }
    std::sort(sorted.begin(), sorted.end(), comes_before);
    Reached reached{sum, -1};
    for (const Candidate& each : sorted) {
        reached = {reached.sum + each.power, each.token};
        if (enough(++count, reached.sum)) break;
    }
    return reached;
}

// A token by its share of those that top_k, top_p and min_p keep.
std::int32_t draw_kept(std::span<const double> powers, double total, const Choosing& how, double random) {
    constexpr double least = std::numeric_limits<double>::min();  // a power of 0 is not drawn
    std::vector<Candidate> candidates;
    double kept = total;
    if (how.top_k > 0 && static_cast<std::size_t>(how.top_k) < powers.size()) {
        candidates = at_least(powers, least);
        kept = take_until(candidates, [&](std::size_t count, double) { return count >= static_cast<std::size_t>(how.top_k); }).sum;
    } else if (how.top_p < 1) {
        // Often few tokens count. All powers below the second limit have together less than what is cut.
        const double cut = total - how.top_p * total;
        candidates = at_least(powers, std::max(least, cut / 512));
        double found = 0;
        for (const Candidate& each : candidates) found += each.power;
        if (found < total - cut) candidates = at_least(powers, std::max(least, cut / (2 * static_cast<double>(powers.size()))));
    } else {
        candidates = at_least(powers, std::max(least, how.min_p));
    }
    if (how.top_p < 1) {
        const double share = how.top_p * kept;
        kept = take_until(candidates, [&](std::size_t, double sum) { return sum >= share; }).sum;
    }
    if (how.min_p > 0) {
        std::erase_if(candidates, [&](const Candidate& each) { return each.power < how.min_p; });
        double found = 0;
        for (const Candidate& each : candidates) found += each.power;
        kept = std::min(kept, found);
    }
    return take_until(candidates, [&](std::size_t, double sum) { return sum > random * kept; }).token;
}

}  // namespace

double chance(std::uint64_t seed, std::uint64_t index) {
    // SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): any number of the stream without those before it.
    std::uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<double>(z >> 11) * 0x1p-53;
}

std::int32_t choose_token(const Kernels& kernels, std::span<double> scores, const Choosing& how, double random) {
    const auto count = static_cast<std::ptrdiff_t>(scores.size());
    const double largest = kernels.rows.largest(scores.data(), count);
    if (largest == -std::numeric_limits<double>::infinity()) return -1;
    if (how.temperature == 0 || std::isinf(largest)) {
        return static_cast<std::int32_t>(std::find(scores.begin(), scores.end(), largest) - scores.begin());
    }
    const double total = kernels.rows.powers(scores.data(), count, largest, how.temperature);
    if ((how.top_k > 0 && how.top_k < count) || how.top_p < 1 || how.min_p > 0) return draw_kept(scores, total, how, random);
    double sum = 0;
    std::int32_t last = -1;
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        const double power = scores[static_cast<std::size_t>(i)];
        if (power == 0) continue;
        last = static_cast<std::int32_t>(i);
        sum += power;
        if (sum > random * total) break;
    }
    return last;
}

}  // namespace onebit
