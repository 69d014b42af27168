"""Convert a language model: read it, round it, train it on its own logits, and write it as a `.onebit` file."""

from __future__ import annotations

import copy
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from onebit.data.text import load_text_for
from onebit.distilling.network import float_network, group_for, rounded_network
from onebit.distilling.stages import Stages, in_order
from onebit.distilling.state import State
from onebit.distilling.training import Training
from onebit.distilling.writing import TrainedParts
from onebit.errors import ForeignModelError, OnebitError, shown
from onebit.importing.census import Figures
from onebit.importing.network import build
from onebit.importing.parts import Parts
from onebit.importing.run import described, is_tied, open_source, target, usable_context
from onebit.importing.writing import write
from onebit.printable import printable

Few = Literal["ternary", "bits", "bitnet"]
SCHEMES: tuple[Few, ...] = ("ternary", "bits", "bitnet")


@dataclass(frozen=True)
class DistillReport:
    """What a conversion did. `str` is the text that the command prints.

    Args:
        source: the model that it began with.
        out: the file that was written.
        architecture: its sizes, in words.
        scheme: what its weights are, in words.
        perplexity: by the stage after which it was measured, beginning with "float".
        measured_tokens, window: of the validation text that perplexity was measured on, and the tokens of an example.
        steps, tokens: of the whole network's training.
        seconds: of all stages.
        kinds: figures of each kind of matrix.
        bytes: of the file.
        notes: what a user should know, one sentence each.
    """

    source: Path
    out: Path
    architecture: str
    scheme: str
    perplexity: dict[str, float]
    measured_tokens: int
    window: int
    steps: int
    tokens: int
    seconds: float
    kinds: tuple[Figures, ...]
    bytes: int
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        plain = {"source": str(self.source), "out": str(self.out), "kinds": [kind.to_dict() for kind in self.kinds]}
        return vars(self) | plain | {"notes": list(self.notes)}

    def __str__(self) -> str:
        lines = [
            f"{printable(str(self.out))}: {self.bytes:,} bytes, from {printable(str(self.source))}",
            f"  {self.architecture}",
            f"  {self.scheme}; {self.steps:,} steps of the whole network, {self.tokens:,} tokens, {self.seconds:,.0f} s",
            f"  perplexity on {self.measured_tokens:,} tokens of the validation text, in windows of {self.window}:",
            *(f"    {stage:<24} {value:,.2f}" for stage, value in self.perplexity.items()),
        ]
        return "\n".join([*lines, *(f"  note: {printable(note)}" for note in self.notes)])


