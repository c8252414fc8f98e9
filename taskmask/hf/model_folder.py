"""Weights in and out: folders in the format of Hugging Face, config.json and safetensors. Nothing is downloaded.

Shapes: as in the models. What they cannot express to the bit of its mathematics is refused, not approximated.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taskmask.errors import ConfigError, did_you_mean
from taskmask.hf.bart import BART
from taskmask.hf.families import CLASSES, COMMON, FAMILIES, Config, Family, Kind, Unsupported, heads_of
from taskmask.hf.generation_settings import read_generation, write_generation
from taskmask.hf.pair_models import PAIR_KEY, second_text
from taskmask.hf.weight_files import WeightFiles, all_texts, import_safetensors, read_json, refuse, short
from taskmask.models import EncoderConfig
from taskmask.modules.heads_spec import GenerationConfig
from taskmask.registry import MODELS
from taskmask.system.files import as_utf8, atomic_write

LARGEST = 1 << 24
"""No size in a config.json may be larger: what is, is a mistake or a trap."""
PLACES = "embeddings.positions.weight"
"""What the names of the tables of places end with."""
ALL = (*FAMILIES, BART)


@dataclasses.dataclass(frozen=True)
class HFModel:
    """A model read from a Hugging Face folder.

    Args:
        config: config.json as it is.
        family: the family it belongs to.
        settings: options of our model, which is `family.model`.
        max_length: tokens in its longest row.
        vocab_size: rows of its token embedding.
        kind: what it computes; "none": an encoder without a head that could be used; an encoder-decoder always is a
            "seq2seq", since its output has no weights of its own.
        labels: names of the classes, in the order of their ids; none in a regression.
        weights: fp32, by the names of our model; its heads are "mlm", "label" and "seq2seq".
        left_out: the names of the weights in the folder that were not used.
        generation: of a "seq2seq" how it generates texts, options of `GenerationConfig`; else empty.
        notes: what the folder says of generation that these options cannot express.
        pair: the name of the second text, if the folder was written for pairs.
    """

    config: dict[str, Any]
    family: Family
    settings: dict[str, Any]
    max_length: int
    vocab_size: int
    kind: Kind
    labels: list[str]
    weights: dict[str, Tensor]
    left_out: list[str]
    generation: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    pair: str = ""


def read_folder(folder: str | Path) -> HFModel:
    """Reads a model of the families BERT, RoBERTa (XLM-R, CamemBERT), DistilBERT, ELECTRA, ModernBERT or BART.

    Where the folder knows one segment only, its embedding is added to those of the places, and where the places begin
    with rows that no token uses (RoBERTa, BART), they are dropped. One dropout stands for the several of ModernBERT,
    of BART and of some classifiers.

    Raises:
        CheckpointError: something is missing, damaged, or beyond what our model can express.
    """
    path = Path(folder)
    config = read_json(path / "config.json")
    name, known = config.get("model_type"), {kind: family for family in ALL for kind in family.model_types}
    if not isinstance(name, str) or name not in known:
        fix = (isinstance(name, str) and did_you_mean(name, known)) or "convert a model of one of these families"
        refuse(path / "config.json", f"model_type is {short(name)}", f"one of {', '.join(known)}", fix)
    family = known[name]
    store = WeightFiles(
        path, family.prefix, {copy: family.theirs(ours, "none")[0] for copy, ours in family.copies.items()}
    )
    try:
        _check_supported(config, {**COMMON, **family.supported})
        kind, labels = _kind_of(config, family, store)
        pair = second_text(config)
        settings, single = _settings_of(config, family, len(store.places))
        vocab_size = _number(config, "vocab_size", 30522)
        offset = 1 + _number(config, "pad_token_id", 1, least=0) if family.offset_positions else 0
        max_length = _number(config, "max_position_embeddings", 512) - offset
        if max_length < 1:
            raise Unsupported("max_position_embeddings", max_length + offset, f"more than the offset {offset}")
        unused = offset + family.unused_places
    except Unsupported as error:
        refuse(path / "config.json", f"{error.key} is {short(error.value)}", error.expected)
    try:
        made = MODELS.get(family.model).config(**settings)
    except ConfigError as error:
        refuse(path / "config.json", f"the model cannot be built: {error}")
    weights = {}
    for ours, shape in _shapes(made, kind, len(labels) or 1, vocab_size, max_length).items():
        before = unused if ours.endswith(PLACES) else 0
        theirs = family.theirs(ours, kind)
        if ours in family.one_row:
            weights[ours] = store.take(theirs[0], (1, *shape))[0] if theirs[0] in store.places else torch.zeros(shape)
            continue
        part = (before + shape[0] // len(theirs), *shape[1:])
        weights[ours] = torch.cat([store.take(their, part) for their in theirs])[before:].contiguous()
    if single:
        (their,) = family.theirs("embeddings.segments.weight", kind)
        weights["embeddings.positions.weight"] += store.take(their, (1, weights["embeddings.tokens.weight"].shape[1]))
    for their, ours in family.copies.items() if kind in ("masked_lm", "seq2seq") else ():
        if their in store.places and not torch.equal(store.take(their, weights[ours].shape), weights[ours]):
            refuse(path, f"weight {their} differs from the one it should copy", "an output tied to the token embedding")
    given = [] if kind == "regression" else labels
    generation = _generation_of(path, config, max_length) if kind == "seq2seq" else ({}, [])
    found = (given, weights, store.left_out(), *generation, pair)
    return HFModel(config, family, settings, max_length, vocab_size, kind, *found)


def _generation_of(path: Path, config: dict[str, Any], max_length: int) -> tuple[dict[str, Any], list[str]]:
    """Returns what `read_generation` does, of the file that transformers takes."""
    own = path / "generation_config.json"
    file = own if own.exists() else path / "config.json"
    try:
        options, notes = read_generation(config, read_json(own) if file == own else None, max_length)
    except Unsupported as error:
        refuse(file, f"{error.key} is {short(error.value)}", error.expected)
    return options, [f"{file.name}: {note}" for note in notes]


def write_folder(
    folder: str | Path,
    config: Config,
    weights: Mapping[str, Tensor],
    *,
    kind: Kind,
    vocab_size: int,
    max_length: int,
    pad: int,
    bos: int,
    eos: int,
    labels: Iterable[str] = (),
    generation: GenerationConfig | None = None,
    pair: str = "",
) -> Family:
    """Writes config.json and model.safetensors, which the Auto classes of transformers load.

    Args:
        folder: made where there is none; a model that is there is replaced.
        config: the settings of our model.
        weights: by the names of our model: head "mlm" for a "masked_lm", "seq2seq" for one, else "label"; other heads
            are left out.
        kind: which head is written.
        vocab_size: V.
        max_length: tokens in the longest row.
        pad: id of the padding token.
        bos: id of the token that begins a row.
        eos: id of the token that ends a row.
        labels: names of the classes; none in a masked_lm or regression.
        generation: how a "seq2seq" generates texts; None: greedily, as long as rows may be.
        pair: the name of the second text of a model of pairs.

    Returns:
        The family it was written as.

    Raises:
        CheckpointError: no family has such settings, or the weights do not fit them.
        StorageError: the folder cannot be written.
    """
    path, labels = Path(folder), list(labels)
    if kind not in CLASSES:
        refuse(path, f"kind is {kind!r}", f"one of {', '.join(CLASSES)}")
    if kind in ("classification", "tagging") and (not labels or len(set(labels)) < len(labels)):
        refuse(path, f"the labels of a {kind} are {short(labels)}", "the names of its classes, each different")
    family = _family_for(config, kind, path)
    shapes = _shapes(config, kind, len(labels) or 1, vocab_size, max_length)
    theirs = _their_weights(weights, shapes, family, kind, path)
    content = _config_of(config, family, kind, labels)
    content |= {"vocab_size": vocab_size, "max_position_embeddings": max_length}
    content |= {PAIR_KEY: pair} if pair else {}
    ids = {"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos}
    if kind == "seq2seq":
        ids["decoder_start_token_id"] = eos
        how = generation or GenerationConfig(max_length=max_length)
        _write_json(path / "generation_config.json", write_generation(how, pad=pad, bos=bos, eos=eos))
    safetensors = import_safetensors()
    with atomic_write(path / "model.safetensors") as file:
        file.write(safetensors.torch.save(theirs, metadata={"format": "pt"}))
    _write_json(path / "config.json", content | ids | {"cls_token_id": bos, "sep_token_id": eos})
    return family


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path) as file:
        file.write(as_utf8(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"))


def fit_vocabulary(weights: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Cuts the rows of the token embedding, and of the bias of its output, that the vocabulary has no entries for.

    Args:
        weights: by the names of our model.
        size: entries of the vocabulary.

    Returns:
        The weights of a model of `size` tokens.

    Raises:
        CheckpointError: the embedding has fewer rows than the vocabulary entries.
    """
    rows = len(weights["embeddings.tokens.weight"])
    if rows < size:
        fix = "take the tokenizer that the model was trained with"
        refuse("embeddings.tokens.weight", f"has {rows} rows for a vocabulary of {size}", f"at least {size}", fix)
    cut = [name for name in weights if name == "embeddings.tokens.weight" or name.endswith(".output_bias")]
    return {**weights, **{name: weights[name][:size].clone() for name in cut}}


