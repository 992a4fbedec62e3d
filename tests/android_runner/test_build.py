"""Building runners: what is missing is said in one line, and nothing is built twice."""

import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.android_runner.conftest import TEST_ENGINE
from tests.artifacts import error_of
from tprune.android_runner import build, toolchain
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
    refused = error_of(build._executorch, build.TARGETS["aarch64"])
    assert "wanted x86_64" in refused and "name its folder in TPRUNE_RUNNER_AARCH64" in refused
    monkeypatch.setenv("TPRUNE_ONNXRUNTIME_INCLUDE", str(tmp_path))
    assert f"onnxruntime_c_api.h: no headers of ONNX Runtime · got not in {tmp_path}" in error_of(build._header)
    monkeypatch.setenv("TPRUNE_ONNXRUNTIME_AARCH64", str(tmp_path))
    assert f"no ONNX Runtime for aarch64 · got none in {tmp_path}" in error_of(build._aarch64_library)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "c++: a tool is missing · install g++" in error_of(build.build, "executorch")
    assert "cmake: a tool is missing · install cmake" in error_of(build.compile_sources, tmp_path / "x", "x", {})


def test_a_cross_compiler_without_its_libraries(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\necho "${1#*=}"\n')
    compiler.chmod(0o755)
    error = error_of(build._beside, tmp_path, build.TARGETS["aarch64"], {"CMAKE_CXX_COMPILER": str(compiler)})
    assert error == (
        f"{compiler}: the cross compiler lacks a library · got no ld-linux-aarch64.so.1 · "
        "install libc6-arm64-cross and libstdc++6-arm64-cross, or what holds them here"
    )
    compiler.write_text("#!/bin/sh\necho 'cc1plus: no such file' >&2\nexit 1\n")
    error = error_of(build._beside, tmp_path, build.TARGETS["aarch64"], {"CMAKE_CXX_COMPILER": str(compiler)})
    assert error == f"{compiler}: the compiler does not work · got cc1plus: no such file · repair it"


def test_a_build_that_does_not_end_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "SECONDS", 0.1)
    assert error_of(toolchain.run, ["sleep", "60"], "et_runner") == (
        "sleep: a tool does not come to an end · got more than 0.1 s · "
        "run the same command again when this machine has less to do"
    )


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


PACKAGE = """\
# as ExecuTorch's own: archives that name each other, most of which ask to be taken whole
foreach(name executorch executorch_core {operators} xnnpack_backend custom_ops extension_threadpool)
  add_library(${{name}} STATIC IMPORTED)
  set_target_properties(${{name}} PROPERTIES IMPORTED_LOCATION ${{CMAKE_CURRENT_LIST_DIR}}/lib${{name}}.a
    INTERFACE_INCLUDE_DIRECTORIES ${{CMAKE_CURRENT_LIST_DIR}})
endforeach()
foreach(name executorch {operators} xnnpack_backend)
  set_target_properties(${{name}} PROPERTIES INTERFACE_LINK_LIBRARIES executorch_core INTERFACE_LINK_OPTIONS
    "SHELL:LINKER:--whole-archive $<TARGET_FILE:${{name}}> LINKER:--no-whole-archive")
endforeach()
set_target_properties(custom_ops PROPERTIES INTERFACE_LINK_LIBRARIES "extension_threadpool;xnnpack_backend")
"""


@pytest.mark.parametrize("operators", ["portable_ops_lib", "optimized_native_cpu_ops_lib portable_ops_lib"])
def test_the_users_own_executorch_is_linked_whole_and_once(tmp_path: Path, operators: str) -> None:
    for tool in ("cmake", "make", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"skipped, needs {tool}")
    package = tmp_path / "lib" / "cmake" / "ExecuTorch"
    package.mkdir(parents=True)
    (package / "executorch-config.cmake").write_text(PACKAGE.format(operators=operators))
    command = ["cmake", "-S", str(build.SOURCES), "-B", str(tmp_path / "build"), "-G", "Unix Makefiles"]
    toolchain.run([*command, f"-Dexecutorch_DIR={package}", "-DEXECUTORCH_VERSION=1.4.1", "-DANDROID=ON"], "et_runner")
    linked = (tmp_path / "build" / "CMakeFiles" / "et_runner.dir" / "link.txt").read_text()
    whole = re.findall(rf"-Wl,--whole-archive {package}/lib(\w+)\.a -Wl,--no-whole-archive", linked)
    assert sorted(whole) == sorted(["executorch", operators.split(maxsplit=1)[0], "xnnpack_backend", "custom_ops"])
    assert linked.count("--whole-archive") == len(whole) and "-llog" in linked and "$ORIGIN" in linked
    assert ("portable_ops_lib.a" in linked) == (operators == "portable_ops_lib")  # registered twice, they abort
    flags = (tmp_path / "build" / "CMakeFiles" / "et_runner.dir" / "flags.make").read_text()
    assert 'TPRUNE_EXECUTORCH_VERSION=\\"1.4.1\\"' in flags and "C10_USING_CUSTOM_GENERATED_MACROS" in flags


def test_two_devices_that_want_one_runner_have_it_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(command: list[str], name: str) -> None:
        ran.append(command[1])
        time.sleep(0.2)
        if command[1] == "-S":
            Path(command[4]).mkdir(parents=True)
        else:
            (Path(command[2]) / name).write_text("built")

    monkeypatch.setattr(toolchain, "run", run)
    monkeypatch.setattr(toolchain, "tool", str)
    out = tmp_path / "made"
    with ThreadPoolExecutor(2) as side_by_side:
        asked = [side_by_side.submit(build.compile_sources, out, "runner", {}) for _ in range(2)]
    assert [one.result() for one in asked] == [None, None]
    assert ran == ["-S", "--build"]
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "runner"]
