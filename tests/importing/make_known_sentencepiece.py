"""Write sentencepiece.model, a small tokenizer as Llama 2's is made, and known_sentencepiece.json, the tokens that sentencepiece gives for the
texts of known_tokens.json.

Run it where `sentencepiece` is installed: `python tests/importing/make_known_sentencepiece.py`.
"""

import json
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
OPTIONS = {
    "model_type": "bpe",
    "vocab_size": 500,
    "byte_fallback": True,
    "character_coverage": 0.995,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
    "allow_whitespace_only_pieces": True,
    "minloglevel": 2,
}


def main():
    import sentencepiece

    texts = json.loads((FOLDER / "known_tokens.json").read_text())["texts"]
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name) / "corpus.txt"
        pages = sorted((FOLDER.parents[1] / "docs").glob("*.md"))
        corpus.write_text("\n".join([*texts, *(page.read_text() for page in pages)]))
        sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=f"{name}/m", **OPTIONS)
        (FOLDER / "sentencepiece.model").write_bytes((Path(name) / "m.model").read_bytes())
    made = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / "sentencepiece.model"))
    ids = [made.encode(text) for text in texts]
    (FOLDER / "known_sentencepiece.json").write_text(json.dumps(ids) + "\n")


if __name__ == "__main__":
    main()
