"""A short training, to be started alone or as several processes; writes what it saw as JSON.

Run as `python -m torch.distributed.run --nproc-per-node W -m tests.learn.two_processes OUT ACCUMULATE SOFT`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from tests.sparsity.small_models import Sentences, config, model_of
from tprune.config import Learn
from tprune.learn.trainer import fit


def train(out: Path, accumulate: int, soft_targets: int, name: str) -> dict[str, Any]:
    """Train, and return the history and a digest of the averaged weights."""
    model, teacher = model_of(config(depth=1)), model_of(config(depth=1), seed=1)
    settings = Learn(
        steps=8, batch_tokens=60, accumulate=accumulate, learning_rate=3e-3, warmup=2, checkpoint_every=2, average=3,
        distill=0.3, dropout=0.0, precision="fp32",
    )  # fmt: skip
    history = fit(
        model, Sentences.random(60), Sentences.random(10, seed=1), settings, out / "scratch",
        teacher=teacher, shrink=Shrink(model), soft_targets=soft_targets, progress=False,
    )  # fmt: skip
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()]).tolist()
    found = {"history": history, "weights": weights}
    (out / f"{name}.json").write_text(json.dumps(found))
    return found


class Shrink:
    """Takes a share of the output projection, so that processes that disagree drift apart."""

    def __init__(self, model: Any) -> None:
        self.weight = model.get_parameter("decoder.layers.0.ffn.fc2.weight")

    @torch.no_grad()
    def __call__(self, learning_rate: float) -> None:
        self.weight.mul_(1 - learning_rate)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), f"rank{os.environ.get('RANK', '0')}")