def _kind_of(config: dict[str, Any], family: Family, store: WeightFiles) -> tuple[Kind, list[str]]:
    """Says what a folder computes, and returns the names of its labels."""
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes and isinstance(classes[0], str) else ""
    kind: Kind = "none"
    if family.model == "encoder_decoder":
        kind = "seq2seq"
    elif name.endswith("ForSequenceClassification"):
        kind = "classification"
    elif name.endswith("ForTokenClassification"):
        kind = "tagging"
    elif not name or name.endswith(("ForMaskedLM", "ForPreTraining", "LMHeadModel", "ForCausalLM")):
        has_head = family.theirs("heads.mlm.dense.weight", "none")[0] in store.places
        has_classifier = "classifier.weight" in store.places  # which shares its dense with ModernBERT's
        kind = "masked_lm" if name.endswith("ForMaskedLM") or (has_head and not has_classifier) else "none"
    if kind in ("masked_lm", "seq2seq") and config.get("tie_word_embeddings", True) is not True:
        raise Unsupported("tie_word_embeddings", config["tie_word_embeddings"], "true: an output tied to the embedding")
    if kind not in ("classification", "tagging"):
        return kind, []
    labels = _labels_of(config)
    problem = config.get("problem_type")
    if kind == "classification" and (problem == "regression" or (problem is None and len(labels) == 1)):
        if len(labels) != 1:
            raise Unsupported("problem_type", problem, f"one number to predict, not {len(labels)}")
        return "regression", labels
    if kind == "classification" and problem not in (None, "single_label_classification"):
        raise Unsupported("problem_type", problem, "single_label_classification or regression")
    return kind, labels


