"""What comes from a file or a name reaches the terminal without its control characters."""

import sys
import unicodedata

import pytest

from onebit.printable import one_line, printable, printable_text

ESCAPED = [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x61C, 0x200E, 0x200F, 0x2028, 0x2029]
ESCAPED += [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDC80, 0xDFFF]


@pytest.mark.parametrize("code", ESCAPED)
def test_control_characters_are_escaped(code):
    character = chr(code)
    shown = printable(f"a{character}b")
    assert shown.isascii() and shown.isprintable() and shown.startswith("a\\") and shown.endswith("b")
    assert shown.encode().decode("unicode_escape") == f"a{character}b"  # nothing is lost
    assert printable_text(character) == (character if character in "\n\t" else shown[1:-1])


def test_all_other_characters_stay():
    others = [
        chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cc", "Cs", "Cf", "Zl", "Zp")
    ]
    assert printable("".join(others)) == "".join(others)
    for text in ("caf\u00e9", "\u732b", "C:\\new", "\U0001f469\u200d\U0001f52c", "\u0645\u06cc\u200c\u062e"):
        assert printable(text) == printable_text(text) == text


def test_what_is_printed_is_of_any_type(tmp_path):
    assert printable(tmp_path / "a\rb") == f"{tmp_path}/a\\rb"


def test_a_message_is_one_line():
    assert one_line("[recipe] not YAML: expected\n  in line 2\n") == "[recipe] not YAML: expected in line 2"
    assert one_line("[a  b\x1b[2J] \u2028") == "[a  b\\x1b[2J]"
