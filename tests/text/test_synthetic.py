"""The embedded corpus: fixed by its seed, unambiguous, and German."""

import random
import re
from collections import defaultdict

import pytest

from tprune.text import synthetic
from tprune.text.lexicon import INTRANSITIVE, PEOPLE, PLACES, THINGS, TRANSITIVE

FIRST = [  # of seed 1, checked by a reader of both languages
    ("Now a tired queen closes a ball.", "Jetzt macht eine müde Königin einen Ball zu."),
    ("We play in the library now.", "Wir spielen jetzt in der Bibliothek."),
    ("I do not watch the uncle.", "Ich schaue den Onkel nicht an."),
    ("The big king shows a cake.", "Der große König zeigt einen Kuchen."),
    (
        "The teacher sleeps because a guest opens a garden.",
        "Der Lehrer schläft, weil ein Gast einen Garten aufmacht.",
    ),
    ("We can fetch the woman.", "Wir können die Frau abholen."),
    ("A baby does not find the heavy gardens.", "Ein Baby findet die schweren Gärten nicht."),
    ("The man does not clean the fish.", "Der Mann putzt den Fisch nicht."),
    ("In winter a man watches the beautiful singer.", "Im Winter schaut ein Mann die schöne Sängerin an."),
    (
        "The guest eats because an old singer orders the clocks.",
        "Der Gast isst, weil eine alte Sängerin die Uhren bestellt.",
    ),
    ("The aunt reads near the town.", "Die Tante liest bei der Stadt."),
    ("A child waits because you find the beautiful man.", "Ein Kind wartet, weil du den schönen Mann findest."),
]


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[synthetic.Pair]]:
    return synthetic.splits(20_000, 1, "train", ["valid", "test"])


def test_seed_fixes_the_text(drawn: dict[str, list[synthetic.Pair]]) -> None:
    assert [(pair.source, pair.target) for pair in drawn["valid"][: len(FIRST)]] == FIRST
    shorter = synthetic.splits(50, 1, "train", ["valid", "test"])
    assert shorter["train"] == drawn["train"][:50]
    assert (shorter["valid"], shorter["test"]) == (drawn["valid"], drawn["test"])
    assert synthetic.splits(50, 2, "train", ["valid", "test"])["train"] != shorter["train"]


def test_no_sentence_stands_twice(drawn: dict[str, list[synthetic.Pair]]) -> None:
    assert {name: len(pairs) for name, pairs in drawn.items()} == {"train": 20_000, "valid": 500, "test": 500}
    every = [pair for pairs in drawn.values() for pair in pairs]
    assert len({pair.source for pair in every}) == len({pair.target for pair in every}) == len(every)


def test_a_sentence_has_one_translation(seed: int) -> None:
    rng = random.Random(seed)
    translations = defaultdict(set)
    for _ in range(50_000):
        english, german = rng.choice(synthetic.PATTERNS)(rng)
        translations[english].add(german)
    assert max(map(len, translations.values())) == 1


def test_size_suits_a_small_model(drawn: dict[str, list[synthetic.Pair]]) -> None:
    for side in ("source", "target"):
        words = [getattr(pair, side).split() for pair in drawn["train"]]
        assert 3 <= min(map(len, words)) <= max(map(len, words)) <= 14
        assert 250 < len({word.strip(".,?").lower() for sentence in words for word in sentence}) < 500


# which gender and number an article can stand before, in any case; p is plural
ARTICLES = {
    **{"der": "mf", "die": "fp", "das": "n", "den": "mp", "dem": "mn"},
    **{"ein": "mn", "eine": "f", "einen": "m", "einem": "mn", "einer": "f"},
}


def test_articles_and_adjectives_agree_with_their_nouns(drawn: dict[str, list[synthetic.Pair]]) -> None:
    genders = defaultdict(set)
    for noun in (*PEOPLE, *THINGS, *PLACES):
        genders[noun.de].add(noun.gender)
        genders[noun.de_plural].add("p")
        genders[noun.de_plural.removesuffix("n") + "n"].add("p")  # dative
    phrase = re.compile(rf"\b((?i:{'|'.join(ARTICLES)})) (?:([a-zäöüß]+) )?([A-ZÄÖÜ]\w+)")
    seen = 0
    for pair in drawn["train"]:
        for article, adjective, noun in phrase.findall(pair.target):
            seen += 1
            assert genders[noun] & set(ARTICLES[article.lower()]), pair
            if adjective:
                weak = article.lower() in ("der", "die", "das", "eine")
                endings = {"ein": ("er", "es")}.get(article.lower(), ("e", "en") if weak else ("en",))
                assert adjective.endswith(endings), pair
    assert seen > 20_000


def test_the_verb_stands_where_german_has_it(drawn: dict[str, list[synthetic.Pair]]) -> None:
    finite = {verb.particle + form for verb in TRANSITIVE for form in (verb.ich, verb.du, verb.er, verb.wir)}
    done = {verb.done for verb in TRANSITIVE}
    base = {verb.particle + verb.wir for verb in TRANSITIVE}
    particles = {verb.en: verb.particle for verb in TRANSITIVE if verb.particle}
    known = {form for verb in (*TRANSITIVE, *INTRANSITIVE) for form in (verb.ich, verb.du, verb.er, verb.wir)}
    seen: dict[str, int] = defaultdict(int)
    for pair in drawn["train"]:
        words, last = pair.source.rstrip(".?").split(), pair.target.rstrip(".?").split()[-1]
        if "because" in words or "that" in words:
            seen["subordinate"] += 1
            assert last in finite, pair
        elif {"has", "have"} & set(words):
            seen["perfect"] += 1
            assert last in done, pair
        elif "can" in words:
            seen["modal"] += 1
            assert last in base, pair
        elif pair.source.endswith("?"):
            seen["question"] += 1
            assert pair.target.split()[0].lower() in known, pair
        elif separated := [particle for verb, particle in particles.items() if {verb, f"{verb}s"} & set(words[1:])]:
            seen["separable"] += 1
            assert last in separated, pair
    assert seen.keys() == {"subordinate", "perfect", "modal", "question", "separable"}
    assert min(seen.values()) > 500
