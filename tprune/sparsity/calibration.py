"""Calibration: a seeded sample of sentences, and what flows through a model's projections on it.

Everything is teacher forced and without dropout; padding is left out. L is the number of tokens of a
side, padding included, W the width of a projection's input or output.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tprune.errors import InputError
from tprune.learn.batches import Parallel, cut, inputs_and_labels
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity.lines import Group

SENTENCES = 512
BATCH_TOKENS = 1024
TAPPED_KINDS = ("ffn", "qk", "vo", "head")


@dataclass(frozen=True)
class Tap:
    """A place where the units of a group are features: what enters or leaves a projection."""

    module: str
    enters: bool

    @property
    def reads_source(self) -> bool:
        """Whether its tokens are those of the source: in the encoder, and for what the cross-attention attends to."""
        return self.module.startswith("encoder.") or self.module.endswith(("cross_attn.k_proj", "cross_attn.v_proj"))

    def mask(self, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """(B, L), True for tokens."""
        return inputs["attention_mask"].bool() if self.reads_source else labels != -100


class Moments:
    """First and second moments of rows of features; sums in float64."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.count = 0
        self.total = torch.zeros(width, dtype=torch.float64, device=device)
        """(W,) sum of x."""
        self.products = torch.zeros(width, width, dtype=torch.float64, device=device)
        """(W, W) sum of x xᵀ."""

    def add(self, rows: Tensor) -> None:
        """Count these rows (n, W)."""
        rows = rows.double()
        self.count += len(rows)
        self.total += rows.sum(dim=0)
        self.products += rows.T @ rows

    def mean(self) -> Tensor:
        """Mean of x: (W,)."""
        return self.total / self.count

    def square(self) -> Tensor:
        """Mean of x xᵀ: (W, W)."""
        return self.products / self.count

    def covariance(self) -> Tensor:
        """Mean of (x - mean) (x - mean)ᵀ: (W, W)."""
        mean = self.mean()
        return self.square() - mean[:, None] * mean


def batches(
    model: TPruneForConditionalGeneration, pairs: Parallel, seed: int
) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """A sample of at most SENTENCES pairs as inputs and labels (B, T), batched by length; see `inputs_and_labels`."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:SENTENCES])
    lengths = np.asarray(pairs.lengths)
    order = chosen[lengths[chosen].sum(axis=1).argsort(kind="stable")]
    for batch in cut(order, lengths.max(axis=1), BATCH_TOKENS):
        yield inputs_and_labels(pairs, batch, model)


def taps(group: Group) -> tuple[Tap, ...]:
    """Where a unit's weights act: rows on what leaves their projection, columns on what enters it.

    Raises:
        InputError: The units of this kind are no features of projections.
    """
    if group.kind not in TAPPED_KINDS:
        raise InputError(
            "this score needs units that are features of projections",
            where=group.name,
            got=group.kind,
            wanted=" | ".join(TAPPED_KINDS),
            fix="choose magnitude or taylor for other units",
        )
    return tuple(
        Tap(member.parameter.removesuffix(".weight"), member.axis == 1)
        for member in group.members[0]
        if member.parameter.endswith(".weight")
    )


def output_tap(group: Group) -> Tap | None:
    """Where the units' values enter their last projection, O or fc2; None for qk."""
    return next((tap for tap in taps(group) if tap.enters), None)


@contextmanager
def tapped(model: nn.Module, where: Sequence[Tap]) -> Iterator[dict[Tap, Tensor]]:
    """Tensors (B, L, W) at these taps, renewed whenever the model runs."""
    seen: dict[Tap, Tensor] = {}

    def listen(tap: Tap) -> Callable[[Any, tuple[Any, ...], Tensor], None]:
        def hook(_module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            seen[tap] = inputs[0] if tap.enters else output

        return hook

    handles = [model.get_submodule(tap.module).register_forward_hook(listen(tap)) for tap in where]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def flows(
    model: TPruneForConditionalGeneration, where: Sequence[Tap], pairs: Parallel, seed: int
) -> Iterator[dict[Tap, tuple[Tensor, Tensor]]]:
    """Features (B, L, W) and token masks (B, L) at these taps, batch by batch; leaves the model in eval mode."""
    model.eval()
    for inputs, labels in batches(model, pairs, seed):
        with tapped(model, where) as seen:
            model(**inputs, use_cache=False)
        yield {tap: (seen[tap], tap.mask(inputs, labels)) for tap in where}


def moments(
    model: TPruneForConditionalGeneration, where: Sequence[Tap], pairs: Parallel, seed: int
) -> dict[Tap, Moments]:
    """Moments of the features at these taps, over tokens; see `rows`."""
    found: dict[Tap, Moments] = {}
    for flow in flows(model, where, pairs, seed):
        for tap, (features, mask) in flow.items():
            if tap not in found:
                found[tap] = Moments(features.shape[-1], features.device)
            found[tap].add(rows(tap, features, mask))
    return found


def rows(tap: Tap, features: Tensor, mask: Tensor) -> Tensor:
    """The tokens' features (n, W) without padding; keys less their mean over the sentence.

    Attention does not change when all keys move by the same vector, so that only their differences count.

    Args:
        tap: Where they flow.
        features: (B, L, W).
        mask: (B, L), True for tokens.
    """
    if tap.module.endswith("k_proj"):
        weights = mask.unsqueeze(-1).to(features.dtype)
        mean = (features * weights).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
        features = features - mean
    return features[mask]
