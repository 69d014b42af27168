// Attention of some queries to the keys and values of one head; kernels.h tells how those lie. Compiled once for each instruction set, with
// internal linkage, as rows.h.
#pragma once

#include "rows.h"

namespace onebit {
namespace {

// Numbers that share 32 bits.
template <class Stored>
constexpr int group = 4 / static_cast<int>(sizeof(Stored));

// The tokens up to which a query sees, and from which on.
inline std::int64_t seen_by(const Attended& a, int query) {
    return a.tokens + static_cast<std::int64_t>(query) * a.step;
}
inline std::int64_t hidden_from(const Attended& a, int query) {
    const std::int64_t hidden = a.hidden + static_cast<std::int64_t>(query) * a.step;
    return hidden > 0 ? hidden : 0;
}

// What one of the queries sees.
inline Attended one_query(const Attended& a, int query) {
    Attended one = a;
    one.rows = 1;
    one.tokens = seen_by(a, query);
    one.hidden = hidden_from(a, query);
    return one;
}

inline Words load_words(const void* from) {
    Words to;
    std::memcpy(&to, from, sizeof to);
    return to;
}

// Prefetches the same place of the head's next block, which the processor does not predict: other heads' lie between.
template <class Stored>
[[gnu::always_inline]] inline void fetch_next(const Stored* line, const Attended& a) {
    __builtin_prefetch(line + a.block_stride, 0, 2);
}

// Whether register number p of a row of them begins a line of 64 bytes.
constexpr bool begins_line(int p) {
    return p * register_lanes * 4 % 64 == 0;
}

// Number j of each lane's group.
template <class Stored>
[[gnu::always_inline]] inline Lanes number(const Words& words, int j) {
    if constexpr (sizeof(Stored) == 4) {
        return reinterpret_cast<Lanes>(words);
    } else if constexpr (sizeof(Stored) == 2) {
        return reinterpret_cast<Lanes>(j == 0 ? words << 16 : words & 0xFFFF0000u);
    } else {
        return __builtin_convertvector(reinterpret_cast<Integers>(words << (24 - 8 * j)) >> 24, Lanes);
    }
}

// So many registers of sums stay in registers beside what is multiplied.
#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int sum_registers = 16;
#else
constexpr int sum_registers = 8;
#endif

// Registers of each row, for 1 to 4 rows: a power of two, because what is left is done in halves.
constexpr int tile_parts(int rows, int sums_of_part) {
    const int parts = sum_registers / sums_of_part / (rows == 3 ? 4 : rows), most = token_block / register_lanes;
    return parts < 1 ? 1 : (parts < most ? parts : most);
}

// The products of some queries with `parts` registers of tokens, whose features one after the other are added to one sum.
template <class Stored, int rows, int parts>
void score_tile(const float* q, const Stored* keys, const Attended& a, float* scores) {
    constexpr int g = group<Stored>;
    Lanes sums[rows][parts] = {};
    const auto add = [&](const Words(&words)[parts], const float* x, int j) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int p = 0; p < parts; ++p) {
            const Lanes key = number<Stored>(words[p], j);
#pragma GCC unroll 4
            for (int r = 0; r < rows; ++r) sums[r][p] = fused(key, x[r * a.row_stride], sums[r][p]);
        }
    };
    Words words[parts];
    std::int64_t i = 0;
    for (; i + g <= a.features; i += g, keys += token_block * g) {
#pragma GCC unroll 16
        for (int p = 0; p < parts; ++p) {
            if (begins_line(p)) fetch_next(keys + p * register_lanes * g, a);
            words[p] = load_words(keys + p * register_lanes * g);
        }
#pragma GCC unroll 4
        for (int j = 0; j < g; ++j) add(words, q + i + j, j);
    }
    if constexpr (g > 1) {
        if (i < a.features) {
#pragma GCC unroll 16
            for (int p = 0; p < parts; ++p) words[p] = load_words(keys + p * register_lanes * g);
#pragma GCC unroll 4
            for (int j = 0; j < g - 1; ++j) {
                if (i + j < a.features) add(words, q + i + j, j);
            }
        }
    }
    // Unrolled too: an array that one loop indexes stays in memory.
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < parts; ++p) store_lanes(sums[r][p], scores + r * a.score_stride + p * register_lanes);
    }
}

// The first `left` tokens of a block, and those that fill the last register.
template <class Stored, int rows, int parts>
void score_block(const float* q, const Stored* keys, const Attended& a, std::int64_t left, float* scores) {
    while (left > 0) {
        if constexpr (parts > 1) {
            if (left <= register_lanes * (parts - 1)) return score_block<Stored, rows, parts / 2>(q, keys, a, left, scores);
        }
        score_tile<Stored, rows, parts>(q, keys, a, scores);
        left -= register_lanes * parts;
        scores += register_lanes * parts;
        keys += register_lanes * parts * group<Stored>;
    }
}