def _labels_of(config: dict[str, Any]) -> list[str]:
    names = config.get("id2label")
    if names is None:
        return [f"LABEL_{number}" for number in range(_number(config, "num_labels", 2, most=1 << 16))]
    keys = [str(number) for number in range(len(names))] if isinstance(names, dict) else []
    if not keys or set(names) != set(keys) or not all_texts(names.values()) or len({*names.values()}) < len(keys):
        raise Unsupported("id2label", names, 'different names by number: {"0": "no", "1": "yes"}')
    return [names[key] for key in keys]


def _settings_of(config: dict[str, Any], family: Family, tensors: int) -> tuple[dict[str, Any], bool]:
    """Returns the options of our model, and whether there is one segment only, which becomes none."""
    settings = dict(family.constants)
    for ours, (theirs, default) in family.options.items():
        settings[ours] = _number(config, theirs, default)
    for layers in ("layers", "decoder_layers"):
        if settings.get(layers, 0) > tensors:
            key = family.options[layers][0]
            raise Unsupported(key, settings[layers], f"no more than the {tensors} weights in the folder")
    family.read_more(config, settings)
    single = settings.get("segments") == 1
    return {**settings, "segments": 0} if single else settings, single


def _number(config: dict[str, Any], key: str, default: float, *, least: int = 1, most: int = LARGEST) -> Any:
    """Returns a size (at least `least`) or, where the default is one, a real number from 0 to `LARGEST`."""
    value = config.get(key, default)
    if isinstance(default, int):
        if type(value) is not int or not least <= value <= most:
            raise Unsupported(key, value, f"an integer from {least} to {most:,}")
        return value
    if type(value) not in (int, float) or not (math.isfinite(value) and 0 <= value <= LARGEST):
        raise Unsupported(key, value, "a number of 0 or more")
    return float(value)


