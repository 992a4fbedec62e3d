"""Files on devices: hashed once, given time by their size, and never left half-written."""

import os
from pathlib import Path

import pytest

from tests.android_runner.phones import board
from tests.artifacts import error_of
from tprune.android_runner.links import Adb, Local, Said, Ssh
from tprune.android_runner.refusals import DeviceLostError
from tprune.android_runner.transport import Device


class Observed(Local):
    """This machine, and what it was asked, with the time limits."""

    asked: list[tuple[str, float]]
    away = False

    def shell(self, line: str, seconds: float) -> Said:
        self.asked.append((line, seconds))
        if self.away:
            raise DeviceLostError("the device is not there", where=self.name)
        return super().shell(line, seconds)

    def upload(self, source: Path, path: str, seconds: float) -> str:
        self.asked.append((f"upload {path}", seconds))
        if self.away:
            Path(path).write_bytes(source.read_bytes()[:3])
            raise DeviceLostError("the device is not there", where=self.name)
        return super().upload(source, path, seconds)


def observed(folder: Path) -> Observed:
    link = Observed(str(folder))
    vars(link)["asked"] = []
    return link


def hashed(link: Observed) -> int:
    """How often files were hashed on the device since the last question."""
    count = sum("sha256sum" in line for line, _ in link.asked)
    link.asked.clear()
    return count


def test_a_file_is_hashed_on_the_device_once_a_session(tmp_path: Path) -> None:
    link = observed(tmp_path / "device")
    device, source = Device(link), tmp_path / "weights"
    source.write_bytes(os.urandom(1000))
    assert device.push({"a/weights": source}) == ["a/weights"]
    assert hashed(link) == 2  # what is there, and what has arrived
    for _ in range(3):
        assert device.push({"a/weights": source}) == []
    assert hashed(link) == 0  # a cold start behind it does not find the file in memory
    (tmp_path / "device" / "a" / "weights").write_bytes(os.urandom(1000))
    assert device.push({"a/weights": source}) == ["a/weights"]
    assert hashed(link) == 2
    vars(link)["away"] = True
    error_of(device.run, ["true"])
    vars(link)["away"] = False
    assert device.push({"a/weights": source}) == []
    assert hashed(link) == 1  # it may be another device, or have lost what it had not written yet
    assert Device(link).push({"a/weights": source}) == []
    assert hashed(link) == 1


def test_where_no_file_tells_its_times_it_is_hashed(tmp_path: Path) -> None:
    class Bare(Observed):
        def shell(self, line: str, seconds: float) -> Said:
            return super().shell(line.replace("stat -c", "no-such-stat -c"), seconds)

    link = Bare(str(tmp_path / "device"))
    vars(link)["asked"] = []
    device, source = Device(link), tmp_path / "weights"
    source.write_bytes(b"weights")
    assert device.push({"weights": source}) == ["weights"]
    hashed(link)
    assert device.push({"weights": source}) == []
    assert hashed(link) == 1


def test_time_limits_grow_with_what_is_read(tmp_path: Path) -> None:
    link = observed(tmp_path / "device")
    device, source = Device(link), tmp_path / "big"
    with source.open("wb") as file:
        file.truncate(40_000_000)
    device.push({"big": source})
    limits = [seconds for line, seconds in link.asked if "sha256sum" in line or line.startswith("upload")]
    assert limits == [70, 70, 70]
    link.asked.clear()
    assert len(device.pull("big")) == 40_000_000
    assert [seconds for line, seconds in link.asked if "cat " in line] == [70]


def test_what_was_left_half_written_goes_when_the_device_is_met_again(tmp_path: Path) -> None:
    link = observed(tmp_path / "device")
    device, sources = Device(link), {name: tmp_path / name for name in ("one", "two")}
    for source in sources.values():
        source.write_bytes(os.urandom(100))
    device.push({"two": sources["two"]})
    upload = link.upload

    def pull_the_cable(*arguments: object) -> str:
        vars(link)["away"] = True
        return upload(*arguments)  # type: ignore[arg-type]

    vars(link)["upload"] = pull_the_cable
    error_of(device.push, {"a/one": sources["one"]})
    del vars(link)["upload"]
    vars(link)["away"] = False
    left = tmp_path / "device" / "a" / "one.partial"
    assert left.exists()
    assert device.push({"two": sources["two"]}) == []
    assert not left.exists()
    left.write_bytes(b"of a session that was killed")
    assert Device(link).push({"two": sources["two"]}) == []
    assert not left.exists()


DENIED = "adb: error: failed to copy 'big' to '/data/big.partial': remote couldn't create file: Permission denied"


@pytest.mark.parametrize(("said", "told"), [(DENIED, DENIED), ("1\n2: slow\n3: failed", "2: slow; 3: failed")])
def test_what_the_copying_program_complains_of_is_told(tmp_path: Path, said: str, told: str) -> None:
    adb = tmp_path / "adb"
    adb.write_text(
        f'#!/bin/sh\nif test "$3" = push; then cat {tmp_path}/said >&2; exit 1; fi\nexec sh -c "$4"\n', encoding="utf-8"
    )
    adb.chmod(0o755)
    (tmp_path / "said").write_text(f"{said}\n")
    (tmp_path / "big").write_bytes(b"big")
    device = Device(Adb("one", (str(adb),), str(tmp_path / "device")))
    assert error_of(device.push, {"big": tmp_path / "big"}) == (
        f"adb:one big: the file did not arrive · got {told} · correct what it says; nothing half-written was left"
    )


def test_a_host_without_an_sftp_server_is_there(tmp_path: Path) -> None:
    with board(tmp_path, sftp=False) as ssh:
        device = Device(Ssh(ssh.host, ssh.config, str(tmp_path / "device")))
        (tmp_path / "big").write_bytes(b"big")
        with pytest.raises(Exception) as caught:
            device.push({"big": tmp_path / "big"})
        assert not isinstance(caught.value, DeviceLostError)  # nobody waits for it
        assert "ssh:board: the host takes no files: it has no SFTP server · got subsystem request failed" in str(
            caught.value
        )
        assert device.run(["echo", "here"]).text == "here\n"
