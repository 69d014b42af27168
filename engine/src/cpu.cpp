#include "cpu.h"

#include <cstdlib>
#include <stdexcept>

#if defined(ONEBIT_X86)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(ONEBIT_ARM) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(ONEBIT_ARM) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace onebit {
namespace {

#if defined(ONEBIT_X86)
// On Linux a process must ask once for permission to use tiles.
bool tiles_permitted() {
#if defined(__linux__)
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, which is missing in older headers
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

// Of features.def: where CPUID has a feature's bit, and the registers that the operating system must save (bits of XCR0).
enum Word { leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_edx, of_arm };
enum Registers : unsigned { none = 0, ymm = 3u << 1, zmm = ymm | 7u << 5, tiles = 3u << 17 };
struct FeatureBit {
    std::uint32_t feature;
    Word word;
    unsigned bit;
    unsigned registers;
};
constexpr FeatureBit feature_bits[] = {
#define FEATURE(name, text, word, bit, registers) {feature_##name, word, bit, registers},
#include "kernels/features.def"
#undef FEATURE
};

// By CPUID, because __builtin_cpu_supports returns 0 for everything with some compilers. A feature can be used only if the operating system saves
// its registers (XCR0).
std::uint32_t x86_features() {
    constexpr unsigned os_uses_xsave = 1u << 27, avx = 1u << 28;  // leaf 1's ECX
    unsigned a, b, c, d, words[of_arm] = {};
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & os_uses_xsave) == 0 || (c & avx) == 0) return 0;
    words[leaf1_ecx] = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0) words[leaf7_ebx] = b, words[leaf7_ecx] = c, words[leaf7_edx] = d;
    unsigned saved, high;
    asm volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    std::uint32_t found = 0;
    for (const FeatureBit& f : feature_bits) {
        if (f.word != of_arm && (saved & ymm) == ymm && (saved & f.registers) == f.registers && (words[f.word] >> f.bit & 1u) != 0)
            found |= f.feature;
    }
    if ((found & feature_amx_tile) == 0 || !tiles_permitted()) found &= ~std::uint32_t{feature_amx_tile | feature_amx_int8};
    return found;
}
#endif

}  // namespace

std::uint32_t cpu_features() {
    std::uint32_t found = 0;
#if defined(ONEBIT_X86)
    static const std::uint32_t all = x86_features();
    found = all;
#elif defined(ONEBIT_ARM) && defined(__linux__)
    const unsigned long capabilities = getauxval(AT_HWCAP);
    if (capabilities & HWCAP_ASIMD) found |= feature_neon;
    if (capabilities & HWCAP_ASIMDDP) found |= feature_dotprod;
#elif defined(ONEBIT_ARM)
    found |= feature_neon;  // every other system on 64-bit Arm requires it
#if defined(__APPLE__)
    int has = 0;
    std::size_t size = sizeof has;
    if (sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0) found |= feature_dotprod;
#endif
#endif
    return found;
}

std::string cpu_model() {
    std::string model;
#if defined(ONEBIT_X86)
    unsigned a, b, c, d;
    if (__get_cpuid(0, &a, &b, &c, &d) != 0) {
        for (const unsigned word : {b, d, c}) model.append(reinterpret_cast<const char*>(&word), sizeof word);
    }
    // The family, model and stepping as one number.
    if (__get_cpuid(1, &a, &b, &c, &d) != 0) model.append(" ").append(std::to_string(a));
    if (__get_cpuid(0x80000006, &a, &b, &c, &d) != 0) model.append(", ").append(std::to_string(c >> 16)).append(" KB of second-level cache");
#elif defined(ONEBIT_ARM) && defined(__linux__)
    model = "capabilities " + std::to_string(getauxval(AT_HWCAP));
#endif
    return model;
}

std::vector<std::string> feature_names(std::uint32_t features) {
    static const char* const names[] = {
#define FEATURE(name, text, word, bit, registers) text,
#include "kernels/features.def"
#undef FEATURE
    };
    std::vector<std::string> found;
    for (unsigned i = 0; i < sizeof names / sizeof *names; ++i) {
        if (features >> i & 1u) found.emplace_back(names[i]);
    }
    return found;
}

const Kernels* const* all_kernels(int* count) {
#if defined(ONEBIT_PAGE)
    // A page loads the engine before it computes: it gets one set.
    static const Kernels* const all[] = {&wasm_kernels};
#else
    static const Kernels* const all[] = {
#define KERNELS(set, needs, text) &set##_kernels,
#include "kernels/kernels.def"
    };
#endif
    *count = static_cast<int>(sizeof all / sizeof *all);
    return all;
}

bool supported(const Kernels& kernels) {
    return (kernels.needs & ~cpu_features()) == 0;
}

bool supported(const XnorWay& way) {
    return (way.needs & ~cpu_features()) == 0;
}

const std::vector<XnorWay>& xnor_ways() {
    static const std::vector<XnorWay> ways = {
#define XNOR(set, kernels, needs) {#set, &kernels, needs},
#include "kernels/kernels.def"
    };
    return ways;
}

const XnorKernels& choose_xnor(const Kernels& kernels) {
    for (const XnorWay& way : xnor_ways()) {
        if (std::string(kernels.name) == way.set && supported(way)) return *way.kernels;
    }
    return scalar_xnor;
}

const Kernels& choose_kernels(const std::string& name) {
    std::string wanted = name;
    if (wanted.empty()) {
        const char* forced = std::getenv("ONEBIT_ISA");
        wanted = forced == nullptr ? "" : forced;
    }
    int count = 0;
    const Kernels* const* all = all_kernels(&count);
    std::string names;
    for (int i = count - 1; i >= 0; --i) {
        if (wanted.empty() ? supported(*all[i]) : wanted == all[i]->name) {
            if (supported(*all[i])) return *all[i];
            throw std::invalid_argument("[engine] isa='" + wanted + "': this CPU lacks it; leave isa out for the best that it has");
        }
        if (supported(*all[i])) names += (names.empty() ? "" : ", ") + std::string(all[i]->name);
    }
    throw std::invalid_argument("[engine] isa='" + wanted.substr(0, 40) + "' is unknown: use one of " + names);
}

}  // namespace onebit
