"""The embedded corpus: a small English-German grammar, so that everything runs without a download.

German has what makes translation more than word for word: three genders, case on articles and
adjectives, agreement of the verb, verb second, the participle and the separated particle at the end
of the clause, the verb at the very end of a subordinate clause, prepositions that contract with
their article. Every English sentence has exactly one translation.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tprune.text.lexicon import (
    INTRANSITIVE,
    OF_PEOPLE,
    OF_THINGS,
    PEOPLE,
    PLACES,
    TAKE_PEOPLE,
    THINGS,
    TIMES,
    TRANSITIVE,
    Noun,
    Verb,
)

HELD_OUT = 500  # sentences of every split but train


@dataclass(frozen=True)
class Pair:
    """An English sentence and its German translation."""

    source: str
    target: str


@dataclass(frozen=True)
class Phrase:
    """A noun phrase in English and in German, with what the verb has to agree with."""

    en: str
    de: str
    person: str
    """ich, du, er or wir: which finite form the German verb takes (wir: every plural)."""
    third: bool
    """Whether the English verb takes -s."""


PRONOUNS = (
    Phrase("I", "ich", "ich", False),
    Phrase("he", "er", "er", True),
    Phrase("she", "sie", "er", True),
    Phrase("we", "wir", "wir", False),
    Phrase("they", "sie", "wir", False),
    Phrase("you", "du", "du", False),
)
# in which case an article has which ending: nominative, accusative, dative by gender, then plural
DEFINITE = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}
INDEFINITE = {
    "nom": {"m": "ein", "f": "eine", "n": "ein"},
    "acc": {"m": "einen", "f": "eine", "n": "ein"},
    "dat": {"m": "einem", "f": "einer", "n": "einem"},
}
HAVE = {"ich": "habe", "du": "hast", "er": "hat", "wir": "haben"}
CAN = {"ich": "kann", "du": "kannst", "er": "kann", "wir": "können"}
KNOW = {"ich": "weiß", "du": "weißt", "er": "weiß", "wir": "wissen"}
BE = {"ich": "bin", "du": "bist", "er": "ist", "wir": "sind"}
PREPOSITIONS = (("in", "in"), ("behind", "hinter"), ("near", "bei"), ("with", "mit"))
CONTRACTED = {"in dem": "im", "bei dem": "beim"}


def splits(sentences: int, seed: int, train: str, held_out: Sequence[str]) -> dict[str, list[Pair]]:
    """Unique sentences; no split shares one with another, on either side.

    Args:
        sentences: Pairs of the training split; the others do not depend on it.
        seed: Of the draw; the same seed gives the same text on every machine.
        train: Name of the training split.
        held_out: Names of the others, of 500 pairs each.
    """
    stream = _unique(random.Random(seed))
    others = {name: list(islice(stream, HELD_OUT)) for name in held_out}
    return {train: list(islice(stream, sentences)), **others}


def _unique(rng: random.Random) -> Iterator[Pair]:
    sources: set[str] = set()
    targets: set[str] = set()
    while True:
        english, german = rng.choice(PATTERNS)(rng)
        english, german = english[:1].upper() + english[1:], german[:1].upper() + german[1:]
        if english not in sources and german not in targets:
            sources.add(english)
            targets.add(german)
            yield Pair(english, german)


def _noun_phrase(rng: random.Random, nouns: Sequence[Noun], case: str, definite: bool | None = None) -> Phrase:
    """Article, perhaps an adjective, noun; singular or, with the definite article, plural."""
    noun = rng.choice(nouns)
    definite = rng.random() < 0.6 if definite is None else definite
    plural = definite and rng.random() < 0.25
    column = "p" if plural else noun.gender
    article = (DEFINITE if definite else INDEFINITE)[case][column]
    english, german = [noun.en_plural if plural else noun.en], [_declined(noun, case, plural)]
    if rng.random() < 0.4:
        adjective, stem = rng.choice(OF_PEOPLE if nouns is PEOPLE else OF_THINGS)
        english.insert(0, adjective)
        german.insert(0, stem.removesuffix("e") + _ending(case, column, definite))
    first = english[0][0]
    en_article = "the" if definite else "an" if first in "aeiou" else "a"
    return Phrase(" ".join([en_article, *english]), " ".join([article, *german]), "wir" if plural else "er", not plural)


def _declined(noun: Noun, case: str, plural: bool) -> str:
    word = noun.de_plural if plural else noun.de
    return word + "n" if plural and case == "dat" and word[-1] not in "ns" else word


def _ending(case: str, column: str, definite: bool) -> str:
    """Adjective ending: weak after the definite article, mixed after the indefinite one."""
    if case == "dat" or column == "p" or (case == "acc" and column == "m"):
        return "en"
    return "e" if definite or column == "f" else {"m": "er", "n": "es"}[column]


def _subject(rng: random.Random) -> Phrase:
    return rng.choice(PRONOUNS) if rng.random() < 0.4 else _noun_phrase(rng, PEOPLE, "nom")


def _verb_and_object(rng: random.Random, definite: bool | None = None) -> tuple[Verb, Phrase]:
    verb = rng.choice(TRANSITIVE)
    of_people = verb.en in TAKE_PEOPLE and rng.random() < 0.4
    return verb, _noun_phrase(rng, PEOPLE if of_people else THINGS, "acc", definite)


def _place(rng: random.Random) -> tuple[str, str]:
    (english, german), place = rng.choice(PREPOSITIONS), _noun_phrase(rng, PLACES, "dat", definite=True)
    article, rest = place.de.split(" ", 1)
    lead = f"{german} {article}"
    return f"{english} {place.en}", f"{CONTRACTED.get(lead, lead)} {rest}"


def _finite(verb: Verb, subject: Phrase) -> tuple[str, str]:
    return verb.en_s if subject.third else verb.en, str(getattr(verb, subject.person))


def _joined(*words: str) -> str:
    return " ".join(word for word in words if word)


def _maybe_time(rng: random.Random) -> tuple[str, str]:
    return rng.choice(TIMES) if rng.random() < 0.4 else ("", "")


def _statement(rng: random.Random) -> tuple[str, str]:
    subject, (verb, thing), time = _subject(rng), _verb_and_object(rng), _maybe_time(rng)
    english, german = _finite(verb, subject)
    return (
        _joined(subject.en, english, thing.en, time[0]) + ".",
        _joined(subject.de, german, time[1], thing.de, verb.particle) + ".",
    )


def _time_first(rng: random.Random) -> tuple[str, str]:
    subject, (verb, thing), time = _subject(rng), _verb_and_object(rng), rng.choice(TIMES)
    english, german = _finite(verb, subject)
    return (
        _joined(time[0], subject.en, english, thing.en) + ".",
        _joined(time[1], german, subject.de, thing.de, verb.particle) + ".",
    )


def _perfect(rng: random.Random) -> tuple[str, str]:
    subject, (verb, thing), time = _subject(rng), _verb_and_object(rng), _maybe_time(rng)
    return (
        _joined(subject.en, "has" if subject.third else "have", verb.en_done, thing.en, time[0]) + ".",
        _joined(subject.de, HAVE[subject.person], time[1], thing.de, verb.done) + ".",
    )


def _modal(rng: random.Random) -> tuple[str, str]:
    subject, (verb, thing), time = _subject(rng), _verb_and_object(rng), _maybe_time(rng)
    return (
        _joined(subject.en, "can", verb.en, thing.en, time[0]) + ".",
        _joined(subject.de, CAN[subject.person], time[1], thing.de, verb.particle + verb.wir) + ".",
    )


def _negated(rng: random.Random) -> tuple[str, str]:
    subject, (verb, thing) = _subject(rng), _verb_and_object(rng, definite=True)
    return (
        _joined(subject.en, "does" if subject.third else "do", "not", verb.en, thing.en) + ".",
        _joined(subject.de, _finite(verb, subject)[1], thing.de, "nicht", verb.particle) + ".",
    )


def _question(rng: random.Random) -> tuple[str, str]:
    subject, (verb, thing), time = _subject(rng), _verb_and_object(rng), _maybe_time(rng)
    return (
        _joined("does" if subject.third else "do", subject.en, verb.en, thing.en, time[0]) + "?",
        _joined(_finite(verb, subject)[1], subject.de, time[1], thing.de, verb.particle) + "?",
    )


def _somewhere(rng: random.Random) -> tuple[str, str]:
    subject, verb, place, time = _subject(rng), rng.choice(INTRANSITIVE), _place(rng), _maybe_time(rng)
    english, german = _finite(verb, subject)
    return (_joined(subject.en, english, place[0], time[0]) + ".", _joined(subject.de, german, time[1], place[1]) + ".")


def _because(rng: random.Random) -> tuple[str, str]:
    subject, verb, clause = _subject(rng), rng.choice(INTRANSITIVE), _clause(rng)
    english, german = _finite(verb, subject)
    return (
        _joined(subject.en, english, "because", clause[0]) + ".",
        _joined(subject.de, german) + ", weil " + clause[1] + ".",
    )


def _that(rng: random.Random) -> tuple[str, str]:
    subject, clause = _subject(rng), _clause(rng)
    return (
        _joined(subject.en, "knows" if subject.third else "know", "that", clause[0]) + ".",
        _joined(subject.de, KNOW[subject.person]) + ", dass " + clause[1] + ".",
    )


def _is(rng: random.Random) -> tuple[str, str]:
    subject, (english, german), time = _subject(rng), rng.choice(OF_PEOPLE), _maybe_time(rng)
    be = "am" if subject.en == "I" else "is" if subject.third else "are"
    return (
        _joined(subject.en, be, english, time[0]) + ".",
        _joined(subject.de, BE[subject.person], time[1], german) + ".",
    )


def _clause(rng: random.Random) -> tuple[str, str]:
    """A subordinate clause without its conjunction: the German verb, with its particle, comes last."""
    subject, (verb, thing) = _subject(rng), _verb_and_object(rng)
    english, german = _finite(verb, subject)
    return _joined(subject.en, english, thing.en), _joined(subject.de, thing.de, verb.particle + german)


PATTERNS = (
    _statement,
    _statement,
    _time_first,
    _perfect,
    _modal,
    _negated,
    _question,
    _somewhere,
    _because,
    _that,
    _is,
)
