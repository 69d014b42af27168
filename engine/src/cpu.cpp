#include "cpu.h"

#include <cstdlib>
#include <initializer_list>
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
// Linux wants to be asked, once in each process, before a program uses tiles.
bool tiles_permitted() {
#if defined(__linux__)
    constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, which older headers lack
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return false;
#endif
}

// By CPUID, because __builtin_cpu_supports answers 0 for everything under some compilers. What the processor has is of use only where the operating
// system saves the registers (XCR0).
std::uint32_t x86_features() {
    struct Bit {
        unsigned number;
        std::uint32_t feature;
    };
    std::uint32_t found = 0;
    const auto take = [&found](unsigned word, std::initializer_list<Bit> bits) {
        for (const Bit& bit : bits) found |= (word >> bit.number & 1u) != 0 ? bit.feature : 0u;
    };
    constexpr unsigned os_uses_xsave = 1u << 27, avx = 1u << 28;                                        // leaf 1's ECX
    constexpr unsigned avx_state = 3u << 1, avx512_state = avx_state | 7u << 5, tile_state = 3u << 17;  // XCR0
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & os_uses_xsave) == 0 || (c & avx) == 0) return 0;
    unsigned saved, high;
    asm volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & avx_state) != avx_state) return 0;
    take(c, {{12, feature_fma}});
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return found;
    take(b, {{5, feature_avx2}});
    if ((saved & avx512_state) == avx512_state) {
        take(b, {{16, feature_avx512f}, {17, feature_avx512dq}, {30, feature_avx512bw}, {31, feature_avx512vl}});
        take(c, {{11, feature_avx512vnni}, {14, feature_avx512vpopcntdq}});
    }
    constexpr unsigned amx_tile = 24;
    if ((saved & tile_state) == tile_state && (d >> amx_tile & 1u) != 0 && tiles_permitted()) {
        take(d, {{amx_tile, feature_amx_tile}, {25, feature_amx_int8}});
    }
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
    found |= feature_neon;  // every other system on 64-bit Arm takes it for granted
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
    // Family, model and stepping in one number.
    if (__get_cpuid(1, &a, &b, &c, &d) != 0) model.append(" ").append(std::to_string(a));
    if (__get_cpuid(0x80000006, &a, &b, &c, &d) != 0) model.append(", ").append(std::to_string(c >> 16)).append(" KB of second-level cache");
#elif defined(ONEBIT_ARM) && defined(__linux__)
    model = "capabilities " + std::to_string(getauxval(AT_HWCAP));
#endif
    return model;
}

std::vector<std::string> feature_names(std::uint32_t features) {
    static const char* const names[] = {"avx2",        "fma",  "avx512f", "avx512bw", "avx512dq", "avx512vl",
                                        "avx512_vnni", "neon", "dotprod", "amx_tile", "amx_int8", "avx512_vpopcntdq"};
    std::vector<std::string> found;
    for (unsigned i = 0; i < sizeof names / sizeof *names; ++i) {
        if (features >> i & 1u) found.emplace_back(names[i]);
    }
    return found;
}

const Kernels* const* all_kernels(int* count) {
    static const Kernels* const all[] = {
        &scalar_kernels,
#if defined(ONEBIT_X86)
        &avx2_kernels,
        &avx512_kernels,
        &amx_kernels,
#elif defined(ONEBIT_ARM)
        &neon_kernels,
        &neon_dotprod_kernels,
#endif
    };
    *count = static_cast<int>(sizeof all / sizeof *all);
    return all;
}

bool supported(const Kernels& kernels) {
    return (kernels.needs & ~cpu_features()) == 0;
}

const CountKernels& choose_counts(const Kernels& kernels) {
    const bool best = (kernels.counts[0]->needs & ~cpu_features()) == 0;
    return *kernels.counts[best || kernels.counts[1] == nullptr ? 0 : 1];
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
