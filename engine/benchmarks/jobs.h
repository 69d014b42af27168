// Jobs that take turns, so that changes of the machine's load affect all measurements alike.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace onebit {

constexpr int least_samples = 5;

// A job that takes turns with the others of its case. `before` runs untimed, to wake the threads and fill the caches.
struct Job {
    std::string text;  // JSON of what is measured
    double products, bytes;
    std::function<void()> before, timed;
    bool is_limit = false, is_peak = false;
    const Kernels* kernels = nullptr;
    std::vector<double> seconds = {};
    double spent = 0;

    double median() const {
        std::vector<double> sorted = seconds;
        std::sort(sorted.begin(), sorted.end());
        return sorted[sorted.size() / 2];
    }
};

inline double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// In rounds, so that changes of the machine's load affect all alike.
inline void measure(std::vector<Job>& jobs, double seconds) {
    for (bool more = true; more;) {
        more = false;
        for (Job& job : jobs) {
            if (job.seconds.size() >= least_samples && job.spent >= seconds) continue;
            more = true;
            const double begin = now();
            job.before();
            const double start = now();
            job.timed();
            const double end = now();
            job.seconds.push_back(end - start);
            job.spent += end - begin;
        }
    }
}

template <class... Values>
std::string format(const char* pattern, Values... values) {
    char text[512];
    std::snprintf(text, sizeof text, pattern, values...);
    return text;
}

}  // namespace onebit
