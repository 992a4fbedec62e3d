"""Small dense models of drawn shapes, plans for them, and one corpus."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import plan
from tprune.sparsity.plan import Plan

VOCABULARY, EOS = 23, 1


def attention(heads: int, qk: int, v: int) -> dict[str, Any]:
    return {"heads": heads, "qk": qk, "v": v, "scale": 0.4}


def config(
    d_model: int = 16, heads: int = 2, width: int = 4, ffn: int = 12, depth: int = 2, **rest: Any
) -> TPruneConfig:
    one = attention(heads, width, width)
    return TPruneConfig(
        vocab_size=VOCABULARY,
        d_model=d_model,
        encoder_shapes=[{"self_attn": one, "ffn": ffn} for _ in range(depth)],
        decoder_shapes=[{"self_attn": one, "cross_attn": one, "ffn": ffn} for _ in range(depth)],
        max_positions=32,
        **({"dropout": 0.0} | rest),
    )


def model_of(settings: TPruneConfig, seed: int = 0) -> TPruneForConditionalGeneration:
    """Random weights, with norms and biases that are not the identity."""
    torch.manual_seed(seed)
    model: TPruneForConditionalGeneration = TPruneForConditionalGeneration(settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "positions" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def logits(model: TPruneForConditionalGeneration, seed: int = 0) -> torch.Tensor:
    """Logits (B, T, N) of random sentences, one of them padded."""
    draw = torch.Generator().manual_seed(seed)
    source = torch.randint(2, VOCABULARY, (3, 7), generator=draw)
    mask = torch.ones_like(source)
    mask[1, 4:] = 0
    target = torch.randint(2, VOCABULARY, (3, 6), generator=draw)
    with torch.no_grad():
        found: torch.Tensor = model(source, mask, decoder_input_ids=target, use_cache=False).logits
    return found


@st.composite
def configs(draw: st.DrawFn, gone: bool = True) -> TPruneConfig:
    """Per-layer shapes and conventions; with `gone`, some sub-layers are missing already."""
    lowest = 0 if gone else 1

    def one() -> dict[str, Any]:
        return attention(draw(st.integers(lowest, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4)))

    def ffn() -> int:
        return draw(st.sampled_from([0, 1, 5, 9][lowest:]))

    return TPruneConfig(
        vocab_size=VOCABULARY,
        target_vocab_size=draw(st.sampled_from([None, VOCABULARY])),
        d_model=draw(st.sampled_from([12, 16])),
        encoder_shapes=[{"self_attn": one(), "ffn": ffn()} for _ in range(draw(st.integers(1, 2)))],
        decoder_shapes=[
            {"self_attn": one(), "cross_attn": one(), "ffn": ffn()} for _ in range(draw(st.integers(1, 3)))
        ],
        norm=draw(st.sampled_from(["pre", "post"])),
        final_norm=draw(st.booleans()),
        embedding_norm=draw(st.booleans()),
        positions=draw(st.sampled_from(["sinusoidal", "learned"])),
        position_offset=draw(st.sampled_from([0, 2])),
        activation=draw(st.sampled_from(["relu", "gelu", "silu"])),
        tie_output=draw(st.booleans()),
        output_bias=draw(st.booleans()),
        max_positions=16,
        dropout=0.0,
    )


def _some(draw: st.DrawFn, count: int, least: int = 1) -> tuple[int, ...]:
    chosen = draw(st.sets(st.integers(0, count - 1), min_size=least, max_size=count)) if count else set()
    return tuple(sorted(chosen))


@st.composite
def plans(draw: st.DrawFn, settings: TPruneConfig) -> Plan:
    """Any plan that fits and leaves the vocabulary alone: written from the shapes, without `lines`."""
    keep: dict[str, tuple[int, ...]] = {}
    if draw(st.booleans()):
        keep["hidden"] = _some(draw, settings.d_model, least=6)
    for stack, shapes in (("encoder", settings.encoder_shapes or []), ("decoder", settings.decoder_shapes or [])):
        if draw(st.booleans()):
            keep[f"{stack}.layer"] = _some(draw, len(shapes))
        for index, shape in enumerate(shapes):
            there = [name for name, part in shape.items() if (part["heads"] if isinstance(part, dict) else part)]
            if draw(st.integers(0, 2)) == 0:
                keep[f"{stack}.{index}.sublayer"] = _some(draw, len(there), least=0)
            for name in there:
                prefix, part = f"{stack}.{index}.{name}", shape[name]
                if not isinstance(part, dict):
                    if draw(st.booleans()):
                        keep[prefix] = _some(draw, part)
                    continue
                alive = tuple(range(part["heads"]))
                if draw(st.booleans()):
                    alive = keep[f"{prefix}.head"] = _some(draw, part["heads"])
                for kind, width in (("qk", part["qk"]), ("vo", part["v"])):
                    if draw(st.booleans()):
                        count = draw(st.integers(1, width))
                        keep[f"{prefix}.{kind}"] = tuple(
                            head * width + unit
                            for head in alive
                            for unit in sorted(draw(st.permutations(range(width)))[:count])
                        )
    return plan.make("drawn", settings, keep, {})


@dataclass(frozen=True)
class Sentences:
    """Random sentence pairs as token ids, each side ending in EOS."""

    pairs: tuple[tuple[NDArray[Any], NDArray[Any]], ...]

    @classmethod
    def random(cls, count: int, longest: int = 9, seed: int = 0) -> "Sentences":
        draw = np.random.default_rng(seed)

        def side() -> NDArray[Any]:
            return np.append(draw.integers(2, VOCABULARY, draw.integers(1, longest)), EOS)

        return cls(tuple((side(), side()) for _ in range(count)))

    @property
    def lengths(self) -> NDArray[np.int32]:
        return np.array([[len(source), len(target)] for source, target in self.pairs], dtype=np.int32)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.pairs[index]
