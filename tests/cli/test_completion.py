"""The scripts of `onebit completion` in real shells."""

import shutil
import subprocess
import sys

import pytest

from onebit.cli.main import main

pytest.importorskip("shtab")

# A line that is typed as far as the cursor, and among what the shell then offers.
LINES = [
    ("onebit ", {"train", "info", "score"}),
    ("onebit tr", {"train"}),
    ("onebit train di", {"digits"}),
    ("onebit train digits --epo", {"--epochs"}),
    ("onebit bench a.onebit --precision ", {"int8", "float32"}),
    ("onebit info ", {"a.onebit"}),
    ("onebit classify a.onebit ", {"a.jpg"}),
]
BASH = """
source ./script
try() {
    COMP_LINE="$1" COMP_POINT=${#1} COMPREPLY=()
    read -ra COMP_WORDS <<< "$1"
    [[ "$1" == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _shtab_onebit onebit "${COMP_WORDS[COMP_CWORD]}" ""
    echo "${COMPREPLY[*]}"
}
complete -p onebit > /dev/null || exit 1
"""
# A shell in a pseudo-terminal: zsh completes only where somebody types. Control-X is a key that writes a mark after what completion has shown.
ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; TERM=dumb; autoload -Uz compinit; compinit -u -D; eval \\"\\$(<script)\\"; LISTMAX=999; unsetopt list_beep list_ambiguous"
zpty -w shell "mark() { print -n ' END'-OF-LIST; BUFFER=; }; zle -N mark; bindkey '^X' mark; print rea''dy"
zpty -r shell text '*ready*'
try() {
    zpty -w -n shell "$1"$'\\t\\C-x'
    zpty -r shell text '*END-OF-LIST*'
    print -r -- "${text//[$'\\r\\n']/ }"
}
"""


def offered(shell, tmp_path, lines):
    """What a shell offers after each line, as words."""
    for name in ("a.onebit", "a.jpg"):
        (tmp_path / name).touch()
    done = subprocess.run([shell, *lines], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [set(line.split()) for line in done.stdout.splitlines()]


def write_script(shell, tmp_path, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    assert main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)


def check(found):
    assert len(found) == len(LINES)
    for words, (line, wanted) in zip(found, LINES, strict=True):
        assert wanted <= words, line
    assert "a.jpg" not in found[5]  # is not a packed file


def test_bash_completes(tmp_path, capsys):
    write_script("bash", tmp_path, capsys)
    (tmp_path / "lines").write_text(BASH + "".join(f"try '{line}'\n" for line, _ in LINES))
    check(offered("bash", tmp_path, ["lines"]))


def test_fish_completes(tmp_path, capsys):
    write_script("fish", tmp_path, capsys)
    lines = "".join(f"echo (complete -C '{line}' | cut -f1)\n" for line, _ in LINES)
    (tmp_path / "lines").write_text("source ./script\n" + lines)
    check(offered("fish", tmp_path, ["lines"]))


def test_zsh_completes(tmp_path, capsys):
    write_script("zsh", tmp_path, capsys)
    (tmp_path / "lines").write_text(ZSH + "".join(f"try '{line}'\n" for line, _ in LINES))
    check(offered("zsh", tmp_path, ["-f", "lines"]))


def test_the_command_starts_without_what_writes_the_scripts():
    program = (
        "import sys; from onebit.cli.commands import build_parser; build_parser(); assert 'shtab' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_shtab_the_command_names_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert capsys.readouterr().err == 'onebit: error: this command needs shtab: pip install "onebit[terminal]"\n'
