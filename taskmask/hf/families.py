"""The families of models that Hugging Face folders hold, as data: their settings and the names of their weights.

A family is read in both directions: from a folder into one of our models, and from one of them into a folder.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal

from taskmask.models import EncoderConfig, EncoderDecoderConfig
from taskmask.modules.heads_spec import HeadSpec

Kind = Literal["masked_lm", "classification", "regression", "tagging", "seq2seq", "none"]
Config = EncoderConfig | EncoderDecoderConfig
Names = dict[str, str | tuple[str, ...]]
CLASSES = {
    "masked_lm": "ForMaskedLM",
    "classification": "ForSequenceClassification",
    "regression": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
    "seq2seq": "ForConditionalGeneration",
}
"""What the names of their classes end with, for each kind of model that can be written."""


class Unsupported(Exception):
    """A key of a config.json has a value that cannot be expressed.

    Args:
        key: the key.
        value: its value.
        expected: what is supported.
    """

    def __init__(self, key: str, value: Any, expected: str):
        super().__init__(key)
        self.key, self.value, self.expected = key, value, expected


@dataclasses.dataclass(frozen=True)
class Family:
    """One family of models.

    Args:
        model_types: what config.json may call it; the first is what is written.
        prefix: what the names of their encoder's weights begin with, where a head stands beside it.
        class_prefix: what the names of their classes begin with.
        options: setting of our model -> (key of config.json, its default).
        constants: settings that all members have.
        supported: key of config.json -> the values that are supported; the first is what is written.
        names: our module or parameter -> theirs; several where ours joins them, one below the other; # is a layer.
        row: the same for the head of a classification or regression.
        token: the same for the head of a tagging.
        copies: their copies of weights, for the tied output: their name -> ours.
        read_more: changes the settings by what config.json says in another form.
        write_more: the other way round.
        offset_positions: whether the places begin with pad_token_id + 1 rows that no token uses; never written.
        unused_places: rows that no token uses before the places, and that max_position_embeddings does not count.
        one_row: our vectors that are matrices of one row there; zero where the folder lacks them.
        model: our model.
    """

    model_types: tuple[str, ...]
    prefix: str
    class_prefix: str
    options: dict[str, tuple[str, int | float]]
    constants: dict[str, Any]
    supported: dict[str, tuple[Any, ...]]
    names: Names
    row: Names
    copies: dict[str, str]
    token: Names = dataclasses.field(default_factory=lambda: {"heads.label.scores": "classifier"})
    read_more: Callable[[dict[str, Any], dict[str, Any]], None] = lambda config, settings: None
    write_more: Callable[[Any, dict[str, Any]], None] = lambda settings, config: None
    offset_positions: bool = False
    unused_places: int = 0
    one_row: frozenset[str] = frozenset()
    model: str = "encoder"

    def theirs(self, name: str, kind: Kind) -> tuple[str, ...]:
        """Returns the names of their weights that make up our parameter `name`, one below the other."""
        table = {**self.names, **(self.token if kind == "tagging" else self.row)}
        if name in table:
            return (str(table[name]),)
        module, _, leaf = name.rpartition(".")
        found = table[re.sub(r"\d+", "#", module)]
        number = "".join(re.findall(r"\d+", module))
        return tuple(f"{part.replace('#', number)}.{leaf}" for part in ([found] if isinstance(found, str) else found))

    def obstacles(self, settings: Any, kind: Kind) -> dict[str, Any]:
        """Returns the settings that a model would need to be a member: {name: value}."""
        wrong = {name: value for name, value in self.constants.items() if getattr(settings, name) != value}
        if kind in ("masked_lm", "tagging"):
            wrong.pop("pool", None)
        if kind == "masked_lm" or (kind == "tagging" and "gelu_norm" not in (settings.head, self.constants["head"])):
            wrong.pop("head", None)  # heads differ in classifiers only
        return wrong


def heads_of(kind: Kind, size: int) -> dict[str, HeadSpec]:
    """Returns the heads of a kind of model; `size` is the number of labels."""
    if kind in ("masked_lm", "seq2seq"):
        return {"mlm" if kind == "masked_lm" else kind: HeadSpec("lm")}
    return {} if kind == "none" else {"label": HeadSpec("token" if kind == "tagging" else "row", size)}


def _encoder_names(prefix: str, layer: str, parts: Names) -> Names:
    """The names of a BERT-like encoder; `parts` are those inside a layer."""
    return {
        "embeddings.tokens": f"{prefix}embeddings.word_embeddings",
        "embeddings.positions": f"{prefix}embeddings.position_embeddings",
        "embeddings.segments": f"{prefix}embeddings.token_type_embeddings",
        "embeddings.norm": f"{prefix}embeddings.LayerNorm",
        "embeddings.projection": f"{prefix}embeddings_project",
        **{
            f"layers.#.{ours}": tuple(f"{prefix}{layer}.#.{part}" for part in theirs)
            if isinstance(theirs, tuple)
            else f"{prefix}{layer}.#.{theirs}"
            for ours, theirs in parts.items()
        },
    }


_BERT_LAYER: Names = {
    "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.input": "intermediate.dense",
    "feed_forward.output": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_BERT_OPTIONS: dict[str, tuple[str, int | float]] = {
    "layers": ("num_hidden_layers", 12),
    "width": ("hidden_size", 768),
    "heads": ("num_attention_heads", 12),
    "feed_forward": ("intermediate_size", 3072),
    "dropout": ("hidden_dropout_prob", 0.1),
    "attention_dropout": ("attention_probs_dropout_prob", 0.1),
    "norm_epsilon": ("layer_norm_eps", 1e-12),
    "init_std": ("initializer_range", 0.02),
    "segments": ("type_vocab_size", 2),
}
_POST_NORM = {"norm": "post", "positions": "learned", "activation": "gelu", "bias": True, "pool": "first"}
GELU = ("gelu", "gelu_python")
"""The names of the exact one; gelu_new, gelu_pytorch_tanh and others approximate it."""
_BERT_SUPPORTED: dict[str, tuple[Any, ...]] = {"hidden_act": GELU, "position_embedding_type": ("absolute", None)}

BERT = Family(
    model_types=("bert",),
    prefix="bert.",
    class_prefix="Bert",
    options=_BERT_OPTIONS,
    constants={**_POST_NORM, "local_window": 0, "embedding_width": 0, "head": "tanh"},
    supported=_BERT_SUPPORTED,
    names={
        **_encoder_names("bert.", "encoder.layer", _BERT_LAYER),
        "heads.mlm.dense": "cls.predictions.transform.dense",
        "heads.mlm.norm": "cls.predictions.transform.LayerNorm",
        "heads.mlm.output_bias": "cls.predictions.bias",
    },
    row={"heads.label.dense": "bert.pooler.dense", "heads.label.scores": "classifier"},
    copies={
        "cls.predictions.decoder.weight": "embeddings.tokens.weight",
        "cls.predictions.decoder.bias": "heads.mlm.output_bias",
    },
)

ROBERTA = dataclasses.replace(
    BERT,
    model_types=("roberta", "xlm-roberta", "camembert"),
    prefix="roberta.",
    names={
        **_encoder_names("roberta.", "encoder.layer", _BERT_LAYER),
        "heads.mlm.dense": "lm_head.dense",
        "heads.mlm.norm": "lm_head.layer_norm",
        "heads.mlm.output_bias": "lm_head.bias",
    },
    row={"heads.label.dense": "classifier.dense", "heads.label.scores": "classifier.out_proj"},
    copies={"lm_head.decoder.weight": "embeddings.tokens.weight", "lm_head.decoder.bias": "heads.mlm.output_bias"},
    offset_positions=True,
)

DISTILBERT = Family(
    model_types=("distilbert",),
    prefix="distilbert.",
    class_prefix="DistilBert",
    options={
        "layers": ("n_layers", 6),
        "width": ("dim", 768),
        "heads": ("n_heads", 12),
        "feed_forward": ("hidden_dim", 3072),
        "dropout": ("dropout", 0.1),
        "attention_dropout": ("attention_dropout", 0.1),
        "init_std": ("initializer_range", 0.02),
    },
    constants={**_POST_NORM, "local_window": 0, "embedding_width": 0, "head": "relu"}
    | {"segments": 0, "norm_epsilon": 1e-12},
    supported={"activation": GELU},
    names={
        **_encoder_names(
            "distilbert.",
            "transformer.layer",
            {
                "attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
                "attention.output": "attention.out_lin",
                "attention_norm": "sa_layer_norm",
                "feed_forward.input": "ffn.lin1",
                "feed_forward.output": "ffn.lin2",
                "feed_forward_norm": "output_layer_norm",
            },
        ),
        "heads.mlm.dense": "vocab_transform",
        "heads.mlm.norm": "vocab_layer_norm",
        "heads.mlm.output_bias": "vocab_projector.bias",
    },
    row={"heads.label.dense": "pre_classifier", "heads.label.scores": "classifier"},
    copies={"vocab_projector.weight": "embeddings.tokens.weight"},
    write_more=lambda settings, config: config.update(seq_classif_dropout=settings.dropout),
)


def _read_electra(config: dict[str, Any], settings: dict[str, Any]) -> None:
    if settings["embedding_width"] == settings["width"]:
        settings["embedding_width"] = 0


def _write_electra(settings: EncoderConfig, config: dict[str, Any]) -> None:
    config["embedding_size"] = settings.embedding_width or settings.width


ELECTRA = Family(
    model_types=("electra",),
    prefix="electra.",
    class_prefix="Electra",
    options={
        **_BERT_OPTIONS,
        "width": ("hidden_size", 256),
        "heads": ("num_attention_heads", 4),
        "feed_forward": ("intermediate_size", 1024),
        "embedding_width": ("embedding_size", 128),
    },
    constants={**_POST_NORM, "local_window": 0, "head": "gelu"},
    supported=_BERT_SUPPORTED,
    names={
        **_encoder_names("electra.", "encoder.layer", _BERT_LAYER),
        "heads.mlm.dense": "generator_predictions.dense",
        "heads.mlm.norm": "generator_predictions.LayerNorm",
        "heads.mlm.output_bias": "generator_lm_head.bias",
    },
    row={"heads.label.dense": "classifier.dense", "heads.label.scores": "classifier.out_proj"},
    copies={"generator_lm_head.weight": "embeddings.tokens.weight"},
    read_more=_read_electra,
    write_more=_write_electra,
)

_MODERN_BIASES = ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias")


def _read_modern(config: dict[str, Any], settings: dict[str, Any]) -> None:
    biases = [config.get(key, False) for key in _MODERN_BIASES]
    if biases not in ([True] * 4, [False] * 4):
        raise Unsupported(", ".join(_MODERN_BIASES), biases, "all true or all false")
    pool = config.get("classifier_pooling", "cls")
    if pool not in ("cls", "mean"):
        raise Unsupported("classifier_pooling", pool, "cls or mean")
    settings |= {"bias": biases[0], "pool": "mean" if pool == "mean" else "first"}
    every, layers = _global_every(config, settings["layers"]), settings["layers"]
    settings["rotary_base"] = base = _rotary_base(config, "full_attention", "global_rope_theta", 160000.0)
    if every > 1 and layers > 1:
        window = config.get("local_attention", 128)
        if type(window) is not int or not 1 <= window < 1 << 24:
            raise Unsupported("local_attention", window, "a positive integer")
        local_base = _rotary_base(config, "sliding_attention", "local_rope_theta", 10000.0, base)
        settings |= {"global_every": every, "local_window": window, "local_rotary_base": local_base}


def _global_every(config: dict[str, Any], layers: int) -> int:
    """Every which layer is global; the other layers are local."""
    types, key = config.get("layer_types"), "global_attn_every_n_layers"
    if types is None:
        every = config.get(key, 3)
        if type(every) is not int or not 1 <= every < 1 << 24:
            raise Unsupported(key, every, "a positive integer")
        return every
    if isinstance(types, list) and len(types) == layers:
        later = [number for number, kind in enumerate(types) if kind == "full_attention" and number]
        every = later[0] if later else layers
        if types == ["sliding_attention" if number % every else "full_attention" for number in range(layers)]:
            return every
    raise Unsupported("layer_types", types, "full_attention in the first and then each nth layer, else sliding")


def _rotary_base(config: dict[str, Any], part: str, key: str, default: float, none: float = 160000.0) -> float:
    parameters = config.get("rope_parameters") or {}
    found = parameters.get(part) or {} if isinstance(parameters, dict) else {}
    if not isinstance(found, dict) or found.get("rope_type", "default") != "default":
        raise Unsupported("rope_parameters", parameters, "of rope_type default")
    base = found.get("rope_theta", config.get(key, default))
    base = none if base is None else base
    if type(base) not in (int, float) or not 0 < base < 1e30:
        raise Unsupported(key, base, "a positive number")
    return float(base)


def _write_modern(settings: EncoderConfig, config: dict[str, Any]) -> None:
    config |= dict.fromkeys(_MODERN_BIASES, settings.bias)
    config |= dict.fromkeys(("embedding_dropout", "mlp_dropout", "classifier_dropout"), settings.dropout)
    config |= {
        "classifier_pooling": "mean" if settings.pool == "mean" else "cls",
        "global_attn_every_n_layers": settings.global_every,
        "local_attention": settings.local_window or 128,
        "global_rope_theta": settings.rotary_base,
        "local_rope_theta": settings.local_rotary_base,
    }


MODERNBERT = Family(
    model_types=("modernbert",),
    prefix="model.",
    class_prefix="ModernBert",
    options={
        "layers": ("num_hidden_layers", 22),
        "width": ("hidden_size", 768),
        "heads": ("num_attention_heads", 12),
        "feed_forward": ("intermediate_size", 1152),
        "dropout": ("mlp_dropout", 0.0),
        "attention_dropout": ("attention_dropout", 0.0),
        "norm_epsilon": ("norm_eps", 1e-5),
        "init_std": ("initializer_range", 0.02),
    },
    constants={"norm": "pre", "positions": "rotary", "activation": "geglu", "first_norm": False, "head": "gelu_norm"}
    | {"segments": 0, "embedding_width": 0},
    supported={
        "hidden_activation": GELU,
        "classifier_activation": GELU,
        "decoder_bias": (True,),
        "rope_scaling": (None,),
    },
    names={
        "embeddings.tokens": "model.embeddings.tok_embeddings",
        "embeddings.norm": "model.embeddings.norm",
        "layers.#.attention.qkv": "model.layers.#.attn.Wqkv",
        "layers.#.attention.output": "model.layers.#.attn.Wo",
        "layers.#.attention_norm": "model.layers.#.attn_norm",
        "layers.#.feed_forward.input": "model.layers.#.mlp.Wi",
        "layers.#.feed_forward.output": "model.layers.#.mlp.Wo",
        "layers.#.feed_forward_norm": "model.layers.#.mlp_norm",
        "norm": "model.final_norm",
        "heads.mlm.dense": "head.dense",
        "heads.mlm.norm": "head.norm",
        "heads.mlm.output_bias": "decoder.bias",
    },
    row={"heads.label.dense": "head.dense", "heads.label.norm": "head.norm", "heads.label.scores": "classifier"},
    token={"heads.label.dense": "head.dense", "heads.label.norm": "head.norm", "heads.label.scores": "classifier"},
    copies={"decoder.weight": "embeddings.tokens.weight"},
    read_more=_read_modern,
    write_more=_write_modern,
)

FAMILIES = (BERT, ROBERTA, DISTILBERT, ELECTRA, MODERNBERT)
COMMON: dict[str, tuple[Any, ...]] = {
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "quantization_config": (None,),
    "pruned_heads": ({}, None),
}
"""What is supported in every family; not written, since these are the defaults there."""
