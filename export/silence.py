"""Quiet around exporters, which report progress and deprecations of their own insides."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

# (message pattern, category): none of these says anything about the exported graph
WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    # torch's graphs are deep-copied, which calls a class that torch itself deprecates
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    # several inputs share one dynamic axis, as they should
    (r"# The axis name: \w+ will not be used, since it shares the same shape", UserWarning),
    (r"(read|open)_(text|binary) is deprecated", DeprecationWarning),
    (r"`torch\.jit\.script_method` is deprecated", DeprecationWarning),
    # ExecuTorch's own operators call what torch has deprecated
    (r"_check_is_size will be removed", FutureWarning),
    # no attention reads a cache further than it was written
    (r"Mutation on a buffer in the model is detected", UserWarning),
    (r"This API is experimental and subject to change without notice", Warning),
)
LOGGERS = ("torch", "torchao", "onnxscript", "executorch", "root")


@contextmanager
def silence() -> Iterator[None]:
    """Swallow standard output, messages below errors, and the known warnings; anything else gets through."""
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        for pattern, category in WARNINGS:
            warnings.filterwarnings("ignore", message=pattern, category=category)
        try:
            for name in LOGGERS:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
