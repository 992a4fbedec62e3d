"""One tree of settings: every default stands here once, a recipe holds only what differs.

`tprune.settings` reads it from recipes and overrides.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tprune.delivery_config import Bench, DeviceBench, Export, Shortlist, Table
from tprune.section import Positive, Section, Share

Criterion = Literal[
    "shs", "group_lasso", "magnitude", "synflow", "random", "taylor", "fisher", "activation", "apoz", "obs"
]
"""What units are scored by, see `sparsity/scores.py`."""
PENALTY_NORMS = ("shs", "group_lasso")
"""Criteria that are a penalty's norms, after training with it."""
RESERVED = ("dense", "dense-distilled")
"""Names of the models beside those of the targets."""


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

    @model_validator(mode="after")
    def _heads_are_equal(self) -> Self:
        if self.d_model % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a d_model of {self.d_model}")
        return self


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
    """Average the weights of this many last checkpoints; a short run then writes them more often."""
    checkpoint_every: Positive = 500
    distill: Share = 0.0
    """Weight of the KL divergence to the dense model; the rest is the cross entropy."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the device has instructions for it
    seed: int = 1


class Recovery(Learn):
    """Training of a smaller model, from what pruning left of the dense one's weights."""

    rewind: bool = False
    """Take the learning rates of the dense training's last `steps` steps in place of schedule, learning_rate and
    warmup (learning-rate rewinding, Renda et al. 2020); with as many steps as that had, its whole schedule."""
    skip: Annotated[int, Field(ge=0)] = 0
    """The schedule is that of a run of skip + steps steps, of which the first `skip` are left out."""
    best: bool = False
    """Keep the checkpoint with the least validation loss instead of the last one."""
    soft_targets: Annotated[int, Field(ge=0)] = 0
    """Ask the teacher once instead of in every step, and keep this many of its likeliest tokens behind every prefix, 6
    bytes each; 0: in every step."""

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.best and self.average > 1:
            raise ValueError("best keeps one checkpoint, average several: choose one of them")
        return self

    def rewound(self, dense: Learn) -> "Recovery":
        """With the learning rates of the end of this training, if `rewind` says so."""
        if not self.rewind:
            return self
        taken = {"schedule": dense.schedule, "learning_rate": dense.learning_rate, "warmup": dense.warmup}
        return self.model_copy(update={**taken, "rewind": False, "skip": dense.steps - self.steps})


class Distill(Section):
    """Sequence-level distillation: the dense model's own translations of the training sources."""

    on: bool = False
    """Whether recovery learns from them."""
    dense: bool = True
    """Whether the dense model learns from them too, for a row of its own; that takes longer than any target's."""
    beam: Positive = 5
    length_penalty: Annotated[float, Field(ge=0)] = 1.0
    mix: bool = True
    """Keep the original pairs, and add those that the teacher translates otherwise."""
    batch: Positive = 32
    """Sentences translated at a time."""


class Penalty(Section):
    """What pushes lines towards zero while training."""

    kind: Literal["shs", "group_lasso", "none"] = "shs"
    weight: Annotated[float, Field(ge=0)] = 10.0
    """Strength, in units of the learning rate (decoupled, as AdamW's weight decay). What counts is weight times the
    sum of all learning rates: about 2 lets the weaker half of the lines die."""
    ramp: Share = 0.0
    """Share of the steps in which the strength grows from 0 to this weight, linearly; 0: the same from the start."""


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
    table: str | None = None
    """Latency table by which lines that take much time are pushed harder: its path, or MEASURE to fill one in the
    run."""


