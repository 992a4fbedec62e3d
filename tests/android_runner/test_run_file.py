"""What a runner is told of a bundle."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.artifacts import error_of
from tests.export.test_shortlist import random_shortlist
from tprune.android_runner import run_file
from tprune.android_runner.run_file import Job
from tprune.export import description


def test_the_run_file_of_a_bundle(small_bundles: Callable[[str, str], Path]) -> None:
    bundle = description.read(small_bundles("executorch", "fp32"))
    assert run_file.modes(bundle) == ("buffered", "steps")
    text = run_file.run_text(bundle, Job("steps", threads=2, runs=5, warmup=1, seconds=0.25, cpus=(4, 5)), "../b")
    lines = text.splitlines()
    assert lines[:3] == ["tprune-run 1", "mode steps", "threads 2"]
    assert {"milliseconds 250", "cpus 4 5", "graph decode_step ../b/model.pte"} <= set(lines)
    # keys and values of one width there: 6, not the model's 6 and 2
    assert [line for line in lines if line.startswith("cache")] == ["cache past_keys_1 1 6", "cache past_values_1 1 6"]
    whole = description.read(small_bundles("onnxruntime", "fp32"))
    assert run_file.modes(whole) == ("whole", "steps")
    assert "cache past_values_1 1 2\n" in run_file.run_text(whole, Job("steps", 1, 1))
    assert "buffered" not in run_file.run_text(bundle, Job("steps", 1, 1))


def test_sentences_and_their_limits(small_bundles: Callable[[str, str], Path]) -> None:
    bundle = description.read(small_bundles("onnxruntime", "fp32"))
    # 3/2 of the source and 10, at most what the bundle was exported for
    assert run_file.sentences_text(bundle, [[5], [7, 8, 9]]) == "11 5\n14 7 8 9\n"
    error = error_of(run_file.sentences_text, bundle, [[5], [], [40], [1] * 13])
    assert "sentence index 1: 0 tokens, 0 unknown; sentence index 2: 1 tokens, 1 unknown" in error
    assert "sentence index 3: 13 tokens, 0 unknown · wanted 1 to 12 tokens each, all from 0 to 39" in error
    assert "none at all" in error_of(run_file.sentences_text, bundle, [])


@pytest.mark.parametrize("folder", ["a b", "x;reboot", "'", "a\nmode whole", "$(id)"])
def test_a_name_that_would_be_more_than_one_word_is_refused(
    small_bundles: Callable[[str, str], Path], folder: str
) -> None:
    bundle = description.read(small_bundles("onnxruntime", "fp32"))
    error = error_of(run_file.run_text, bundle, Job("whole", 1, 1), folder)
    assert "a name that a run file cannot hold" in error


def test_what_the_bundle_does_not_have(small_bundles: Callable[[str, str], Path]) -> None:
    bundle = description.read(small_bundles("executorch", "fp32"))
    assert "no such mode in this bundle · got whole · wanted buffered | steps" in error_of(
        run_file.run_text, bundle, Job("whole", 1, 1)
    )
    whole = description.read(small_bundles("onnxruntime", "fp32"))
    assert "gives no logits" in error_of(run_file.run_text, whole, Job("whole", 1, 1, logits=True))
    assert "logits logits.f32\n" in run_file.run_text(whole, Job("steps", 1, 1, logits=True))


def test_candidates_of_each_sentence(small_bundles: Callable[..., Path], tmp_path: Path) -> None:
    bundle, few = description.read(small_bundles("onnxruntime", "fp32", True)), random_shortlist()
    assert run_file.modes(bundle) == ("whole", "steps")
    run_file.write(tmp_path, bundle, Job("whole", 1, 1), [[5], [20, 5, 12, 20]])
    assert "candidates candidates.txt\n" in (tmp_path / "run.txt").read_text()
    own = {one: {*few.translations[few.offsets[one] : few.offsets[one + 1]].tolist()} for one in (5, 12, 20)}
    wanted = [sorted({1, 4, 9, *own[5]}), sorted({1, 4, 9, *own[5], *own[12], *own[20]})]
    assert wanted[0] != wanted[1]
    lines = (tmp_path / "candidates.txt").read_text().splitlines()
    assert [[int(word) for word in line.split()] for line in lines] == wanted
    assert "candidates" not in run_file.run_text(
        description.read(small_bundles("onnxruntime", "fp32")), Job("steps", 1, 1)
    )
