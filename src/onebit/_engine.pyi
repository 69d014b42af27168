from typing import Any

import numpy as np
from numpy.typing import NDArray

def isas() -> list[dict[str, Any]]:
    """The instruction sets of this build, the best last: name, text, needs, supported."""

class Engine:
    """A program in the engine; raises ValueError where the program, its tensors or an argument do not fit."""

    def __init__(
        self, program: str, tensors: dict[str, NDArray[Any]], precision: str, threads: int, isa: str | None = None
    ) -> None: ...
    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """Compute a batch, uint8 or float32 (n, *input shape), to float32 (n, *output shape)."""

    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def memory_bytes(self) -> int: ...
