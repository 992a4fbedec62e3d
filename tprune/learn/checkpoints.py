"""Checkpoints of a training: marked when they are whole, averaged in the end."""

import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

WHOLE = "whole"  # marks a checkpoint that was written to its end


class Marks(TrainerCallback):
    """Marks a checkpoint as whole when all its files are written, so that a kill leaves no doubt."""

    def on_save(self, args: Any, state: Any, control: Any, **__: Any) -> None:
        """Put the mark."""
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()


def average(scratch: Path, count: int) -> dict[str, Tensor]:
    """Mean of the weights of the last `count` whole checkpoints."""
    last = whole(scratch)[-count:]
    total: dict[str, Tensor] = {}
    for checkpoint in last:
        for name, tensor in load_file(checkpoint / "model.safetensors").items():
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    return {name: (tensor / len(last)).float() for name, tensor in total.items()}


def whole(scratch: Path) -> list[Path]:
    """Checkpoints that were written to their end, the earliest first."""
    found = [path for path in scratch.glob("checkpoint-*") if (path / WHOLE).exists()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def remove_all_but(found: list[Path], scratch: Path) -> None:
    """Remove those that a kill cut off."""
    for path in scratch.glob("checkpoint-*"):
        if path not in found:
            shutil.rmtree(path)
