"""What a search needs of a translation model; an engine is imported by whoever uses it, for some take seconds.

Shapes: B sentences (or sentences x beams), S source length, N vocabulary.
"""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tprune.model.search import Search

Ids = NDArray[np.int64]
Logits = NDArray[np.float32]


class Engine(Protocol):
    """A translation model that runs token by token; PyTorch, ONNX Runtime and ExecuTorch alike."""

    def encode(self, source: Ids, mask: Ids) -> Any:
        """Encode (B, S) source ids with (B, S) mask (1 = token) to an engine's own state."""
        ...

    def step(self, tokens: Ids, state: Any) -> tuple[Logits, Any]:
        """Feed the (B,) newest target tokens: (B, N) logits of the next token, and the next state."""
        ...

    def reorder(self, state: Any, rows: Ids) -> Any:
        """Keep these (B',) rows of the state, in this order (rows may repeat)."""
        ...


@runtime_checkable
class GreedyEngine(Engine, Protocol):
    """An engine that has the whole greedy search inside, and so spares the way out and in at every token."""

    def greedy(self, source: Ids, mask: Ids, search: Search) -> list[list[int]]:
        """Arguments and result as for `tprune.model.decode.greedy`."""
        ...
