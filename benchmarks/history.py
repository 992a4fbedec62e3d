"""What the histories of training runs say: the loss over the steps, and what a run took beside the dense one's."""

from collections.abc import Mapping, Sequence

from tprune.benchmarks.record import DENSE
from tprune.benchmarks.result_table import Table

History = Sequence[Mapping[str, float]]
"""As `tprune.learn.trainer.fit` returns it."""


def losses(history: History) -> list[tuple[int, float]]:
    """(step, validation loss in nats a token) of every evaluation."""
    return [(int(entry["step"]), entry["eval_loss"]) for entry in history if "eval_loss" in entry]


def seconds(history: History) -> float | None:
    """How long the training took; None where its history does not say."""
    return history[-1].get("seconds") if history else None


def cost_table(histories: Mapping[str, History]) -> Table:
    """Steps and minutes of every run, and the minutes as a ratio to the dense model's."""
    whole = seconds(histories.get(DENSE, ()))
    lines = []
    for name, history in histories.items():
        took = seconds(history)
        lines.append(
            (
                name,
                str(int(history[-1]["step"])) if history else "–",
                "–" if took is None else f"{took / 60:.1f}",
                "–" if took is None or not whole else f"{took / whole:.2f}",
            )
        )
    return Table("", ("Run", "Steps", "Minutes", "of the dense training"), (False, True, True, True), tuple(lines))
