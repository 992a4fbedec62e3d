"""Progress of long work on the terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

console = Console(stderr=True, highlight=False)


def tell(line: str) -> None:
    """One line on standard error, never wrapped: paths stay whole."""
    console.print(line, soft_wrap=True, markup=False)


@contextmanager
def narrate(what: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner with `what` and the latest detail; only `what` where there is no terminal."""
    if not console.is_terminal:
        tell(what)
        yield lambda _: None
        return
    with console.status(what) as status:
        yield lambda detail: status.update(f"{what}: {detail}")
