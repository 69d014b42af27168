"""The logits of a model's source, as its own program computes them: llama.cpp for GGUF files, transformers for folders."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onebit.errors import ForeignModelError
from onebit.importing.gguf import first_part
from onebit.printable import one_line


class Source(Protocol):
    """A model in its own program."""

    @property
    def program(self) -> str:
        """The program with its version."""

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The logits after each token, float32 (tokens, vocabulary)."""


def load_source(path: Path, most_tokens: int, threads: int = 1) -> Source:
    """Load a GGUF file or a folder of safetensors into its own program.

    Args:
        path: the file, of a split one any part, or the folder.
        most_tokens: of a text.
        threads: of the program.

    Raises:
        ForeignModelError: the program is not installed, or it does not load the model.
    """
    return Transformers(path, threads) if path.is_dir() else LlamaCpp(path, most_tokens, threads)


class LlamaCpp:
    """A GGUF file in llama.cpp, which rounds the inputs of quantised matrices to int8. Raises as `load_source`; `options` are those of `Llama`."""

    def __init__(self, path: Path, most_tokens: int, threads: int = 1, **options: Any) -> None:
        try:
            import llama_cpp
        except (ImportError, OSError, RuntimeError) as error:  # it loads a library of its own
            raise _lacks(path, "a GGUF file is compared in llama.cpp", "llama-cpp-python", error) from None
        self.program = f"llama.cpp (llama-cpp-python {llama_cpp.__version__})"
        try:
            self.model: Any = llama_cpp.Llama(
                str(first_part(path)),
                n_ctx=most_tokens,
                n_threads=threads,
                n_threads_batch=threads,
                logits_all=True,
                verbose=False,
                **options,
            )
        except (ValueError, AssertionError) as error:
            raise _refused(path, "llama.cpp", error) from None

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The logits after each token, float32 (tokens, vocabulary)."""
        self.model.reset()
        self.model.eval(list(tokens))
        return np.array(self.model.scores[: len(tokens)], np.float32)


class Transformers:
    """A folder of safetensors in transformers, in float32. Raises as `load_source`."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError as error:
            raise _lacks(path, "a folder is compared in transformers", "torch transformers accelerate", error) from None
        self.program = f"transformers {version('transformers')}, float32"
        torch.set_num_threads(threads)
        try:
            # No code of the folder, no pickle, no connection.
            self._model: Any = AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, local_files_only=True
            )
            self._model.eval()
        except ImportError as error:  # of packed weights: accelerate
            raise _lacks(path, "transformers needs more for it", "accelerate", error) from None
        except Exception as error:  # what a folder lacks, it says by errors of several libraries
            raise _refused(path, "transformers", error) from None

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The logits after each token, float32 (tokens, vocabulary)."""
        import torch

        with torch.inference_mode():
            found: NDArray[np.float32] = self._model(torch.tensor([list(tokens)])).logits[0].float().numpy()
        return found


def _lacks(path: Path, why: str, packages: str, error: Exception) -> ForeignModelError:
    reason = "" if isinstance(error, ModuleNotFoundError) else f" ({one_line(error)[:120]})"
    return ForeignModelError(f"[{path}] {why}: pip install {packages}{reason}")


def _refused(path: Path, program: str, error: Exception) -> ForeignModelError:
    return ForeignModelError(f"[{path}] {program} does not load it: {one_line(error)[:200]}")