def _check_supported(config: dict[str, Any], supported: dict[str, tuple[Any, ...]]) -> None:
    for key, values in supported.items():
        if key in config and config[key] not in values:
            names = " or ".join(json.dumps(value) for value in values if value is not None)
            raise Unsupported(key, config[key], names or "nothing there")


def _shapes(config: Config, kind: Kind, labels: int, vocab_size: int, max_length: int) -> dict[str, torch.Size]:
    """Returns the shape of every parameter of a model, by name."""
    entry = MODELS.get("encoder" if isinstance(config, EncoderConfig) else "encoder_decoder")
    with torch.device("meta"):
        model = entry.make(config, vocab_size=vocab_size, max_length=max_length, heads=heads_of(kind, labels))
    return {name: parameter.shape for name, parameter in model.named_parameters()}


def _their_weights(
    weights: Mapping[str, Tensor], shapes: dict[str, torch.Size], family: Family, kind: Kind, path: Path
) -> dict[str, Tensor]:
    """Returns the weights by the names of the family, in fp32."""
    theirs: dict[str, Tensor] = {}
    for ours, shape in shapes.items():
        if ours not in weights or weights[ours].shape != shape:
            found = f"has shape {tuple(weights[ours].shape)}" if ours in weights else "is missing"
            refuse(path, f"weight {ours} {found}", f"{tuple(shape)} in a {kind} model of these sizes")
        names = family.theirs(ours, kind)
        whole = weights[ours].detach().to("cpu", torch.float32)
        if ours in family.one_row:
            whole = whole[None]
        elif ours.endswith(PLACES):
            whole = torch.cat((whole.new_zeros(family.unused_places, shape[1]), whole))
        theirs |= {name: part.contiguous() for name, part in zip(names, whole.chunk(len(names)), strict=True)}
    if "segments" in family.options and "embeddings.segments.weight" not in shapes:  # theirs has one, which adds 0
        (name,) = family.theirs("embeddings.segments.weight", kind)
        theirs[name] = torch.zeros(1, shapes["embeddings.tokens.weight"][1])
    return theirs


def _family_for(config: Config, kind: Kind, path: Path) -> Family:
    """Returns the family that a model belongs to, of those that are written."""
    if isinstance(config, EncoderConfig) and config.embedding_width == config.width:
        config = dataclasses.replace(config, embedding_width=0)
    known = [family for family in ALL if MODELS.get(family.model).config is type(config)]
    families = [family for family in known if not family.offset_positions]
    nearest = min(families, key=lambda family: len(family.obstacles(config, "none")))
    if wrong := nearest.obstacles(config, kind):
        have = ", ".join(f"model.{name} {getattr(config, name)}" for name in wrong)
        need = ", ".join(f"model.{name} {value}" for name, value in wrong.items())
        what = f"no family of Hugging Face has {have} with the other settings"
        refuse(path, what, f"{need}, as in {nearest.model_types[0]}", "keep the model in its own format")
    return nearest


def _config_of(config: Config, family: Family, kind: Kind, labels: list[str]) -> dict[str, Any]:
    """Returns the content of config.json, but for the vocabulary."""
    values = {**dataclasses.asdict(config), "feed_forward": config.feed_forward_width}
    values["segments"] = values.get("segments") or 1
    content: dict[str, Any] = {
        "model_type": family.model_types[0],
        "architectures": [family.class_prefix + CLASSES[kind]],
    }
    content |= {theirs: values[ours] for ours, (theirs, _) in family.options.items()}
    content |= {key: supported[0] for key, supported in family.supported.items() if supported[0] is not None}
    family.write_more(config, content)
    if kind not in ("masked_lm", "seq2seq"):
        names = ["LABEL_0"] if kind == "regression" else labels
        content["id2label"] = {str(number): name for number, name in enumerate(names)}
        content["label2id"] = {name: number for number, name in enumerate(names)}
    if kind in ("classification", "regression"):
        content["problem_type"] = "regression" if kind == "regression" else "single_label_classification"
    return content
