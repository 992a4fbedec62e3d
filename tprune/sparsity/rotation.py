"""A narrower residual stream along its principal components (after SliceGPT, Ashkboos et al. 2024).

Where every sub-layer is normalized first, the stream is only added to, and only read through normalizations. So it may
be turned: what writes to it by R, what reads from it by R's transpose, once the normalizations' own weights and biases
are folded into what reads them. A LayerNorm takes the mean off first, so that one direction of the stream is never
read; R leaves it out, and has D - 1 principal components left, the strongest of which are kept.

The components lie in d dimensions along cosines without the constant one, so that the numbers of the narrow stream have
mean 0 as well: LayerNorm stays what it is, and at d = D nothing changes. Cosines also spread every component over all
dimensions, where quantization has no large ones to suffer from. The output projection reads through the last
normalization, so that it is no longer the embedding.

Shapes: D old width, d new width.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tprune.errors import ModelError
from tprune.learn.batches import Parallel
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.sparsity import calibration, lines
from tprune.sparsity.lines import STACKS

ENCODED = "encoder.final_norm"  # what cross-attentions read their keys and values from


@dataclass(frozen=True)
class Components:
    """Principal components of the residual stream, normalized token by token.

    Attributes:
        basis: (D, D - 1) orthonormal columns without a mean, the strongest first.
        energy: (D - 1,) by name of the normalization that sees them, each summing to 1.
    """

    basis: Tensor
    energy: Mapping[str, Tensor]


def is_possible(config: TPruneConfig) -> bool:
    """Whether a model reads its residual stream through normalizations only."""
    return config.norm == "pre" and bool(config.final_norm) and not config.embedding_norm


@torch.no_grad()
def components(model: TPruneForConditionalGeneration, pairs: Parallel, seed: int) -> Components:
    """Find the principal components of what all normalizations of a model see in a sample of sentences.

    Args:
        model: The model.
        pairs: Calibration text.
        seed: Of the sample.

    Raises:
        ModelError: The stream is read in other ways too.
    """
    if not is_possible(model.config):
        raise ModelError(
            "the residual stream of this model cannot be turned",
            got=f"norm = {model.config.norm!r}, final_norm = {bool(model.config.final_norm)}, "
            f"embedding_norm = {bool(model.config.embedding_norm)}",
            wanted="sub-layers normalized first, and a final normalization only",
            fix="choose dimensions instead",
        )
    model.eval()
    size = model.config.d_model
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    seen = {name: torch.zeros(size, size, dtype=torch.float64) for name in norms}
    real: dict[str, Tensor] = {}  # by stack: which tokens are no padding

    def look(name: str, _norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0][real[name.partition(".")[0]]].double()
        x = x - x.mean(dim=1, keepdim=True)
        x = x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)
        seen[name] += (x.T @ x).cpu()

    hooks = [norm.register_forward_pre_hook(partial(look, name)) for name, norm in norms.items()]
    try:
        for inputs, labels in calibration.batches(model, pairs, seed):
            real["encoder"], real["decoder"] = inputs["attention_mask"].bool(), labels != -100
            model(**inputs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    seen = {name: found / found.trace() for name, found in seen.items()}
    # nothing is left of the mean: it is pushed behind whatever else the stream has nothing of
    behind = torch.full((size, size), -1 / size, dtype=torch.float64)
    _, basis = torch.linalg.eigh(sum(seen.values(), behind))
    basis = basis.flip(1)[:, : size - 1]
    return Components(basis, {name: (basis * (found @ basis)).sum(dim=0) for name, found in seen.items()})


@torch.no_grad()
def narrow(model: TPruneForConditionalGeneration, found: Components, size: int) -> TPruneForConditionalGeneration:
    """A model whose residual stream has `size` dimensions for the strongest components; `model` is not changed.

    With the old width it gives the same logits, within the rounding of floats.

    Raises:
        ModelError: A width below 2 or above the old one.
    """
    old = model.config
    if not 2 <= size <= old.d_model:
        raise ModelError("no such width", got=size, wanted=f"2 to {old.d_model}", fix="choose another share")
    turn = (found.basis[:, : size - 1] @ cosines(size)).to(model.device)  # (D, d)
    state = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
    state["lm_head.weight"] = model.output_weight.detach().double().clone()
    state.setdefault("output_bias", torch.zeros(old.output_size, dtype=torch.float64, device=model.device))

    def read(name: str, norm: str, bias: str) -> None:
        weight = state[f"{name}.weight"]
        state[bias] = state[bias] + weight @ state[f"{norm}.bias"]
        state[f"{name}.weight"] = (weight * state[f"{norm}.weight"]) @ turn

    for stack in STACKS:
        for index, shape in enumerate(lines.layer_shapes(old, stack)):
            for sublayer in lines.sublayers(shape):
                prefix = lines.module_name(stack, index, sublayer)
                readers, writer = lines.projections(sublayer)
                for part in readers:
                    encoded = sublayer == "cross_attn" and part != "q_proj"
                    read(f"{prefix}.{part}", ENCODED if encoded else f"{prefix}.norm", f"{prefix}.{part}.bias")
                state[f"{prefix}.{writer}.weight"] = turn.T @ state[f"{prefix}.{writer}.weight"]
                state[f"{prefix}.{writer}.bias"] = state[f"{prefix}.{writer}.bias"] @ turn
    read("lm_head", "decoder.final_norm", "output_bias")
    for name in ("embed", "target_embed", "positions", "target_positions"):
        if f"{name}.weight" in state:
            state[f"{name}.weight"] = state[f"{name}.weight"] @ turn
    for name, energy in found.energy.items():
        # the stream without its weak components is shorter, which the normalization would make up for
        gain = math.sqrt(float(energy[: size - 1].sum()) * old.d_model / size)
        state[f"{name}.weight"] = torch.full((size,), gain, dtype=torch.float64)
        state[f"{name}.bias"] = torch.zeros(size, dtype=torch.float64)
    config = copy.deepcopy(old)
    config.d_model, config.tie_output, config.output_bias = size, False, True
    smaller = TPruneForConditionalGeneration(config)
    smaller.generation_config = copy.deepcopy(model.generation_config)
    smaller.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return smaller.to(model.device).train(model.training)  # type: ignore[no-any-return]


def cosines(width: int) -> Tensor:
    """(d - 1, d) orthonormal rows that sum to 0: the discrete cosine transform without its constant."""
    place = torch.arange(width, dtype=torch.float64) + 0.5
    frequency = torch.arange(1, width, dtype=torch.float64)[:, None]
    return (math.pi / width * frequency * place).cos() * math.sqrt(2 / width)
