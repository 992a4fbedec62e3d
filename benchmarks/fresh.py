"""One fresh process: import, open a model, translate a sentence, and tell what that took; `footprint` starts it.

Run as `python -m tprune.benchmarks.fresh JSON`, prints JSON. Nothing heavy is imported before the clock runs.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

PYTORCH, PEER = "pytorch", "ctranslate2"
LIBRARIES = {
    PYTORCH: "torch",
    "onnxruntime": "onnxruntime",
    "executorch": "executorch.extension.pybindings.portable_lib",
    PEER: "ctranslate2",
}
Translate = Callable[[Sequence[int], int], list[int]]
"""Source ids and the greatest number of target tokens to a translation."""


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Open a model and translate.

    Args:
        task: engine, precision, path, threads, source (ids), longest (target tokens), banned (tokens), and begun: the
            monotonic clock, which all processes of a machine share, when this one was started.

    Returns:
        Times in ms: `load_ms` is what opening and the first use cost more than the second use, since some engines load
        at the first; `first_token_ms` and `first_sentence_ms` count from the opening, `whole_...` from the start of the
        process. Memory in bytes: resident after the imports, and the peak after that. And the translation.
    """
    opener = _imported(task["engine"])
    memory = {"imports_memory_bytes": _status("VmRSS")}
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the imports' own peak is not the engine's
    opening = time.monotonic()
    translate = opener(task)
    translate(task["source"], 1)
    first_token = time.monotonic()
    translate(task["source"], 1)
    again = time.monotonic()
    found = translate(task["source"], task["longest"])
    sentence = time.monotonic() - (again - first_token)  # as if nothing had been done twice
    times = {
        "load": (first_token - opening) - (again - first_token),
        "first_token": first_token - opening,
        "first_sentence": sentence - opening,
        "whole_first_token": first_token - task["begun"],
        "whole_first_sentence": sentence - task["begun"],
    }
    return {
        **{f"{name}_ms": 1000 * seconds for name, seconds in times.items()},
        **memory,
        "peak_memory_bytes": _status("VmHWM"),
        "translation": found,
    }


def _imported(engine: str) -> Callable[[dict[str, Any]], Translate]:
    """Import what the engine needs, and give what opens a model with it."""
    import_module(LIBRARIES[engine])
    if engine == PEER:  # neither PyTorch nor the rest of tprune, which that engine does without
        from tprune.benchmarks.peers import ct2

        def open_theirs(task: dict[str, Any]) -> Translate:
            model = ct2.open_model(Path(task["path"]), task["threads"], task["precision"])
            return lambda source, longest: ct2.translate(model, [source], longest, task["banned"])[0]

        return open_theirs
    from dataclasses import replace

    from tprune.model.decode import one_by_one

    open_engine = _pytorch() if engine == PYTORCH else _bundle()

    def open_ours(task: dict[str, Any]) -> Translate:
        opened, search = open_engine(Path(task["path"]), task["threads"])
        return lambda source, longest: one_by_one(opened, replace(search, max_new_tokens=longest))(source)

    return open_ours


def _bundle() -> Callable[[Path, int], tuple[Any, Any]]:
    from tprune.export import description, runtime
    from tprune.model.search import Search

    return lambda path, threads: (runtime.open_bundle(path, threads), Search(**description.read(path).search))


def _pytorch() -> Callable[[Path, int], tuple[Any, Any]]:
    import torch

    from tprune.model import checkpoint
    from tprune.model.search import Search
    from tprune.model.torch_engine import TorchEngine

    def open_checkpoint(path: Path, threads: int) -> tuple[Any, Any]:
        torch.set_num_threads(threads)
        model = checkpoint.load(path)
        return TorchEngine(model), Search.of(model)

    return open_checkpoint


def _status(name: str) -> int:
    """A figure of this process in bytes, from the kernel."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (kibibytes,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return 1024 * int(kibibytes)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    print(json.dumps(run(json.loads(sys.argv[1]))), file=answers, flush=True)
