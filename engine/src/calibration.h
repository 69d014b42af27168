// Chooses the fastest of several kernels with the same results: measured once, in a few milliseconds, and kept in the user's cache folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/kernels.h"

namespace onebit {

// The chosen values. A set's table has the same members, with the values for use without a measurement.
struct Ways {
    std::int64_t most_rows;         // a dense layer uses look-ups up to this many rows, and panels of bytes beyond
    std::int64_t least_image_gain;  // a convolution uses look-ups from this gain on; or never
    std::int64_t least_divided;     // threads divide a dense layer from this many products of a row on

    bool operator==(const Ways&) const = default;
};

// The measured times, in nanoseconds.
struct Timings {
    double look_up;     // a product of many rows' inputs with bits
    double panel;       // the same with an expanded panel of bytes
    double expand;      // expanding one weight from its bit to its byte
    double prepare;     // preparing one input for the tables
    double prepare_at;  // the same for an image's pixels; 0 if the set has no product of images
    double one_row;     // a product of a single row's inputs with bits
};

struct Calibration {
    Ways ways;
    std::string source;  // a description of where they come from
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