// The scales of a block's tokens.
inline const float* block_scales(const std::int8_t* block, const Attended& a) {
    return reinterpret_cast<const float*>(block + stored_features(a.features) * token_block);
}

// Numbers of some tokens times the scales of their blocks.
inline void apply_scales(float* x, const std::int8_t* blocks, const Attended& a, std::int64_t n) {
    for (std::int64_t first = 0; first < n; first += token_block, blocks += a.block_stride) {
        const float* scales = block_scales(blocks, a);
        for (std::int64_t t = 0; t < token_block; t += register_lanes) {
            store_lanes(load_lanes(x + first + t) * load_lanes(scales + t), x + first + t);
        }
    }
}

// e^(scale * (x - the largest)) of some rows, each of the tokens that its query sees, and 1 / their sums; there is room for whole registers behind
// them. Rows go together, so that one need not wait for another's largest number, nor for its sum; each adds in its own order.
template <int rows>
void soft_weights(float* x, const Attended& a, float* shares) {
    constexpr int each = lanes / register_lanes;
    constexpr float nothing = -std::numeric_limits<float>::infinity();  // a weight of 0
    const std::int64_t stride = a.score_stride, whole = (seen_by(a, rows - 1) + lanes - 1) / lanes * lanes;
    const float scale = a.scale;
    Lanes most[rows][each], sums[rows][each] = {};
    for (int r = 0; r < rows; ++r) {
        for (std::int64_t t = 0; t < hidden_from(a, r); ++t) x[r * stride + t] = nothing;
        for (std::int64_t t = seen_by(a, r); t < whole; ++t) x[r * stride + t] = nothing;
        std::memcpy(most[r], x + r * stride, sizeof most[r]);
    }
    for (std::int64_t t = lanes; t < whole; t += lanes) {
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
            for (int c = 0; c < each; ++c) {
                const Lanes v = load_lanes(x + r * stride + t + c * register_lanes);
                most[r][c] = v > most[r][c] ? v : most[r][c];
            }
        }
    }
    float largest[rows];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) largest[r] = fold_lanes(most[r], [](const Lanes& v, const Lanes& other) { return v > other ? v : other; });
    for (std::int64_t t = 0; t < whole; t += lanes) {
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) {
            float* row = x + r * stride + t;
#pragma GCC unroll 4
            for (int c = 0; c < each; ++c, row += register_lanes) {
                const Lanes weight = exponential(scale * (load_lanes(row) - largest[r]));
                store_lanes(weight, row);
                sums[r][c] += weight;
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) shares[r] = 1.0f / fold_lanes(sums[r], [](const Lanes& v, const Lanes& other) { return v + other; });
}

// Some features' weighted sums over the tokens, those at even and those at odd places in two sums; in what order a row adds does not depend on the
// rows beside it, so that a text read whole and one read token by token agree to the last bit.
template <class Stored, int rows, int parts>
void weigh_tile(const Stored* values, const Attended& a, const float* weights, const float* shares, std::int64_t features, float* y) {
    constexpr int g = group<Stored>, step = g == 1 ? 2 : g;
    const std::int64_t width = stored_features(a.features), whole = a.tokens / step * step;
    Lanes sums[rows][2][parts] = {};
    for (std::int64_t first = 0; first < whole; first += token_block) {
        const Stored* from = values + first / token_block * a.block_stride;
        const std::int64_t end = first + token_block < whole ? first + token_block : whole;
        for (std::int64_t t = first; t < end; t += step, from += step * width) {
#pragma GCC unroll 2
            for (int k = 0; k < step; k += g) {
                Words words[parts];
#pragma GCC unroll 16
                for (int p = 0; p < parts; ++p) {
                    if (begins_line(p)) fetch_next(from + k * width + p * register_lanes * g, a);
                    words[p] = load_words(from + k * width + p * register_lanes * g);
                }
#pragma GCC unroll 4
                for (int j = 0; j < g; ++j) {
#pragma GCC unroll 16
                    for (int p = 0; p < parts; ++p) {
                        const Lanes value = number<Stored>(words[p], j);
#pragma GCC unroll 4
                        for (int r = 0; r < rows; ++r) {
                            Lanes& sum = sums[r][(k + j) % 2][p];
                            sum = fused(value, weights[r * a.score_stride + t + k + j], sum);
                        }
                    }
                }
            }
        }
    }
    float totals[rows][2][parts * register_lanes];
#pragma GCC unroll 4
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 16
        for (int p = 0; p < parts; ++p) {
            store_lanes(sums[r][0][p], totals[r][0] + p * register_lanes);
            store_lanes(sums[r][1][p], totals[r][1] + p * register_lanes);
        }
    }
    // The last tokens, of which each row sees another number, are added in memory.
    for (int r = 0; r < rows; ++r) {
        float (&total)[2][parts * register_lanes] = totals[r];
        for (std::int64_t t = whole; t < seen_by(a, r); ++t) {
            const Stored* from = values + t / token_block * a.block_stride + t % token_block / g * g * width;
            const float weight = weights[r * a.score_stride + t];
            float* to = total[t % 2];
#pragma GCC unroll 16
            for (int p = 0; p < parts; ++p, to += register_lanes) {
                const Lanes value = number<Stored>(load_words(from + p * register_lanes * g), static_cast<int>(t % g));
                store_lanes(fused(value, weight, load_lanes(to)), to);
            }
        }
        for (int i = 0; i < parts * register_lanes; ++i) total[0][i] = (total[0][i] + total[1][i]) * shares[r];
        const std::int64_t count = features < parts * register_lanes ? features : parts * register_lanes;
        std::memcpy(y + r * a.row_stride, total[0], static_cast<std::size_t>(count) * sizeof(float));
    }
}

