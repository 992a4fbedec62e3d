"""Which tokens are kept, counted another way, and the corpus in their ids."""

from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

from tests.artifacts import error_of
from tests.text.folders import TEST, TRAIN, VALID, text, write
from tprune import artifact
from tprune.text import trimmed_corpus, trimming
from tprune.text.corpus import Corpus, open_corpus, prepare
from tprune.text.trimmed_corpus import Kept

ODD = [("Zebras need 7 hats.", "Zebras brauchen 7 Hüte."), ("The dog buys chairs.", "The dog kauft Stühle.")]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp(request.param)
    config = text(folder / "text", tokenizer=request.param)
    (folder / "text" / "test.en").write_text("".join(f"{source}\n" for source, _ in [*TEST, *ODD]))
    (folder / "text" / "test.de").write_text("".join(f"{target}\n" for _, target in [*TEST, *ODD]))
    return open_corpus(prepare(config, folder / "corpus"))


def kept_by_hand(corpus: Corpus, minimum: int) -> Kept:
    """Encode the training text anew, and count."""
    words = corpus.tokenizer
    sides = [list(side) for side in zip(*TRAIN, strict=True)]
    counts = Counter(chain.from_iterable(words.encode(sides[0]) + words.encode(sides[1])))
    read = trimming.closure(words, {token for token, count in counts.items() if count >= minimum})
    smaller = trimming.trimmed(words, read)
    said = {read[token] for row in smaller.encode(sides[1]) for token in row}
    return Kept(tuple(read), tuple(sorted(said | {0, 1, 2})))


@pytest.mark.parametrize("minimum", [1, 3, 40])
def test_tokens_are_kept_that_occur_often_enough(corpus: Corpus, minimum: int) -> None:
    kept = trimmed_corpus.choose([corpus], minimum)
    assert kept == kept_by_hand(corpus, minimum)
    assert len(kept.said) < len(kept.read) <= corpus.tokenizer.vocabulary_size
    assert set(kept.said) <= set(kept.read)


def made(corpus: Corpus, kept: Kept, out: Path) -> tuple[Corpus, list[int]]:
    order = [*kept.said, *(token for token in kept.read if token not in kept.said)]
    config = artifact.read(corpus.path).manifest["config"]
    with artifact.create(out, "corpus", config=config) as folder:
        trimmed_corpus.prepare(corpus, folder, order, len(kept.said))
    return open_corpus(out), order


def rows(corpus: Corpus, name: str) -> list[tuple[list[int], list[int]]]:
    return [
        (source.tolist(), target.tolist())
        for source, target in map(corpus.split(name).__getitem__, range(len(corpus.split(name))))
    ]


def test_nothing_but_the_ids_changes_when_every_seen_token_is_kept(corpus: Corpus, tmp_path: Path) -> None:
    kept = trimmed_corpus.choose([corpus], 1)
    new, order = made(corpus, kept, tmp_path / "new")
    assert [([order[t] for t in source], [order[t] for t in target]) for source, target in rows(new, "train")] == rows(
        corpus, "train"
    )
    assert max(chain.from_iterable(target for _, target in rows(new, "train"))) < len(kept.said)
    for name, pairs in (("valid", VALID), ("test", [*TEST, *ODD])):
        assert list(zip(*new.raw(name), strict=True)) == pairs
        assert [source for source, _ in rows(new, name)] == new.tokenizer.encode([source for source, _ in pairs])
    assert (new.splits, new.source, new.target) == (corpus.splits, "en", "de")


def test_held_out_targets_are_unknown_where_they_cannot_be_said(corpus: Corpus, tmp_path: Path) -> None:
    kept = trimmed_corpus.choose([corpus], 1)
    new, _ = made(corpus, kept, tmp_path / "new")
    encoded = new.tokenizer.encode([target for _, target in [*TEST, *ODD]], side="target")
    expected = [[token if token < len(kept.said) else 2 for token in row] for row in encoded]
    assert [target for _, target in rows(new, "test")] == expected
    unknown = sum(row.count(2) for row in expected)
    assert unknown > 0
    assert {name: entry["unknown_target_tokens"] for name, entry in new.checks.items()}["test"] == unknown
    assert new.checks["train"]["unknown_target_tokens"] == 0


def test_training_sentences_of_dropped_tokens_are_segmented_anew(corpus: Corpus, tmp_path: Path) -> None:
    new, _ = made(corpus, trimmed_corpus.choose([corpus], 40), tmp_path / "new")
    for parity in (0, 1):
        sentences = [pair[parity] for pair in TRAIN]
        assert [row[parity] for row in rows(new, "train")] == new.tokenizer.encode(sentences)
        assert new.tokenizer.decode([row[parity] for row in rows(new, "train")]) == sentences
    assert new.split("train").ids.size > corpus.split("train").ids.size


def test_a_plan_for_other_text_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    read = trimmed_corpus.choose([corpus], 1).read
    tokens = sum(len(target) - 1 for _, target in rows(corpus, "train"))
    said = error_of(made, corpus, Kept(read, (0, 1, 2)), tmp_path / "new")
    assert said == (
        f"{corpus.path}: the training text holds target tokens that the plan does not keep · got {tokens} tokens · "
        "wanted none · make the plan with this corpus"
    )


@pytest.mark.parametrize("minimum", [1, 3, 40])
def test_occurrences_are_those_in_the_text_though_it_is_learned_from_again(corpus: Corpus, minimum: int) -> None:
    assert trimmed_corpus.choose([corpus, corpus], minimum) == kept_by_hand(corpus, minimum)


def test_tokens_that_only_the_lessons_hold_stay_at_one(corpus: Corpus, tmp_path: Path) -> None:
    config = text(tmp_path / "text")
    write(tmp_path / "text", "train", [("The dog sees.", "Der Hund sieht."), ("The dog.", "Der Hund.")])
    corpus.tokenizer.save(tmp_path / "words")
    little = open_corpus(prepare(config, tmp_path / "little", tokenizer=tmp_path / "words"))
    own = set(trimmed_corpus.choose([corpus], 1).read) - set(trimmed_corpus.choose([little], 1).read)
    assert own
    assert set(trimmed_corpus.choose([little, corpus], 1).read) >= own
    assert trimmed_corpus.choose([little, corpus], 2).read == trimmed_corpus.choose([little], 2).read


def test_what_is_said_in_any_of_several_corpora_is_kept(corpus: Corpus, tmp_path: Path) -> None:
    """As in a distilled one, whose targets are others."""
    config = text(tmp_path / "text")
    (tmp_path / "text" / "train.de").write_text("".join(f"{source}\n" for source, _ in TRAIN))
    (tmp_path / "text" / "train.en").write_text("".join(f"{target}\n" for _, target in TRAIN))
    corpus.tokenizer.save(tmp_path / "words")
    turned = open_corpus(prepare(config, tmp_path / "turned", tokenizer=tmp_path / "words"))
    both = trimmed_corpus.choose([corpus, turned], 1)
    assert set(both.said) == {*trimmed_corpus.choose([corpus], 1).said, *trimmed_corpus.choose([turned], 1).said}
    assert set(both.said) > set(trimmed_corpus.choose([corpus], 1).said)
    assert both.read == trimmed_corpus.choose([corpus], 1).read
