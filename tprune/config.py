"""One tree of settings: every default stands here once, a recipe holds only what differs.

`tprune.settings` reads it from recipes and overrides.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": ("fp32", "int8", "int8-block"),
    "executorch": ("fp32", "int8"),
}
"""What bundles there are of each engine."""


class Section(BaseModel):
    """A part of the tree: immutable, and nothing unknown gets in."""

    # JSON, and so a manifest, has no infinity
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Text(Section):
    """Where the sentences come from and how they become token ids."""

    kind: Literal["synthetic", "files", "dataset"] = "files"
    folder: str | None = None
    """Folder with SPLIT.LANG[.gz|.xz], same line = same segment (kind = files)."""
    dataset: str | None = None
    """Name of a Hugging Face dataset with a `translation` column (kind = dataset)."""
    dataset_config: str | None = None
    source: str = "en"
    target: str = "de"
    train: str = "train"
    valid: str = "valid"
    test: tuple[str, ...] = ("test",)
    sentences: Positive = 20_000
    """Training pairs to generate (kind = synthetic)."""
    tokenizer: Literal["unigram", "bpe"] = "unigram"
    vocabulary: Annotated[int, Field(ge=32)] = 8000
    max_tokens: Annotated[int, Field(ge=4)] = 128
    """A training pair with a longer side is dropped (or refused)."""
    problems: Literal["drop", "refuse"] = "drop"
    """What to do with empty, over-long, identical and duplicate training pairs."""
    seed: int = 1


class Architecture(Section):
    """Size of the dense model."""

    d_model: Positive = 256
    heads: Positive = 4
    ffn: Positive = 1024
    encoder_layers: Positive = 3
    decoder_layers: Positive = 3
    norm: Literal["pre", "post"] = "pre"
    activation: Literal["relu", "gelu", "silu"] = "relu"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_positions: Positive = 512
    dropout: Share = 0.1
    seed: int = 1


class Learn(Section):
    """One training loop: dense, SHS and recovery are settings of it."""

    steps: Positive = 4000
    batch_tokens: Positive = 4096
    """Padded target-side or source-side tokens of one batch, whichever is larger; per process."""
    accumulate: Positive = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Literal["inverse_sqrt", "linear", "cosine", "constant"] = "inverse_sqrt"
    warmup: Annotated[int, Field(ge=0)] = 400
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    label_smoothing: Share = 0.1
    clip: Annotated[float, Field(gt=0)] = 1.0
    dropout: Share | None = None
    """None keeps the model's own dropout."""
    average: Positive = 1
    """Average the weights of this many last checkpoints."""
    checkpoint_every: Positive = 500
    distill: Share = 0.0
    """Weight of the KL divergence to the dense model; the rest is the cross entropy."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the device has instructions for it
    seed: int = 1


class Penalty(Section):
    """What pushes lines towards zero while training."""

    kind: Literal["shs", "group_lasso", "none"] = "shs"
    weight: Annotated[float, Field(ge=0)] = 10.0
    """Strength, in units of the learning rate (decoupled, as AdamW's weight decay). What counts is weight times the
    sum of all learning rates: about 2 lets the weaker half of the lines die."""


class Analyze(Section):
    """BSSL: a short run with every block's own group lasso, then shares and sensitivity."""

    learn: Learn = Learn(steps=200, learning_rate=1e-3, schedule="constant", warmup=0)
    weight: Annotated[float, Field(ge=0)] = 12.0
    """Strength of the blocks' group lasso."""
    threshold: Share = 0.1
    """A line counts as sparse when its norm is under this share of the block's mean norm."""
    shares: tuple[Share, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Shares of one component's units that are masked to measure sensitivity."""
    sentences: Positive = 200
    """Validation sentences used for the sensitivity."""
    bleu_sentences: Annotated[int, Field(ge=0)] = 0
    """Validation sentences translated for BLEU at every point of the sensitivity; 0 leaves BLEU out."""


class Shs(Section):
    """Training with the Structured Hoyer Square penalty."""

    learn: Learn = Learn(steps=1000, learning_rate=5e-4, schedule="linear", warmup=0)
    penalty: Penalty = Penalty()


class Target(Section):
    """One plan: how units are scored, chosen, and how small the model has to be."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    score: Literal["shs", "magnitude", "taylor", "random"] = "shs"
    planner: Literal["threshold", "uniform", "global"] = "global"
    budget: Literal["parameters", "flops"] = "flops"
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the dense model's budget quantity that may stay (uniform, global)."""
    threshold: Share = 0.1
    """Units under this share of their group's mean norm go (threshold)."""
    drop_encoder_layers: Annotated[int, Field(ge=0)] = 0
    drop_decoder_layers: Annotated[int, Field(ge=0)] = 0
    grid: Positive = 8
    """Widths are rounded to multiples of this."""
    hidden: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the residual stream's dimensions that stays; None leaves its width alone."""
    vocabulary: Positive | None = None
    """Keep tokens that occur this often in the training text; 1 changes none of its sentences. None keeps all."""


class Shortlist(Section):
    """Candidates of the output projection, by source token."""

    first: Annotated[int, Field(ge=0)] = 100
    """The most frequent target tokens, candidates of every sentence."""
    best: Annotated[int, Field(ge=0)] = 50
    """Most translations of one source token."""
    threshold: Share = 0.003
    """Smallest p(target token | source token) of a translation."""
    iterations: Positive = 5
    """Of expectation maximization."""


class Export(Section):
    """Bundles to write."""

    engines: tuple[Literal["onnxruntime", "executorch"], ...] = ("onnxruntime", "executorch")
    precisions: tuple[Literal["fp32", "int8", "int8-block"], ...] = ("fp32",)
    """Of those that an engine has, see PRECISIONS."""
    max_source: Positive = 128
    max_target: Positive = 128
    parity_sentences: Positive = 20


class Bench(Section):
    """Latency and quality on this machine."""

    threads: tuple[Positive, ...] = (1, 2)
    engines: tuple[Literal["pytorch", "onnxruntime", "executorch"], ...] = ("pytorch", "onnxruntime", "executorch")
    sentences: Positive = 50
    """Test sentences translated one at a time in each timed round."""
    rounds: Positive = 10
    """Least number of rounds."""
    seconds: Annotated[float, Field(ge=0)] = 3.0
    """Least time of each model in all its rounds: quick ones get more rounds."""
    most_rounds: Positive = 100
    """Rounds after which nobody waits for these seconds any longer."""
    warmup: Annotated[int, Field(ge=0)] = 1
    beam: Positive = 5
    """Beam size of the second BLEU column (PyTorch engine)."""
    bootstrap: Positive = 1000
    seed: int = 1


class Config(Section):
    """The whole pipeline's settings."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    start: str | None = None
    """Directory or hub name of a translation model to convert and prune, instead of training one."""
    languages: tuple[str, str] | None = None
    """Source and target language of a multilingual `start`, in its own codes."""
    text: Text = Text()
    model: Architecture = Architecture()
    learn: Learn = Learn()
    analyze: Analyze = Analyze()
    shs: Shs = Shs()
    targets: tuple[Target, ...] = (Target(name="half"),)
    recover: Learn = Learn(steps=1000, learning_rate=5e-4, schedule="linear", warmup=50, distill=0.5)
    shortlist: Shortlist = Shortlist()
    export: Export = Export()
    bench: Bench = Bench()


def problems(error: ValidationError) -> list[str]:
    """One short clause for each thing pydantic found wrong."""
    found = []
    for entry in error.errors():
        key = ".".join(str(part) for part in entry["loc"])
        if entry["type"] == "extra_forbidden":
            found.append(f"unknown key {key}")
        else:
            found.append(f"{key}: {entry['msg'][:1].lower()}{entry['msg'][1:]} (got {entry['input']!r})")
    return found


def resolved(section: BaseModel) -> dict[str, Any]:
    """A section as JSON-able data, for manifests."""
    return json.loads(section.model_dump_json())  # type: ignore[no-any-return]
