"""What a native runner is told: a flat text file and the sentences' token ids, made from a bundle's description.

The runner needs no JSON parser and knows no rule twice: names and order of tensors, sizes of caches, the greatest
length of each translation and the candidates that a shortlist gives are worked out here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tprune.errors import ArtifactError, InputError, shown
from tprune.export import shortlist, tensors
from tprune.export.description import Bundle
from tprune.model.search import Search

RUN, SENTENCES, CANDIDATES = "run.txt", "sentences.txt", "candidates.txt"
JOURNAL, LOGITS = "journal.jsonl", "logits.f32"
SCHEMA = 1

Mode = Literal["whole", "steps", "buffered"]
GRAPHS: dict[Mode, tuple[str, ...]] = {
    "whole": (tensors.TRANSLATE,),
    "steps": (tensors.ENCODE, tensors.DECODE_STEP),
    "buffered": (tensors.ENCODE, tensors.BUFFERED_STEP),
}
WORD = re.compile(r"[A-Za-z0-9._/-]+")


@dataclass(frozen=True)
class Job:
    """How to run a bundle.

    Attributes:
        mode: whole: the one graph with the whole search; steps: encode, then step by step; buffered: the same with the
            caches inside the program.
        threads: Threads of one operator.
        runs: Least number of timed sentences; they are taken in turn, in whole rounds.
        warmup: Sentences before them.
        seconds: Least time of the timed sentences.
        cpus: Processors to stay on; none: wherever the kernel likes.
        sysfs: Where clocks and temperatures are read.
        logits: Write the logits of every step of the timed sentences to LOGITS, to compare them; times mean less then.
            With a shortlist they are those of the sentence's candidates.
    """

    mode: Mode
    threads: int
    runs: int
    warmup: int = 0
    seconds: float = 0.0
    cpus: tuple[int, ...] = ()
    sysfs: str = "/sys"
    logits: bool = False


def modes(bundle: Bundle) -> tuple[Mode, ...]:
    """The modes that a bundle's graphs allow, the quickest first."""
    order: tuple[Mode, ...] = ("whole", "buffered", "steps")
    return tuple(mode for mode in order if set(GRAPHS[mode]) <= bundle.graphs.keys())


def run_text(bundle: Bundle, job: Job, folder: str = ".") -> str:
    """The run file.

    Args:
        bundle: Description of a bundle.
        job: How to run it.
        folder: Where the bundle's files lie, seen from where the runner is started.

    Raises:
        InputError: The bundle has no graphs for the mode, the mode no logits, or a name would not stay one word.
    """
    if job.mode not in modes(bundle):
        raise InputError("no such mode in this bundle", got=job.mode, wanted=" | ".join(modes(bundle)))
    if job.logits and job.mode == "whole":
        raise InputError("one graph for everything gives no logits", got=job.mode, wanted="steps")
    search, used = Search(**bundle.search), {name: bundle.graphs[name] for name in GRAPHS[job.mode]}
    lines: list[tuple[object, ...]] = [
        ("tprune-run", SCHEMA),
        ("mode", job.mode),
        ("threads", job.threads),
        ("warmup", job.warmup),
        ("runs", job.runs),
        ("milliseconds", round(1000 * job.seconds)),
        ("output", JOURNAL),
        ("sysfs", job.sysfs),
        ("sentences", SENTENCES),
        *([("candidates", CANDIDATES)] if bundle.shortlist is not None else []),
        ("start", search.start),
        ("eos", search.eos),
        ("banned", *search.banned),
        *([("logits", LOGITS)] if job.logits else []),
        *_given("cpus", job.cpus),
        *_given("forced_bos", () if search.forced_bos is None else (search.forced_bos,)),
        *_given("forced_eos", () if search.forced_eos is None else (search.forced_eos,)),
    ]
    for name, graph in used.items():
        lines += [
            ("graph", name, f"{folder}/{graph.file}"),
            ("inputs", name, *graph.inputs),
            ("outputs", name, *graph.outputs),
        ]
    if job.mode == "steps":
        lines += [("cache", *cache) for cache in _caches(bundle)]
    for word in (str(word) for line in lines for word in line):
        if not WORD.fullmatch(word):
            raise InputError("a name that a run file cannot hold", got=repr(word), wanted="letters, digits, . _ - /")
    return "".join(" ".join(map(str, line)) + "\n" for line in lines)


def sentences_text(bundle: Bundle, sentences: Sequence[Sequence[int]]) -> str:
    """The sentences' file: greatest length of the translation, then the source ids, a line each.

    Raises:
        InputError: A sentence that is empty, over-long, or has a token id out of range.
    """
    search = Search(**bundle.search)
    limit = min(search.longest_source, bundle.max_source)
    problems = [
        f"sentence index {index}: {len(ids)} tokens, {sum(not 0 <= one < bundle.vocabulary for one in ids)} unknown"
        for index, ids in enumerate(sentences)
        if not 0 < len(ids) <= limit or not all(0 <= one < bundle.vocabulary for one in ids)
    ]
    if problems or not sentences:
        raise InputError(
            "sentences that the bundle cannot take",
            where=bundle.path,
            problems=shown(problems),
            got=None if sentences else "none at all",
            wanted=f"1 to {limit} tokens each, all from 0 to {bundle.vocabulary - 1}",
            fix="leave them out, or export with a larger export.max_source",
        )
    limits = (min(search.max_length(len(ids)), bundle.max_target) for ids in sentences)
    lines = zip(limits, sentences, strict=True)
    return "".join(f"{longest} {' '.join(map(str, ids))}\n" for longest, ids in lines)


def candidates_text(few: shortlist.Shortlist, sentences: Sequence[Sequence[int]]) -> str:
    """The candidates' file: the target ids that each sentence's translation may use, in rising order, a line each."""
    found = (few.candidates(np.array(ids)).tolist() for ids in sentences)
    return "".join(f"{' '.join(map(str, ids))}\n" for ids in found)


def write(folder: Path, bundle: Bundle, job: Job, sentences: Sequence[Sequence[int]], bundle_folder: str = ".") -> None:
    """Write everything that a run is told into an existing folder.

    Raises:
        InputError: As for the texts.
        ArtifactError: The bundle's shortlist cannot be read.
    """
    texts = {RUN: run_text(bundle, job, bundle_folder), SENTENCES: sentences_text(bundle, sentences)}
    if bundle.shortlist is not None:
        texts[CANDIDATES] = candidates_text(shortlist.load(bundle.path / bundle.shortlist), sentences)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="ascii")


def _given(key: str, values: Sequence[int]) -> list[tuple[object, ...]]:
    return [(key, *values)] if values else []


def _caches(bundle: Bundle) -> Iterator[tuple[str, int, int]]:
    """Name, heads and width of each self-attention cache of `decode_step`."""
    shapes = bundle.decoder_shapes
    given = tensors.equal_shapes(shapes) if bundle.engine == "executorch" else shapes
    names = tensors.past_names(shapes)
    missing = set(names) - set(bundle.graphs[tensors.DECODE_STEP].inputs)
    if missing:
        raise ArtifactError(
            "the bundle's shapes and graphs disagree",
            where=bundle.path,
            got=f"no input {min(missing)}",
            fix="export it again",
        )
    for name, (_, heads, _, width) in zip(names, tensors.cache_shapes(given, "self_attn", 1, 0), strict=True):
        yield name, heads, width
