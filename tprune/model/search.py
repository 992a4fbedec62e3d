"""How to look for a translation: the settings that every search and every engine shares."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tprune.model.transformer import TPruneForConditionalGeneration


@dataclass(frozen=True)
class Search:
    """How to look for a translation; with `beams` = 1 greedily.

    Attributes:
        start: The token before the first one.
        eos: The token after the last one.
        pad: What fills a batch.
        limit: The longest target the engine has positions for, in tokens, and the longest source where nothing else
            says that.
        beams: Width of the beam.
        length_penalty: A hypothesis scores its log-probability / length ** length_penalty.
        forced_bos: The first token, whatever the model says: the target language of mBART and NLLB.
        forced_eos: The last token of a translation that reaches its greatest length.
        banned: Tokens that never appear in a translation, as padding.
        max_new_tokens: Greatest length of every translation, in place of the rule of `max_length`.
        source_limit: The longest source, where it is not as long as the longest target: what a bundle was exported for,
            or a model's positions when its targets are kept shorter.
        length_factor: Target tokens for each source token, see `max_length`.
        length_extra: Target tokens besides.
    """

    start: int
    eos: int
    pad: int
    limit: int
    beams: int = 1
    length_penalty: float = 1.0
    forced_bos: int | None = None
    forced_eos: int | None = None
    banned: tuple[int, ...] = ()
    max_new_tokens: int | None = None
    source_limit: int | None = None
    length_factor: float = 1.5
    length_extra: int = 10

    @property
    def longest_source(self) -> int:
        """Most tokens of a source."""
        return self.limit if self.source_limit is None else self.source_limit

    def max_length(self, source_length: int) -> int:
        """Greatest number of target tokens, eos included, for this many source tokens."""
        by_rule = int(source_length * self.length_factor) + self.length_extra
        return min(self.limit, by_rule if self.max_new_tokens is None else self.max_new_tokens)

    def is_cut(self, source_length: int, target_length: int) -> bool:
        """Whether a translation of this many tokens, without eos, ends at its greatest length and not by itself.

        Where the last token is forced to be eos, one of that length may have been cut off.
        """
        return target_length >= self.max_length(source_length) - (1 if self.forced_eos is not None else 0)

    @classmethod
    def of(cls, model: "TPruneForConditionalGeneration", **changes: Any) -> "Search":
        """What the model's own generation settings say, padding banned, with `changes` to the fields."""
        settings, config = model.generation_config, model.config
        pad = config.pad_token_id
        # a bad word of several tokens is out of the searches' reach
        bad = {words[0] for words in settings.bad_words_ids or () if len(words) == 1}
        search = cls(
            start=config.decoder_start_token_id,
            eos=config.eos_token_id,
            pad=pad,
            limit=config.max_positions,
            forced_bos=settings.forced_bos_token_id,
            forced_eos=settings.forced_eos_token_id,
            banned=tuple(sorted((bad | {pad, *(settings.suppress_tokens or ())}) - {config.eos_token_id})),
        )
        return replace(search, **changes)
