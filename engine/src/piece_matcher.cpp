// Aho and Corasick's automaton of the pieces, all read from right to left. It reads a word from its end, and knows at each byte the longest piece
// that begins there. WordPiece then goes through the word from its beginning, from piece to piece.
#include "piece_matcher.h"

#include <algorithm>
#include <cstring>
#include <deque>

namespace onebit {
namespace {

// Stands before the beginning of a word, where pieces are of two kinds. No UTF-8 has it.
constexpr unsigned char beginning = 0xFF;

std::size_t length_of(const PieceMatcher::Piece& piece) {
    return piece.bytes.size() + (piece.first ? 1 : 0);
}

unsigned char from_end(const PieceMatcher::Piece& piece, std::size_t depth) {
    return depth < piece.bytes.size() ? static_cast<unsigned char>(piece.bytes[piece.bytes.size() - 1 - depth]) : beginning;
}

bool before(const PieceMatcher::Piece& a, const PieceMatcher::Piece& b) {
    const std::size_t shorter = std::min(length_of(a), length_of(b));
    for (std::size_t depth = 0; depth < shorter; ++depth) {
        if (from_end(a, depth) != from_end(b, depth)) return from_end(a, depth) < from_end(b, depth);
    }
    return length_of(a) < length_of(b);
}

}  // namespace

PieceMatcher::PieceMatcher(std::vector<Piece> pieces, bool of_two_kinds) : of_two_kinds_(of_two_kinds) {
    std::sort(pieces.begin(), pieces.end(), before);
    // Each node stands for the sorted pieces from `begin` to `end`, which share their last `depth` bytes.
    struct Range {
        std::size_t begin, end, depth;
    };
    std::deque<Range> ranges = {{0, pieces.size(), 0}};  // of the nodes from `at` on: those of all nodes would take more memory than the nodes
    nodes_.emplace_back();
    labels_.push_back(0);
    for (std::size_t at = 0; at < nodes_.size(); ++at) {
        auto [begin, end, depth] = ranges.front();
        ranges.pop_front();
        const std::int32_t failure = nodes_[at].failure;
        if (begin < end && depth > 0 && length_of(pieces[begin]) == depth) {
            nodes_[at].token = pieces[begin].token;
            nodes_[at].length = static_cast<std::int32_t>(pieces[begin].bytes.size());
            ++begin;
        } else if (at > 0) {
            nodes_[at].token = nodes_[static_cast<std::size_t>(failure)].token;
            nodes_[at].length = nodes_[static_cast<std::size_t>(failure)].length;
        }
        nodes_[at].first_child = static_cast<std::int32_t>(nodes_.size());
        while (begin < end) {
            const unsigned char label = from_end(pieces[begin], depth);
            std::size_t next = begin + 1;
            while (next < end && from_end(pieces[next], depth) == label) ++next;
            if (at == 0) first_steps_[label] = static_cast<std::int32_t>(nodes_.size());
            Node node;
            // The nodes above, and their children, are all there.
            if (at > 0) node.failure = step(failure, label);
            nodes_.push_back(node);
            labels_.push_back(label);
            ranges.push_back({begin, next, depth + 1});
            begin = next;
        }
    }
    Node closing;
    closing.first_child = static_cast<std::int32_t>(nodes_.size());
    nodes_.push_back(closing);
}

std::int32_t PieceMatcher::child(std::int32_t node, unsigned char label) const {
    const auto begin = static_cast<std::size_t>(nodes_[static_cast<std::size_t>(node)].first_child);
    const auto end = static_cast<std::size_t>(nodes_[static_cast<std::size_t>(node) + 1].first_child);
    if (end - begin <= 8) {
        for (std::size_t at = begin; at < end; ++at) {
            if (labels_[at] == label) return static_cast<std::int32_t>(at);
        }
        return -1;
    }
    const void* found = std::memchr(labels_.data() + begin, label, end - begin);
    return found == nullptr ? -1 : static_cast<std::int32_t>(static_cast<const unsigned char*>(found) - labels_.data());
}

std::int32_t PieceMatcher::step(std::int32_t node, unsigned char label) const {
    while (node != 0) {
        if (const std::int32_t next = child(node, label); next >= 0) return next;
        node = nodes_[static_cast<std::size_t>(node)].failure;
    }
    return first_steps_[label];
}

bool PieceMatcher::match(std::string_view word, std::vector<std::int32_t>& states, std::vector<std::int32_t>& tokens) const {
    if (word.empty()) return true;
    states.resize(std::max(states.size(), word.size()));
    std::int32_t state = 0;
    for (std::size_t at = word.size(); at-- > 0;) states[at] = state = step(state, static_cast<unsigned char>(word[at]));
    if (of_two_kinds_) states[0] = step(state, beginning);
    const std::size_t before_word = tokens.size();
    for (std::size_t at = 0; at < word.size();) {
        const Node& node = nodes_[static_cast<std::size_t>(states[at])];
        if (node.token < 0) {
            tokens.resize(before_word);
            return false;
        }
        tokens.push_back(node.token);
        at += static_cast<std::size_t>(node.length);
    }
    return true;
}

}  // namespace onebit
