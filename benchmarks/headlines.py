"""The best of what was measured within a limit on the BLEU loss, precision by precision, and in a sentence.

A loss counts by its upper 95 % bound, and a speedup that a precision brings is told apart from pruning's.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tprune.benchmarks.record import DENSE, Environment, Row
from tprune.benchmarks.standings import KINDS, machine, setting, timed

LIMITS_PERCENT = (1.0, 3.0, 8.0)


@dataclass(frozen=True)
class Best:
    """The fastest pruned model within a limit, all numbers as means over its seeds.

    Attributes:
        limit_percent: Of the bound on the BLEU loss.
        row: Of one seed.
        speedup: Over the row's baseline.
        by_pruning: Over the dense model in the same precision; None where that was not measured.
        loss_percent: Relative BLEU loss.
        upper_percent: Its upper 95 % bound.
        seeds: How many.
    """

    limit_percent: float
    row: Row
    speedup: float
    by_pruning: float | None
    loss_percent: float
    upper_percent: float
    seeds: int


@dataclass(frozen=True)
class Headline:
    """The best of one test set on one machine in one precision, for those limits that any model meets."""

    dataset: str
    split: str
    precision: str
    baseline: str
    """What the speedups are over, in words."""
    environment: Environment
    best: tuple[Best, ...]


def headlines(rows: Iterable[Row]) -> list[Headline]:
    """The best valid speedups by test set, machine, precision and baseline; phones first, hosts last."""
    given = list(rows)
    dense = {_place(row): row for row in given if row.dense and row.valid.ok}
    models: dict[tuple[str, ...], dict[tuple[str, str], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in given:
        if timed(row) and row.valid.ok and row.pruned and None not in (row.speedup, row.bleu_loss_upper_percent):
            seeds = models[row.dataset, row.split, row.precision, row.baseline or "", machine(row.environment)]
            seeds[row.model, setting(row)].append(row)
    found = [
        Headline(
            dataset,
            split,
            precision,
            _in_words(baseline),
            next(iter(seeds.values()))[0].environment,
            tuple(_best(seeds.values(), dense)),
        )
        for (dataset, split, precision, baseline, _), seeds in models.items()
    ]
    return sorted(found, key=lambda headline: list(KINDS).index(headline.environment.kind))


def sentence(headline: Headline) -> str:
    """The best speedups of one headline in one sentence."""
    where, what = machine(headline.environment), f"{headline.dataset} {headline.split}"
    quicker = [
        best
        for place, best in enumerate(headline.best)
        if place == 0 or best.speedup > headline.best[place - 1].speedup  # else a stricter limit says it already
    ]
    if not quicker:
        return (
            f"No valid pruned model in {headline.precision} of {what} on {where} stays within 8 % of BLEU loss "
            "(95 % bound)."
        )
    reached = _listed([f"{best.speedup:.2f}x as fast at ≤ {best.limit_percent:g} %" for best in quicker])
    pruning = [best.by_pruning for best in quicker if best.by_pruning is not None]
    beside = ""
    if len(pruning) == len(quicker) and any(
        share != best.speedup for share, best in zip(pruning, quicker, strict=True)
    ):
        alone = _listed([f"{share:.2f}x" for share in pruning])
        beside = f"; by pruning alone, against the dense model in {headline.precision}, {alone}"
    return (
        f"On {where}, pruned models in {headline.precision} translate {what} up to {reached} relative BLEU loss "
        f"(95 % bound), against {headline.baseline}{beside}."
    )


def pruning_share(best: Best) -> str:
    """What pruning alone brings, in words; empty where the speedup says it, or nothing does."""
    if best.by_pruning is None or best.by_pruning == best.speedup:
        return ""
    return f"{best.by_pruning:.2f}x against the dense model in {best.row.precision}"


def lost(best: Best) -> str:
    """BLEU loss and bound, in words."""
    return f"{best.loss_percent:.1f} % (≤ {best.upper_percent:.1f} %) BLEU loss"


def _best(models: Iterable[Sequence[Row]], dense: Mapping[tuple[str, ...], Row]) -> Iterator[Best]:
    means = [
        (
            _mean(seeds, "speedup"),
            _mean(seeds, "bleu_loss_percent"),
            _mean(seeds, "bleu_loss_upper_percent"),
            seeds,
        )
        for seeds in models
    ]
    for limit in LIMITS_PERCENT:
        within = [mean for mean in means if mean[2] <= limit]
        if within:
            speedup, loss, upper, seeds = max(within, key=lambda mean: (mean[0], -mean[1]))
            same = dense.get(_place(seeds[0]))
            share = None if same is None else speedup / (same.speedup or 1.0)
            yield Best(limit, seeds[0], speedup, share, loss, upper, len(seeds))


def _mean(rows: Sequence[Row], name: str) -> float:
    return fmean(getattr(row, name) for row in rows)


def _place(row: Row) -> tuple[str, ...]:
    """What a pruned row has in common with the dense one of its run and precision."""
    return row.experiment, row.dataset, row.split, machine(row.environment), setting(row)


def _in_words(baseline: str) -> str:
    name, _, precision = baseline.partition(" ")
    return f"the dense model in {precision or 'fp32'}" if name == DENSE and " " not in precision else baseline


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
