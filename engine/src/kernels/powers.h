// Powers of e in double, of which tokens are drawn. Compiled once for each instruction set, with internal linkage, as rows.h.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace onebit {
namespace {

// Sums and maxima go by so many lanes in every set, so that all sets give the same bits.
constexpr int power_lanes = 8;

// The largest number; NaN counts for nothing, and no number gives -infinity.
double row_largest(const double* x, std::ptrdiff_t n) {
    double part[power_lanes];
    for (double& lane : part) lane = -std::numeric_limits<double>::infinity();
    std::ptrdiff_t i = 0;
    for (; i + power_lanes <= n; i += power_lanes) {
        for (int l = 0; l < power_lanes; ++l) part[l] = x[i + l] > part[l] ? x[i + l] : part[l];
    }
    double largest = part[0];
    for (const double lane : part) largest = lane > largest ? lane : largest;
    for (; i < n; ++i) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

// e^x for x <= 0 to a unit in the last place: x = n ln 2 + r and e^r by its series, whose next term is below half a unit. 0 below -708, where
// doubles lose digits, and for NaN.
inline double power_of(double x) {
    const bool counts = x > -708.0;
    const double bounded = counts ? x : 0.0;
    // Adding 1.5 * 2^52 rounds a number to an integer, which is in the lowest bits of the sum.
    const double sum = bounded * 1.4426950408889634 + 6755399441055744.0, n = sum - 6755399441055744.0;
    // The first part of ln 2 ends in zeros, so that its product is exact.
    const double r = (bounded - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    std::int64_t bits;
    std::memcpy(&bits, &sum, sizeof bits);
    bits = static_cast<std::int64_t>(static_cast<std::uint64_t>(bits + 1023) << 52);
    double of_two;
    std::memcpy(&of_two, &bits, sizeof of_two);
    return counts ? p * of_two : 0.0;
}

double row_powers(double* x, std::ptrdiff_t n, double largest, double temperature) {
    for (std::ptrdiff_t i = 0; i < n; ++i) x[i] = power_of((x[i] - largest) / temperature);
    double part[power_lanes] = {};
    std::ptrdiff_t i = 0;
    for (; i + power_lanes <= n; i += power_lanes) {
        for (int l = 0; l < power_lanes; ++l) part[l] += x[i + l];
    }
    double sum = 0;
    for (const double lane : part) sum += lane;
    for (; i < n; ++i) sum += x[i];
    return sum;
}

}  // namespace
}  // namespace onebit
