#include "attention_cache.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace onebit {
namespace {

// The upper 16 bits of a float, rounded to the nearest, ties to even; NaN stays NaN. Without branches, so that it is done for many at once.
std::uint16_t to_bfloat16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16, quiet = bits >> 16 | 0x40u;
    return static_cast<std::uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

// Features that are rounded at a time, a multiple of each group.
constexpr std::int64_t piece = 64;

// Of a row that is to be rounded to 8 bits: what a level stands for. Rows with NaN or infinity have a scale of NaN, whatever their levels.
struct Levels {
    float scale = 0, inverse = 0;

    Levels(const float* x, std::int64_t n) {
        std::uint32_t largest_bits = 0;
        for (std::int64_t i = 0; i < n; ++i) largest_bits = std::max(largest_bits, std::bit_cast<std::uint32_t>(x[i]) & 0x7FFFFFFFu);
        const auto largest = std::bit_cast<float>(largest_bits);
        scale = largest / 127.0f;
        if (!(largest < INFINITY)) {
            scale = NAN;
        } else if (scale > 0) {
            // Of numbers so small that their scale is denormal the inverse may be infinite: they are taken for 0.
            inverse = std::isinf(1.0f / scale) ? 0.0f : 1.0f / scale;
        }
    }
    std::int8_t of(float x) const {
        // Adding and taking away 1.5 * 2^23 rounds to the nearest even without a call; the bounds are first, so that NaN becomes a level too.
        constexpr float round = 12582912.0f;
        const float v = x * inverse, high = v < 127.0f ? v : 127.0f, bounded = high > -127.0f ? high : -127.0f;
        return static_cast<std::int8_t>(static_cast<std::int32_t>((bounded + round) - round));
    }
};

float rounded(float x, const Levels&, float*) {
    return x;
}
std::uint16_t rounded(float x, const Levels&, std::uint16_t*) {
    return to_bfloat16(x);
}
std::int8_t rounded(float x, const Levels& levels, std::int8_t*) {
    return levels.of(x);
}

std::int64_t lines_of_head(CacheNumbers numbers, std::int64_t features) {
    const std::int64_t count = stored_features(features) * token_block;
    const std::int64_t bytes = numbers == CacheNumbers::float32 ? 4 * count : numbers == CacheNumbers::bf16 ? 2 * count : count + 4 * token_block;
    return bytes / 64;
}

}  // namespace

AttentionCache::AttentionCache(CacheNumbers numbers, std::int64_t heads, std::int64_t features)
    : numbers_(numbers), heads_(heads), features_(features), head_lines_(lines_of_head(numbers, features)) {}

void AttentionCache::reserve(std::int64_t tokens) {
    const auto lines = static_cast<std::size_t>((tokens + token_block - 1) / token_block * heads_ * head_lines_);
    for (std::vector<Line>* numbers : {&keys_, &values_}) {
        // By halves, so that a long text is not copied for each of its blocks.
        if (numbers->capacity() < lines) numbers->reserve(std::max(lines, numbers->capacity() + numbers->capacity() / 2));
        if (numbers->size() < lines) numbers->resize(lines);
    }
}

template <class Stored>
Stored* AttentionCache::part(std::vector<Line>& lines, std::int64_t block, std::int64_t head) const {
    return reinterpret_cast<Stored*>(lines.data() + (block * heads_ + head) * head_lines_);
}

template <class Stored>
void AttentionCache::put_head(std::int64_t head, std::int64_t position, const float* key, const float* value) {
    constexpr std::int64_t g = 4 / sizeof(Stored);
    const std::int64_t block = position / token_block, token = position % token_block, width = stored_features(features_);
    Levels of_key(key, sizeof(Stored) == 1 ? features_ : 0), of_value(value, sizeof(Stored) == 1 ? features_ : 0);
    auto* keys = part<Stored>(keys_, block, head);
    auto* values = part<Stored>(values_, block, head);
    if constexpr (sizeof(Stored) == 1) {
        reinterpret_cast<float*>(keys + width * token_block)[token] = of_key.scale;
        reinterpret_cast<float*>(values + width * token_block)[token] = of_value.scale;
    }
    keys += token * g;
    values += token / g * g * width + token % g;
    for (std::int64_t first = 0; first < features_; first += piece) {
        const std::int64_t count = std::min(piece, features_ - first);
        Stored some[piece] = {};
        for (std::int64_t i = 0; i < count; ++i) some[i] = rounded(key[first + i], of_key, some);
        for (std::int64_t i = 0; i < count; i += g) std::memcpy(keys + (first + i) * token_block, some + i, 4);
        for (std::int64_t i = 0; i < count; ++i) some[i] = rounded(value[first + i], of_value, some);
        for (std::int64_t i = 0; i < count; ++i) values[(first + i) * g] = some[i];
    }
}

void AttentionCache::put(std::int64_t position, const float* keys, const float* values) {
    for (std::int64_t head = 0; head < heads_; ++head, keys += features_, values += features_) {
        switch (numbers_) {
            case CacheNumbers::float32: put_head<float>(head, position, keys, values); break;
            case CacheNumbers::bf16: put_head<std::uint16_t>(head, position, keys, values); break;
            case CacheNumbers::int8: put_head<std::int8_t>(head, position, keys, values); break;
        }
    }
}

void AttentionCache::attend(const Kernels& kernels, std::int64_t head, Attended a, const float* q, float* scores, float* y) const {
    a.features = features_;
    a.scale = 1.0f / std::sqrt(static_cast<float>(features_));
    const Line *keys = keys_.data() + head * head_lines_, *values = values_.data() + head * head_lines_;
    const auto run = [&]<class Stored>(auto kernel, const Stored*) {
        a.block_stride = heads_ * head_lines_ * static_cast<std::int64_t>(sizeof(Line) / sizeof(Stored));
        kernel(q, reinterpret_cast<const Stored*>(keys), reinterpret_cast<const Stored*>(values), a, scores, y);
    };
    switch (numbers_) {
        case CacheNumbers::float32: return run(kernels.attend, static_cast<const float*>(nullptr));
        case CacheNumbers::bf16: return run(kernels.attend_bf16, static_cast<const std::uint16_t*>(nullptr));
        case CacheNumbers::int8: return run(kernels.attend_int8, static_cast<const std::int8_t*>(nullptr));
    }
}

}  // namespace onebit
