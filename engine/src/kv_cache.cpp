#include "kv_cache.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace onebit {
namespace {

// The upper 16 bits of a float, rounded to the nearest, ties to even. NaN stays NaN. Without branches, so that the compiler vectorises it.
std::uint16_t to_bfloat16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16, quiet = bits >> 16 | 0x40u;
    return static_cast<std::uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

// The number of features to round at a time, a multiple of each group.
constexpr std::int64_t piece = 64;

// The scale of a row's levels. For a row with NaN or infinity it is NaN, and so is the attention to it.
float scale_of(const Kernels& kernels, const float* x, std::int64_t n) {
    std::uint32_t largest_bits;
    bool negative;
    kernels.rows.range(x, n, &largest_bits, &negative);
    const auto largest = std::bit_cast<float>(largest_bits);
    return largest < INFINITY ? largest / 127.0f : NAN;
}

void round_row(const Kernels&, const float* x, std::int64_t n, float, float* to) {
    std::copy(x, x + n, to);
}
void round_row(const Kernels&, const float* x, std::int64_t n, float, std::uint16_t* to) {
    for (std::int64_t i = 0; i < n; ++i) to[i] = to_bfloat16(x[i]);
}
void round_row(const Kernels& kernels, const float* x, std::int64_t n, float scale, std::int8_t* to) {
    const float inverse = 1.0f / scale;
    if (std::isfinite(scale) && std::isfinite(inverse)) {
        kernels.rows.quantize(x, n, inverse, -127, 127, 0, reinterpret_cast<std::uint8_t*>(to));
    } else {
        // NaN whatever its levels, or so small that it counts as 0.
        std::fill(to, to + n, std::int8_t{0});
    }
}

std::int64_t lines_of_head(CacheNumbers numbers, std::int64_t features) {
    const std::int64_t count = stored_features(features) * token_block;
    const std::int64_t bytes = numbers == CacheNumbers::float32 ? 4 * count : numbers == CacheNumbers::bf16 ? 2 * count : count + 4 * token_block;
    return bytes / 64;
}

}  // namespace

KvCache::KvCache(CacheNumbers numbers, std::int64_t heads, std::int64_t features, std::int64_t most_tokens)
    : numbers_(numbers), heads_(heads), features_(features), most_tokens_(most_tokens), head_lines_(lines_of_head(numbers, features)) {}

void KvCache::reserve(std::int64_t tokens) {
    const std::size_t lines = lines_of(tokens), most = lines_of(most_tokens_);
    for (auto* numbers : {&keys_, &values_}) {
        // Grow by half, so that a long text is not copied for each block.
        const std::size_t room = numbers->capacity();
        if (room < lines) numbers->reserve(std::max(lines, std::min(most, room + room / 2)));
        if (numbers->size() < lines) numbers->resize(lines);
    }
}

std::vector<std::span<std::byte>> KvCache::contents(std::int64_t tokens) {
    reserve(tokens);
    const std::size_t lines = lines_of(tokens);
    return {std::as_writable_bytes(std::span(keys_.data(), lines)), std::as_writable_bytes(std::span(values_.data(), lines))};
}

template <class Stored>
void KvCache::put_head(const Kernels& kernels, std::int64_t head, std::int64_t position, const float* key, const float* value) {
    constexpr std::int64_t g = 4 / sizeof(Stored);
    const std::int64_t line = (position / token_block * heads_ + head) * head_lines_, token = position % token_block;
    const std::int64_t width = stored_features(features_);
    auto* keys = reinterpret_cast<Stored*>(keys_.data() + line);
    auto* values = reinterpret_cast<Stored*>(values_.data() + line);
    float key_scale = 1, value_scale = 1;
    if constexpr (sizeof(Stored) == 1) {
        key_scale = scale_of(kernels, key, features_);
        value_scale = scale_of(kernels, value, features_);
        reinterpret_cast<float*>(keys + width * token_block)[token] = key_scale;
        reinterpret_cast<float*>(values + width * token_block)[token] = value_scale;
    }
    keys += token * g;
    values += token / g * g * width + token % g;
    for (std::int64_t first = 0; first < features_; first += piece) {
        const std::int64_t count = std::min(piece, features_ - first);
        Stored some[piece] = {};
        round_row(kernels, key + first, count, key_scale, some);
        for (std::int64_t i = 0; i < count; i += g) std::memcpy(keys + (first + i) * token_block, some + i, 4);
        round_row(kernels, value + first, count, value_scale, some);
        for (std::int64_t i = 0; i < count; ++i) values[(first + i) * g] = some[i];
    }
}

void KvCache::put(const Kernels& kernels, std::int64_t head, std::int64_t position, const float* keys, const float* values) {
    keys += head * features_;
    values += head * features_;
    switch (numbers_) {
        case CacheNumbers::float32: return put_head<float>(kernels, head, position, keys, values);
        case CacheNumbers::bf16: return put_head<std::uint16_t>(kernels, head, position, keys, values);
        case CacheNumbers::int8: return put_head<std::int8_t>(kernels, head, position, keys, values);
    }
}

void KvCache::attend(const Kernels& kernels, std::int64_t head, Attended a, const float* q, float* scores, float* y) const {
    a.features = features_;
    a.scale = 1.0f / std::sqrt(static_cast<float>(features_));
    // Blocks of which no query sees a token are passed over.
    const std::int64_t passed = a.hidden > 0 ? a.hidden / token_block : 0, first = (passed * heads_ + head) * head_lines_;
    a.tokens -= passed * token_block;
    a.hidden -= passed * token_block;
    const Line *keys = keys_.data() + first, *values = values_.data() + first;
    const auto run = [&]<class Stored>(auto kernel, const Stored*) {
        a.block_stride = heads_ * head_lines_ * static_cast<std::int64_t>(sizeof(Line) / sizeof(Stored));
        kernel(q, reinterpret_cast<const Stored*>(keys), reinterpret_cast<const Stored*>(values), a, scores, y);
    };
    switch (numbers_) {
        case CacheNumbers::float32: return run(kernels.attention.float32, static_cast<const float*>(nullptr));
        case CacheNumbers::bf16: return run(kernels.attention.bf16, static_cast<const std::uint16_t*>(nullptr));
        case CacheNumbers::int8: return run(kernels.attention.int8, static_cast<const std::int8_t*>(nullptr));
    }
}

}  // namespace onebit
