"""Optimum's ONNX Runtime models, in a Python environment of their own: they need another version of transformers.

Make one and name its interpreter in TPRUNE_OPTIMUM_PYTHON:

    python3 -m venv DIR && DIR/bin/pip install torch==2.13.0 'optimum-onnx[onnxruntime]' 'transformers<5'

A process of that environment translates; sentences and translations go through pipes, a line each. What the way costs
is in the times: a fraction of a millisecond.
"""

import json
import os
import subprocess
import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from tprune.benchmarks.peers import hf_form
from tprune.benchmarks.peers.peer import Peer, Translate
from tprune.errors import MachineError
from tprune.model.search import Search
from tprune.model.transformer import TPruneForConditionalGeneration

PYTHON = "TPRUNE_OPTIMUM_PYTHON"
WORKER = Path(__file__).with_name("optimum_worker.py")
CHECKPOINT, GRAPHS = "checkpoint", "onnx"


class Worker:
    """The other process: a callable that translates one sentence."""

    def __init__(self, folder: Path, threads: int, search: Search) -> None:
        self.search = search
        self.process = subprocess.Popen(
            _command("serve", folder, threads), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        weakref.finalize(self, _end, self.process)
        self._ask([])  # answered when the model is open

    def __call__(self, source: Sequence[int]) -> list[int]:
        """Ids of one sentence to those of its greedy translation, without eos."""
        return self._ask(list(source))

    def _ask(self, source: list[int]) -> list[int]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        question = {
            "source": source,
            "longest": self.search.max_length(len(source)),
            "banned": self.search.banned,
            "eos": self.search.eos,
        }
        with suppress(BrokenPipeError):  # the missing answer is told below
            self.process.stdin.write(json.dumps(question) + "\n")
        answer = self.process.stdout.readline()
        if not answer:
            raise MachineError("the process of Optimum ended", got=f"exit code {self.process.wait()}", fix="see above")
        found: list[int] = json.loads(answer)
        return found


def _convert(model: TPruneForConditionalGeneration, out: Path, _precision: str) -> None:
    hf_form.to_hugging_face(model).save_pretrained(out / CHECKPOINT)
    subprocess.run(_command("export", out / CHECKPOINT, out / GRAPHS), check=True, stdout=subprocess.DEVNULL)


def _open(folder: Path, threads: int, _precision: str, search: Search) -> Translate:
    return Worker(folder / GRAPHS, threads, search)


@cache
def _versions(python: str) -> dict[str, str]:
    shown = subprocess.run([python, WORKER, "versions"], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(shown.stdout)
    return found


def _missing() -> str | None:
    if PYTHON not in os.environ:
        return f"{PYTHON}: the interpreter of an environment that has it, see benchmarks/peers/optimum_onnx.py"
    try:
        _versions(os.environ[PYTHON])
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return f"another {PYTHON}: {said.strip().splitlines()[-1]}"
    return None


def _command(*arguments: Any) -> list[str]:
    return [os.environ[PYTHON], str(WORKER), *map(str, arguments)]


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()  # its input ends, and so does it
    process.wait()
    process.stdout.close()


PEER = Peer(
    name="optimum-onnx",
    precisions=("fp32",),
    version=lambda: _versions(os.environ[PYTHON])["optimum-onnx"],
    weights=f"{GRAPHS}/*.onnx*",
    convert=_convert,
    open=_open,
    missing=_missing,
)
