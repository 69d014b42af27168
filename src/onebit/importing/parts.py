"""The parts of a language model by one set of names, whichever file they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from onebit.errors import ForeignModelError
from onebit.importing.architecture import Architecture
from onebit.importing.folder import U8, Folder
from onebit.importing.folder_architecture import Packing, packing
from onebit.importing.gguf import GGUF
from onebit.importing.matrices import Masters, Matrix, Packed, Plain, unpaired
from onebit.importing.stored import StoredTensor
from onebit.strict_json import excerpt

# Of a block: our name, that of GGUF, that of Hugging Face.
_OF_BLOCK = (
    ("attention.norm", "attn_norm", "input_layernorm"),
    ("attention.q", "attn_q", "self_attn.q_proj"),
    ("attention.k", "attn_k", "self_attn.k_proj"),
    ("attention.v", "attn_v", "self_attn.v_proj"),
    ("attention.q_norm", "attn_q_norm", "self_attn.q_norm"),
    ("attention.k_norm", "attn_k_norm", "self_attn.k_norm"),
    ("attention.sub_norm", "attn_sub_norm", "self_attn.attn_sub_norm"),
    ("attention.output", "attn_output", "self_attn.o_proj"),
    ("mlp.norm", "ffn_norm", "post_attention_layernorm"),
    ("mlp.gate", "ffn_gate", "mlp.gate_proj"),
    ("mlp.up", "ffn_up", "mlp.up_proj"),
    ("mlp.sub_norm", "ffn_sub_norm", "mlp.ffn_sub_norm"),
    ("mlp.down", "ffn_down", "mlp.down_proj"),
)
_OF_ALL = (
    ("embedding", "token_embd", "model.embed_tokens"),
    ("norm", "output_norm", "model.norm"),
    ("head", "output", "lm_head"),
)
# From our names of the parts of a block to those of GGUF, and of Hugging Face.
GGUF_NAMES = {ours: theirs for ours, theirs, _ in _OF_BLOCK}
FOLDER_NAMES = {ours: theirs for ours, _, theirs in _OF_BLOCK}
# Tensors without which the network is the same.
_IGNORED = ("rope_freqs.weight", ".rotary_emb.inv_freq")


@dataclass
class Parts:
    """The tensors of a model.

    Args:
        sizes: the architecture.
        tensors: of the file, by the file's names.
        names: from our names to the file's, without `.weight`.
        packed: how ternary matrices are stored in a folder.
        where: the file, for messages.
    """

    sizes: Architecture
    tensors: Mapping[str, StoredTensor]
    names: Mapping[str, str]
    packed: Packing | None
    where: str
    used: set[str] = field(default_factory=set)

    def matrix(self, name: str, rows: int, columns: int) -> Matrix:
        """A matrix by our name. Raises ForeignModelError if it is missing or has another shape."""
        stored = self._stored(f"{self.names[name]}.weight")
        found = self._as_matrix(name, stored)
        if len(stored.shape) != 2 or (found.rows, found.columns) != (rows, columns):
            raise stored.fail(f"has the shape ({found.rows}, {found.columns}): the network needs ({rows}, {columns})")
        return found

    def vector(self, name: str, length: int, kind: str = "weight") -> NDArray[np.float32]:
        """A vector of floats by our name. Raises ForeignModelError if it is missing, has another length, or is not finite."""
        stored = self._stored(f"{self.names[name]}.{kind}")
        if stored.coding is U8 or stored.shape != (length,):
            raise stored.fail(f"has the shape {stored.shape}: the network needs ({length},)")
        values: NDArray[np.float32] = stored.floats()
        if not np.isfinite(values).all():
            raise stored.fail("holds numbers that are not finite: the file is damaged")
        if kind == "bias" and self._turned(name):
            order = unpaired(self.sizes.head_size, self.sizes.rotary.rotated)
            values = values.reshape(-1, len(order))[:, order].reshape(-1)
        return values

    def has(self, name: str, kind: str = "weight") -> bool:
        return f"{self.names[name]}.{kind}" in self.tensors

    def check_all_used(self) -> None:
        """Refuse a file with tensors that the network has no place for: without them it would be another network."""
        rest = [n for n in self.tensors if n not in self.used and not n.endswith(_IGNORED)]
        if rest:
            raise ForeignModelError(
                f"[{self.where}] tensor {excerpt(rest[0])} has no place in a {self.sizes.family} network"
                + (f", and {len(rest) - 1} more" if len(rest) > 1 else "")
                + ": onebit would compute something else without it"
            )

    def _stored(self, name: str) -> StoredTensor:
        if name not in self.tensors:
            raise ForeignModelError(
                f"[{self.where}] tensor {name!r} is missing: the file is damaged, or not a whole model"
            )
        self.used.add(name)
        return self.tensors[name]

    def _as_matrix(self, name: str, stored: StoredTensor) -> Matrix:
        if stored.coding is U8:
            return self._packed(name, stored)
        if self.packed is not None and self.packed.masters and name.startswith("blocks."):
            return Masters(stored)
        return Plain(stored, (self.sizes.head_size, self.sizes.rotary.rotated) if self._turned(name) else None)

    def _turned(self, name: str) -> bool:
        """Whether the rows of a matrix stand in pairs."""
        return self.sizes.interleaved and name.endswith((".attention.q", ".attention.k"))

    def _packed(self, name: str, stored: StoredTensor) -> Matrix:
        if self.packed is None:
            raise stored.fail("is packed, and config.json lacks the quantization_config that says how")
        scale = float(self.vector(name, 1, "weight_scale")[0])
        if not 1e-30 < abs(scale) < 1e30:
            raise stored.fail(f"has the weight_scale {scale:g}: needs a number above 0; the file is damaged")
        return Packed(stored, 1 / scale if self.packed.divides else scale)


def gguf_parts(file: GGUF, sizes: Architecture) -> Parts:
    """The parts of a GGUF file."""
    names = {ours: theirs for ours, theirs, _ in _OF_ALL}
    names |= {f"blocks.{i}.{ours}": f"blk.{i}.{theirs}" for i in range(sizes.layers) for ours, theirs, _ in _OF_BLOCK}
    return Parts(sizes, file.tensors, names, None, str(file.path))


def folder_parts(folder: Folder, sizes: Architecture) -> Parts:
    """The parts of a folder of safetensors."""
    names = {ours: theirs for ours, _, theirs in _OF_ALL}
    names |= {
        f"blocks.{i}.{ours}": f"model.layers.{i}.{theirs}" for i in range(sizes.layers) for ours, _, theirs in _OF_BLOCK
    }
    parts = Parts(sizes, folder.tensors, names, packing(folder), str(folder.path))
    if folder.config.get("tie_word_embeddings") is True:
        parts.used.add("lm_head.weight")  # a copy, where there is one
    return parts
