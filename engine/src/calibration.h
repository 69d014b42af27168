// Which of several ways to the same bits is the fastest on this machine: measured once, in a few milliseconds, and kept in the user's cache folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/kernels.h"

namespace onebit {

// What is chosen: the same members of a set's table, which hold what is chosen where nothing is measured.
struct Ways {
    std::int64_t most_rows;         // of a dense layer, up to which its bits are looked up; beyond, panels of bytes
    std::int64_t least_image_gain;  // of a convolution, from which on its bits are looked up; or never
    std::int64_t least_divided;     // products of a row from which on threads divide a dense layer

    bool operator==(const Ways&) const = default;
};

// What was measured, in nanoseconds.
struct Timings {
    double look_up;     // a product of many rows' inputs with bits
    double panel;       // the same with a panel of bytes, which is at hand
    double expand;      // a weight's way from its bit to its byte
    double prepare;     // an input's way to its share of the tables
    double prepare_at;  // the same of an image's pixels; 0 where the set has no product of images
    double one_row;     // a product of a single row's inputs with bits
};

struct Calibration {
    Ways ways;
    std::string source;  // where they come from, for people
    std::string file;    // where they are kept; empty: nowhere
};

Ways ways_of(const Kernels& kernels);
// From timings to ways; those that no clock can have given leave the table's own.
Ways choose_ways(const Kernels& kernels, const Timings& timings);
Timings measure(const Kernels& kernels);

// The cache folder, as Python finds it: $ONEBIT_CACHE, $XDG_CACHE_HOME/onebit, ~/.cache/onebit; empty where there is no home.
std::string cache_folder();
// What distinguishes machines: the processor's model, features and second-level cache.
std::string machine();
// A set's ways in a folder; nothing where the file is absent, damaged, or of another machine or version.
std::string calibration_file(const std::string& folder, const Kernels& kernels);
std::optional<Ways> read_ways(const std::string& file, const Kernels& kernels);
// False where that is not possible. Another process may do the same at the same time.
bool write_ways(const std::string& file, const Kernels& kernels, const Ways& ways);

// The ways of a set on this machine, as ONEBIT_CALIBRATION says: unset or empty: kept or measured ones; "again": measured anew; "off": the table's
// own; "lookups" or "panels": always these. Throws std::invalid_argument for another word.
Calibration calibrate(const Kernels& kernels);
// The set's table with these ways; it stays until the process ends.
const Kernels& calibrated(const Kernels& kernels);

}  // namespace onebit
