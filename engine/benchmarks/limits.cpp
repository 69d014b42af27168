#include "limits.h"

#include <cstdio>
#include <cstring>
#include <new>
#include <string>

#include "cpu.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(ONEBIT_X86)
#include <immintrin.h>
#endif

namespace onebit {
namespace {

constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t ahead = 4096;  // bytes between what is read and what is asked for
constexpr int rounds = 20000;        // of the loops in registers: a few hundred microseconds

// Takes what a loop computed, so that the compiler cannot leave it out.
volatile std::uint64_t sink;

#if defined(ONEBIT_X86)

template <bool prefetch>
__attribute__((target("avx512f"))) std::uint64_t read_512(const std::uint8_t* from, std::size_t bytes) {
    __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
    for (const std::uint8_t* end = from + bytes; from != end; from += 256) {
        if (prefetch) {
            for (int line = 0; line < 4; ++line) _mm_prefetch(reinterpret_cast<const char*>(from + line * 64 + ahead), _MM_HINT_T0);
        }
        a = _mm512_xor_si512(a, _mm512_loadu_si512(from));
        b = _mm512_xor_si512(b, _mm512_loadu_si512(from + 64));
        c = _mm512_xor_si512(c, _mm512_loadu_si512(from + 128));
        d = _mm512_xor_si512(d, _mm512_loadu_si512(from + 192));
    }
    alignas(64) std::uint64_t words[8];
    _mm512_store_si512(words, _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
    return words[0] ^ words[7];
}

template <bool prefetch>
__attribute__((target("avx2"))) std::uint64_t read_256(const std::uint8_t* from, std::size_t bytes) {
    __m256i sums[8] = {};
    for (const std::uint8_t* end = from + bytes; from != end; from += 256) {
        if (prefetch) {
            for (int line = 0; line < 4; ++line) _mm_prefetch(reinterpret_cast<const char*>(from + line * 64 + ahead), _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) sums[i] = _mm256_xor_si256(sums[i], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i * 32)));
    }
    for (int i = 1; i < 8; ++i) sums[0] = _mm256_xor_si256(sums[0], sums[i]);
    alignas(32) std::uint64_t words[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(words), sums[0]);
    return words[0] ^ words[3];
}

// Sixteen sums hide the latency of each; the asm keeps the compiler from seeing that they are equal and computing one.
__attribute__((target("avx512f,avx512vnni"))) void multiply_vnni() {
    __m512i sums[16];
    const __m512i x = _mm512_set1_epi8(3), w = _mm512_set1_epi8(1);
    for (auto& sum : sums) {
        sum = _mm512_setzero_si512();
        asm volatile("" : "+v"(sum));
    }
    for (int round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) sums[i] = _mm512_dpbusd_epi32(sums[i], x, w);
    }
    for (int i = 1; i < 16; ++i) sums[0] = _mm512_add_epi32(sums[0], sums[i]);
    alignas(64) std::uint64_t words[8];
    _mm512_store_si512(words, sums[0]);
    sink = words[0];
}

// Weights of one bit leave room for 64 sums of pairs in 16 bits, so that widening them to 32 costs next to nothing.
__attribute__((target("avx2"))) void multiply_avx2() {
    __m256i sums[12], x = _mm256_set1_epi8(3), w = _mm256_set1_epi8(1);
    for (auto& sum : sums) {
        sum = _mm256_setzero_si256();
        asm volatile("" : "+x"(sum));
    }
    for (int round = 0; round < rounds; ++round) {
        // The asm says that the factors may have changed: else one product would serve all sums.
#pragma GCC unroll 12
        for (int i = 0; i < 12; ++i) {
            asm volatile("" : "+x"(x), "+x"(w));
            sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(x, w));
        }
    }
    for (int i = 1; i < 12; ++i) sums[0] = _mm256_add_epi16(sums[0], sums[i]);
    alignas(32) std::uint64_t words[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(words), sums[0]);
    sink = words[0];
}

