"""The index of the models: their settings, and the known architectures as data. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import Literal

from taskmask.config import Problems, opt
from taskmask.registry import MODELS


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """A Transformer encoder with a head for each target, like BERT and RoBERTa; the defaults are BERT-base.

    **Source:** Devlin et al. 2019 (arXiv 1810.04805), section 3 and appendix A.2; Liu et al. 2019 (arXiv 1907.11692).

    Raises:
        ConfigError: settings that do not fit each other; names every one of them.
    """

    layers: int = opt(12, "encoder layers (L)")
    width: int = opt(768, "width of the hidden states (H)")
    heads: int = opt(12, "attention heads a layer (A); divides the width")
    feed_forward: int = opt(0, "inner width of the feed-forward; 0: 4 x width, for geglu 8/3 x width up to a 64th")
    norm: Literal["post", "pre"] = opt("post", "LayerNorm after each residual sum (post) or before each sublayer (pre)")
    positions: Literal["learned", "rotary"] = opt(
        "learned", "absolute learned embeddings, or rotary ones inside the attention"
    )
    activation: Literal["gelu", "geglu"] = opt("gelu", "inside the feed-forward: gelu, or gated (geglu)")
    bias: bool = opt(True, "biases in linear layers and norms; the output of a head always has one")
    dropout: float = opt(0.1, "probability of dropping an element of the embeddings and of each sublayer's output")
    attention_dropout: float = opt(0.1, "probability of dropping an attention weight")
    norm_epsilon: float = opt(1e-12, "added to the variance inside LayerNorm")
    init_std: float = opt(0.02, "standard deviation of the initial weights")
    segments: int = opt(0, "embeddings of the segment, for pairs of texts (BERT: 2); 0: none")
    embedding_width: int = opt(0, "width of the embeddings, projected to the model's (ELECTRA); 0: the same")
    first_norm: bool = opt(True, "pre-norm: LayerNorm before the first layer's attention (ModernBERT: false)")
    rotary_base: float = opt(10000.0, "rotary positions: base of the wavelengths")
    local_window: int = opt(0, "tokens that a token sees in layers with local attention; 0: all attention is global")
    global_every: int = opt(1, "attention is global in the first and then in each such layer, local in the others")
    local_rotary_base: float = opt(10000.0, "rotary_base of the layers with local attention")
    head: Literal["tanh", "relu", "gelu", "gelu_norm"] = opt("tanh", "inside classifiers, as in BERT or others")
    pool: Literal["first", "mean"] = opt("first", "what stands for a row in classifiers: first token or mean")

    def __post_init__(self) -> None:
        problems = Problems()
        for names, fits, expected in (
            (("layers", "width", "heads", "global_every"), lambda value: value >= 1, "at least 1"),
            (("feed_forward", "segments", "embedding_width", "local_window"), lambda value: value >= 0, "0 or more"),
            (("dropout", "attention_dropout"), lambda value: 0 <= value < 1, "at least 0 and below 1"),
            (("norm_epsilon", "init_std"), lambda value: value > 0, "more than 0"),
            (("rotary_base", "local_rotary_base"), lambda value: value > 0, "more than 0"),
        ):
            for name in names:
                value = getattr(self, name)
                problems.check(fits(value), f"is {value}", where=f"model.{name}", expected=expected)
        heads, width = max(self.heads, 1), self.width
        _check_heads(problems, width, self.heads)
        problems.check(
            self.positions == "learned" or width % heads > 0 or width // heads % 2 == 0,
            f"is rotary, which turns pairs of channels, but a head has {width // heads}",
            where="model.positions",
            expected="an even number of channels a head: model.width / model.heads",
        )
        self._check_what_has_no_effect(problems)
        problems.raise_any()

    def _check_what_has_no_effect(self, problems: Problems) -> None:
        rotary, local = self.positions == "rotary", self.local_window > 0
        for name, idle, needs in (
            ("first_norm", not self.first_norm and self.norm == "post", "model.norm pre"),
            ("rotary_base", self.rotary_base != 10000.0 and not rotary, "model.positions rotary"),
            ("local_window", local and self.global_every == 1, "model.global_every of 2 or more"),
            ("global_every", self.global_every > 1 and not local, "a model.local_window"),
            (
                "local_rotary_base",
                self.local_rotary_base != 10000.0 and not (local and rotary),
                "a model.local_window and model.positions rotary",
            ),
        ):
            value = str(getattr(self, name)).lower()
            problems.check(not idle, f"is {value}, which has no effect here", where=f"model.{name}", expected=needs)

    @property
    def feed_forward_width(self) -> int:
        """The inner width of the feed-forward layers, in units.

        The third matrix of GeGLU is paid for by 2/3 of the width, so that the number of parameters stays.

        **Source:** Shazeer 2020 (arXiv 2002.05202), section 2 (the factor 2/3); the rounding up to a multiple of 64 is
        ours, for the matrix units.
        """
        if self.feed_forward:
            return self.feed_forward
        return 4 * self.width if self.activation == "gelu" else -(-8 * self.width // (3 * 64)) * 64


@dataclasses.dataclass(frozen=True)
class EncoderDecoderConfig:
    """A Transformer with encoder and decoder, for tasks that write a text; the defaults are BART-base.

    **Source:** Lewis et al. 2019 (arXiv 1910.13461), section 2.1.

    Raises:
        ConfigError: settings that do not fit each other; names every one of them.
    """

    layers: int = opt(6, "layers of the encoder")
    decoder_layers: int = opt(6, "layers of the decoder")
    width: int = opt(768, "width of the hidden states")
    heads: int = opt(12, "attention heads a layer; divides the width")
    feed_forward: int = opt(0, "inner width of the feed-forward; 0: 4 x width")
    norm: Literal["post", "pre"] = opt("post", "LayerNorm after each residual sum (post) or before each sublayer (pre)")
    dropout: float = opt(0.1, "probability of dropping an element of the embeddings and of each sublayer's output")
    attention_dropout: float = opt(0.1, "probability of dropping an attention weight")
    norm_epsilon: float = opt(1e-5, "added to the variance inside LayerNorm")
    init_std: float = opt(0.02, "standard deviation of the initial weights")

    def __post_init__(self) -> None:
        problems = Problems()
        for names, fits, expected in (
            (("layers", "decoder_layers", "width", "heads"), lambda value: value >= 1, "at least 1"),
            (("feed_forward",), lambda value: value >= 0, "0 or more"),
            (("dropout", "attention_dropout"), lambda value: 0 <= value < 1, "at least 0 and below 1"),
            (("norm_epsilon", "init_std"), lambda value: value > 0, "more than 0"),
        ):
            for name in names:
                value = getattr(self, name)
                problems.check(fits(value), f"is {value}", where=f"model.{name}", expected=expected)
        _check_heads(problems, self.width, self.heads)
        problems.raise_any()

    @property
    def feed_forward_width(self) -> int:
        """The inner width of the feed-forward layers, in units."""
        return self.feed_forward or 4 * self.width


def _check_heads(problems: Problems, width: int, heads: int) -> None:
    """Notes heads that do not divide the width, beside the nearest number that does."""
    divisors = [number for number in range(1, min(width, 1 << 16) + 1) if width % number == 0]
    problems.check(
        width % max(heads, 1) == 0,
        f"is {heads}, which does not divide model.width {width}",
        where="model.heads",
        expected=f"a divisor, such as {min(divisors, key=lambda number: abs(number - heads), default=1)}",
    )


MODELS.add("encoder", config=EncoderConfig, load="taskmask.models.encoder:Encoder")
MODELS.add("encoder_decoder", config=EncoderDecoderConfig, load="taskmask.models.encoder_decoder:EncoderDecoder")

# Source: Turc et al. 2019 (arXiv 1908.08962); google-research/bert, README, "Smaller BERT Models".
MODELS.variant("tiny", of="encoder", layers=2, width=128, heads=2, summary="BERT-tiny: 2 layers, 128 wide.")
MODELS.variant("mini", of="encoder", layers=4, width=256, heads=4, summary="BERT-mini: 4 layers, 256 wide.")
MODELS.variant("small", of="encoder", layers=4, width=512, heads=8, summary="BERT-small: 4 layers, 512 wide.")

# Source: Devlin et al. 2019 (arXiv 1810.04805), section 3. Differs from the paper: no segment embeddings and no pooler
# (RoBERTa dropped next-sentence prediction, their only use in pre-training).
MODELS.variant("base", of="encoder", layers=12, width=768, heads=12, summary="BERT-base: 12 layers, 768 wide.")
MODELS.variant("large", of="encoder", layers=24, width=1024, heads=16, summary="BERT-large: 24 layers, 1024 wide.")

# Source: Liu et al. 2019 (arXiv 1907.11692), section 3.1 and table 9; the epsilon is that of fairseq's LayerNorm.
MODELS.variant("roberta_base", of="base", norm_epsilon=1e-5, summary="RoBERTa-base: 12 layers, 768 wide.")

# Source: Devlin et al. 2019 as above, with segments, for pairs of texts.
MODELS.variant("bert_base", of="base", segments=2, summary="BERT-base with segment embeddings: 12 layers, 768 wide.")

# Source: Sanh et al. 2019 (arXiv 1910.01108), section 3. Differs from the paper: trained on its own, without a teacher.
MODELS.variant("distilbert", of="base", layers=6, head="relu", summary="Like DistilBERT: 6 layers, 768 wide.")

# Source: Clark et al. 2020 (arXiv 2003.10555), section 3.2 and table 6. Differs from the paper: trained as a masked
# language model, without generator and discriminator.
MODELS.variant(
    "electra_small",
    of="encoder",
    layers=12,
    width=256,
    heads=4,
    embedding_width=128,
    segments=2,
    head="gelu",
    summary="Like ELECTRA-small: 12 layers, 256 wide, embeddings of 128.",
)

# Source: Warner et al. 2024 (arXiv 2412.13663), sections 2.1 and 2.2; answerdotai/ModernBERT-base, config.json. Differs
# from the paper: the attention output has no dropout (there 0.1), and rows are padded, not packed.
MODELS.variant(
    "modern_base",
    of="encoder",
    layers=22,
    width=768,
    heads=12,
    feed_forward=1152,
    norm="pre",
    first_norm=False,
    positions="rotary",
    rotary_base=160000.0,
    local_window=128,
    global_every=3,
    activation="geglu",
    bias=False,
    dropout=0.0,
    attention_dropout=0.0,
    norm_epsilon=1e-5,
    head="gelu_norm",
    pool="mean",
    summary="ModernBERT-base: 22 layers, 768 wide, pre-norm, rotary, geglu, no biases, two thirds local attention.",
)

# Source: Lewis et al. 2019 (arXiv 1910.13461), sections 2.1 and 5.1; facebook/bart-base and facebook/bart-large,
# config.json. Differs from the paper: no dropout inside the feed-forward (there 0.1).
MODELS.variant("bart_base", of="encoder_decoder", layers=6, decoder_layers=6, width=768, heads=12,
               summary="BART-base: 6 + 6 layers, 768 wide.")  # fmt: skip
MODELS.variant("bart_large", of="encoder_decoder", layers=12, decoder_layers=12, width=1024, heads=16,
               summary="BART-large: 12 + 12 layers, 1024 wide.")  # fmt: skip

# The sizes of BERT's small ones, half of the layers in the decoder.
MODELS.variant("bart_tiny", of="encoder_decoder", layers=1, decoder_layers=1, width=128, heads=2,
               summary="Like BART: 1 + 1 layers, 128 wide.")  # fmt: skip
MODELS.variant("bart_mini", of="encoder_decoder", layers=2, decoder_layers=2, width=256, heads=4,
               summary="Like BART: 2 + 2 layers, 256 wide.")  # fmt: skip
MODELS.variant("bart_small", of="encoder_decoder", layers=3, decoder_layers=3, width=512, heads=8,
               summary="Like BART: 3 + 3 layers, 512 wide.")  # fmt: skip
