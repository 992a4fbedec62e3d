"""The stages up to a recovered model: what each one reads, what it makes, from which settings.

A stage is described before it is run, so that the pipeline can tell whether its artifact is still
current. `tprune run` and the single verbs of the command line run the same stages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tprune import artifact
from tprune.artifact import Artifact
from tprune.config import Analyze, Architecture, Learn, Shs, Target, Text, resolved


@dataclass(frozen=True)
class Stage:
    """One artifact to be made."""

    name: str
    out: Path
    fingerprint: str
    """Of everything the artifact depends on."""
    make: Callable[[bool], Artifact]
    """Makes the artifact; the argument says whether to replace an old one."""

    def is_current(self) -> bool:
        """Whether the artifact is there and made from these inputs."""
        return artifact.is_current(self.out, self.fingerprint)


def corpus(out: Path, text: Text, tokenizer: Path | None = None) -> Stage:
    """Checked, tokenized text."""
    from tprune.text import corpus as room

    inputs = room.inputs(text, tokenizer)
    return Stage(
        "corpus",
        out,
        artifact.fingerprint("corpus", inputs, {}),
        lambda force: room.prepare(text, out, tokenizer=tokenizer, force=force),
    )


def train(out: Path, text: Artifact, architecture: Architecture, learn: Learn, logs: Path | None) -> Stage:
    """The dense model."""

    def make(partial_out: Path) -> None:
        from transformers import set_seed

        from tprune.model.shape import dense_config
        from tprune.model.transformer import TPruneForConditionalGeneration
        from tprune.text.corpus import open_corpus

        opened = open_corpus(text)
        set_seed(architecture.seed)
        size = architecture.model_dump(exclude={"seed"})
        tokens = opened.tokenizer
        config = dense_config(
            vocab_size=tokens.vocabulary_size,
            pad_token_id=tokens.pad_id,
            eos_token_id=tokens.eos_id,
            decoder_start_token_id=tokens.decoder_start_id,
            **size,
        )
        _fit(partial_out, TPruneForConditionalGeneration(config), text, learn, logs)

    return stage(
        "dense", "model", out, {"model": resolved(architecture), "learn": resolved(learn)}, {"corpus": text}, make
    )


def convert(out: Path, source: str, languages: tuple[str, str] | None) -> Stage:
    """A Hugging Face translation model as the dense model."""
    from tprune.model import convert as room

    inputs = room.inputs(source, languages)

    def make(force: bool) -> Artifact:
        out.parent.mkdir(parents=True, exist_ok=True)
        return room.convert(source, out, force=force, languages=languages)

    return Stage("convert", out, artifact.fingerprint("model", inputs, {}), make)


def analyze(out: Path, model: Artifact, text: Artifact, settings: Analyze, logs: Path | None) -> Stage:
    """BSSL: sparse lines per component and axis, and sensitivity."""

    def make(partial_out: Path) -> None:
        from tprune.benchmarks import anatomy, pictures
        from tprune.learn.evaluate import token_loss
        from tprune.learn.trainer import fit
        from tprune.model import checkpoint
        from tprune.progress import narrate
        from tprune.sparsity import bssl
        from tprune.text.corpus import open_corpus

        opened = open_corpus(text)
        train_pairs, valid = opened.split("train"), opened.split("valid")
        regularized = checkpoint.load(model.path)
        history = fit(
            regularized,
            train_pairs,
            valid,
            settings.learn,
            partial_out / artifact.SCRATCH,
            logs=logs,
            shrink=bssl.BlockLasso(regularized, settings.weight),
        )
        dense = checkpoint.load(model.path).to(regularized.device)

        def measure(candidate: Any) -> dict[str, float | None]:
            loss = token_loss(candidate, valid, settings.sentences)
            return {"loss": loss, "bleu": _bleu(candidate, opened, settings.bleu_sentences)}

        with narrate("sensitivity") as progress:
            table = {
                "components": bssl.sparse_lines(regularized, settings.threshold),
                "dense": measure(dense),
                "sensitivity": bssl.sensitivity(dense, settings.shares, measure, progress),
            }
        artifact.write_json(partial_out / "analysis.json", table)
        pictures.heat_picture(anatomy.heat(anatomy.read_analysis(table))).savefig(partial_out / "heat_map.png")
        artifact.write_json(partial_out / "history.json", history)

    return stage("analysis", "analysis", out, resolved(settings), {"model": model, "corpus": text}, make)


def shs(out: Path, model: Artifact, analysis: Artifact, text: Artifact, settings: Shs, logs: Path | None) -> Stage:
    """The dense model after training with the SHS penalty."""

    def make(partial_out: Path) -> None:
        from tprune.model import checkpoint
        from tprune.sparsity import bssl, lines
        from tprune.sparsity.penalties import Decoupled

        dense = checkpoint.load(model.path)
        groups = lines.groups(dense.config, lines.WIDTH_KINDS)
        strength = bssl.strengths(groups, settings.penalty.weight, artifact.read_json(analysis.path / "analysis.json"))
        shrink = None if settings.penalty.kind == "none" else Decoupled(settings.penalty.kind, dense, groups, strength)
        teacher = checkpoint.load(model.path) if settings.learn.distill else None
        artifact.write_json(partial_out / "strengths.json", strength)
        _fit(partial_out, dense, text, settings.learn, logs, teacher=teacher, shrink=shrink)

    return stage("shs", "model", out, resolved(settings), {"model": model, "analysis": analysis, "corpus": text}, make)


def plan(
    out: Path,
    model: Artifact,
    analysis: Artifact | None,
    text: Artifact | None,
    target: Target,
    seed: int,
    whole: Artifact | None = None,
) -> Stage:
    """Which units are kept; a budget is a share of `whole`, the model before its residual stream was narrowed."""

    def make(partial_out: Path) -> None:
        from tprune.model import checkpoint
        from tprune.sparsity import bssl, lines, planner, scores, vocabulary
        from tprune.sparsity import plan as plans
        from tprune.text.corpus import open_corpus

        measured = artifact.read_json(analysis.path / "analysis.json") if analysis else None
        source = checkpoint.load(model.path)
        groups = lines.groups(source.config, lines.WIDTH_KINDS)
        opened = open_corpus(text) if text else None
        pairs = opened.split("train") if opened else None
        found = scores.score(target.score, source, groups, pairs, seed, bssl.importance(measured) if measured else None)
        if target.hidden is not None and whole is None:  # norms choose no better than chance: experiments.md
            found |= scores.score("taylor", source, lines.groups(source.config, ("hidden",)), pairs, seed)
        chosen = planner.make(
            source.config,
            target,
            found,
            layer_importance=bssl.layer_importance(measured) if measured else None,
            given=vocabulary.kept(source.config, target, opened),
            whole=checkpoint.load(whole.path).config if whole else None,
        )
        plans.write(chosen, partial_out / "plan.json")

    return stage(
        f"plan {target.name}",
        "plan",
        out,
        {"target": resolved(target), "seed": seed},
        _given(model=model, analysis=analysis, corpus=text, whole=whole),
        make,
    )


def prune(out: Path, model: Artifact, chosen: Artifact, *, tokens_only: bool = False) -> Stage:
    """The smaller model, not yet recovered; or one without the plan's tokens, whatever else the plan says."""

    def make(partial_out: Path) -> None:
        from tprune.model import checkpoint
        from tprune.sparsity import plan as plans
        from tprune.sparsity import surgery
        from tprune.text import trimming, vocab

        source, wanted = checkpoint.load(model.path), plans.read(chosen.path)
        if tokens_only:
            wanted = plans.of_vocabulary(wanted, source.config)
        checkpoint.save(surgery.prune(source, wanted), partial_out)
        if plans.trims(wanted):
            trimming.write(model.path, partial_out, plans.tokens(source.config, wanted))
        else:
            vocab.copy_files(model.path, partial_out)

    config = {"tokens_only": True} if tokens_only else {}
    config = {"tokens_only": True} if tokens_only else {}
    return stage(f"prune {out.name}", "model", out, config, {"model": model, "plan": chosen}, make)


