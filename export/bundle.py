"""From a model to a verified bundle: trace, export, compare, describe, rename."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tprune import artifact, provenance
from tprune.artifact import Artifact
from tprune.delivery_config import PRECISIONS, Export
from tprune.errors import InputError
from tprune.export import shortlist as shortlists
from tprune.export.description import Bundle, Graph, write
from tprune.export.graphs import size_of
from tprune.export.runtime import ENGINES, version
from tprune.export.to_executorch import to_executorch
from tprune.export.to_onnx import to_onnx
from tprune.export.verify import random_sentences, verify
from tprune.model import checkpoint
from tprune.model.search import Search
from tprune.model.transformer import TPruneForConditionalGeneration
from tprune.text.vocab import copy_files


def inputs(engine: str, precision: str, settings: Export) -> dict[str, Any]:
    """What a bundle depends on besides the model and a shortlist.

    Raises:
        InputError: No such engine or precision.
        MachineError: The engine is not installed.
    """
    if engine not in EXPORTERS:
        raise InputError("no such engine", got=engine, wanted=" | ".join(EXPORTERS), fix="choose one of these")
    if precision not in PRECISIONS[engine]:
        raise InputError(
            f"no such precision for {engine}",
            got=precision,
            wanted=" | ".join(PRECISIONS[engine]),
            fix="choose one of these",
        )
    rule = ("length_factor", "length_extra")
    default = Export()
    return {
        "engine": engine,
        "engine_version": version(engine),
        "precision": precision,
        **settings.model_dump(include={"max_source", "max_target", "parity_sentences"}),
        # with the rule that all bundles had once, those are what would be made today
        **{name: getattr(settings, name) for name in rule if getattr(settings, name) != getattr(default, name)},
    }


def export(
    model_dir: Path,
    out: Path,
    engine: str,
    settings: Export,
    *,
    precision: str = "fp32",
    sentences: Sequence[Sequence[int]] | None = None,
    shortlist: Artifact | None = None,
    languages: tuple[str, str] | None = None,
    force: bool = False,
) -> Artifact:
    """Make a bundle of a model, verified against it.

    The limits are the settings' or the model's number of positions, whichever is smaller.

    Args:
        model_dir: Artifact of kind model.
        out: The bundle's directory.
        engine: onnxruntime or executorch.
        settings: Limits and how many sentences to verify with.
        precision: fp32, int8 or, for ONNX Runtime, int8-block; see `tprune.export.quantize`.
        sentences: Source token ids to verify with, the over-long are left out; None: random ones.
        shortlist: Artifact of kind shortlist; the translations then use its candidates only.
        languages: What it translates from and into, where that is known.
        force: Replace an existing bundle.

    Raises:
        InputError: No such engine or precision, no sentence is short enough, or a shortlist that does not fit.
        ArtifactError: `out` exists and `force` is off, or `model_dir` is no model.
        ModelError: The model cannot be loaded.
        ExportError: The engine refuses the graph, or its output differs from the model's.
        MachineError: The engine is not installed, or the disk is full.
    """
    config = inputs(engine, precision, settings)
    parent = artifact.read(model_dir, kind="model")
    parents = {"model": parent} if shortlist is None else {"model": parent, "shortlist": shortlist}
    with artifact.create(out, "bundle", config=config, parents=parents, force=force) as partial:
        model = checkpoint.load(model_dir)
        max_source = min(settings.max_source, model.config.max_positions)
        max_target = min(settings.max_target, model.config.max_positions)
        search = Search.of(
            model,
            limit=max_target,
            source_limit=max_source,
            length_factor=settings.length_factor,
            length_extra=settings.length_extra,
        )
        chosen = _chosen(sentences, settings.parity_sentences, max_source, model.config.vocab_size)
        fitted, most = None, 0
        if shortlist is not None:
            always = {token for token in (search.eos, search.forced_bos, search.forced_eos) if token is not None}
            fitted = shortlists.fit(shortlist.path / shortlists.FILE, model.config.vocab_size, size_of(model), always)
            shortlists.save(fitted, partial / shortlists.FILE)
            most = fitted.most(max_source)
        bundle = Bundle(
            path=partial,
            engine=engine,
            engine_version=config["engine_version"],
            precision=precision,
            model=parent.identity,
            graphs=EXPORTERS[engine](model, partial, max_source, max_target, search, precision, most),
            vocabulary=model.config.vocab_size,
            target_vocabulary=size_of(model),
            decoder_shapes=model.config.decoder_shapes,
            max_source=max_source,
            max_target=max_target,
            parameters=model.num_parameters(),
            seed=provenance.seed(parent.manifest["config"]),
            search=asdict(search),
            tokenizer=copy_files(model_dir, partial),
            shortlist=None if fitted is None else shortlists.FILE,
            languages=languages,
        )
        parity = verify(model, ENGINES[engine](bundle, 1), bundle, chosen, fitted)
        write(bundle.model_copy(update={"parity": parity}))
    return artifact.read(out)


def _chosen(
    sentences: Sequence[Sequence[int]] | None, count: int, longest: int, vocabulary: int
) -> Sequence[Sequence[int]]:
    if sentences is None:
        return random_sentences(count, vocabulary, longest)
    short = [ids for ids in sentences if 0 < len(ids) <= longest][:count]
    if not short:
        raise InputError(
            "no sentence to verify with",
            got=f"{len(sentences)}, all empty or too long",
            wanted=f"1 to {longest} tokens",
            fix="raise export.max_source or give shorter sentences",
        )
    return short


Exporter = Callable[[TPruneForConditionalGeneration, Path, int, int, Search, str, int], dict[str, Graph]]
EXPORTERS: Mapping[str, Exporter] = {"onnxruntime": to_onnx, "executorch": to_executorch}
