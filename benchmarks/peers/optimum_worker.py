"""The half of the Optimum peer that runs in that library's own environment: by its path, without tprune.

`versions` | `export CHECKPOINT OUT` | `serve FOLDER THREADS`, which answers every line of JSON with one.
"""

import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from itertools import takewhile

LIBRARIES = ("optimum-onnx", "onnxruntime", "transformers", "torch")


def _versions() -> None:
    import optimum.onnxruntime  # noqa: F401  # that it can be imported is part of the answer

    print(json.dumps({library: version(library) for library in LIBRARIES}))


def _export(checkpoint: str, out: str) -> None:
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    ORTModelForSeq2SeqLM.from_pretrained(checkpoint, export=True, use_cache=True).save_pretrained(out)


def _serve(folder: str, threads: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    import onnxruntime
    import torch
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    torch.set_num_threads(int(threads))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = int(threads), 1
    model = ORTModelForSeq2SeqLM.from_pretrained(folder, session_options=options, use_cache=True)
    for line in sys.stdin:
        asked = json.loads(line)
        found = []
        if asked["source"]:
            source = torch.tensor([asked["source"]])
            (row,) = model.generate(
                source,
                attention_mask=torch.ones_like(source),
                do_sample=False,
                num_beams=1,
                max_new_tokens=asked["longest"],
                suppress_tokens=asked["banned"],
            ).tolist()
            found = list(takewhile(asked["eos"].__ne__, row[1:]))
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    tasks: dict[str, Callable[..., None]] = {"versions": _versions, "export": _export, "serve": _serve}
    tasks[sys.argv[1]](*sys.argv[2:])
