// The checks of the engine's tests, and the list of tests in a program. They are kept here so that everything that builds the engine can build its
// tests.
#pragma once

#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

inline long checks = 0;
// Further text for failures, such as a library's last error.
inline const char* (*check_context)() = nullptr;

// Ends the failed test. The next tests run.
struct CheckFailed {};

[[noreturn]] inline void fail_check(const char* file, int line, const char* condition) {
    std::fprintf(stderr, "%s:%d: %s does not hold%s%s\n", file, line, condition,
                 check_context == nullptr ? "" : "; last error: ", check_context == nullptr ? "" : check_context());
    throw CheckFailed();
}

// Not for threads of a test, because it counts without a lock.
#define CHECK(condition)                                              \
    do {                                                              \
        ++checks;                                                     \
        if (!(condition)) fail_check(__FILE__, __LINE__, #condition); \
    } while (false)

inline std::mt19937 generator(1);

inline int pick(int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(generator);
}
inline float pick_float() {
    return std::normal_distribution<float>()(generator);
}

// To a few roundings.
inline bool near(float a, float b) {
    return a == b || std::fabs(a - b) <= 1e-4f * (1 + std::fabs(b)) || (std::isnan(a) && std::isnan(b));
}
// The same bits. All NaNs are equal.
inline bool identical(float a, float b) {
    return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

class Tests {
  public:
    void add(std::string name, std::function<void()> body) { tests_.push_back({std::move(name), std::move(body), ""}); }
    // A test that starts threads. WebAssembly has none.
    void add_threaded(std::string name, std::function<void()> body) {
#if defined(__EMSCRIPTEN__)
        skip(std::move(name), "this build has no threads");
#else
        add(std::move(name), std::move(body));
#endif
    }
    void skip(std::string name, std::string why) { tests_.push_back({std::move(name), nullptr, std::move(why)}); }

    // main: runs those whose names hold one of the arguments, or all, each from the same random numbers, and returns how the program ends.
    int run(int argc, char** argv) const {
        // Tests neither write into the user's cache folder nor depend on what was measured; those of calibration say so themselves.
        setenv("ONEBIT_CALIBRATION", "off", 0);
        unsigned seed = 1;
        std::vector<std::string> wanted;
        bool list = false;
        for (int i = 1; i < argc; ++i) {
            if (std::strcmp(argv[i], "--list") == 0) {
                list = true;
            } else if (std::strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
                seed = static_cast<unsigned>(std::strtoul(argv[++i], nullptr, 10));
            } else if (argv[i][0] == '-') {
                std::printf("%s [--list] [--seed NUMBER] [PART OF A NAME]...\n", argv[0]);
                return std::strcmp(argv[i], "--help") == 0 ? 0 : 2;
            } else {
                wanted.emplace_back(argv[i]);
            }
        }
        int passed = 0, skipped = 0;
        std::vector<std::string> failed;
        for (const Test& test : tests_) {
            bool matches = wanted.empty();
            for (const std::string& part : wanted) matches |= test.name.find(part) != std::string::npos;
            if (!matches) continue;
            if (list) {
                std::printf("%s\n", test.name.c_str());
            } else if (test.body == nullptr) {
                std::printf("skipped %s: %s\n", test.name.c_str(), test.why.c_str());
                ++skipped;
            } else if (passes(test, seed)) {
                ++passed;
            } else {
                failed.push_back(test.name);
            }
            std::fflush(stdout);
        }
        if (list) return 0;
        for (const std::string& name : failed) std::printf("FAILED: %s\n", name.c_str());
        if (!failed.empty()) {
            std::printf("%zu of %zu tests failed\n", failed.size(), failed.size() + static_cast<std::size_t>(passed));
        } else {
            std::printf("%d tests passed, %d skipped, %ld checks\n", passed, skipped, checks);
        }
        // A filter without a match is an error.
        return failed.empty() && passed + skipped > 0 ? 0 : 1;
    }

  private:
    struct Test {
        std::string name;
        std::function<void()> body;
        std::string why;  // it is skipped
    };

    static bool passes(const Test& test, unsigned seed) {
        generator.seed(seed);
        const long before = checks;
        const auto start = std::chrono::steady_clock::now();
        bool good = false;
        try {
            test.body();
            good = true;
        } catch (const CheckFailed&) {
            // has been told
        } catch (const std::exception& error) {
            std::fprintf(stderr, "%s: unexpected exception: %s\n", test.name.c_str(), error.what());
        }
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        std::printf("%s %s (%ld checks, %.2f s)\n", good ? "passed " : "FAILED ", test.name.c_str(), checks - before, seconds);
        return good;
    }

    std::vector<Test> tests_;
};
