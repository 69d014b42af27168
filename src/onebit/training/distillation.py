"""Learning from a teacher: its logits, softened, and where it looks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onebit.errors import OnebitError


def logits_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    r"""How far the student's distribution is from the teacher's, both softened.

    .. math:: T^2 \, \operatorname{KL} \big( \operatorname{softmax}(t / T) \,\|\, \operatorname{softmax}(s / T) \big)

    Args:
        student, teacher: logits s and t, (examples, classes).
        temperature: T; T^2 keeps the gradient as large as without.

    Source: Hinton et al., arXiv 1503.02531, section 2.
    """
    ours, theirs = (F.log_softmax(logits.float() / temperature, 1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def features_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""The squared distance of normalised features; of images and sequences, of maps of where the features are large.

    .. math:: \frac 1 {batch} \sum \left\| \frac{a_s}{\|a_s\|} - \frac{a_t}{\|a_t\|} \right\|^2, \qquad a = \operatorname{mean}_{channels} y^2

    and a = y for plain rows. It is 0 to 4, and the widths of the two may differ where there are positions.

    Args:
        student, teacher: y, (batch, channels, height, width), (batch, time, features) or (batch, features).

    Raises:
        ValueError: the maps or rows are of different shapes.

    Source: Zagoruyko and Komodakis, arXiv 1612.03928, eq. 2 and section 3.1.
    """

    def form(y: Tensor) -> Tensor:
        y = y.float()
        if y.dim() > 2:
            y = y.square().mean(1 if y.dim() > 3 else -1)
        return F.normalize(y.flatten(1))  # (batch, positions or features)

    if student.dim() != teacher.dim() or form(student).shape != form(teacher).shape:
        raise ValueError(f"{tuple(student.shape)} against the teacher's {tuple(teacher.shape)}")
    return (form(student) - form(teacher)).square().sum(1).mean()


class Teacher:
    """A trained network that another learns from. Neither the parameters nor the checkpoint of the other hold it.

    Args:
        student: the network that learns; while it is training, the outputs of its named layers are kept until `losses` is called.
        teacher: gives logits of the student's shape.
        features: names of layers, as `named_modules` gives them; "ours=theirs" where the two networks have other names for what is to be matched.

    Raises:
        OnebitError: a network has no layer of a name.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, features: Sequence[str] = ()) -> None:
        self._teacher = teacher.eval().requires_grad_(False)
        self._pairs = [(name, name) if "=" not in name else tuple(name.split("=", 1)) for name in features]
        self._ours: dict[str, Tensor] = {}
        self._theirs: dict[str, Tensor] = {}
        for mine, other in self._pairs:
            _keep(student, mine, self._ours, "network")
            _keep(self._teacher, other, self._theirs, "teacher")

    def losses(self, x: Tensor, logits: Tensor, counted: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """The two losses of a batch that the student has just been given.

        Args:
            x: the batch.
            logits: the student's, (examples or tokens, classes).
            counted: bool, which of them count; padding does not.
            temperature: of the logits.

        Returns:
            The loss of the logits, and the sum of those of the features.
        """
        self._teacher.to(x.device)
        with torch.no_grad():
            theirs = self._teacher(x).float().flatten(0, -2)
        soft = logits_loss(logits[counted], theirs[counted], temperature)
        apart = logits.new_zeros(())
        for mine, other in self._pairs:
            try:
                apart = apart + features_loss(self._ours[mine], self._theirs[other])
            except ValueError as error:
                raise OnebitError(
                    f"[distill_features] {mine}={other}: {error}: name layers of the same size of map"
                ) from None
        self._ours.clear()
        self._theirs.clear()
        return soft, apart


def _keep(model: nn.Module, name: str, kept: dict[str, Tensor], whose: str) -> None:
    """Keep what a layer gives: of the student while it is training, of the teacher, which is not, always."""
    layers = {key: layer for key, layer in model.named_modules() if key}  # without the network itself
    if name not in layers:
        close = difflib.get_close_matches(name, layers, 3) or list(layers)[:3]
        raise OnebitError(
            f"[distill_features] the {whose} has no layer {name!r}: use names such as {', '.join(close)}, or ours=theirs"
        )

    def hook(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        if model.training or whose == "teacher":
            kept[name] = output

    layers[name].register_forward_hook(hook)
