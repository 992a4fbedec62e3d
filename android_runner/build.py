"""Build the native runners, once for each form of their sources, engine and target.

What stands in `native/CMakeLists.txt` needs a compiler and the engine's headers and library; where they come from on
this machine is worked out here.
"""

import hashlib
import os
import shutil
import sysconfig
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tprune.android_runner import prebuilt, toolchain
from tprune.artifact import sha256
from tprune.errors import InputError, MachineError
from tprune.export.runtime import version

SOURCES = Path(__file__).resolve().parent / "native"
HEADER, HEADER_VARIABLE = "onnxruntime_c_api.h", "TPRUNE_ONNXRUNTIME_INCLUDE"
HEADER_PLACES = (
    "/usr/include/onnxruntime",
    "/usr/local/include/onnxruntime",
    "/usr/local/include",
    str(SOURCES.parents[1] / "build/debian13/usr/include/onnxruntime"),  # see .ci/debian13
)
LIBRARY_VARIABLE = "TPRUNE_ONNXRUNTIME_AARCH64"
SONAME = "libonnxruntime.so.1"
CROSS_LIBRARIES = "libc6-arm64-cross and libstdc++6-arm64-cross, or what holds them here"
ONE_AT_A_TIME = threading.Lock()  # devices side by side want the same runner
RUNNERS: Mapping[str, str] = {"onnxruntime": "ort_runner", "executorch": "et_runner"}


@dataclass(frozen=True)
class Target:
    """A kind of machine that a runner can be built for.

    Attributes:
        abi: Its name.
        compiler: Of C++.
        loader: The C library's loader, taken along with the libraries that it loads, so that the runner starts where
            there is another C library or none; None: the machine's own is used.
    """

    abi: str
    compiler: str
    loader: str | None = None


TARGETS: Mapping[str, Target] = {
    "x86_64": Target("x86_64", "c++"),
    "aarch64": Target("aarch64", "aarch64-linux-gnu-g++", "ld-linux-aarch64.so.1"),
}
LOADED = ("libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1")


@dataclass(frozen=True)
class Runner:
    """A built runner.

    Attributes:
        folder: The runner and what lies beside it.
        command: What starts it there, without the run file.
        engine: Its engine.
        abi: Of the machine it runs on.
    """

    folder: Path
    command: tuple[str, ...]
    engine: str
    abi: str


def build(engine: str, abi: str = "x86_64", cache: Path | None = None) -> Runner:
    """Give a runner: the user's own, see `prebuilt`, or one that is built unless these sources have been before.

    Args:
        engine: onnxruntime or executorch.
        abi: One of TARGETS.
        cache: Where built runners are kept; None: the user's cache.

    Raises:
        InputError: No such engine or target, ExecuTorch for another machine than this one, or a runner of the user's
            that is none.
        MachineError: A tool, header or library is missing, or the compiler fails.
    """
    if engine not in RUNNERS or abi not in TARGETS:
        raise InputError(
            "no such runner",
            got=f"{engine}, {abi}",
            wanted=f"{' | '.join(RUNNERS)}, {' | '.join(TARGETS)}",
            fix="choose from these",
        )
    name, kept = RUNNERS[engine], _cache() if cache is None else cache
    given = prebuilt.taken(name, abi, kept, RUNNERS.values())
    if given is not None:
        return Runner(given, prebuilt.command(given, name), engine, abi)
    target, options = TARGETS[abi], {}
    options["CMAKE_CXX_COMPILER"] = toolchain.tool(target.compiler)
    if target.loader is not None:
        options |= {"CMAKE_SYSTEM_NAME": "Linux", "CMAKE_SYSTEM_PROCESSOR": abi}
    options |= OPTIONS[engine](target)
    folder = kept / _digest(engine, abi, options)
    if not folder.exists():
        compile_sources(folder, name, options, lambda made: _beside(made, target, options))
    return Runner(folder, (f"./{name}",) if target.loader is None else prebuilt.command(folder, name), engine, abi)


def compile_sources(
    out: Path, name: str, options: Mapping[str, str], finish: Callable[[Path], None] = lambda _: None
) -> None:
    """Compile one program of `native/CMakeLists.txt` into a folder that is whole or absent.

    Args:
        out: The folder; when another thread has made it meanwhile, nothing is done.
        name: The program.
        options: CMake's variables.
        finish: Adds what has to lie beside the program.

    Raises:
        MachineError: A tool is missing, or the compiler fails.
    """
    toolchain.tool("cmake")
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    if not generator:
        toolchain.tool("make")
    out.parent.mkdir(parents=True, exist_ok=True)
    defined = [f"-D{key}={value}" for key, value in options.items()]
    with ONE_AT_A_TIME:
        if not out.exists():
            _compile(out, name, [*generator, *defined], finish)


