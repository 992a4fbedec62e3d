"""Progress of long work on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console

SILENCE = 30.0  # seconds between two lines in a log

console = Console(stderr=True, highlight=False)


def tell(line: str) -> None:
    """One line on standard error, never wrapped: paths stay whole."""
    console.print(line, soft_wrap=True, markup=False)


@contextmanager
def narrate(what: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner with `what` and the latest detail; a line now and then where there is no terminal."""
    if not console.is_terminal:
        tell(what)
        last = monotonic()

        def now_and_then(detail: str) -> None:
            nonlocal last
            if monotonic() - last >= SILENCE:
                last = monotonic()
                tell(f"{what}: {detail}")

        yield now_and_then
        return
    with console.status(what) as status:
        yield lambda detail: status.update(f"{what}: {detail}")
