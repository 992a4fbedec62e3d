"""The grid of a latency table."""

from tprune.benchmarks import probes
from tprune.model.shape import TPruneConfig, attention_shape, dense_config

LIKE = dense_config(d_model=32, heads=4, ffn=64, encoder_layers=1, decoder_layers=1, vocab_size=240)


def like(**layer: object) -> TPruneConfig:
    whole = (LIKE.decoder_shapes or [])[0] | layer
    encoder = {name: whole[name] for name in ("self_attn", "ffn")}
    return TPruneConfig(**{**LIKE.to_dict(), "encoder_shapes": [encoder], "decoder_shapes": [whole]})


def test_widths_go_down_to_the_least() -> None:
    grid = probes.grid_for(like(ffn=64), least=6)
    assert (grid.width, grid.ffn) == ((6, 8), (6, 32, 64))


def test_or_to_the_models_own_narrower_layers() -> None:
    grid = probes.grid_for(like(ffn=4, self_attn={**attention_shape(32, 4), "qk": 3, "v": 5}))
    assert (grid.width, grid.ffn) == ((3, 4, 8), (4,))


def test_a_model_may_have_no_feed_forward_networks() -> None:
    assert probes.grid_for(like(ffn=0)).ffn == (8,)
