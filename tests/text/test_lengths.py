"""Sentences that are too long are named by split, line and side, with the setting that helps."""

import pytest

from tests.artifacts import error_of
from tests.text.folders import TEST, TRAIN, VALID, text, write
from tprune.artifact import Artifact
from tprune.text.corpus import open_corpus, prepare, read_lengths
from tprune.text.lengths import require_bundled, require_positions

LONG = " ".join(["hats"] * 60)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """One long target in the validation split, one long source and one long target in the test split."""
    folder = tmp_path_factory.mktemp("lengths")
    write(folder / "text", "train", TRAIN)
    write(folder / "text", "valid", [*VALID, ("A man buys hats.", LONG)])
    write(folder / "text", "test", [TEST[0], (LONG, "Wir brauchen Hüte."), *TEST[1:], ("We need hats.", LONG)])
    return prepare(text(folder / "text"), folder / "corpus")


def longest(made: Artifact, name: str) -> list[int]:
    opened = open_corpus(made)
    pairs = opened.split(name)
    return [max(len(pairs[index][side]) for index in range(len(pairs))) for side in (0, 1)]


def test_lengths_are_those_of_the_ids(made: Artifact) -> None:
    for name in ("train", "valid", "test"):
        assert read_lengths(made, name).max(axis=0).tolist() == longest(made, name)


def test_held_out_sentences_without_a_position(made: Artifact) -> None:
    target, source, limit = longest(made, "valid")[1], longest(made, "test")[0], 60
    assert max(longest(made, "train")) < limit < min(target, source)
    assert error_of(require_positions, made, limit) == (
        f"{made.path}: sentences longer than the model has positions for · valid line 11, target: {target} tokens; "
        f"test line 2, source: {source} tokens · wanted at most {limit} tokens each · "
        "shorten these lines and make the corpus again, or train with a larger model.max_positions"
    )
    # a reference is never put into a model
    require_positions(made, max(target, source))


def test_training_sentences_without_a_position(made: Artifact) -> None:
    assert error_of(require_positions, made, 4) == (
        f"{made.path}: training sentences longer than the model has positions for · got up to "
        f"{max(longest(made, 'train'))} tokens · wanted at most 4 · make the corpus again with text.max_tokens = 4, or "
        "train with a larger model.max_positions"
    )


def test_sentences_that_no_bundle_takes(made: Artifact) -> None:
    source, _ = longest(made, "test")
    require_bundled(made, source)
    assert error_of(require_bundled, made, source - 1) == (
        f"{made.path}: test sentences longer than the bundles are made for · test line 2, source: {source} tokens · "
        f"wanted at most {source - 1} tokens each · set export.max_source to {source} or more, or shorten these lines "
        "and make the corpus again"
    )


def test_many_are_counted(made: Artifact) -> None:
    said = error_of(require_bundled, made, 2)
    assert said.count("source: ") == 5
    assert f"; and {len(TEST) + 2 - 5} more · wanted" in said