def _compile(out: Path, name: str, options: Sequence[str], finish: Callable[[Path], None]) -> None:
    partial = out.with_name(f"{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        cmake = toolchain.tool("cmake")
        toolchain.run([cmake, "-S", str(SOURCES), "-B", str(partial / "build"), *options], name)
        toolchain.run([cmake, "--build", str(partial / "build"), "--target", name], name)
        (partial / "build" / name).rename(partial / name)
        finish(partial)
        shutil.rmtree(partial / "build")
        try:
            partial.rename(out)
        except OSError:
            if not out.exists():  # else another process was quicker
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _onnxruntime(target: Target) -> dict[str, str]:
    return {"ONNXRUNTIME_INCLUDE": str(_header()), "ONNXRUNTIME_LIBRARY": str(LIBRARIES[target.abi]())}


def _executorch(target: Target) -> dict[str, str]:
    if target.abi != "x86_64":
        raise InputError(
            "no ready-made ExecuTorch for this machine",
            got=target.abi,
            wanted="x86_64",
            fix=f"build the runner with the NDK, see docs/device.md, and name its folder in "
            f"{prebuilt.variable(target.abi)}, or use an onnxruntime bundle",
        )
    return {
        "EXECUTORCH_WHEEL": str(_package("executorch").parent),
        "EXECUTORCH_PYTHON": str(_python_library()),
        "EXECUTORCH_VERSION": version("executorch"),
    }


def _wheel_library() -> Path:
    version("onnxruntime")  # says what to do where it is missing
    found = sorted((_package("onnxruntime") / "capi").glob("libonnxruntime.so.*"))
    if not found:
        raise MachineError(
            "this build of ONNX Runtime has no C library",
            where=_package("onnxruntime") / "capi",
            fix="pip install onnxruntime",
        )
    return found[0]


def _aarch64_library() -> Path:
    folder = Path(os.environ.get(LIBRARY_VARIABLE) or SOURCES.parents[1] / "build" / "aarch64")
    found = sorted(folder.glob("**/libonnxruntime.so.*"))
    if not found:
        raise MachineError(
            "no ONNX Runtime for aarch64",
            where=LIBRARY_VARIABLE,
            got=f"none in {folder}",
            wanted="the folder of an unpacked wheel",
            fix=f"pip download --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64 "
            f"onnxruntime=={version('onnxruntime')}, unzip it, and name its folder",
        )
    return found[0]


def _header() -> Path:
    named = os.environ.get(HEADER_VARIABLE)
    for place in map(Path, [named] if named else HEADER_PLACES):
        if (place / HEADER).is_file():
            return place
    raise MachineError(
        "no headers of ONNX Runtime",
        where=HEADER,
        got=f"not in {named or ', '.join(HEADER_PLACES)}",
        fix=f"install libonnxruntime-dev, run .ci/debian13, or name the header's folder in {HEADER_VARIABLE}",
    )


def _python_library() -> Path:
    name = str(sysconfig.get_config_var("INSTSONAME"))
    places = [Path(str(sysconfig.get_config_var("LIBDIR"))), *Path("/usr/lib").glob("*-linux-gnu")]
    for place in places:
        if ".so" in name and (place / name).is_file():
            return place / name
    raise MachineError(
        "no shared libpython, which ExecuTorch's library needs",
        where=places[0],
        got=name,
        fix="install libpython3-dev of this version, or a Python built with --enable-shared",
    )


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None and spec.submodule_search_locations  # its version was found
    return Path(next(iter(spec.submodule_search_locations)))


def _beside(made: Path, target: Target, options: Mapping[str, str]) -> None:
    """Put the libraries beside the runner that it is started with on a device."""
    if library := options.get("ONNXRUNTIME_LIBRARY"):
        shutil.copyfile(library, made / SONAME)
    if target.loader is None:
        return
    compiler = options["CMAKE_CXX_COMPILER"]
    for name in (target.loader, *LOADED):
        found = Path(toolchain.said([compiler, f"-print-file-name={name}"]).strip())
        if not found.is_absolute():  # it says the bare name of what it does not have
            raise MachineError(
                "the cross compiler lacks a library", where=compiler, got=f"no {name}", fix=f"install {CROSS_LIBRARIES}"
            )
        shutil.copy(found, made / name)


def _digest(engine: str, abi: str, options: Mapping[str, str]) -> str:
    files = {path.name: sha256(path) for path in sorted(SOURCES.iterdir()) if path.is_file()}
    compiler = toolchain.said([options["CMAKE_CXX_COMPILER"], "--version"])
    made_from = repr((sorted(files.items()), abi, sorted(options.items()), version(engine), compiler))
    return f"{RUNNERS[engine]}-{abi}-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tprune" / "native"


OPTIONS: Mapping[str, Callable[[Target], dict[str, str]]] = {"onnxruntime": _onnxruntime, "executorch": _executorch}
LIBRARIES: Mapping[str, Callable[[], Path]] = {"x86_64": _wheel_library, "aarch64": _aarch64_library}
