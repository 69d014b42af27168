"""Writes unicode_tables.inc: how Hugging Face tokenizers treats each Unicode character, found by asking it.

No version of Unicode would do: the library's regular expressions, its categories, its normal forms and its lower case are of four versions.

python engine/src/unicode_tables.py
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, normalizers, pre_tokenizers

TARGET = Path(__file__).with_suffix(".inc")
# The bits of a character's class; unicode.h names them in the same order.
LETTER, NUMBER, SPACE, REMOVED, BLANK, IDEOGRAPH, PUNCTUATION, FOLDED = (1 << bit for bit in range(8))
# Planes 4 to 13 hold no character, and are asked for by their ends: all of Unicode gives the same tables, in twice the time.
CHARACTERS = [*range(0xD800), *range(0xE000, 0x40001), *range(0xDFFFF, 0x110000)]
# Hangul syllables are decomposed by a formula.
SYLLABLES = range(0xAC00, 0xD7A4)
# Ends a character in a text of many; no step changes it, and nothing is composed with it.
END = "|"
# U+0334 and U+0345 have the lowest and the highest canonical combining class.
LOWEST, HIGHEST = 0x334, 0x345
CHUNK = 4096


def normalized(normalizer: normalizers.Normalizer) -> list[str]:
    """What a normalizer makes of each character."""
    made: list[str] = []
    for first in range(0, len(CHARACTERS), CHUNK):
        codes = [code if chr(code) != END else 0 for code in CHARACTERS[first : first + CHUNK]]
        made += normalizer.normalize_str("".join(chr(code) + END for code in codes)).split(END)[:-1]
    made[CHARACTERS.index(ord(END))] = END
    return made


def cuts() -> Iterator[tuple[bool, bool]]:
    """For each character, whether BERT's pre-tokenizer keeps it, and whether it lets a letter go on with it."""
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    for first in range(0, len(CHARACTERS), CHUNK):
        codes = CHARACTERS[first : first + CHUNK]
        text = "".join(f"{chr(code)}a " for code in codes)
        begins = {start for _, (start, _) in pre_tokenizer.pre_tokenize_str(text)}
        for index in range(len(codes)):
            yield 3 * index in begins, 3 * index + 1 not in begins


def classes() -> tuple[list[int], list[str]]:
    """The class of each character, and what is left of it without accents and in lower case."""
    bert = normalizers.BertNormalizer
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    cleaned = normalized(bert(**off | {"clean_text": True}))
    spaced = normalized(bert(**off | {"handle_chinese_chars": True}))
    folds = normalized(bert(**off | {"strip_accents": True, "lowercase": True}))
    # What the expression of its byte-level pre-tokenizer is made of.
    kinds = [normalized(normalizers.Replace(Regex(part), "")) for part in (r"\p{L}", r"\p{N}", r"\s")]
    found = []
    every = zip(CHARACTERS, cleaned, spaced, folds, zip(*kinds, strict=True), cuts(), strict=True)
    for code, clean, space, fold, left, (stays, joins) in every:
        character = chr(code)
        kind = sum(bit for bit, rest in zip((LETTER, NUMBER, SPACE), left, strict=True) if not rest)
        if not clean:
            kind |= REMOVED
        elif clean != character or character == " ":
            assert clean == " "
            kind |= BLANK
        elif space != character:
            assert space == f" {character} "
            kind |= IDEOGRAPH
        if stays and not joins:
            kind |= PUNCTUATION
        assert stays or kind & (REMOVED | BLANK), f"U+{code:04X} is white space that is not cleaned"
        if fold != character:
            kind |= FOLDED
        # UTF-8 has at most as many tokens as bytes: onebit.h says so.
        assert len(fold) <= len(character.encode())
        found.append(kind)
    return found, folds


def orders() -> list[int]:
    """The canonical combining class of each character, 0 of those that the library's normal forms do not know."""
    decompose = normalizers.NFD()
    found = []
    for first in range(0, len(CHARACTERS), CHUNK):
        codes = [code if chr(code) != END else 0 for code in CHARACTERS[first : first + CHUNK]]
        # A character with a class moves to the left over one of the highest class, or lets one of the lowest pass.
        lower = decompose.normalize_str("".join(f"{chr(HIGHEST)}{chr(code)}{END}" for code in codes)).split(END)
        higher = decompose.normalize_str("".join(f"{chr(code)}{chr(LOWEST)}{END}" for code in codes)).split(END)
        for code, left, right in zip(codes, lower, higher, strict=False):
            ordered = left == chr(code) + chr(HIGHEST) or right == chr(LOWEST) + chr(code)
            # Which class it is no version of Unicode may change.
            found.append(unicodedata.combining(chr(code)) if ordered else 0)
    return found


def changes(values: list[int]) -> list[str]:
    """Where the value of a character is not that of the one before: the character's code, and two digits for the value."""
    pairs = zip(CHARACTERS, values, [None, *values[:-1]], strict=True)
    return [f"0x{code << 8 | value:x}" for code, value, before in pairs if value != before]


def fold_runs(folds: dict[int, int]) -> list[str]:
    """Characters that become one other, or none, in runs: the first, how many, the steps between them, what the first becomes, and its steps."""
    pairs, runs, at = sorted(folds.items()), [], 0
    while at < len(pairs):
        code, target = pairs[at]
        step, slope, count = 1, 0, 1
        if at + 1 < len(pairs):
            step, slope = pairs[at + 1][0] - code, pairs[at + 1][1] - target
            while at + count < len(pairs) and pairs[at + count] == (code + count * step, target + count * slope):
                count += 1
        # Of two alone the second may begin a longer run.
        if count == 2:
            step, slope, count = 1, 0, 1
        runs.append(f"{{0x{code:x},{count},{step},0x{target:x},{slope}}}")
        at += count
    return runs


def table(head: str, entries: list[str]) -> str:
    """An array in C++, in lines of the width that the engine's files have."""
    return head + " = {\n" + textwrap.fill(", ".join(entries), 150) + "};\n"


def text() -> str:
    """The whole file."""
    kinds, folds = classes()
    changed = {code: fold for code, fold in zip(CHARACTERS, folds, strict=True) if fold != chr(code)}
    single = {code: ord(fold or "\0") for code, fold in changed.items() if len(fold) < 2 and code not in SYLLABLES}
    several = {code: fold for code, fold in changed.items() if len(fold) > 1 and code not in SYLLABLES}
    assert all(changed[code] == unicodedata.normalize("NFD", chr(code)) for code in SYLLABLES)
    assert all(0 not in map(ord, fold) for fold in changed.values())
    sequences = [
        "{" + ",".join(f"0x{value:x}" for value in (code, *map(ord, fold))) + "}" for code, fold in several.items()
    ]
    return "\n".join(
        [
            "// Made by unicode_tables.py of what Hugging Face tokenizers does; not to be edited.",
            table("constexpr std::uint32_t class_changes[]", changes(kinds)),
            table("constexpr std::uint32_t order_changes[]", changes(orders())),
            table("constexpr FoldRun fold_runs[]", fold_runs(single)),
            table(f"constexpr char32_t fold_sequences[][{1 + max(map(len, several.values()))}]", sequences),
        ]
    )


if __name__ == "__main__":
    TARGET.write_text(text())
