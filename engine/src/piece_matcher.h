// WordPiece's rule: the longest piece that a word begins with, then the longest that the rest begins with, and so on. It takes time that is linear
// in the word's length, whatever the pieces and the word are.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace onebit {

class PieceMatcher {
  public:
    struct Piece {
        std::string_view bytes;
        std::int32_t token;
        bool first;  // stands at the beginning of words only
    };

    PieceMatcher() = default;
    // No two are the same. `of_two_kinds`: a word begins with a piece that is `first` and goes on with others; else each may stand everywhere.
    PieceMatcher(std::vector<Piece> pieces, bool of_two_kinds);

    // Appends the tokens of a word of UTF-8, or of any bytes where the pieces are of one kind. Where the pieces do not cover the word it appends
    // none and returns false. `states` is memory to work in.
    bool match(std::string_view word, std::vector<std::int32_t>& states, std::vector<std::int32_t>& tokens) const;

  private:
    struct Node {
        std::int32_t first_child = 0, failure = 0;
        std::int32_t token = -1, length = 0;  // of the longest piece that begins where the automaton stands; -1 for none
    };
    std::int32_t child(std::int32_t node, unsigned char label) const;
    std::int32_t step(std::int32_t node, unsigned char label) const;

    bool of_two_kinds_ = false;
    std::vector<Node> nodes_;            // by depth, the children of a node one after the other; one more closes the last one's
    std::vector<unsigned char> labels_;  // of the byte that leads to each node
    std::array<std::int32_t, 256> first_steps_{};
};

}  // namespace onebit
