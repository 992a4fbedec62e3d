"""Which peers there are, and which of them can run here."""

from collections.abc import Callable, Collection

from tprune.benchmarks.peers import compiled, ct2_format, hf, optimum_onnx
from tprune.benchmarks.peers.peer import Peer
from tprune.errors import InputError


def at_hand(tell: Callable[[str], None], names: Collection[str] | None = None) -> list[Peer]:
    """The peers that can run here, of all or of those with these names; `tell` gets a line for each other one.

    Raises:
        InputError: No such peer.
    """
    known = [peer.name for peer in PEERS]
    if unknown := [name for name in names or () if name not in known]:
        raise InputError("no such peer", got=", ".join(unknown), wanted=" | ".join(known), fix="use one of these")
    found = []
    for peer in PEERS:
        if names is not None and peer.name not in names:
            continue
        missing = peer.missing()
        if missing is None:
            found.append(peer)
        else:
            tell(f"{peer.name} is skipped, needs {missing}")
    return found


PEERS = (ct2_format.PEER, hf.PEER, compiled.PEER, optimum_onnx.PEER)
