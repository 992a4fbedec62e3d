"""Where passes on devices are kept until what they are for is finished.

A folder per device, and in it one per everything that a pass depends on: what one device has done outlives a change of
the list of devices, as when another has broken for good, and of what only later passes or the rows depend on.
"""

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tprune import artifact
from tprune.artifact import Artifact
from tprune.delivery_config import DeviceBench
from tprune.section import resolved

DEPENDS_ON = ("threads", "pin", "sentences", "warmup", "runs", "seconds")  # of the settings


@dataclass(frozen=True)
class Passes:
    """Folders for the passes of one benchmark.

    Attributes:
        root: Holds them; beside the artifact, which is no place for what is not finished.
        key: Of everything that a pass depends on besides the device.
    """

    root: Path
    key: str

    @classmethod
    def of(cls, out: Path, parents: Mapping[str, Artifact], settings: DeviceBench) -> "Passes":
        """Those of the benchmark of a corpus and bundles that becomes the artifact `out`.

        All bundles are in the key: their passes are taken in turn, and one that came later had no turn.
        """
        used = {name: value for name, value in resolved(settings).items() if name in DEPENDS_ON}
        return cls(out.with_name(f"{out.name}.passes"), artifact.fingerprint("passes", used, parents)[:16])

    def folder(self, device: str) -> Path:
        """Of a device by its name, made if need be."""
        found = self._of_device(device) / self.key
        found.mkdir(parents=True, exist_ok=True)
        return found

    def sweep(self, devices: Sequence[str]) -> None:
        """Remove what these devices have done, by their names; the others' waits until they are back."""
        for device in devices:
            shutil.rmtree(self._of_device(device), ignore_errors=True)
        with contextlib.suppress(OSError):  # there are others
            self.root.rmdir()

    def _of_device(self, device: str) -> Path:
        return self.root / device.replace(":", "=")  # which is in no device's name
