"""The verbs for what comes after a model: shortlists, bundles, latency tables, benchmarks, devices."""

from pathlib import Path
from typing import Annotated

import typer

from tprune.errors import InputError
from tprune.json_file import read_json
from tprune.options import Folder, Force, Out, Overrides, Recipe, done, maybe, print_rows, settings_of


def shortlist(
    corpus: Folder, out: Out, recipe: Recipe = None, overrides: Overrides = None, force: Force = False
) -> None:
    """Learn the target tokens worth computing for each source token, for `export --shortlist`."""
    from tprune import artifact, delivery
    from tprune.export.lexicon import COVERAGE

    text = artifact.read(corpus, "corpus")
    made = delivery.shortlist(out, text, settings_of(recipe, overrides).shortlist).make(force)
    found = read_json(made.path / COVERAGE)
    typer.echo(
        f"of the validation text: {found['tokens']:.1%} of the target tokens and {found['sentences']:.1%} of the "
        f"sentences covered by {found['candidates']:.0f} candidates a sentence"
    )
    done(made.path)


def export(
    model: Folder,
    out: Out,
    engine: Annotated[str, typer.Option(help="onnxruntime or executorch.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, int8 or, for ONNX Runtime, int8-block.")] = "fp32",
    corpus: Annotated[Path | None, typer.Option(help="Its validation sentences are used for the parity check.")] = None,
    shortlist: Annotated[Path | None, typer.Option(help="Compute the logits of its candidates only.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Write a bundle for an engine and check it against the model."""
    from tprune import artifact, delivery

    chosen, text = settings_of(recipe, overrides).export, maybe(corpus, "corpus")
    few = maybe(shortlist, "shortlist")
    done(delivery.bundle(out, artifact.read(model, "model"), engine, precision, text, chosen, few).make(force).path)


def table(
    out: Annotated[Path, typer.Argument(help="Directory to write.")],
    like: Annotated[Path, typer.Option(help="The largest model that the table has to predict.")],
    engine: Annotated[str | None, typer.Option(help="onnxruntime (the default) or executorch.")] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 (the default), int8 or int8-block, as in export.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine, by default 1.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Its validation sentences tell the lengths.")] = None,
    device: Annotated[str | None, typer.Option(help="Measure there instead: local, adb[:SERIAL] or ssh:HOST.")] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Measure what each component of a model costs on this machine or on a device, for `prune --speedup`."""
    from tprune import artifact, delivery

    flags = {"engine": engine, "precision": precision, "threads": threads, "device": device}
    given = [f"table.{name}={value}" for name, value in flags.items() if value is not None]
    chosen, text = settings_of(recipe, [*given, *(overrides or [])]), maybe(corpus, "corpus")
    done(delivery.table(out, artifact.read(like, "model"), text, chosen.table, chosen.device).make(force).path)


def bench(
    dense: Annotated[Path, typer.Argument(help="The dense model's directory or bundle.")],
    pruned: Annotated[list[Path], typer.Argument(help="Pruned models, or their bundles for the same engine.")],
    corpus: Annotated[Path, typer.Option(help="Its test splits are translated.")],
    out: Out,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Run bundles there instead: local, adb[:SERIAL] or ssh:HOST; may be repeated."),
    ] = None,
    sustained: Annotated[
        float | None, typer.Option(help="Run each model for so many minutes besides, on each device.")
    ] = None,
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Latency and BLEU of dense and pruned models, in turn, on this machine or on devices."""
    from tprune import artifact, delivery
    from tprune.entries import entries_of

    if sustained is not None and not device:
        raise InputError(
            "models run for minutes on devices only",
            where="--sustained",
            fix="give --device too, --device local for this machine, or leave it out",
        )
    longer = [] if sustained is None else [f"device.sustained_minutes={sustained}"]
    chosen, text = settings_of(recipe, [*(overrides or []), *longer]), artifact.read(corpus, "corpus")
    kind = "bundle" if device else None
    given = [
        ("dense", artifact.read(dense, kind)),
        *((path.absolute().name, artifact.read(path, kind)) for path in pruned),
    ]
    entries = entries_of(given)
    stage = (
        delivery.bench_devices(out, chosen.name, entries, text, chosen, device)
        if device
        else delivery.bench(out, chosen.name, entries, text, chosen.bench)
    )
    made = stage.make(force)
    print_rows(made.path)
    done(made.path)


def pack(
    bundle: Folder,
    corpus: Annotated[Path, typer.Option(help="Its test sentences go along.")],
    out: Out,
    abi: Annotated[str, typer.Option(help="x86_64 or aarch64.")] = "aarch64",
    recipe: Recipe = None,
    overrides: Overrides = None,
    force: Force = False,
) -> None:
    """Write what is pushed to a device for a bundle into one folder, to be started there by hand."""
    from tprune import artifact, delivery

    chosen = settings_of(recipe, overrides).device
    done(delivery.pack(out, artifact.read(bundle, "bundle"), artifact.read(corpus, "corpus"), abi, chosen, force).path)


def devices(
    device: Annotated[list[str] | None, typer.Option(help="Look at this one besides, such as ssh:HOST.")] = None,
) -> None:
    """Phones and boards that can be reached, and what they are."""
    from tprune.android_runner import shelf

    for line in shelf.lines(device or []):
        typer.echo(line)


VERBS = (shortlist, export, table, bench, pack, devices)
