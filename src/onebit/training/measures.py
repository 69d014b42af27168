"""What goes on in each binary layer while it trains: bits that flip, latents at their limits, gradients that do not pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from onebit.nn import BinaryLayer, BinaryRecurrence
from onebit.nn.binary import binary_layers
from onebit.training.batches import Part
from onebit.training.callbacks import EpochTable
from onebit.training.layout import total
from onebit.training.sharding import gathered

# So many bits of a layer tell a share to a quarter of a percent.
SAMPLED_BITS = 1 << 16
# So many examples of a batch tell how many inputs pass gradients.
SAMPLED_EXAMPLES = 16


def sampled_bits(layer: BinaryLayer) -> Tensor:
    """The bits of a layer's weights, or, of a large layer, always the same sample of them; bool (bits)."""
    bits = layer.bits().weight.flatten()
    if bits.numel() <= SAMPLED_BITS:
        return bits
    # At random places: a regular step could meet the same place of every kernel.
    places = torch.randint(bits.numel(), (SAMPLED_BITS,), generator=torch.Generator().manual_seed(0))
    return bits[places.to(bits.device)]


def weight_gradient(layer: BinaryLayer) -> float:
    """The share of a layer's weights whose gradient passes."""
    if layer.float_weights:
        return 1.0
    w = layer.weight.detach().clone().requires_grad_()
    # Draws of its own, for a training that is measured is to be the training that is not.
    with torch.enable_grad(), torch.random.fork_rng():
        codes = layer.quantized(w, True).codes
        # A gradient of no form: one that is the same everywhere is taken away where weights are standardised.
        given = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0)).to(codes)
        (passed,) = torch.autograd.grad(codes, w, given)
    return (passed != 0).float().mean().item()


def input_gradient(layer: BinaryLayer, x: Tensor) -> float | None:
    """The share of a layer's inputs whose gradient passes the quantizer; None where they are not quantised, or are a recurrence's own states.

    Args:
        x: the layer's input, of which the first examples are looked at.
    """
    if layer.scheme.activations is None or isinstance(layer, BinaryRecurrence):
        return None
    x = layer.normalized_input(x[:SAMPLED_EXAMPLES].detach()).requires_grad_()
    with torch.enable_grad():
        codes = layer.input_codes(x).codes
        (passed,) = torch.autograd.grad(codes, x, torch.ones_like(codes))
    return (passed != 0).float().mean().item()


class Measures(lightning.Callback):
    """Writes a row of layers.csv for each binary layer after each epoch.

    The columns, shares all: `ones`, of the bits; `flipped`, of the bits that are not what they were an epoch before; `clipped`, of the latents that
    lie at the scheme's limit; `weight_gradient` and `input_gradient`, of the weights and of the inputs (in the epoch's last batch) whose
    straight-through factor is not 0. What a scheme has not is left empty.
    """

    def __init__(self, path: Path) -> None:
        self._table = EpochTable(path)
        self._bits: dict[str, Tensor] = {}
        self._passed: dict[str, tuple[float, int] | None] = {}  # of so many examples
        self._hooks: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        return {"bits": self._bits}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._bits = state_dict["bits"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._table.resume(trainer.current_epoch)
        # A checkpoint within an epoch holds the bits that the epoch began with.
        if not self._bits:
            with gathered(pl_module.model):
                self._bits = {name: sampled_bits(layer) for name, layer in binary_layers(pl_module.model).items()}

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx != pl_module.batches_per_epoch - 1:
            return
        # Of a batch that is divided, this process may have some of the first examples, all or none.
        before = 0 if len(batch) == 2 else Part(trainer.global_rank, trainer.world_size).share(batch[2][0]).start
        count = min(len(batch[0]), max(0, SAMPLED_EXAMPLES - before))
        for name, layer in binary_layers(pl_module.model).items():

            def look(layer: Any, inputs: tuple[Tensor, ...], name: str = name) -> None:
                share = input_gradient(layer, inputs[0][:count]) if count else 0.0
                self._passed[name] = None if share is None else (share, count)

            self._hooks.append(layer.register_forward_pre_hook(look))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        with gathered(pl_module.model):
            rows = self._rows(trainer, pl_module)
        if rows and trainer.is_global_zero:
            self._table.add(rows)

    def _rows(self, trainer: lightning.Trainer, pl_module: Any) -> list[dict[str, Any]]:
        rows = []
        for name, layer in binary_layers(pl_module.model).items():
            bits = sampled_bits(layer)
            limit = (
                None if pl_module.recipe.optimizer.name == "bop" else layer.scheme.clip_latents
            )  # bop has no latents
            shares = {
                "ones": bits.float().mean().item(),
                "flipped": (bits != self._bits[name].to(bits.device)).float().mean().item(),
                "clipped": None if limit is None else (layer.weight.abs() >= limit).float().mean().item(),
                "weight_gradient": weight_gradient(layer),
                "input_gradient": self._input_gradient(name, pl_module.device),
            }
            self._bits[name] = bits
            texts = {key: "" if share is None else f"{share:.6g}" for key, share in shares.items()}
            rows.append({"epoch": trainer.current_epoch + 1, "layer": name, **texts})
        return rows

    def _input_gradient(self, name: str, device: torch.device) -> float | None:
        share, count = self._passed.get(name) or (0.0, 0)
        passed, examples = total(torch.tensor([share * count, count], device=device))
        return passed / examples if examples else None
