"""The family BART of Hugging Face folders: its settings and the names of its weights, as data."""

from __future__ import annotations

from typing import Any

from taskmask.hf.families import GELU, Family, Names, Unsupported
from taskmask.models import EncoderDecoderConfig


def _layer(stack: str) -> Names:
    """The parts that layers of both stacks have."""
    return {
        "attention.qkv": tuple(f"{stack}.self_attn.{part}_proj" for part in "qkv"),
        "attention.output": f"{stack}.self_attn.out_proj",
        "attention_norm": f"{stack}.self_attn_layer_norm",
        "feed_forward.input": f"{stack}.fc1",
        "feed_forward.output": f"{stack}.fc2",
        "feed_forward_norm": f"{stack}.final_layer_norm",
    }


_ENCODER, _DECODER = "model.encoder.layers.#", "model.decoder.layers.#"
_DECODER_LAYER: Names = {
    **_layer(_DECODER),
    "cross_attention.query": f"{_DECODER}.encoder_attn.q_proj",
    "cross_attention.memory": (f"{_DECODER}.encoder_attn.k_proj", f"{_DECODER}.encoder_attn.v_proj"),
    "cross_attention.output": f"{_DECODER}.encoder_attn.out_proj",
    "cross_attention_norm": f"{_DECODER}.encoder_attn_layer_norm",
}
_LIKE_ENCODER = {
    "decoder_attention_heads": ("encoder_attention_heads", 16),
    "decoder_ffn_dim": ("encoder_ffn_dim", 4096),
}


def _read(config: dict[str, Any], settings: dict[str, Any]) -> None:
    for theirs, (of_encoder, default) in _LIKE_ENCODER.items():
        value, expected = config.get(theirs, default), config.get(of_encoder, default)
        if value != expected:
            raise Unsupported(theirs, value, f"{expected}, as in the encoder")
    eos = config.get("eos_token_id", 2)
    start = config.get("decoder_start_token_id", eos)
    if start != eos:
        raise Unsupported(
            "decoder_start_token_id", start, f"{eos}, the eos_token_id, from which the decoder starts here"
        )


def _write(settings: EncoderDecoderConfig, config: dict[str, Any]) -> None:
    config |= {theirs: config[of_encoder] for theirs, (of_encoder, _) in _LIKE_ENCODER.items()}


BART = Family(
    model="encoder_decoder",
    model_types=("bart",),
    prefix="model.",
    class_prefix="Bart",
    options={
        "layers": ("encoder_layers", 12),
        "decoder_layers": ("decoder_layers", 12),
        "width": ("d_model", 1024),
        "heads": ("encoder_attention_heads", 16),
        "feed_forward": ("encoder_ffn_dim", 4096),
        "dropout": ("dropout", 0.1),
        "attention_dropout": ("attention_dropout", 0.0),
        "init_std": ("init_std", 0.02),
    },
    constants={"norm": "post", "norm_epsilon": 1e-5},
    supported={
        "is_encoder_decoder": (True,),
        "activation_function": GELU,
        "scale_embedding": (False, None),
        "normalize_before": (False, None),
        "normalize_embedding": (True, None),
        "add_final_layer_norm": (False, None),
        "static_position_embeddings": (False, None),
    },
    names={
        "embeddings.tokens": "model.shared",
        "embeddings.positions": "model.encoder.embed_positions",
        "embeddings.norm": "model.encoder.layernorm_embedding",
        "target_embeddings.positions": "model.decoder.embed_positions",
        "target_embeddings.norm": "model.decoder.layernorm_embedding",
        **{f"layers.#.{ours}": theirs for ours, theirs in _layer(_ENCODER).items()},
        **{f"decoder_layers.#.{ours}": theirs for ours, theirs in _DECODER_LAYER.items()},
        "heads.seq2seq.output_bias": "final_logits_bias",
    },
    row={},
    copies={
        "model.encoder.embed_tokens.weight": "embeddings.tokens.weight",
        "model.decoder.embed_tokens.weight": "embeddings.tokens.weight",
        "lm_head.weight": "embeddings.tokens.weight",
    },
    read_more=_read,
    write_more=_write,
    unused_places=2,
    one_row=frozenset({"heads.seq2seq.output_bias"}),
)
