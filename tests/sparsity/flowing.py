"""What flows through every projection, sentence by sentence, taken with plain hooks and no padding."""

from typing import Any

import torch
from torch import Tensor

from tests.sparsity.small_models import Sentences
from tprune.learn.batches import collate
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity.lines import Group


def seen(model: TPruneForConditionalGeneration, pairs: Sentences) -> list[dict[str, Tensor]]:
    """For every sentence: what each projection reads ("in:NAME") and gives ("out:NAME"), (L, width)."""
    found: list[dict[str, Tensor]] = []

    def hook(name: str) -> Any:
        def keep(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            found[-1] |= {f"in:{name}": inputs[0][0].detach(), f"out:{name}": output[0].detach()}

        return keep

    handles = [
        module.register_forward_hook(hook(name.replace(".layers.", ".")))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    for index in range(len(pairs)):
        found.append({})
        batch = collate([pairs[index]], pad_id=0, start_id=0)
        del batch["labels"]
        model(**batch, use_cache=False)
    for handle in handles:
        handle.remove()
    return found


def last_projection(group: Group) -> str:
    """fc2 or O of a group's sub-layer."""
    return f"{group.name}.fc2" if group.kind == "ffn" else f"{group.name.rpartition('.')[0]}.o_proj"