def recover(out: Path, model: Artifact, teacher: Artifact, text: Artifact, learn: Learn, logs: Path | None) -> Stage:
    """The smaller model after training with the dense one as its teacher."""

    def make(partial_out: Path) -> None:
        from tprune.model import checkpoint

        model_above = checkpoint.load(teacher.path) if learn.distill else None
        _fit(partial_out, checkpoint.load(model.path), text, learn, logs, teacher=model_above)

    return stage(
        f"recover {out.name}", "model", out, resolved(learn), {"model": model, "teacher": teacher, "corpus": text}, make
    )


def _given(**parents: Artifact | None) -> dict[str, Artifact]:
    return {name: parent for name, parent in parents.items() if parent is not None}


def stage(
    name: str,
    kind: str,
    out: Path,
    config: Mapping[str, Any],
    parents: Mapping[str, Artifact],
    make: Callable[[Path], None],
) -> Stage:
    """Describe a stage whose payload `make` writes into the directory it is given."""

    def build(force: bool) -> Artifact:
        out.parent.mkdir(parents=True, exist_ok=True)
        with artifact.create(out, kind, config=config, parents=parents, force=force) as partial_out:
            make(partial_out)
        return artifact.read(out, kind)

    return Stage(name, out, artifact.fingerprint(kind, config, parents), build)


def _fit(
    partial_out: Path,
    model: Any,
    text: Artifact,
    learn: Learn,
    logs: Path | None,
    *,
    teacher: Any = None,
    shrink: Any = None,
) -> None:
    """Train, then write the checkpoint, the tokenizer and the history."""
    from tprune.learn.trainer import fit
    from tprune.model import checkpoint
    from tprune.text.corpus import open_corpus

    opened = open_corpus(text)
    history = fit(
        model,
        opened.split("train"),
        opened.split("valid"),
        learn,
        partial_out / artifact.SCRATCH,
        teacher=teacher,
        shrink=shrink,
        logs=logs,
    )
    checkpoint.save(model, partial_out)
    opened.tokenizer.save(partial_out)
    artifact.write_json(partial_out / "history.json", history)


def _bleu(model: Any, opened: Any, sentences: int) -> float | None:
    """Greedy BLEU on the first validation sentences; None for no sentences."""
    if not sentences:
        return None
    from tprune.learn.evaluate import score
    from tprune.model.decode import translate
    from tprune.model.search import Search
    from tprune.model.torch_engine import TorchEngine

    pairs = opened.split("valid")
    sources = [pairs[index][0].tolist() for index in range(min(sentences, len(pairs)))]
    found = translate(TorchEngine(model), sources, Search.of(model))
    return score(opened.tokenizer.decode(found), opened.raw("valid")[1][:sentences]).bleu
