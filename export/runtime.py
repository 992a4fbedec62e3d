"""Open a bundle on the engine it was made for."""

import re
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from tprune import artifact
from tprune.errors import ArtifactError, InputError
from tprune.export.description import Bundle, read
from tprune.export.refusals import not_installed
from tprune.model.engine import Engine


def open_bundle(path: Path, threads: int) -> Engine:
    """Open a finished bundle as an engine; arguments and errors as for `check`."""
    bundle = check(path, threads)
    return ENGINES[bundle.engine](bundle, threads)


def check(path: Path, threads: int) -> Bundle:
    """Read what a finished bundle says of itself, when nothing is wrong with it.

    Every file is compared with its hash, for no engine notices weights that have changed. That takes 0.14 s for
    200 MB, which the engine is about to read anyway.

    Args:
        path: The bundle's directory.
        threads: Threads of one operator.

    Raises:
        ArtifactError: No bundle, damaged files, or made for an incompatible version of the engine.
        MachineError: The engine is not installed.
        InputError: Fewer than one thread.
    """
    if threads < 1:
        raise InputError("too few threads", where="threads", got=threads, wanted="1 or more", fix="correct it")
    artifact.read(path, kind="bundle")
    bundle = read(path)
    _check_version(bundle)
    return bundle


def version(engine: str) -> str:
    """Version of an engine on this machine.

    Raises:
        MachineError: It is not installed.
    """
    try:
        return metadata.version(engine)
    except metadata.PackageNotFoundError:
        raise not_installed(engine) from None


def _check_version(bundle: Bundle) -> None:
    here = version(bundle.engine)
    if _minor(here) == _minor(bundle.engine_version):
        return
    if bundle.engine == "onnxruntime":  # reads older graphs by contract, and most newer ones
        warnings.warn(
            f"{bundle.path} was verified with ONNX Runtime {bundle.engine_version}, here is {here}", stacklevel=4
        )
        return
    raise ArtifactError(
        "bundle for another version of ExecuTorch",
        where=bundle.path,
        got=bundle.engine_version,
        wanted=here,
        fix="export it again on this machine, or install the version it was made with",
    )


def _minor(release: str) -> list[str]:
    return re.findall(r"\d+", release)[:2]


def _onnxruntime(bundle: Bundle, threads: int) -> Engine:
    from tprune.export.engine_ort import OnnxRuntimeEngine

    return OnnxRuntimeEngine(bundle, threads)


def _executorch(bundle: Bundle, threads: int) -> Engine:
    from tprune.export.engine_et import ExecuTorchEngine  # brings PyTorch along, which takes a second

    return ExecuTorchEngine(bundle, threads)


ENGINES: dict[str, Callable[[Bundle, int], Engine]] = {"onnxruntime": _onnxruntime, "executorch": _executorch}
