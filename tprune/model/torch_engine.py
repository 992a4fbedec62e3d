"""PyTorch as an engine: the model itself.

Shapes: B sentences (or sentences x beams), S source length, N vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from tprune.model.engine import Ids, Logits
from tprune.model.layers import KeysValues
from tprune.model.transformer import TPruneForConditionalGeneration


@dataclass(frozen=True)
class State:
    """What TorchEngine knows of a batch after some target tokens.

    Attributes:
        cross: Cross-attention keys and values, by layer.
        mask: (B, 1, 1, S), True for source tokens.
        sentences: (B,) source row of each row; beams of one sentence share what comes from the source.
        own: Self-attention keys and values so far, by layer.
        length: Target tokens so far.
    """

    cross: Sequence[KeysValues | None]
    mask: Tensor
    sentences: Ids
    own: Mapping[int, KeysValues] = field(default_factory=dict)
    length: int = 0


class TorchEngine:
    """The model itself, on the device where it is; it is put into evaluation mode."""

    def __init__(self, model: TPruneForConditionalGeneration) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def encode(self, source: Ids, mask: Ids) -> State:
        """Run the encoder and the cross-attentions' projections: see `Engine.encode`."""
        device = self.model.device
        attending = torch.from_numpy(mask).to(device)
        states = self.model.encoder(torch.from_numpy(source).to(device), attending).last_hidden_state
        return State(self.model.cross(states), attending[:, None, None, :].bool(), np.arange(len(source)))

    @torch.inference_mode()
    def step(self, tokens: Ids, state: State) -> tuple[Logits, State]:
        """Run the decoder on one token a row: see `Engine.step`."""
        own: dict[int, KeysValues] = {}

        def grow(layer: int, keys: Tensor, values: Tensor) -> KeysValues:
            if layer in state.own:
                old_keys, old_values = state.own[layer]
                keys, values = torch.cat((old_keys, keys), 2), torch.cat((old_values, values), 2)
            own[layer] = keys, values
            return keys, values

        x = torch.from_numpy(tokens).to(self.model.device)
        states = self.model.decode(x, state.cross, state.mask, start=state.length, grow=grow)
        logits = self.model.logits(states).float().cpu().numpy()
        return logits, replace(state, own=own, length=state.length + 1)

    @torch.inference_mode()
    def reorder(self, state: State, rows: Ids) -> State:
        """Select rows of all keys and values: see `Engine.reorder`."""
        index = torch.from_numpy(rows).to(self.model.device)
        own = {layer: (keys[index], values[index]) for layer, (keys, values) in state.own.items()}
        sentences = state.sentences[rows]
        if np.array_equal(sentences, state.sentences):  # beams changed places within their sentence
            return replace(state, own=own)
        cross = [None if pair is None else (pair[0][index], pair[1][index]) for pair in state.cross]
        return replace(state, cross=cross, mask=state.mask[index], sentences=sentences, own=own)
