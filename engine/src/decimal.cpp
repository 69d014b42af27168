#include "decimal.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

namespace onebit {
namespace {

// With so many digits a number lies between two halves of steps of a double; of the rest it matters only whether it is 0.
constexpr std::size_t most_digits = 800;
// Beyond these every number is infinite, or 0.
constexpr std::int64_t most_exponent = 310, least_exponent = -325;

// digits * 10^exponent
struct Decimal {
    std::string digits;
    std::int64_t exponent = 0;
};

Decimal read(std::string_view number) {
    Decimal decimal;
    bool fraction = false, more = false;
    std::size_t at = 0;
    for (; at < number.size() && number[at] != 'e' && number[at] != 'E'; ++at) {
        if (number[at] == '.') {
            fraction = true;
            continue;
        }
        if (number[at] == '-') continue;
        if (decimal.digits.size() < most_digits) {
            if (number[at] != '0' || !decimal.digits.empty()) decimal.digits += number[at];
            decimal.exponent -= fraction;
        } else {
            more |= number[at] != '0';
            decimal.exponent += !fraction;
        }
    }
    if (more) {
        decimal.digits += '1';
        --decimal.exponent;
    }
    if (at == number.size()) return decimal;
    const bool below = number[++at] == '-';
    std::int64_t exponent = 0;
    for (; at < number.size(); ++at) {
        if (number[at] >= '0' && number[at] <= '9') exponent = std::min<std::int64_t>(exponent * 10 + (number[at] - '0'), 1'000'000'000'000);
    }
    decimal.exponent += below ? -exponent : exponent;
    return decimal;
}

// A whole number of any size, its low words first.
class Whole {
  public:
    // this * factor + more
    void multiply(std::uint32_t factor, std::uint32_t more) {
        std::uint64_t carry = more;
        for (std::uint32_t& word : words_) {
            carry += std::uint64_t{word} * factor;
            word = static_cast<std::uint32_t>(carry);
            carry >>= 32;
        }
        if (carry != 0) words_.push_back(static_cast<std::uint32_t>(carry));
    }

    void multiply_by_ten_to(std::int64_t power) {
        for (; power >= 9; power -= 9) multiply(1'000'000'000, 0);
        for (; power > 0; --power) multiply(10, 0);
    }

    void shift(std::int64_t bits) {
        words_.insert(words_.begin(), static_cast<std::size_t>(bits / 32), 0);
        multiply(std::uint32_t{1} << bits % 32, 0);
    }

    std::int64_t bits() const { return words_.empty() ? 0 : static_cast<std::int64_t>(words_.size()) * 32 - std::countl_zero(words_.back()); }

    // Below 0, 0 or above, as this is less than, equal to or more than the other.
    int compare(const Whole& other) const {
        if (words_.size() != other.words_.size()) return words_.size() < other.words_.size() ? -1 : 1;
        for (std::size_t i = words_.size(); i-- > 0;) {
            if (words_[i] != other.words_[i]) return words_[i] < other.words_[i] ? -1 : 1;
        }
        return 0;
    }

    // Takes away what is not more than this.
    void subtract(const Whole& other) {
        std::int64_t borrow = 0;
        for (std::size_t i = 0; i < words_.size(); ++i) {
            borrow += std::int64_t{words_[i]} - (i < other.words_.size() ? other.words_[i] : 0);
            words_[i] = static_cast<std::uint32_t>(borrow);
            borrow >>= 32;
        }
        while (!words_.empty() && words_.back() == 0) words_.pop_back();
    }

  private:
    std::vector<std::uint32_t> words_;
};

// The quotient's bits one after the other, which is short rather than fast: a header has few numbers that need it.
double quotient(Whole over, Whole under) {
    std::int64_t exponent = over.bits() - under.bits();
    over.shift(std::max<std::int64_t>(-exponent, 0));
    under.shift(std::max<std::int64_t>(exponent, 0));
    if (over.compare(under) < 0) {
        over.shift(1);
        --exponent;
    }
    // Now 1 <= over / under < 2. What is smaller than 2^-1022 has fewer bits.
    const std::int64_t bits = std::min<std::int64_t>(std::numeric_limits<double>::digits, 1075 + exponent);
    if (bits < 0) return 0;
    std::uint64_t mantissa = 0;
    for (std::int64_t bit = 0; bit < bits; ++bit, over.shift(1)) {
        mantissa *= 2;
        if (over.compare(under) < 0) continue;
        over.subtract(under);
        ++mantissa;
    }
    const int rest = over.compare(under);
    if (rest > 0 || (rest == 0 && mantissa % 2 == 1)) ++mantissa;
    return std::ldexp(static_cast<double>(mantissa), static_cast<int>(exponent - bits + 1));
}

double magnitude(const Decimal& decimal) {
    const auto count = static_cast<std::int64_t>(decimal.digits.size());
    if (count == 0 || count + decimal.exponent < least_exponent) return 0;
    if (count + decimal.exponent > most_exponent) return std::numeric_limits<double>::infinity();
    Whole over, under;
    std::uint64_t small = 0;
    under.multiply(0, 1);
    for (const char digit : decimal.digits) {
        const auto value = static_cast<std::uint32_t>(digit - '0');
        if (count <= 15) small = small * 10 + value;
        over.multiply(10, value);
    }
    // Both are exact, so that one rounding is left.
    constexpr int exact = 22;
    if (count <= 15 && std::abs(decimal.exponent) <= exact) {
        double power = 1;
        for (std::int64_t i = 0; i < std::abs(decimal.exponent); ++i) power *= 10;
        return decimal.exponent < 0 ? static_cast<double>(small) / power : static_cast<double>(small) * power;
    }
    over.multiply_by_ten_to(decimal.exponent);
    under.multiply_by_ten_to(-decimal.exponent);
    return quotient(over, under);
}

}  // namespace

double nearest_double(std::string_view number) {
    const double value = magnitude(read(number));
    return !number.empty() && number[0] == '-' ? -value : value;
}

std::string to_decimal(double value) {
    if (std::isnan(value)) return "nan";
    std::string text = std::signbit(value) ? "-" : "";
    value = std::fabs(value);
    if (std::isinf(value)) return text + "inf";
    int exponent = 0;
    for (; value >= 1e12; ++exponent) value /= 10;
    if (exponent > 0) return text + std::to_string(std::llround(value)) + "e" + std::to_string(exponent);
    const std::int64_t millionths = std::llround(value * 1e6);
    std::string digits = std::to_string(millionths % 1'000'000 + 1'000'000).substr(1);
    digits.erase(std::max<std::size_t>(digits.find_last_not_of('0') + 1, 1));
    return text + std::to_string(millionths / 1'000'000) + "." + digits;
}

}  // namespace onebit
