"""Greedy and beam search over any engine that can encode and step.

Shapes: B sentences (or sentences x beams), S source length, N vocabulary.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

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
