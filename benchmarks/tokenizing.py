"""Compare the speed of the engine and of Hugging Face tokenizers: encoding and decoding, one text and a batch, in turns.

python benchmarks/tokenizing.py book.txt --vocabulary vocab.txt
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import tokenizers
from measure import cpu_name, interleaved_medians
from tokenizers import decoders, models, normalizers, pre_tokenizers

import onebit
from onebit.text import TextTask, Tokenizer, load_vocabulary

# Of the texts of a batch: a page or two.
CHARACTERS = 4000
# The library takes longer words over bytes as unknown: its time grows with the cube of their length.
LONGEST_WORD = {"bytes": 250, "words": 100}


def library_of(task: TextTask) -> tokenizers.Tokenizer:
    """The same tokenizer by Hugging Face."""
    of_bytes = task.alphabet == "bytes"
    made = tokenizers.Tokenizer(
        models.WordPiece(
            {token: index for index, token in enumerate(task.vocabulary)},
            unk_token="[UNK]",
            continuing_subword_prefix="" if of_bytes else "##",
            max_input_chars_per_word=LONGEST_WORD[task.alphabet],
        )
    )
    if of_bytes:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    else:
        made.normalizer = normalizers.BertNormalizer(lowercase=task.lowercase)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
    return made


def jobs(task: TextTask, text: str) -> dict[str, dict[str, Callable[[], object]]]:
    """For each kind of work what does it, both giving lists of ids or a text."""
    mine, library = Tokenizer(task), library_of(task)
    parts = [text[first : first + CHARACTERS] for first in range(0, len(text), CHARACTERS)]
    ids = mine.encode(text)
    assert library.encode(text).ids == ids
    work = {
        "one text": {"onebit": lambda: mine.encode(text), "tokenizers": lambda: library.encode(text).ids},
        "a batch": {
            "onebit": lambda: mine.encode_many(parts),
            "tokenizers": lambda: [encoding.ids for encoding in library.encode_batch_fast(parts)],
        },
        "a batch, as arrays": {"onebit": lambda: mine.arrays(parts)},
        "decoding": {
            "onebit": lambda: mine.decode(ids),
            "tokenizers": lambda: library.decode(ids, skip_special_tokens=False),
        },
    }
    if task.alphabet == "bytes":  # words of BERT that are so long are unknown
        work["as much of one letter"] = {"onebit": lambda: mine.encode("a" * len(text))}
    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a text, of which the first part is taken")
    parser.add_argument("--vocabulary", type=Path, help="a vocab.txt of BERT's form, measured too")
    parser.add_argument("--characters", type=int, default=500_000, help="of the text (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    args = parser.parse_args()
    with args.text.open(encoding="utf-8", errors="replace") as file:
        text = file.read(args.characters)
    megabytes = len(text.encode()) / 1e6
    session = onebit.load("books")
    tasks = {session.task.description: session.task}
    if args.vocabulary:
        task = load_vocabulary(args.vocabulary)
        tasks[task.description] = task
    print(
        f"{cpu_name()}, {len(os.sched_getaffinity(0))} processors, Python {sys.version.split()[0]}, tokenizers {tokenizers.__version__}"
    )
    print(f"MB/s of {megabytes:.2f} MB of {args.text.name}, medians of {args.repeats} rounds\n")
    print("| vocabulary | work | onebit | tokenizers | ratio |\n| --- | --- | ---: | ---: | ---: |")
    for name, task in tasks.items():
        for work, by in jobs(task, text).items():
            speed = {who: megabytes / ms * 1e3 for who, ms in interleaved_medians(by, args.repeats).items()}
            theirs = speed.get("tokenizers")
            compared = f"{theirs:.2f} | {speed['onebit'] / theirs:.0f}" if theirs else " | "
            print(f"| {name} | {work} | {speed['onebit']:.1f} | {compared} |", flush=True)


if __name__ == "__main__":
    main()
