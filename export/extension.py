"""ExecuTorch's LLM extension: operators for attention over a cache that stays where it is."""

from tprune.export.silence import silence


def register() -> None:
    """Make its operators known to torch and to ExecuTorch's runtime.

    Raises:
        ImportError: This build of ExecuTorch comes without it.
    """
    with silence():
        from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  importing it registers them
