"""Building runners: what is missing is said in one line, and nothing is built twice."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.android_runner.conftest import TEST_ENGINE
from tests.artifacts import error_of
from tprune.android_runner import build
from tprune.android_runner.build import Runner


def test_a_runner_is_built_once(
    runners: Callable[[str], Runner], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runner = runners("onnxruntime")
    assert {path.name for path in runner.folder.iterdir()} == {"ort_runner", "libonnxruntime.so.1"}
    monkeypatch.setattr(build, "compile_sources", None)
    assert build.build("onnxruntime") == runner
    changed = tmp_path / "native"
    shutil.copytree(build.SOURCES, changed)
    with (changed / "clock.h").open("a") as file:
        file.write("// changed\n")
    monkeypatch.setattr(build, "SOURCES", changed)
    with pytest.raises(TypeError):  # it would be built
        build.build("onnxruntime")


def test_missing_tools_and_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "no such runner · got tflite, x86_64" in error_of(build.build, "tflite")
    assert "wanted x86_64" in error_of(build._executorch, build.TARGETS["aarch64"])
    monkeypatch.setenv("TPRUNE_ONNXRUNTIME_INCLUDE", str(tmp_path))
    assert f"onnxruntime_c_api.h: no headers of ONNX Runtime · got not in {tmp_path}" in error_of(build._header)
    monkeypatch.setenv("TPRUNE_ONNXRUNTIME_AARCH64", str(tmp_path))
    assert f"no ONNX Runtime for aarch64 · got none in {tmp_path}" in error_of(build._aarch64_library)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "c++: a tool is missing · install g++" in error_of(build.build, "executorch")
    assert "cmake: a tool is missing · install cmake" in error_of(build.compile_sources, tmp_path / "x", "x", {})


def test_what_the_compiler_says_is_told_and_nothing_half_built_stays(arithmetic: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.cpp"
    wrong.write_text("#error this engine is not finished\n")
    out = tmp_path / "made"
    error = error_of(build.compile_sources, out, "test_runner", {"TEST_ENGINE": str(wrong)})
    assert "test_runner cannot be built" in error
    assert "this engine is not finished" in error
    assert list(tmp_path.iterdir()) == [wrong]


@pytest.mark.parametrize(("strict", "built"), [({}, True), ({"TPRUNE_WERROR": "ON"}, False)])
def test_a_warning_of_a_newer_compiler_stops_only_our_own_tests(
    arithmetic: Path, tmp_path: Path, strict: dict[str, str], built: bool
) -> None:
    warned = tmp_path / "warned.cpp"
    warned.write_text(f"{TEST_ENGINE.read_text()}\nstatic void unused() {{}}\n")
    options = {"TEST_ENGINE": str(warned), **strict}
    if built:
        build.compile_sources(tmp_path / "made", "test_runner", options)
        assert (tmp_path / "made" / "test_runner").exists()
    else:
        assert "unused" in error_of(build.compile_sources, tmp_path / "made", "test_runner", options)


@pytest.mark.slow
@pytest.mark.parametrize("engine", build.RUNNERS)
def test_both_engines_compile_without_a_warning(runners: Callable[[str], Runner], tmp_path: Path, engine: str) -> None:
    runners(engine)
    options = {**build.OPTIONS[engine](build.TARGETS["x86_64"]), "TPRUNE_WERROR": "ON"}
    build.compile_sources(tmp_path / "made", build.RUNNERS[engine], options)


def test_two_devices_that_want_one_runner_have_it_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(command: list[str], name: str) -> None:
        ran.append(command[1])
        time.sleep(0.2)
        if command[1] == "-S":
            Path(command[4]).mkdir(parents=True)
        else:
            (Path(command[2]) / name).write_text("built")

    monkeypatch.setattr(build, "_run", run)
    monkeypatch.setattr(build, "_tool", str)
    out = tmp_path / "made"
    with ThreadPoolExecutor(2) as side_by_side:
        asked = [side_by_side.submit(build.compile_sources, out, "runner", {}) for _ in range(2)]
    assert [one.result() for one in asked] == [None, None]
    assert ran == ["-S", "--build"]
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "runner"]
