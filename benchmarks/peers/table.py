"""Which peers there are, and which of them can run here."""

from collections.abc import Callable

from tprune.benchmarks.peers import compiled, ct2_format, hf, optimum_onnx
from tprune.benchmarks.peers.peer import Peer


def at_hand(tell: Callable[[str], None]) -> list[Peer]:
    """The peers that can run here; `tell` gets a line for each other one."""
    found = []
    for peer in PEERS:
        missing = peer.missing()
        if missing is None:
            found.append(peer)
        else:
            tell(f"{peer.name} is skipped, needs {missing}")
    return found


PEERS = (ct2_format.PEER, hf.PEER, compiled.PEER, optimum_onnx.PEER)
