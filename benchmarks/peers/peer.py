"""What every peer gives: our dense model in its own form, and a function from a sentence to its translation."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from tprune.errors import ModelError
from tprune.model.search import Search
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration

Translate = Callable[[Sequence[int]], list[int]]
"""Ids of one sentence to those of its greedy translation, without eos."""


@dataclass(frozen=True)
class Peer:
    """Another engine.

    Attributes:
        name: What result rows call it.
        precisions: Those it is compared at.
        version: Its version.
        weights: What its size is that of: a pattern of file names.
        convert: Write a model in its form; arguments: a dense model, a directory that does not exist, a precision.
        open: Get ready; arguments: that directory, threads, a precision, limits and banned tokens.
        missing: What it lacks to run here and how to get it; None: nothing.
    """

    name: str
    precisions: tuple[str, ...]
    version: Callable[[], str]
    weights: str
    convert: Callable[[TPruneForConditionalGeneration, Path, str], None]
    open: Callable[[Path, int, str, Search], Translate]
    missing: Callable[[], str | None]


def one_shape(config: TPruneConfig, form: str, activations: Collection[str]) -> int:
    """The number of heads, after checks that all layers are of one shape.

    Args:
        config: Of the model that is to be converted.
        form: What it is converted to, for the error.
        activations: Activation functions that this form knows.

    Raises:
        ModelError: The form has no place for something in the model.
    """
    shapes = [*(config.encoder_shapes or ()), *(config.decoder_shapes or ())]
    attentions = [shape[kind] for shape in shapes for kind in ("self_attn", "cross_attn") if kind in shape]
    heads = attentions[0]["heads"]
    width = config.d_model // heads if heads else 0
    fits = all(
        shape["heads"] == heads and shape["qk"] == shape["v"] == width and abs(shape["scale"] * width**0.5 - 1) < 1e-6
        for shape in attentions
    )
    if not fits or config.activation not in activations:
        raise ModelError(
            f"{form} does not know this model",
            wanted="heads of one number and width in every layer, no sub-layer left out, " + ", ".join(activations),
            fix="compare with the dense model",
        )
    if config.output_vocab_size is not None:
        raise ModelError(
            f"{form} does not know this model",
            got=f"an output of {config.output_vocab_size} of {config.vocab_size} tokens",
            wanted="every token in the output",
            fix="compare with the dense model",
        )
    if config.embedding_scale not in (1, config.d_model**0.5):
        raise ModelError(
            f"{form} does not know this scale of embeddings",
            got=config.embedding_scale,
            wanted="1 or the square root of d_model",
            fix="compare with a model that has one of these",
        )
    return int(heads)
