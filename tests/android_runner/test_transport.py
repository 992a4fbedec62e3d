"""Files and programs on real devices: this machine, a real adbd, a real sshd."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.android_runner.phones import Desk, android_shell, board, desk, small_disk, until
from tests.artifacts import error_of
from tprune.android_runner.links import Adb, Link, Local, Said, Ssh, adb_devices
from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.shell import Answer
from tprune.android_runner.transport import Device, Look

KINDS = ("local", "mksh", "adb", "ssh")


@pytest.fixture(scope="module")
def phones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ssh]:
    with board(tmp_path_factory.mktemp("board")) as made:
        yield made


@pytest.fixture(params=KINDS)
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Link:
    """One of each kind; adb's and sshd's folders are somewhere else on this machine."""
    if request.param == "adb":
        made: Link = request.getfixturevalue("phones").link(0, tmp_path / "device")
    elif request.param == "ssh":
        found = request.getfixturevalue("ssh")
        made = Ssh(found.host, found.config, str(tmp_path / "device"))
    elif request.param == "mksh":
        made = android_shell(tmp_path / "device", tmp_path / "programs")
    else:
        made = Local(str(tmp_path / "device"))
    return made


def test_push_pull_and_what_has_not_changed(link: Link, tmp_path: Path) -> None:
    device = Device(link)
    files = {name: tmp_path / name for name in ("weights", "program")}
    files["weights"].write_bytes(os.urandom(300_000) + b"\r\n\r")  # what a terminal would change, at the end too
    files["program"].write_text("#!/bin/sh\necho run\n")
    files["program"].chmod(0o755)
    given_names = {"bundles/one/weights.bin": files["weights"], "program": files["program"]}
    assert device.push(given_names) == ["bundles/one/weights.bin", "program"]
    assert device.push(given_names) == []
    assert device.pull("bundles/one/weights.bin") == files["weights"].read_bytes()
    assert device.run([f"{device.folder}/program"]).text == "run\n"
    (tmp_path / "device" / "bundles" / "one" / "weights.bin").write_bytes(b"damaged on the device")
    assert device.push(given_names) == ["bundles/one/weights.bin"]
    assert sorted(path.name for path in (tmp_path / "device").rglob("*")) == [
        "bundles",
        "one",
        "program",
        "weights.bin",
    ]
    assert "No such file" in error_of(device.pull, "absent")


def test_a_status_is_told_and_a_mark_in_the_output_is_not_believed(link: Link) -> None:
    device = Device(link)
    assert device.run(["sh", "-c", "echo out; echo err >&2; exit 7"]) == Answer(7, b"out\nerr\n")
    assert device.run(["printf", "end-0000 0\\n\\nend"]).text == "end-0000 0\n\nend"
    for end in ("", "\r", "\n", "\r\n", "\n\r"):
        assert device.run(["printf", "%s", f"{end}abc{end}"]).output == f"{end}abc{end}".encode()
    assert device.run(["printf", ""]).output == b""


def test_programs_go_on_without_the_link(link: Link) -> None:
    device = Device(link)
    device.make_folder("runs/a")
    device.start("runs/a", ["sh", "-c", "echo begun; sleep 1.5; echo done; exit 3"])
    assert device.poll("runs/a") == "running"
    assert device.wait("runs/a", 10) == "ended"
    assert (device.pull("runs/a/status"), device.pull("runs/a/log.txt")) == (b"3\n", b"begun\ndone\n")


def test_programs_are_ended_with_what_they_started(link: Link, tmp_path: Path) -> None:
    device = Device(link)
    device.make_folder("runs/b")
    device.start("runs/b", ["sh", "-c", "sleep 987 & echo $! > child; wait"])
    assert device.poll("runs/b") == "running"
    child = _soon(tmp_path / "device" / "runs" / "b" / "child")
    assert "the run takes too long" in error_of(device.wait, "runs/b", 0.0)
    assert device.poll("runs/b") == "gone"
    assert not _alive(child)
    device.kill("runs/b")  # again: nothing happens


def test_folders_are_cleared_with_what_runs_in_them(link: Link, tmp_path: Path) -> None:
    device = Device(link)
    device.clear("runs")  # nothing there yet
    for name in ("runs/a", "runs/b"):
        device.make_folder(name)
    device.start("runs/b", ["sh", "-c", "echo $$ > child; sleep 987"])
    child = _soon(tmp_path / "device" / "runs" / "b" / "child")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "device" / "runs" / "a" / "way out").symlink_to(outside)
    device.clear("runs")
    assert list((tmp_path / "device" / "runs").iterdir()) == []
    assert outside.is_dir()
    assert not _alive(child)


def test_a_process_number_that_was_given_again_is_left_alone(tmp_path: Path) -> None:
    device = Device(Local(str(tmp_path)))
    device.make_folder("runs")
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "runs" / "pid").write_text(f"{other.pid}\n")
        assert device.poll("runs") == "gone"
        device.kill("runs")
        assert other.poll() is None
        other.kill()


NAMES = (
    "../up", "a/../b", "/etc/passwd", "a b", "a'b", 'a"b', "a;reboot", "$(id)", "`id`", "-rf", "a/-rf", "", "a//b",
    "a/", ".hidden", "a\nb", "ä", "a*", "a&b", "a|b", "~", "a\\b",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_are_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    class Deaf(Local):
        def shell(self, line: str, seconds: float) -> Said:
            raise AssertionError(line)

    device = Device(Deaf())
    file = tmp_path / "file"
    file.write_text("x")
    for action in (
        lambda: device.push({name: file}),
        lambda: device.pull(name),
        lambda: device.start(name, ["true"]),
        lambda: device.poll(name),
        lambda: device.kill(name),
        lambda: device.make_folder(name),
    ):
        assert "no name for a file on a device" in error_of(action)


@pytest.mark.parametrize("name", ["a b", "x;reboot", "-s", "$(id)", "../x", "a'b", "", "a\nb", "-oProxyCommand=id"])
def test_serials_and_hosts_are_refused(name: str) -> None:
    assert "no serial of a device" in error_of(Adb, name)
    assert "no name of a host" in error_of(Ssh, name)
    assert "no name of a host" in error_of(Ssh, f"me@{name}")


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=5, max_size=40)
)
def test_words_arrive_as_they_are(link: Link, words: list[str]) -> None:
    said = Device(link).run(["printf", "%s\\n", "begin", *words]).output
    assert said == "".join(f"{word}\n" for word in ["begin", *words]).encode()


def test_a_full_disk_is_one_line_and_leaves_no_half_file(link: Link, tmp_path: Path) -> None:
    folder = tmp_path / "device"
    with small_disk(folder, "64k"):
        big = tmp_path / "big"
        big.write_bytes(os.urandom(200_000))
        error = error_of(Device(link).push, {"big": big})
        assert error.startswith(f"{link.name} big: the device's disk is full · got 0.")
        assert error.endswith("MB free · wanted 0.2 MB · free some space there; nothing half-written was left")
        assert list(folder.iterdir()) == []


def test_a_disk_that_is_full_at_the_start_is_told(link: Link, tmp_path: Path) -> None:
    folder, device = tmp_path / "device", Device(link)
    (tmp_path / "small").write_bytes(b"small")
    with small_disk(folder, "64k"):
        device.make_folder("runs/a")
        with contextlib.suppress(OSError), (folder / "filler").open("wb") as file:
            file.write(bytes(100_000))
        full = f"{link.name}: the device's disk is full · got 0.0 MB free; cannot "
        assert error_of(device.start, "runs/a", ["echo", "one"]) == f"{full}start runs/a · free some space there"
        assert (folder / "runs" / "a" / "pid").read_text() == ""
    folder.rmdir()
    folder.touch()
    assert error_of(device.make_folder, "runs/x").startswith(f"{link.name}: cannot make runs/x · got mkdir: ")


def test_a_phone_that_is_unplugged(phones: Desk, tmp_path: Path) -> None:
    device = Device(phones.link(1, tmp_path / "device"))
    other = Device(phones.link(0, tmp_path / "other"))
    device.make_folder("run")
    device.start("run", ["sh", "-c", "sleep 0.5; echo done > result"])
    phones.phones[1].unplug()
    with pytest.raises(DeviceLostError):
        device.poll("run")
    assert "the device is" in error_of(device.poll, "run")
    assert other.run(["echo", "still here"]).text == "still here\n"
    phones.phones[1].plug()
    phones.connect(phones.serials[1])
    assert device.wait("run", 10) == "ended"  # it went on meanwhile
    assert device.pull("run/result") == b"done\n"


def test_an_answer_that_breaks_off_is_no_answer(phones: Desk, tmp_path: Path) -> None:
    device, phone = Device(phones.link(1, tmp_path)), phones.phones[1]
    with subprocess.Popen(["sh", "-c", f"sleep 0.4; kill -9 {phone.process.pid}"]):
        assert "the device's answer broke off" in error_of(device.run, ["sh", "-c", "echo half; sleep 3; echo whole"])
    phone.unplug()
    phone.plug()
    phones.connect(phones.serials[1])


def test_what_adb_says_of_a_phone_that_is_not_ready(phones: Desk, tmp_path: Path) -> None:
    assert error_of(Device(Adb("nosuch", phones.adb)).run, ["true"]) == (
        "adb:nosuch: the device is not there · got error: device 'nosuch' not found · "
        "connect it; `tprune devices` shows what is"
    )
    with phones.unauthorized() as serial:
        error = error_of(Device(Adb(serial, phones.adb)).run, ["true"])
        assert f"adb:{serial}: the device has not authorized this computer" in error
        assert "unlock it and confirm the question about debugging" in error
    device, phone, serial = Device(phones.link(1, tmp_path)), phones.phones[1], phones.serials[1]
    phone.unplug()
    until(lambda: adb_devices(phones.adb).get(serial) == "offline", "adb's notice of it")
    with pytest.raises(DeviceLostError) as caught:
        device.run(["true"])
    phone.plug()
    phones.connect(serial)
    assert str(caught.value) == (
        f"adb:{serial}: the device is offline · got error: device offline · "
        "connect it again, or restart adb with `adb kill-server`"
    )
    assert device.run(["echo", "back"]).text == "back\n"


def test_what_ssh_says_of_a_host_that_is_not_ready(ssh: Ssh, tmp_path: Path) -> None:
    config = tmp_path / "config"
    assert ssh.config is not None
    config.write_text(ssh.config.read_text() + "\nHost closed\n HostName 127.0.0.1\n Port 9\n")
    assert "the host does not answer" in error_of(Device(Ssh("closed", config)).run, ["true"])
    text = config.read_text().replace("/user\n", "/host\n")
    config.write_text(text)
    assert "the host does not let this user in" in error_of(Device(Ssh("board", config)).run, ["true"])


def test_a_device_that_does_not_answer_in_time(tmp_path: Path) -> None:
    begin = time.monotonic()
    error = error_of(Device(Local(str(tmp_path))).run, ["sleep", "30"], 0.3)
    assert error == (
        "local: the device does not answer · got nothing in 0.3 s · "
        "look at its cable or network, then run the same command again"
    )
    assert time.monotonic() - begin < 10


def test_a_look_tells_whether_a_file_grows(link: Link, tmp_path: Path) -> None:
    device = Device(link)
    device.make_folder("runs/a")
    files = ["runs/a/log.txt", "runs/a/other"]
    assert device.look("runs/a", files) == Look("gone", "")
    device.start("runs/a", ["sh", "-c", "echo begun; while test ! -e go; do sleep 0.1; done; echo on; sleep 987"])
    limit = time.monotonic() + 20
    while (first := device.look("runs/a", files)).mark == "":
        assert time.monotonic() < limit
    while (second := device.look("runs/a", files)) != first:
        first = second
    (tmp_path / "device" / "runs" / "a" / "go").touch()
    while (third := device.look("runs/a", files)) == first:
        assert time.monotonic() < limit
    assert (first.state, third.state) == ("running", "running")
    device.kill("runs/a")


def _soon(path: Path) -> int:
    limit = time.monotonic() + 10
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < limit
        time.sleep(0.02)
    return int(path.read_text())


def _alive(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
