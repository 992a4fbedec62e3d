"""Runs that are killed at random moments must end as if undisturbed.

The suite does so with a small recipe; `python -m tests.killing RECIPE UNDISTURBED_RUN OUT` with any other.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tprune import artifact
from tprune.benchmarks import record

KILLS = 5


def run_killed(recipe: str, out: Path, chance: random.Random, seconds: tuple[float, float]) -> list[float]:
    """Kill `tprune run` KILLS times, each time after a random number of seconds, then let it end.

    Returns:
        The seconds after which it was killed.
    """
    command = [sys.executable, "-m", "tprune.cli", "run", recipe, "--out", str(out)]
    moments = []
    for _ in range(KILLS):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        moments.append(chance.uniform(*seconds))
        time.sleep(moments[-1])
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, timeout=3600, capture_output=True)
    return moments


def outcome(run: Path) -> tuple[object, ...]:
    """What must not depend on a kill: plans, weights, BLEU and chrF of every model on every engine."""
    plans = {path.parent.name: json.loads(path.read_text()) for path in run.glob("plans/*/plan.json")}
    models = {path.name: artifact.read(path).identity for path in run.glob("recovered/*") if path.is_dir()}
    quality = sorted(
        (row.model, row.engine, row.precision, row.decode, row.bleu, row.chrf)
        for row in record.read_all(run / "results")
    )
    assert plans
    assert plans.keys() == models.keys()
    return plans, models, quality


if __name__ == "__main__":
    named, undisturbed, killed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    print("killed after", [round(seconds) for seconds in run_killed(named, killed, random.Random(), (10, 60))], "s")
    if outcome(killed) != outcome(undisturbed):
        sys.exit("the killed run ended differently")
    print("the same plans, weights, BLEU and chrF as the undisturbed run")