template <class Stored, int rows, int parts>
void weigh_features(const Stored* values, const Attended& a, const float* weights, const float* shares, std::int64_t features, float* y) {
    while (features > 0) {
        if constexpr (parts > 1) {
            if (features <= register_lanes * (parts - 1)) {
                return weigh_features<Stored, rows, parts / 2>(values, a, weights, shares, features, y);
            }
        }
        weigh_tile<Stored, rows, parts>(values, a, weights, shares, features, y);
        features -= register_lanes * parts;
        values += register_lanes * parts * group<Stored>;
        y += register_lanes * parts;
    }
}

// Asks for the numbers of some tokens of a block, which come meanwhile: of many texts they do not stay in the cache.
template <class Stored>
inline void ask_for(const Stored* block, std::int64_t tokens, const Attended& a) {
    const auto* bytes = reinterpret_cast<const char*>(block);
    const std::int64_t count = tokens * stored_features(a.features) * static_cast<std::int64_t>(sizeof(Stored));
    for (std::int64_t i = 0; i < count; i += 64) __builtin_prefetch(bytes + i, 0, 2);
}

template <class Stored, int rows>
void attend_rows(const float* q, const Stored* keys, const Stored* values, const Attended& a, float* scores, float* y) {
    const std::int64_t most = seen_by(a, rows - 1);
    for (std::int64_t first = 0; first < most; first += token_block) {
        const std::int64_t left = most - first < token_block ? most - first : token_block;
        ask_for(values + first / token_block * a.block_stride, left, a);
        // One row with int8 widens more than it adds, and needs registers for that.
        score_block<Stored, rows, tile_parts(rows, sizeof(Stored) == 1 && rows == 1 ? 2 : 1)>(q, keys + first / token_block * a.block_stride, a, left,
                                                                                              scores + first);
    }
    float shares[rows];
    if constexpr (sizeof(Stored) == 1) {
        for (int r = 0; r < rows; ++r) apply_scales(scores + r * a.score_stride, keys, a, seen_by(a, r));
    }
    soft_weights<rows>(scores, a, shares);
    if constexpr (sizeof(Stored) == 1) {
        for (int r = 0; r < rows; ++r) apply_scales(scores + r * a.score_stride, values, a, seen_by(a, r));
    }
    weigh_features<Stored, rows, tile_parts(rows, 2)>(values, a, scores, shares, a.features, y);
}

// Calls f<rows>(): kernels keep so many queries' sums in registers.
template <class Function>
void by_rows(int rows, const Function& f) {
    static_assert(most_queries == 4);
    switch (rows) {
        case 1: return f.template operator()<1>();
        case 2: return f.template operator()<2>();
        case 3: return f.template operator()<3>();
        default: return f.template operator()<4>();
    }
}

// Queries one after the other, and a register at a time: for sets whose additions take most of the time, in little code.
template <class Stored>
void attend_one_by_one(const float* q, const Stored* keys, const Stored* values, const Attended& a, float* scores, float* y) {
    for (int r = 0; r < a.rows; ++r, q += a.row_stride, y += a.row_stride, scores += a.score_stride) {
        const Attended one = one_query(a, r);
        for (std::int64_t t = 0; t < one.tokens; t += register_lanes) {
            score_tile<Stored, 1, 1>(q, keys + t / token_block * a.block_stride + t % token_block * group<Stored>, one, scores + t);
        }
        float share = 0;
        if constexpr (sizeof(Stored) == 1) apply_scales(scores, keys, one, one.tokens);
        soft_weights<1>(scores, one, &share);
        if constexpr (sizeof(Stored) == 1) apply_scales(scores, values, one, one.tokens);
        for (std::int64_t i = 0; i < a.features; i += register_lanes) {
            weigh_tile<Stored, 1, 1>(values + i * group<Stored>, one, scores, &share, a.features - i, y + i);
        }
    }
}

template <class Stored>
void attend_head(const float* q, const Stored* keys, const Stored* values, const Attended& a, float* scores, float* y) {
    by_rows(a.rows, [&]<int rows>() { attend_rows<Stored, rows>(q, keys, values, a, scores, y); });
}

}  // namespace
}  // namespace onebit
