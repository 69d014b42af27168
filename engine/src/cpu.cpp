#include "cpu.h"

#include <cstdlib>
#include <stdexcept>

#if defined(ONEBIT_X86) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(ONEBIT_ARM) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(ONEBIT_ARM) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace onebit {
namespace {

#if defined(ONEBIT_X86)
// Compilers' own checks leave out whether the operating system lets a program use tiles: Linux wants to be asked, once in each process.
std::uint32_t tile_features() {
    std::uint32_t found = 0;
#if defined(__linux__)
    constexpr unsigned os_uses_xsave = 1u << 27, tile_state = 3u << 17;  // leaf 1's ECX; XCR0: the configuration and the data of tiles
    constexpr unsigned amx_tile = 1u << 24, amx_int8 = 1u << 25;         // leaf 7's EDX
    constexpr long request_permission = 0x1023, tile_data = 18;          // ARCH_REQ_XCOMP_PERM, which older headers lack
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & os_uses_xsave) == 0) return 0;
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & tile_state) != tile_state) return 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & amx_tile) == 0) return 0;
    if (syscall(SYS_arch_prctl, request_permission, tile_data) != 0) return 0;
    found = feature_amx_tile | ((d & amx_int8) != 0 ? feature_amx_int8 : 0u);
#endif
    return found;
}
#endif

}  // namespace

std::uint32_t cpu_features() {
    std::uint32_t found = 0;
#if defined(ONEBIT_X86)
    // The compiler's own check asks the operating system (XGETBV) for the wide registers too.
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) found |= feature_avx2;
    if (__builtin_cpu_supports("fma")) found |= feature_fma;
    if (__builtin_cpu_supports("avx512f")) found |= feature_avx512f;
    if (__builtin_cpu_supports("avx512bw")) found |= feature_avx512bw;
    if (__builtin_cpu_supports("avx512dq")) found |= feature_avx512dq;
    if (__builtin_cpu_supports("avx512vl")) found |= feature_avx512vl;
    if (__builtin_cpu_supports("avx512vnni")) found |= feature_avx512vnni;
    if (__builtin_cpu_supports("avx512vpopcntdq")) found |= feature_avx512vpopcntdq;
    static const std::uint32_t tiles = tile_features();
    found |= tiles;
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
