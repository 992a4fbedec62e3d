"""What a cut costs by criterion, right behind the cut and before any recovery, with and without compensation.

Run as `python -m tprune.benchmarks.criteria DENSE SHS ANALYSIS CORPUS OUT.json [KEEP]`. Every plan has the same
budget, a share KEEP of the FLOPs (0.75 when absent); quality is the token loss on the validation text. Kills lose
nothing: rows that OUT.json already holds for this budget are kept.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

from tprune import artifact, config
from tprune.benchmarks import record
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


def _main(dense: Path, trained: Path, analysis: Path, text: Path, out: Path, keep: float) -> None:
    models = {"dense": checkpoint.load(dense), "shs": checkpoint.load(trained)}
    findings = read_json(artifact.read(analysis, "analysis").path / "analysis.json")
    old = read_json(out)["rows"] if out.is_file() else []
    rows = [row for row in old if row["keep"] == keep]
    for row in measure(models, findings, open_corpus(artifact.read(text, "corpus")), keep, rows):
        rows.append(row)
        tell(
            f"{row['score']}, {row['planner']}, seed {row['seed']}: loss {row['loss']:.3f}, "
            f"compensated {row['loss_compensated']:.3f}, uncut {row['loss_uncut']:.3f}"
        )
        write_json(
            out,
            {
                "experiment": "token loss on the validation text right behind the cut, no recovery",
                "rows": rows,
                "environment": record.environment().model_dump(),
                "made_by": made_by(),
            },
        )


if __name__ == "__main__":
    dense_dir, shs_dir, analysis_dir, corpus_dir, out_file = map(Path, sys.argv[1:6])
    _main(dense_dir, shs_dir, analysis_dir, corpus_dir, out_file, float(sys.argv[6]) if len(sys.argv) > 6 else 0.75)
