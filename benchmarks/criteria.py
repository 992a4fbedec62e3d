"""What a cut costs by criterion, right behind the cut and before any recovery, with and without compensation.

Run as `python -m tprune.benchmarks.criteria DENSE SHS ANALYSIS CORPUS OUT.json [KEEP]`. Every plan has the same
budget, a share KEEP of the FLOPs (0.75 when absent); quality is the token loss on the validation text. Kills lose
nothing: rows that OUT.json already holds for this budget are kept.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from tprune import artifact, config
from tprune.benchmarks import record
from tprune.entry import script
from tprune.errors import ArtifactError
from tprune.json_file import read_json, write_json
from tprune.learn.evaluate import token_loss
from tprune.model import checkpoint
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.progress import tell
from tprune.provenance import made_by
from tprune.sparsity import bssl, lines, planner, scores, surgery
from tprune.sparsity import plan as plans
from tprune.sparsity.compensate import compensate
from tprune.text.corpus import Corpus, open_corpus

PLANNERS = ("uniform", "global")
CRITERIA = ("shs", "magnitude", "taylor", "fisher", "activation", "apoz", "synflow", "obs", "random")
RANDOM_SEEDS = (1, 2, 3)

Key = tuple[str, str, int]  # planner, score, seed


def measure(
    models: Mapping[str, TPruneForConditionalGeneration],
    analysis: Mapping[str, Any],
    corpus: Corpus,
    keep: float,
    done: Sequence[Mapping[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """One row for each planner, criterion and seed.

    Args:
        models: "dense", and "shs" for the criterion of that name; each criterion scores and cuts its own model.
        analysis: BSSL's findings on the dense model, which weigh the components.
        corpus: Its training text is calibrated on, its validation text is measured on.
        keep: Share of the FLOPs.
        done: Rows that need no second measurement.
    """
    train, valid = corpus.split(corpus.train), corpus.split(corpus.valid)
    importance = bssl.importance(analysis)
    old = {(row["planner"], row["score"], row["seed"]) for row in done}
    left = [key for key in keys(models) if key not in old]
    uncut = {name: token_loss(model, valid) for name, model in models.items()} if left else {}
    for kind, score, seed in left:
        source = "shs" if score == "shs" else "dense"
        model = models[source]
        start = perf_counter()
        found = scores.score(
            score, model, lines.groups(model.config, lines.WIDTH_KINDS), train, seed, importance=importance
        )
        scored = perf_counter()
        target = config.Target(name=f"{score}-{kind}", score=score, planner=kind, keep=keep)
        chosen = planner.make(model.config, target, found)
        cut = surgery.prune(model, chosen)
        before_compensation = perf_counter()
        made_up = compensate(model, chosen, train, seed)
        compensated = perf_counter()
        yield {
            "planner": kind,
            "score": score,
            "seed": seed,
            "keep": keep,
            "parameters": cut.num_parameters(),
            "loss_uncut": uncut[source],
            "loss": token_loss(cut, valid),
            "loss_compensated": token_loss(surgery.prune(made_up, chosen), valid),
            "score_seconds": round(scored - start, 2),
            "compensation_seconds": round(compensated - before_compensation, 2),
            "widths": plans.pruned_shapes(model.config, chosen),
        }


def keys(models: Mapping[str, object]) -> Iterator[Key]:
    """The rows to measure: random has several seeds; shs only where there is its model."""
    for score, kind in product(CRITERIA, PLANNERS):
        for seed in RANDOM_SEEDS if score == "random" else RANDOM_SEEDS[:1]:
            if score != "shs" or "shs" in models:
                yield kind, score, seed


def read_rows(out: Path, parents: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows that a file holds already, of every budget; none when there is no file.

    Raises:
        ArtifactError: They were measured with other models, another analysis or another text.
    """
    if not out.is_file():
        return []
    found = read_json(out)
    if found.get("parents") != parents:
        raise ArtifactError(
            "rows that were made from something else",
            where=out,
            got=found.get("parents"),
            wanted=parents,
            fix="give another file, or delete this one",
        )
    rows: list[dict[str, Any]] = found["rows"]
    return rows


def _main(
    dense: Path,
    trained: Path,
    analysis: Path,
    text: Path,
    out: Path,
    keep: Annotated[float, typer.Argument(help="Share of the FLOPs.")] = 0.75,
) -> None:
    models = {"dense": checkpoint.load(dense), "shs": checkpoint.load(trained)}
    found, corpus = artifact.read(analysis, "analysis"), artifact.read(text, "corpus")
    parents = {
        "dense": artifact.read(dense, "model").identity,
        "shs": artifact.read(trained, "model").identity,
        "analysis": found.identity,
        "corpus": corpus.identity,
    }
    rows = read_rows(out, parents)
    done = [row for row in rows if row["keep"] == keep]
    for row in measure(models, read_json(found.path / "analysis.json"), open_corpus(corpus), keep, done):
        rows.append(row)
        tell(
            f"{row['score']}, {row['planner']}, seed {row['seed']}: loss {row['loss']:.3f}, "
            f"compensated {row['loss_compensated']:.3f}, uncut {row['loss_uncut']:.3f}"
        )
        write_json(
            out,
            {
                "experiment": "token loss on the validation text right behind the cut, no recovery",
                "parents": parents,
                "rows": rows,
                "environment": record.environment().model_dump(),
                "made_by": made_by(),
            },
        )


if __name__ == "__main__":
    script(_main)
