"""A suite of a small model with every kind of row."""

from pathlib import Path

from tests.command import mini_recipe

SMALL = """
name = "mini-suite"
recipe = "{recipe}"
set = [
  "distill.beam=2", "between.steps=2", "between.batch_tokens=256", "shs.learn.steps=2", "recover.steps=2",
  "export.engines=[]", "bench.engines=['pytorch']", "bench.beam=2", "table.least_width=4",
]
table = "measure"
seeds = [1, 2]

[[shapes]]
name = "small"
target = {{ planner = "uniform", keep = 0.9, grid = 4, score = "magnitude" }}

[[rows]]
name = "magnitude"
seeds = [1]

[[rows]]
name = "random"
target = {{ score = "random" }}

[[rows]]
name = "shs-in-rounds"
target = {{ score = "shs", rounds = 2 }}
set = ["distill.on=true"]
seeds = [1]

[[rows]]
name = "obs-of-shs"
target = {{ score = "obs", sparsified = true }}
seeds = [1]

[[rows]]
name = "scratch"
fresh = true
seeds = [1]

[[rows]]
name = "dense-distilled"
widths = "dense"
target = {{ vocabulary = 2 }}
set = ["distill.on=true"]
seeds = [1]

[[rows]]
name = "own"
widths = "own"
target = {{ score = "shs", planner = "global" }}
seeds = [1]

[[rows]]
name = "trimmed"
widths = "own"
target = {{ planner = "latency", budget = "speedup", amount = 1.2, table = "measure", vocabulary = 2 }}
set = ["distill.on=true"]
seeds = [1]
"""


def write(folder: Path, text: str = SMALL) -> Path:
    path = folder / "suite.toml"
    path.write_text(text.format(recipe=mini_recipe(folder)))
    return path