#if defined(__linux__)
// Four tiles of sums, two of inputs and two of weights, as the engine's product holds them.
__attribute__((target("amx-tile,amx-int8"))) void multiply_amx() {
    alignas(64) std::uint8_t configuration[64] = {};
    alignas(64) static std::uint8_t ones[1024];
    configuration[0] = 1;
    for (int tile = 0; tile < 8; ++tile) {
        configuration[16 + 2 * tile] = 64;
        configuration[48 + tile] = 16;
    }
    _tile_loadconfig(configuration);
    _tile_loadd(4, ones, 64);
    _tile_loadd(5, ones, 64);
    _tile_loadd(6, ones, 64);
    _tile_loadd(7, ones, 64);
    for (int round = 0; round < rounds; ++round) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_release();
}
#endif

#endif

using Words = std::uint64_t __attribute__((vector_size(16)));

template <bool prefetch>
std::uint64_t read_128(const std::uint8_t* from, std::size_t bytes) {
    Words sums[8] = {};
    for (const std::uint8_t* end = from + bytes; from != end; from += 256) {
        if (prefetch) {
            for (int line = 0; line < 4; ++line) __builtin_prefetch(from + line * 64 + ahead);
        }
        for (int i = 0; i < 16; ++i) {
            Words words;
            std::memcpy(&words, from + i * 16, sizeof words);
            sums[i % 8] ^= words;
        }
    }
    for (int i = 1; i < 8; ++i) sums[0] ^= sums[i];
    return sums[0][0] ^ sums[0][1];
}

}  // namespace

Pages::Pages(std::size_t bytes, bool huge) : bytes_((bytes + huge_page - 1) / huge_page * huge_page) {
    data_ = static_cast<std::uint8_t*>(::operator new(bytes_, std::align_val_t{huge_page}));
#if defined(__linux__)
    // A request only: where the system has none, small pages serve.
    madvise(data_, bytes_, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
#else
    (void)huge;
#endif
    std::uint64_t state = 1;
    for (std::size_t i = 0; i < bytes_; i += 8) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const std::uint64_t word = state ^ state >> 29;
        std::memcpy(data_ + i, &word, 8);
    }
}

Pages::~Pages() {
    ::operator delete(data_, std::align_val_t{huge_page});
}

std::size_t huge_bytes() {
    std::size_t found = 0;
    if (std::FILE* file = std::fopen("/proc/self/smaps_rollup", "r")) {
        char line[256];
        unsigned long long kilobytes = 0;
        while (std::fgets(line, sizeof line, file) != nullptr) {
            if (std::sscanf(line, "AnonHugePages: %llu kB", &kilobytes) == 1) found = static_cast<std::size_t>(kilobytes) << 10;
        }
        std::fclose(file);
    }
    return found;
}

namespace {

std::uint64_t read_widest(const std::uint8_t* from, std::size_t bytes, bool prefetch) {
#if defined(ONEBIT_X86)
    static const std::uint32_t features = cpu_features();
    if ((features & feature_avx512f) != 0) return prefetch ? read_512<true>(from, bytes) : read_512<false>(from, bytes);
    if ((features & feature_avx2) != 0) return prefetch ? read_256<true>(from, bytes) : read_256<false>(from, bytes);
#endif
    return prefetch ? read_128<true>(from, bytes) : read_128<false>(from, bytes);
}

}  // namespace

void read_all(const std::uint8_t* from, std::size_t bytes, bool prefetch) {
    sink = read_widest(from, bytes, prefetch);
}

Peak peak_of(const char* isa) {
    const std::string name = isa;
#if defined(ONEBIT_X86)
    if (name == "avx2") return {"vpmaddubsw, vpaddw", 12.0 * 32 * rounds, multiply_avx2};
    if (name == "avx512") return {"vpdpbusd", 16.0 * 64 * rounds, multiply_vnni};
#if defined(__linux__)
    if (name == "amx") return {"tdpbusd", 4.0 * 16 * 16 * 64 * rounds, multiply_amx};
#endif
#endif
    return {"", 0, nullptr};
}

}  // namespace onebit
