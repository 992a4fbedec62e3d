"""The errors tprune raises on purpose; anything else is a defect.

TpruneError
├── InputError      text, a flag or a recipe the user gave
├── ArtifactError   a directory that is missing, corrupt, foreign or in the way
├── ModelError      a checkpoint or architecture that cannot be used
├── PlanError       a plan that does not fit, or a budget that cannot be met
│   └── BudgetError     the least that a model can be cut to is more than a share of it
├── ExportError     an engine refused the graph, or its output differs
└── MachineError    disk, memory, a missing engine or device
"""

from collections.abc import Sequence
from typing import Any

SHOWN = 5  # problems named in one error; an input may have thousands


class TpruneError(Exception):
    """One readable line: what is wrong, where, got, wanted, and what to do.

    Args:
        what: The problem as a short clause without a final period.
        where: File, line, key or flag.
        got: What was found.
        wanted: What would have been accepted.
        fix: What the user can do about it, in the imperative.
        problems: Every single problem, when an input has several; joined by "; ".
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        wanted: object = None,
        fix: str | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        self.what, self.where, self.got, self.wanted, self.fix = what, where, got, wanted, fix
        self.problems = tuple(problems)
        parts = [what if where is None else f"{where}: {what}"]
        if problems:
            parts.append("; ".join(problems))
        if got is not None:
            parts.append(f"got {got}")
        if wanted is not None:
            parts.append(f"wanted {wanted}")
        if fix is not None:
            parts.append(fix)
        super().__init__(" · ".join(" ".join(part.split()) for part in parts))


class InputError(TpruneError):
    """Text, a flag or a recipe the user gave cannot be used."""


class ArtifactError(TpruneError):
    """An artifact directory is missing, corrupt, of another kind or in the way."""


class ModelError(TpruneError):
    """A checkpoint or an architecture cannot be used."""


class PlanError(TpruneError):
    """A plan does not fit the model, or no plan meets the budget."""


class BudgetError(PlanError):
    """No plan meets a budget of parameters or FLOPs.

    Args:
        what: The problem as a short clause without a final period.
        least: Parameters or FLOPs of the smallest model.
        **said: See TpruneError.
    """

    def __init__(self, what: str, *, least: int, **said: Any) -> None:
        super().__init__(what, **said)
        self.least = least


class ExportError(TpruneError):
    """An engine refused the graph, or its output differs from the model's."""


class MachineError(TpruneError):
    """The machine lacks something: disk space, an engine, a device."""


def shown(problems: Sequence[str]) -> list[str]:
    """The first problems of many, and how many more there are."""
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return [*problems[:SHOWN], *more]
