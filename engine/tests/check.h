// What the engine's tests check with.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

inline int checks = 0;

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        ++checks;                                                                              \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

inline std::mt19937 generator(1);

inline int pick(int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(generator);
}
inline float pick_float() {
    return std::normal_distribution<float>()(generator);
}

inline bool near(float a, float b) {
    return a == b || std::fabs(a - b) <= 1e-4f * (1 + std::fabs(b)) || (std::isnan(a) && std::isnan(b));
}
