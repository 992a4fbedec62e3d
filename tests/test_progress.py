"""Progress in a log: a line now and then."""

import pytest

from tprune import progress


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = iter([100.0, 110.0, 131.0, 131.0, 150.0, 170.0, 170.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(now))
    with progress.narrate("counting") as tell:
        for number in range(4):
            tell(f"{number} of 4")
    assert capsys.readouterr().err == "counting\ncounting: 1 of 4\ncounting: 3 of 4\n"