class Target(Section):
    """One plan: how units are scored, chosen, and how small the model has to be."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    score: Criterion = "shs"
    """shs and group_lasso are norms after training with that penalty; the others are read off the dense model, or with
    `sparsified` off the one after that training."""
    sparsified: bool | None = None
    """Score and cut the model after training with the penalty of `shs`; None: where the score is a norm of it."""
    planner: Literal["threshold", "uniform", "global", "latency"] = "global"
    budget: Literal["parameters", "flops", "speedup", "milliseconds"] = "flops"
    amount: Annotated[float, Field(gt=0)] | None = None
    """The speedup over the unpruned model, or the milliseconds (latency)."""
    table: str | None = None
    """Latency table that the budget is counted with: its path, or MEASURE to fill one in the run (latency)."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the dense model's budget quantity that may stay (uniform, global)."""
    threshold: Share | Literal["gap"] = 0.1
    """Units under this share of their group's mean norm go (threshold); gap: those under the widest gap in the
    group's norms, or under 0.1 of the mean norm where there is none."""
    rounds: Positive = 1
    """Prune this many times towards the target, with the training of `between` after each cut but the last; 1 is
    one-shot."""
    drop_encoder_layers: Annotated[int, Field(ge=0)] = 0
    drop_decoder_layers: Annotated[int, Field(ge=0)] = 0
    grid: Positive = 8
    """Widths are rounded to multiples of this."""
    hidden: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of the residual stream's dimensions that stays; None leaves its width alone."""
    vocabulary: Positive | None = None
    """Keep tokens that occur this often in the training text; 1 changes none of its sentences. None keeps all."""
    compensate: bool = True
    """Before the cut, fit the kept lines to what the dropped ones did, on training text."""

    @model_validator(mode="after")
    def _counts_time_with_a_table(self) -> Self:
        timed = self.budget in ("speedup", "milliseconds")
        if (self.planner == "latency") != timed:
            raise ValueError("the planner latency goes with the budgets speedup and milliseconds, and with no other")
        if timed != (self.amount is not None) or timed != (self.table is not None):
            raise ValueError("the planner latency, and no other, needs an amount and a table")
        return self

    @model_validator(mode="after")
    def _norms_are_of_that_training(self) -> Self:
        if self.sparsified is False and self.score in PENALTY_NORMS:
            raise ValueError(f"the score {self.score} is a norm after training with the penalty: leave sparsified out")
        return self

    @property
    def reads_sparse(self) -> bool:
        """Whether the model after training with the penalty is scored and cut."""
        return self.score in PENALTY_NORMS if self.sparsified is None else self.sparsified

    @model_validator(mode="after")
    def _rounds_have_a_budget(self) -> Self:
        if self.rounds > 1 and (self.planner == "threshold" or self.budget == "milliseconds"):
            raise ValueError("rounds come closer to a share or a speedup, not to a threshold or milliseconds")
        return self


class Config(Section):
    """The whole pipeline's settings."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    start: str | None = None
    """Directory or hub name of a translation model to convert and prune, instead of training one; or a model of
    another run, such as RUN/recovered/TARGET."""
    languages: tuple[str, str] | None = None
    """Source and target language of a multilingual `start`, in its own codes."""
    text: Text = Text()
    model: Architecture = Architecture()
    learn: Learn = Learn()
    analyze: Analyze = Analyze()
    shs: Shs = Shs()
    targets: tuple[Target, ...] = (Target(name="half"),)
    between: Learn = Learn(steps=200, learning_rate=5e-4, schedule="linear", warmup=0, distill=0.5)
    """Training between the rounds of a target that has several."""
    distill: Distill = Distill()
    recover: Recovery = Recovery(steps=1000, learning_rate=5e-4, schedule="linear", warmup=50, distill=0.5)
    shortlist: Shortlist = Shortlist()
    table: Table = Table()
    export: Export = Export()
    bench: Bench = Bench()
    device: DeviceBench = DeviceBench()

    @model_validator(mode="after")
    def _has_positions(self) -> Self:
        if self.start is None and self.text.max_tokens > self.model.max_positions:
            raise ValueError(
                f"text.max_tokens: sentences of {self.text.max_tokens} tokens are longer than model.max_positions, "
                f"{self.model.max_positions}"
            )
        return self

    @model_validator(mode="after")
    def _has_teachers(self) -> Self:
        if self.learn.distill or self.analyze.learn.distill:
            raise ValueError("learn.distill, analyze.learn.distill: these trainings have no teacher, leave them at 0")
        return self

    @model_validator(mode="after")
    def _can_rewind(self) -> Self:
        if self.recover.rewind and self.start is not None:
            raise ValueError("recover.rewind: a converted model brings no learning rates to go back to")
        if self.recover.rewind and self.recover.steps > self.learn.steps:
            raise ValueError(
                f"recover.rewind: {self.recover.steps} steps are more than the dense training's {self.learn.steps}"
            )
        return self

    @model_validator(mode="after")
    def _targets_have_names_of_their_own(self) -> Self:
        # a target's name is a directory's, and on some systems these are the same in capitals
        names = [target.name.casefold() for target in self.targets]
        found = [f"{names.count(name)} are called {name}" for name in dict.fromkeys(names) if names.count(name) > 1]
        found += [f"{name} is the name of a model that is not pruned" for name in RESERVED if name in names]
        found += [f"{name} ends as an unfinished directory does" for name in names if name.endswith(".partial")]
        if found:
            raise ValueError(f"targets: {', '.join(found)}; give each a name of its own")
        return self

    @property
    def recovery(self) -> Recovery:
        """The settings of recovery, its learning rates looked up."""
        return self.recover.rewound(self.learn)
