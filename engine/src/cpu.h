// The kernels that this processor can run.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "kernels/xnor.h"

namespace onebit {

// The features of this CPU that the operating system lets programs use.
std::uint32_t cpu_features();
std::vector<std::string> feature_names(std::uint32_t features);
// The processor's maker, model and second-level cache, if known. They distinguish processors with the same features.
std::string cpu_model();
bool supported(const Kernels& kernels);

// A method of multiplying bits with bits for a set: a line of kernels.def.
struct XnorWay {
    const char* set;
    const XnorKernels* kernels;
    std::uint32_t needs;
};
// All of this build, each set's best first.
const std::vector<XnorWay>& xnor_ways();
bool supported(const XnorWay& way);
// The first of a set's methods that this CPU supports.
const XnorKernels& choose_xnor(const Kernels& kernels);
// By name. An empty name means ONEBIT_ISA's, or else the best supported one. Throws std::invalid_argument for an unknown or unsupported one.
const Kernels& choose_kernels(const std::string& name);

}  // namespace onebit
