"""Reading and writing a model's directory: `config.json` and `model.safetensors`, never a pickle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers.utils import logging

from tprune.errors import ModelError, shown
from tprune.model.layers import Positions
from tprune.model.shape import TPruneConfig
from tprune.model.transformer import TPruneForConditionalGeneration


def load(path: Path) -> TPruneForConditionalGeneration:
    """Read a model that tprune wrote, as an artifact or by `save`, into float32 and evaluation mode.

    Args:
        path: The directory.

    Raises:
        ModelError: No such directory, no or another `config.json`, weights that are absent, damaged
            or not those of the configuration.
    """
    settings = read_config(path)
    if settings.get("model_type") != TPruneConfig.model_type:
        raise ModelError(
            "not a tprune model",
            where=path / "config.json",
            got=f"model_type {settings.get('model_type')!r}",
            wanted=repr(TPruneConfig.model_type),
            fix="convert it first: tprune convert HF_MODEL OUT",
        )
    try:
        with torch.device("meta"):
            wanted = TPruneForConditionalGeneration(TPruneConfig.from_dict(settings)).state_dict()
    except Exception as error:  # a wrong value fails in as many ways as there are fields
        raise ModelError(
            "config.json describes no model",
            where=path / "config.json",
            got=f"{type(error).__name__}: {error}",
            fix="restore the file, or make the model again",
        ) from None
    _compare(weight_shapes(path), {name: tuple(tensor.shape) for name, tensor in wanted.items()}, path)
    with quiet():
        model = TPruneForConditionalGeneration.from_pretrained(
            path, use_safetensors=True, local_files_only=True, dtype=torch.float32
        )
    for part in model.modules():
        if isinstance(part, Positions):  # which `from_pretrained` makes trainable, whatever they were
            part.weight.requires_grad_(not part.sinusoidal)
    return model.eval()  # type: ignore[no-any-return]


def save(model: TPruneForConditionalGeneration, directory: Path) -> None:
    """Write configuration, weights and generation settings as an ordinary Hugging Face checkpoint."""
    with quiet():
        model.save_pretrained(directory)


def read_config(path: Path) -> dict[str, Any]:
    """Parse a checkpoint's `config.json`.

    Raises:
        ModelError: No such directory or file, or no JSON object.
    """
    file = path / "config.json"
    if not path.is_dir():
        raise ModelError("no such model directory", where=path, fix="check the path")
    if not file.is_file():
        raise ModelError("not a model: it has no config.json", where=path, fix="give the directory of a checkpoint")
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError("not valid JSON", where=file, got=error, fix="restore the file, or make it again") from None
    if not isinstance(settings, dict):
        raise ModelError("not a configuration", where=file, got=type(settings).__name__, wanted="a JSON object")
    return settings


def weight_shapes(path: Path, *, from_hub: bool = False) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in the directory's safetensors, without reading them.

    Args:
        path: The directory.
        from_hub: It is what was downloaded of a model on the hub, from where pickles never come.

    Raises:
        ModelError: There are none, or one is truncated or damaged.
    """
    shards = sorted(path.glob("model*.safetensors"))
    if not shards:
        pickles = sorted(file.name for file in path.glob("*.bin"))
        pickled = bool(pickles) or from_hub
        raise ModelError(
            "no model.safetensors, and pickled weights are never loaded" if pickled else "no model.safetensors",
            where=path,
            got=", ".join(pickles) or None,
            fix="convert it on a machine where you trust the file: python -c 'from transformers import "
            "AutoModelForSeq2SeqLM as M, AutoTokenizer as T; "
            '[each.from_pretrained("THE_MODEL").save_pretrained("NEW_DIRECTORY") for each in (M, T)]\'; on the '
            "Hugging Face hub a pull request of SFconvertbot often holds them: give NAME@refs/pr/NUMBER"
            if pickled
            else "give the directory of a whole checkpoint",
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for shard in shards:
        try:
            with safe_open(shard, framework="pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(
                "truncated or damaged weights", where=shard, got=error, fix="copy, download or make the file again"
            ) from None
    return shapes


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Hugging Face's progress bars and advice off the terminal: our own errors say what matters."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _compare(got: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], path: Path) -> None:
    problems = [f"{name} is missing" for name in wanted if name not in got]
    problems += [f"{name} is unknown" for name in got if name not in wanted]
    problems += [
        f"{name} is {_size(got[name])} instead of {_size(shape)}"
        for name, shape in wanted.items()
        if got.get(name, shape) != shape
    ]
    if problems:
        raise ModelError(
            "the weights are not those of config.json",
            where=path,
            problems=shown(problems),
            fix="give a directory whose two files were written together",
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
