"""How texts are generated, in and out of Hugging Face folders: generation_config.json, by which transformers goes.

There lengths count the token that the decoder starts with, here they do not.
"""

from __future__ import annotations

import json
import math
from typing import Any

from taskmask.hf.families import Unsupported
from taskmask.modules.heads_spec import GenerationConfig

LARGEST = 1 << 24
"""No number of tokens or beams may be larger: what is, is a mistake or a trap."""
NEW_TOKENS = 20
"""How many new tokens transformers generates at most if nothing says how many; `max_length` 20 would be 19."""
SPECIALS = {"bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2}
"""What a config.json of BART means without these keys."""
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "repetition_penalty": (1,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "penalty_alpha": (0,),
    "guidance_scale": (1,),
    "renormalize_logits": (False,),
    "token_healing": (False,),
    **dict.fromkeys(("bad_words_ids", "force_words_ids", "constraints", "sequence_bias", "suppress_tokens"), ([], {})),
    **dict.fromkeys(("begin_suppress_tokens", "exponential_decay_length_penalty", "dola_layers"), ([],)),
    **dict.fromkeys(("watermarking_config", "stop_strings", "max_time"), ([], {}, "")),
}
"""Settings of `generate` that change a text and that there is nothing for here: the values that change nothing."""


def read_generation(
    config: dict[str, Any], given: dict[str, Any] | None, longest: int
) -> tuple[dict[str, Any], list[str]]:
    """Returns the options of `GenerationConfig` that a folder asks for, and what it asks for that they cannot say.

    Args:
        config: config.json.
        given: generation_config.json; None if it is missing, so that transformers takes config.json for it.
        longest: tokens in the longest text that the decoder can write.

    Raises:
        Unsupported: a value is not of its kind.

    **Source:** transformers 5.23, `GenerationMixin._prepare_generated_length` and `GenerationConfig`.
    """
    source = {**SPECIALS, **config} if given is None else given
    found = {key: value for key, value in source.items() if value is not None}
    if "max_new_tokens" in found:
        most = _whole(found, "max_new_tokens", least=2)
    else:
        most = _whole(found, "max_length", least=3) - 1 if "max_length" in found else NEW_TOKENS
    most = min(most, longest if {"max_new_tokens", "max_length"} & found.keys() else longest - 1)
    least = _whole(found, "min_new_tokens") if "min_new_tokens" in found else _whole(found, "min_length") - 1
    options = {
        "beams": _whole(found, "num_beams", 1, least=1),
        "length_penalty": _real(found, "length_penalty", 1.0),
        "no_repeat_ngram": _whole(found, "no_repeat_ngram_size"),
        "min_length": min(max(least, 0), most - 1),
        "max_length": most,
        "early_stopping": found.get("early_stopping", False),
    }
    wrong = [key for key, values in NEUTRAL.items() if found.get(key, values[0]) not in values]
    if options["early_stopping"] == "never":
        options["early_stopping"] = False
        wrong += ["early_stopping"] * (options["beams"] > 1)
    if type(options["early_stopping"]) is not bool:
        raise Unsupported("early_stopping", options["early_stopping"], 'true, false or "never"')
    bos, eos = (config.get(key, SPECIALS[key]) for key in ("bos_token_id", "eos_token_id"))
    wanted = {
        "decoder_start_token_id": eos,
        "forced_bos_token_id": bos,
        "forced_eos_token_id": eos,
        "eos_token_id": eos,
    }
    others = {key: value for key, value in wanted.items() if found.get(key) not in (value, [value])}
    notes = [f"{key} is {_shown(found[key])}, for which there is no setting" for key in wrong]
    notes += [f"{key} is {_shown(found.get(key))}, and always {_shown(value)} here" for key, value in others.items()]
    return options, notes


def write_generation(config: GenerationConfig, *, pad: int, bos: int, eos: int) -> dict[str, Any]:
    """Returns the generation_config.json with which transformers generates the same texts.

    Args:
        config: how texts are generated.
        pad: id of the padding token.
        bos: id of the token that begins a text.
        eos: id of the token that ends a text, and that the decoder starts with.
    """
    content: dict[str, Any] = {"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos}
    content |= {"decoder_start_token_id": eos, "forced_bos_token_id": bos, "forced_eos_token_id": eos}
    content |= {"do_sample": False, "num_beams": config.beams, "no_repeat_ngram_size": config.no_repeat_ngram}
    if config.beams > 1:  # else transformers warns of them
        content |= {"length_penalty": config.length_penalty, "early_stopping": config.early_stopping}
    least = config.min_length + 1 if config.min_length else 0
    return {**content, "min_length": least, "max_length": config.max_length + 1}


def _whole(found: dict[str, Any], key: str, default: int = 0, *, least: int = 0) -> int:
    value = found.get(key, default)
    if type(value) is not int or not least <= value <= LARGEST:
        raise Unsupported(key, value, f"an integer from {least} to {LARGEST:,}")
    return value


def _real(found: dict[str, Any], key: str, default: float) -> float:
    value = found.get(key, default)
    if type(value) not in (int, float) or not (math.isfinite(value) and abs(value) <= LARGEST):
        raise Unsupported(key, value, "a number")
    return float(value)


def _shown(value: Any) -> str:
    return "missing" if value is None else json.dumps(value)[:60]
