"""How a program begins and ends: quiet libraries, one line for an error, parameters from the command line."""

import errno
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import typer

from tprune.errors import TpruneError
from tprune.progress import console, tell

INTERRUPTED = 130  # a shell's exit code after Ctrl-C
OUT = "out"  # the parameter that names the file to write


def call(program: Callable[[], Any]) -> None:
    """Call a program; a TpruneError is one readable line and exit code 1."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _quiet()
    _open_streams()
    try:
        program()
    except TpruneError as error:
        complain(error)
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        complain(
            f"no space left where the output goes{f': {error.filename}' if error.filename else ''} · free some space"
        )
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_stopped())
    except SystemExit as left:
        if left.code == INTERRUPTED:  # typer's own answer to Ctrl-C, without a word
            _stopped()
        raise


def _open_streams() -> None:
    """Where the caller has closed standard input or output, there is nothing to read and nobody to write for."""
    nowhere = Path(os.devnull)
    sys.stdin = sys.stdin or nowhere.open()
    sys.stdout = sys.stdout or nowhere.open("w")


def _stopped() -> int:
    console.print("stopped; the same command goes on from here")
    return INTERRUPTED


def script(main: Callable[..., None]) -> None:
    """Call a module's main function with what the command line says, by the function's own signature.

    The folder of the file that it writes, its parameter `out`, is made first: nobody measures for an hour to find that
    there is none.
    """
    own = inspect.signature(main)

    @wraps(main)
    def prepared(*given: Any, **named: Any) -> None:
        out = own.bind(*given, **named).arguments.get(OUT)
        if isinstance(out, Path):
            out.parent.mkdir(parents=True, exist_ok=True)
        main(*given, **named)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)  # "[extra]" is text
    app.command(help=inspect.getdoc(inspect.getmodule(main)))(prepared)
    call(app)


def complain(error: object) -> None:
    """One line on standard error that something is wrong."""
    console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    tell(f"warning: {message}")


def _quiet() -> None:
    """Keep libraries' advice to developers off the user's terminal; a warning is one line without its place in code."""
    warnings.showwarning = _warn
    warnings.filterwarnings("ignore", module=r"(torch|torchao|executorch|transformers|onnxscript)(\..*)?$")
    for name in ("torchao", "torch.utils._pytree", "transformers.trainer", "transformers.configuration_utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