def distill(
    source: str | Path,
    out: str | Path | None = None,
    *,
    data: str,
    scheme: Few | None = None,
    group: int | None = None,
    sub_norm: bool = False,
    validation_data: str | None = None,
    validation_tokens: int = 8192,
    training: Training | None = None,
    context: int | None = None,
    threads: int | None = None,
    resume: bool = False,
) -> DistillReport:
    """Turn a language model of floats into one of few bits, which learns from the logits of the float one.

    Blocks are rounded one after another, and each is trained to give what the float block gives. Then the whole network is trained.
    The embedding and the head stay as `onebit import` keeps them.

    A folder of float masters, which its own model rounds to ternary weights in each forward pass, is one of few bits already: it goes on with its
    training, on the text.

    Args:
        source: a GGUF file, a folder of safetensors, or the name of a model on the Hugging Face Hub; of the families Llama, Qwen2, Qwen3 and
            BitNet.
        out: the file to write. By default it has the source's name, in the current folder.
        data: a text file, a folder of them, or the name of a data set; see `onebit.data.text.load_text`.
        scheme: ``"ternary"`` (-1, 0, 1) or ``"bits"`` (-1, 1), with a scale for each group and float inputs; or ``"bitnet"``, ternary weights
            with one scale for a matrix, and inputs of 8 bits for each token. None for "ternary", and "bitnet" for float masters.
        group: the inputs that share a scale, 32, 64 or 128; by default the largest that divides all rows. Not of "bitnet".
        sub_norm: add a norm before the last layer of each branch (SubLN), which makes a Llama one of BitNet's family. It needs
            `training.calibration`. Qwen2, Qwen3 and BitNet cannot have it: they have biases, norms of heads, and sub norms.
        validation_data: a text to measure on; by default a twentieth of `data`.
        validation_tokens: how many of its tokens are measured.
        training: the stages' settings; by default `Training()`.
        context: the most tokens of a text of the new model; by default as many as the source was made for.
        threads: of PyTorch; by default one for each core.
        resume: go on with what an interrupted conversion to the same file has left.

    Returns:
        The perplexity before and after, and what the file holds.

    Raises:
        ForeignModelError: the source is damaged, or of a kind that onebit does not train.
        DataError: the text cannot be used.
        OnebitError: an option does not fit, or the loss became NaN.
        OSError: the file cannot be written.
        KeyboardInterrupt: at Ctrl-C; `resume` goes on.

    Example:
        >>> report = onebit.distilling.distill("SmolLM2-135M/", "smol.onebit", data="books.txt")  # doctest: +SKIP
    """
    if scheme is not None and scheme not in SCHEMES:
        raise OnebitError(f"[distill] scheme={shown(scheme)}: use {', '.join(SCHEMES)}")
    if scheme == "bitnet" and group is not None:
        raise OnebitError("[distill] group belongs to the schemes ternary and bits: bitnet has one scale for a matrix")
    if threads is not None:
        if type(threads) is not int or threads < 1:
            raise OnebitError(f"[distill] threads={shown(threads)}: needs a whole number from 1 up")
        torch.set_num_threads(threads)
    opened = open_source(source)
    try:
        path = target(opened.path, out)
        if path.is_dir() or not path.parent.is_dir():
            raise OnebitError(
                f"[distill] {path} is a folder, or lies in none: give the name of a file in a folder that exists"
            )
        sizes, parts, task, notes = described(opened)
        tied, used = is_tied(opened, parts), usable_context(sizes, context, str(opened.path))
        how = training or Training()
        masters = _are_masters(parts, scheme)
        made: Few = scheme or ("bitnet" if masters else "ternary")
        _check_sub_norm(parts, sub_norm, how)
        size = 0 if made == "bitnet" else group_for(sizes, group, str(opened.path))
        train, validation, more = load_text_for(data, task, validation_data, seed=how.seed)
        began = time.monotonic()
        state = State(path, {"scheme": made, "group": size, "sub_norm": sub_norm, "architecture": str(sizes)}, resume)
        floats = float_network(parts, max(used, how.window), tied)
        student = rounded_network(floats, None if made == "bitnet" else made, size, sub_norm)
        teacher = floats if not masters else copy.deepcopy(student).requires_grad_(False) if how.weight else None
        stages = Stages(student, teacher, masters, how, state)
        with warnings.catch_warnings():
            # PyTorch's RMSNorm has no fused form for bfloat16 with float32 gains, and computes it all the same.
            warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")
            steps = stages.run(train, in_order(validation, how.window, validation_tokens))
        program, net = build(TrainedParts(parts, student), "int8", used, tied)
        bytes_, kinds = write(path, program, net, task.to_json(), trust=True)
        opened.check_unchanged()
    finally:
        opened.close()
    state.remove()
    grouped = "sub norms, " if sub_norm else ""
    grouped += f"a scale for each {size} inputs" if size else "one scale for a matrix, inputs of 8 bits"
    return DistillReport(
        source=opened.path,
        out=path,
        architecture=str(sizes),
        scheme=f"{made}, {grouped}",
        perplexity=state.perplexity,
        measured_tokens=stages.measured,
        window=how.window,
        steps=steps,
        tokens=steps * how.batch * how.window,
        seconds=time.monotonic() - began,
        kinds=tuple(kinds),
        bytes=bytes_,
        notes=(*notes, *more),
    )


def _check_sub_norm(parts: Parts, wanted: bool, how: Training) -> None:
    # BitNet's family has no biases either.
    biased = parts.has("blocks.0.attention.q", "bias")
    if wanted and (parts.sizes.has_sub_norms or parts.sizes.has_head_norms or biased):
        raise ForeignModelError(
            f"[{parts.where}] sub_norm belongs to Llama's family: this model is {parts.sizes.family}"
        )
    if wanted and not how.calibration:
        raise OnebitError("[distill] sub_norm needs calibration, which gives the norms their magnitude: use 1 or more")


def _are_masters(parts: Parts, scheme: Few | None) -> bool:
    """Whether the source is a ternary model that can go on with its training. Raises ForeignModelError for one that cannot."""
    masters = parts.packed is not None and parts.packed.masters
    if parts.sizes.int8_inputs and not masters:
        raise ForeignModelError(f"[{parts.where}] holds ternary weights, which have no latents: give its float masters")
    if masters and scheme not in (None, "bitnet"):
        raise ForeignModelError(
            f"[{parts.where}] holds masters of ternary weights with one scale: use the scheme bitnet"
        )
    return masters
