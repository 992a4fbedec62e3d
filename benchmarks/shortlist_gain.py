"""What the shortlist brings a dense model: time with and without it in turn in one run, BLEU of both, coverage.

Run as `python -m tprune.benchmarks.shortlist_gain MODEL CORPUS OUT.json [LESSONS]`; with LESSONS, written by `tprune
distill`, the shortlist is learned from the model's own translations. Its size is chosen on the validation text; the
test text is translated once, with the size chosen. Sentences are translated one at a time for BLEU too: in a batch each
one would have the candidates of all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from tprune import artifact, delivery_config
from tprune.artifact import Artifact
from tprune.benchmarks import latency, quality, record, stats
from tprune.benchmarks.ratios import timed_fields
from tprune.benchmarks.record import DENSE, Row
from tprune.delivery_config import PRECISIONS, Bench, Export
from tprune.entry import script
from tprune.export import description, runtime
from tprune.export import lexicon as lexicons
from tprune.export import shortlist as shortlists
from tprune.export.bundle import EXPORTERS, export
from tprune.learn.compatibility import open_for
from tprune.learn.evaluate import bleu_tokenizer
from tprune.model.decode import one_by_one, translate
from tprune.model.search import Search
from tprune.progress import tell
from tprune.provenance import made_by
from tprune.section import resolved
from tprune.text.corpus import Corpus

ENGINES = tuple(EXPORTERS)
SIZES = tuple(
    delivery_config.Shortlist(first=first, best=best, threshold=threshold)
    for first, best, threshold in product((50, 200, 800, 2000), (20, 50, 200), (0.003, 0.001))
)
MOST_LOSS_PERCENT = 0.5  # of BLEU on the validation text, that it is not surely below: what a size is chosen by
SETTINGS = Bench(threads=(1,), rounds=25)
SHORTLISTED = f"{DENSE}-shortlist"

Variant = tuple[str, str]  # precision and model name


@dataclass(frozen=True)
class Trial:
    """A size of the shortlist on the validation text."""

    settings: delivery_config.Shortlist
    coverage: lexicons.Coverage
    bleu: float
    loss_percent: float
    """Of BLEU, relative to the same model without a shortlist; negative is a gain."""
    bound_percent: float
    """What the loss stays below with 95 % confidence."""


def choose(trials: Sequence[Trial], most_loss_percent: float = MOST_LOSS_PERCENT) -> Trial:
    """The trial with the fewest candidates among those that surely lose little; without any the surest.

    By the bound and not by the loss: among many sizes some lose nothing by luck (benchmarks/results/experiments.md).
    """
    good = [trial for trial in trials if trial.bound_percent <= most_loss_percent]
    if not good:
        return min(trials, key=lambda trial: trial.bound_percent)
    return min(good, key=lambda trial: trial.coverage.candidates)


def measure(name: str, model: Artifact, text: Artifact, lessons: Artifact | None = None) -> list[Row]:
    """Choose a size on the validation text, then measure with and without on the test text.

    Args:
        name: Of the data set, for the rows.
        model: A dense model.
        text: Its corpus.
        lessons: What the shortlist is learned from; None: the corpus.
    """
    corpus, source = open_for(text, model), lessons or text
    lexicon = lexicons.learn_lexicon(open_for(source, model), SIZES[0].iterations)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        trials = list(_trials(folder, model, source, corpus, lexicon))
        chosen = choose(trials)
        tell(f"chosen: {_line(chosen)}")
        made = _artifact(folder / "chosen", lexicons.cut(lexicon, chosen.settings), chosen.settings, source)
        facts: dict[str, Any] = {
            "shortlist": resolved(chosen.settings) | {"distilled": lessons is not None},
            "shortlist_valid": {
                "bleu": chosen.bleu,
                "bleu_loss_percent": chosen.loss_percent,
                "bleu_loss_upper_percent": chosen.bound_percent,
            }
            | {f"covered_{key}": value for key, value in asdict(chosen.coverage).items() if key != "candidates"},
            "shortlist_tried": [
                resolved(trial.settings)
                | asdict(trial.coverage)
                | {"bleu": trial.bleu, "bleu_loss_upper_percent": trial.bound_percent}
                for trial in trials
            ],
        }
        found = shortlists.load(made.path / shortlists.FILE)
        sizes = [len(found.candidates(np.array(ids))) for ids in quality.sources(corpus)]
        facts["candidates"] = float(np.mean(sizes))  # of a test sentence
        return [row for engine in ENGINES for row in _rows(name, engine, folder / engine, model, made, corpus, facts)]


def _trials(
    folder: Path, model: Artifact, text: Artifact, corpus: Corpus, lexicon: lexicons.Lexicon
) -> Iterator[Trial]:
    """Every size on the validation text, on ONNX Runtime in fp32; the graphs are the same for all sizes."""
    pairs, (_, references) = corpus.split(corpus.valid), corpus.raw(corpus.valid)
    sentences = [pairs[index][0].tolist() for index in range(len(pairs))]

    def statistics(bundle: Path) -> stats.Floats:
        said = description.read(bundle)
        engine = runtime.ENGINES[said.engine](said, 1)  # not `open_bundle`: the shortlist is exchanged below
        found = translate(engine, sentences, Search(**said.search), batch_size=1)
        hypotheses = corpus.tokenizer.decode(found)
        return stats.bleu_statistics(hypotheses, references, tokenize=bleu_tokenizer(corpus.target))

    full = statistics(export(model.path, folder / "full", "onnxruntime", Export()).path)
    tell(f"BLEU of the validation text without a shortlist: {float(stats.corpus_bleu(full.sum(axis=0))):.2f}")
    first = _artifact(folder / "first", lexicons.cut(lexicon, SIZES[0]), SIZES[0], text)
    bundle = export(model.path, folder / "tried", "onnxruntime", Export(), shortlist=first).path
    said = description.read(bundle)
    for settings in SIZES:
        shortlists.save(lexicons.cut(lexicon, settings), bundle / shortlists.FILE)
        fitted = shortlists.fit(bundle / shortlists.FILE, said.vocabulary, said.target_vocabulary, ())
        shortlists.save(fitted, bundle / shortlists.FILE)
        found = statistics(bundle)
        covered = lexicons.coverage(fitted, pairs, corpus.tokenizer.eos_id)
        lost = stats.bleu_loss(full, found, resamples=SETTINGS.bootstrap, seed=SETTINGS.seed)
        trial = Trial(settings, covered, float(stats.corpus_bleu(found.sum(axis=0))), lost.percent, lost.upper_percent)
        tell(_line(trial))
        yield trial


def _rows(
    name: str, engine: str, folder: Path, model: Artifact, shortlist: Artifact, corpus: Corpus, facts: dict[str, Any]
) -> Iterator[Row]:
    variants = [(precision, kind) for precision in PRECISIONS[engine] for kind in (DENSE, SHORTLISTED)]
    bundles = {
        (precision, kind): export(
            model.path,
            folder / precision / kind,
            engine,
            Export(),
            precision=precision,
            shortlist=shortlist if kind == SHORTLISTED else None,
        )
        for precision, kind in variants
    }
    said = {variant: description.read(made.path) for variant, made in bundles.items()}
    (threads,) = SETTINGS.threads
    opened = {variant: runtime.open_bundle(made.path, threads) for variant, made in bundles.items()}
    searches = {variant: Search(**described.search) for variant, described in said.items()}
    outputs = {}
    for variant in variants:
        tell(f"BLEU of {' '.join(variant)} on {engine}")
        outputs[variant] = quality.translate_tests(
            opened[variant], corpus, searches[variant], corpus.target, batch_size=1
        )
    tell(f"latency on {engine}")
    samples = latency.time_in_turn(
        {variant: one_by_one(opened[variant], searches[variant]) for variant in variants},
        quality.spread(corpus, SETTINGS.sentences),
        rounds=SETTINGS.rounds,
        warmup=SETTINGS.warmup,
    )
    times = {variant: sample.milliseconds for variant, sample in samples.items()}
    for variant in variants:
        precision, kind = variant
        baseline, own = (precision, DENSE), outputs[variant]
        row: dict[str, Any] = {}
        if kind == SHORTLISTED:
            lost = quality.loss(
                outputs[baseline], own, corpus, corpus.target, resamples=SETTINGS.bootstrap, seed=SETTINGS.seed
            )
            row = facts | {
                "bleu_loss_percent": lost.percent,
                "bleu_loss_upper_percent": lost.upper_percent,
                "bootstrap_seed": SETTINGS.seed,
            }
        yield Row(
            experiment=f"shortlist-{name}",
            dataset=name,
            split=quality.split_name(corpus),
            model=kind,
            seed=said[variant].seed,
            engine=engine,
            engine_version=version(engine),
            precision=precision,
            threads=threads,
            decode="greedy",
            environment=record.environment(),
            parameters=said[variant].parameters,
            size_bytes=sum(
                entry["bytes"] for file, entry in bundles[variant].manifest["files"].items() if "token" not in file
            ),
            bleu=own.pooled.bleu,
            bleu_signature=own.pooled.bleu_signature,
            chrf=own.pooled.chrf,
            brevity_penalty=own.pooled.brevity_penalty,
            length_ratio=own.pooled.length_ratio,
            target_tokens=own.target_tokens,
            hypotheses_sha256=own.digest,
            made_by=made_by(),
            **row,
            **timed_fields(times, variant, baseline, f"{DENSE} {precision}"),
        )


def _artifact(
    out: Path, shortlist: shortlists.Shortlist, settings: delivery_config.Shortlist, text: Artifact
) -> Artifact:
    with artifact.create(out, "shortlist", config=resolved(settings), parents={"corpus": text}) as partial:
        shortlists.save(shortlist, partial / shortlists.FILE)
    return artifact.read(out)


def _line(trial: Trial) -> str:
    said, covered = trial.settings, trial.coverage
    return (
        f"first {said.first}, best {said.best}, threshold {said.threshold:g}: {covered.candidates:.0f} candidates "
        f"cover {covered.tokens:.1%} of the tokens, {covered.sentences:.1%} of the sentences; BLEU {trial.bleu:.2f}, "
        f"{trial.loss_percent:.2f} % lost (at most {trial.bound_percent:.2f} %)"
    )


def _main(model: Path, text: Path, out: Path, lessons: Annotated[Path | None, typer.Argument()] = None) -> None:
    taught = None if lessons is None else artifact.read(lessons, "corpus")
    rows = measure(out.stem, artifact.read(model, "model"), artifact.read(text, "corpus"), taught)
    record.write(out, rows)
    for row in rows:
        assert row.latency_ms is not None
        lost = "" if row.bleu_loss_percent is None else f", {row.bleu_loss_percent:.2f} % lost"
        bound = "" if row.bleu_loss_upper_percent is None else f" (at most {row.bleu_loss_upper_percent:.2f} %)"
        faster = (
            "" if row.speedup is None else f", {row.speedup:.3f}x ({row.speedup_lower:.3f}-{row.speedup_upper:.3f})"
        )
        label = f"{row.engine} {row.precision} {row.model}"
        tell(f"{label}: {row.latency_ms.p50:.2f} ms{faster}, BLEU {row.bleu:.2f}{lost}{bound}")


if __name__ == "__main__":
    script(_main)
