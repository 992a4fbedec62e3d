"""What is saved comes back, and what cannot come back is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from tests.model.random_models import ours, theirs
from tprune import artifact
from tprune.errors import ModelError
from tprune.model.checkpoint import load, save

FILES = ["config.json", "generation_config.json", "model.safetensors"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(ours(1), tmp_path)
    return tmp_path


def rewrite(path: Path, **changes: torch.Tensor | None) -> None:
    """Replace (or drop, by None) tensors of the saved weights."""
    weights = load_file(path / "model.safetensors") | {name.replace("__", "."): new for name, new in changes.items()}
    save_file({name: tensor for name, tensor in weights.items() if tensor is not None}, path / "model.safetensors")


def configure(path: Path, **changes: Any) -> None:
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | changes))


@pytest.mark.parametrize("case", range(6))
def test_a_model_comes_back_as_it_was(case: int, tmp_path: Path) -> None:
    model = ours(case)
    save(model, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == FILES
    for again in (load(tmp_path), AutoModelForSeq2SeqLM.from_pretrained(tmp_path)):
        assert again.config.to_diff_dict() == model.config.to_diff_dict()
        weights = again.state_dict()
        assert weights.keys() == model.state_dict().keys()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
        assert again.generation_config.bad_words_ids == model.generation_config.bad_words_ids
        assert not again.training


@pytest.mark.parametrize("case", range(6))
def test_what_is_not_trained_stays_so(case: int, tmp_path: Path) -> None:
    model = ours(case)
    save(model, tmp_path)
    frozen = {name for name, parameter in load(tmp_path).named_parameters() if not parameter.requires_grad}
    assert frozen == ({"positions.weight"} if model.config.positions == "sinusoidal" else set())


def test_saving_and_loading_say_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(ours(1), tmp_path)
    load(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_half_precision_comes_back_as_single(tmp_path: Path) -> None:
    save(ours(1).half(), tmp_path)
    assert {parameter.dtype for parameter in load(tmp_path).parameters()} == {torch.float32}


def test_an_artifact_loads(tmp_path: Path) -> None:
    with artifact.create(tmp_path / "model", "model", config={}) as partial:
        save(ours(2), partial)
    assert load(tmp_path / "model").config.to_dict()["model_type"] == "tprune"


def test_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model directory · check the path"):
        load(tmp_path / "gone")
    with pytest.raises(ModelError, match=r"not a model: it has no config\.json"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="not a configuration · got list · wanted a JSON object"):
        load(tmp_path)
    theirs("bart", 1).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="not a tprune model · got model_type 'bart' · wanted 'tprune' · convert it"):
        load(tmp_path)


def test_a_configuration_that_fits_no_model_is_named(saved: Path) -> None:
    configure(saved, encoder_shapes=[{"ffn": 3}])
    with pytest.raises(ModelError, match=r"config\.json describes no model · got KeyError: 'self_attn' · restore"):
        load(saved)


def test_damaged_weights_are_named(saved: Path) -> None:
    whole = (saved / "model.safetensors").read_bytes()
    for damaged in (whole[:-1], whole[:50], b"", b"\xff" * 64):
        (saved / "model.safetensors").write_bytes(damaged)
        with pytest.raises(ModelError, match=r"model\.safetensors: truncated or damaged weights · got "):
            load(saved)
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model\.safetensors · give the directory of a whole checkpoint"):
        load(saved)


def test_weights_of_another_configuration_are_named(saved: Path) -> None:
    rewrite(saved, embed__weight=torch.zeros(3, 4), output_bias=None, surplus=torch.zeros(1))
    with pytest.raises(ModelError) as raised:
        load(saved)
    assert str(raised.value) == (
        f"{saved}: the weights are not those of config.json · output_bias is missing; surplus is unknown; "
        "embed.weight is 3 x 4 instead of 31 x 16 · give a directory whose two files were written together"
    )


def test_of_many_problems_some_are_named(saved: Path) -> None:
    configure(saved, d_model=24)
    with pytest.raises(ModelError, match=r"\.weight is .* instead of .*; and \d+ more · give"):
        load(saved)
