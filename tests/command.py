"""The command line, called in this process."""

import re
import sys
from pathlib import Path

import pytest

MINI = """
[text]
kind = "synthetic"
sentences = 400
vocabulary = 400
max_tokens = 48

[model]
d_model = 16
heads = 2
ffn = 32
encoder_layers = 1
decoder_layers = 2
max_positions = 64

[learn]
steps = 12
batch_tokens = 512
checkpoint_every = 4

[analyze]
sentences = 10
shares = [0.5]
learn.steps = 4
learn.batch_tokens = 512
learn.checkpoint_every = 2

[shs]
learn.steps = 8
learn.batch_tokens = 512
learn.checkpoint_every = 4

[recover]
seed = 3
steps = 8
batch_tokens = 512
checkpoint_every = 4

[export]
engines = ["onnxruntime"]
precisions = ["fp32", "int8"]
max_source = 48
max_target = 48
parity_sentences = 2

[bench]
threads = [1]
engines = ["onnxruntime"]
sentences = 4
rounds = 2
most_rounds = 2
bootstrap = 20

[[targets]]
name = "small"
keep = 0.9
grid = 4
"""


def mini_recipe(folder: Path, **changes: str) -> Path:
    """A recipe that runs the whole pipeline in seconds; `changes` replace lines by their key."""
    text = MINI
    for key, value in changes.items():
        text = re.sub(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
    path = folder / "mini.toml"
    path.write_text(text, encoding="utf-8")
    return path


def tprune(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run `tprune ARGUMENTS` and give its exit code."""
    from tprune import cli

    monkeypatch.setattr(sys, "argv", ["tprune", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)
