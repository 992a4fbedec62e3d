"""tprune: structured pruning of Transformer translation models, from corpus to phone."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tprune")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.1.0"
