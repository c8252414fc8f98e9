"""Hugging Face folders to run folders, and back: their models are trained on here, ours are used there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from taskmask.checkpoints import checkpoint
from taskmask.checkpoints.read import HEADS, POSITIONS
from taskmask.config import Assignment, fields_of, from_tables
from taskmask.config.settings import Settings, TrainSettings, parse
from taskmask.errors import CheckpointError, ConfigError
from taskmask.hf import model_folder
from taskmask.hf.families import CLASSES, Kind
from taskmask.hf.model_card import Figures, known_figures, model_card
from taskmask.hf.pair_models import signs_of_pairs
from taskmask.hf.tokenizer_export import template, tokenizer_config, tokenizer_json, with_controls_as_spaces
from taskmask.inference import loaded_model
from taskmask.inference.loaded_model import Pretrained
from taskmask.inference.multi_seed import evaluate_runs
from taskmask.models.encoder import Encoder
from taskmask.models.encoder_decoder import EncoderDecoder
from taskmask.registry import MODELS, TASKS
from taskmask.system.files import as_utf8, atomic_write
from taskmask.system.folders import atomic_directory, check_output
from taskmask.tasks.text_to_text import TextToTextTask
from taskmask.tokenizer.hf_folder import roles_of_folder
from taskmask.tokenizer.tokenizer import TOKENIZER_FILE, Vocabulary
from taskmask.training.build import build_objective, build_task
from taskmask.training.run_folder import keep_vocabulary, prepare
from taskmask.training.state import Progress, snapshot

PREFIX = "model."
"""What the names of the model's weights begin with in a checkpoint."""
KINDS = {"denoising": "seq2seq"}
"""Tasks whose model is what that of another one is."""


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was converted.

    Args:
        family: model_type of the Hugging Face family.
        kind: what the model computes; "none": an encoder without a head.
        settings: those of the run.
        vocab_size: entries of the vocabulary.
        parameters: numbers in the weights.
        surplus: rows of the token embedding that were cut, since the vocabulary has no entries for them.
        left_out: names of the weights in the folder that have no use here.
        labels: names of the classes.
        notes: what a folder says of generated texts and the settings of the run cannot.
        pair: the second text that the model reads; "" for one text.
        sign: what tells that a model that is to read one text may be one of pairs.
    """

    family: str
    kind: Kind
    settings: Settings
    vocab_size: int
    parameters: int
    surplus: int = 0
    left_out: list[str] = dataclasses.field(default_factory=list)
    labels: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    pair: str = ""
    sign: str = ""


def from_hf(folder: str, run: str, overrides: Iterable[Assignment] = ()) -> Converted:
    """Makes a run folder of a Hugging Face folder: weights, settings and vocabulary, as if it had trained 0 steps.

    Args:
        folder: holds config.json, model.safetensors and the tokenizer.
        run: the run folder, which must be new or empty.
        overrides: settings to differ from those that the folder says, such as `task.pair` or `data.length`.

    Raises:
        CheckpointError: the model cannot be read, or is beyond what an encoder here can express.
        ConfigError: the run folder is not empty, or a setting does not fit.
        DataError: the tokenizer cannot be read.
    """
    check_output(Path(run), "--run")
    model, vocab = model_folder.read_folder(folder), Vocabulary.load(folder)
    _check_specials(vocab, model, folder)
    settings = _settings_for(model, folder, run, overrides)
    _check_template(vocab, settings, folder)
    surplus = model.vocab_size - vocab.size
    weights = {PREFIX + name: tensor for name, tensor in model_folder.fit_vocabulary(model.weights, vocab.size).items()}
    for name in weights.keys() & set(POSITIONS):
        weights[name] = weights[name][: settings.data.length].clone()
    labels = {settings.task.options.label: model.labels} if model.labels else {}
    _check_fit(settings, vocab, labels, weights, model, folder)
    with atomic_directory(Path(run), "--run") as partial:
        prepare(partial, settings)
        keep_vocabulary(partial, vocab)
        name = checkpoint.name_of(0, "", None)
        checkpoint.save(partial / "checkpoints" / name, snapshot(settings, vocab, labels, weights, Progress()))
    numbers, family = sum(tensor.numel() for tensor in weights.values()), str(model.config["model_type"])
    pair = getattr(settings.task.options, "pair", "")
    sign = "" if pair or model.pair else signs_of_pairs(model.config, model.labels)
    found = (surplus, model.left_out, model.labels, model.notes, pair, sign)
    return Converted(family, model.kind, settings, vocab.size, numbers, *found)


def to_hf(run: str, folder: str, *, evaluate: bool = False) -> Converted:
    """Writes the best checkpoint of a run as a Hugging Face folder with tokenizer and model card.

    Args:
        run: a run folder or one checkpoint.
        folder: where it goes, which must be new or empty.
        evaluate: measure it anew on the splits valid and test of its dataset, for the card; else the card has the
            figures that are in the run folder.

    Raises:
        CheckpointError: no Hugging Face family has such a model.
        ConfigError: the folder is not empty.
    """
    check_output(Path(folder), "--to-hf")
    loaded = loaded_model.load(run)
    kind = _kind_of(loaded)
    figures = _evaluated(run, loaded) if evaluate else known_figures(run, loaded)
    vocab, settings = loaded.vocab, loaded.settings
    config, length = settings.model.options, settings.data.length
    labels, pair = loaded.asked.class_names, getattr(settings.task.options, "pair", "")
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in loaded.weights.items() if name.startswith(PREFIX)}
    loaded.objective(settings, loaded.asked)  # says so where a head is lacking
    tokenizer, about = tokenizer_for(vocab, kind, settings), tokenizer_config(vocab, length)
    if getattr(config, "segments", 0) < 2:
        about["model_input_names"] = ["input_ids", "attention_mask"]
    with atomic_directory(Path(folder), "--to-hf") as partial, checkpoint.contents_of(str(loaded.file)):
        sizes = {"vocab_size": vocab.size, "max_length": length}
        ids = {"pad": vocab.pad, "bos": vocab.bos, "eos": vocab.eos}
        how = loaded.asked.generation(length) if isinstance(loaded.asked, TextToTextTask) else None
        try:
            written = model_folder.write_folder(
                partial, config, weights, kind=kind, labels=labels, generation=how, pair=pair, **sizes, **ids
            )
        except CheckpointError as error:  # of the model, not of the folder that is about to go
            raise CheckpointError(error.what, where=str(loaded.file), expected=error.expected, fix=error.fix) from error
        family, numbers = written.model_types[0], sum(map(Tensor.numel, weights.values()))
        card = model_card(Path(folder).absolute().name, loaded, kind, family, numbers, figures)
        texts = {TOKENIZER_FILE: tokenizer, "README.md": card}
        texts["tokenizer_config.json"] = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        for name, text in texts.items():
            with atomic_write(partial / name) as file:
                file.write(as_utf8(text))
    return Converted(family, kind, settings, vocab.size, numbers, labels=list(labels), pair=pair)


def tokenizer_for(vocab: Vocabulary, kind: Kind, settings: Settings) -> str:
    """Returns the tokenizer.json of a vocabulary, which reads texts and puts specials around them as our tasks do.

    All of a tokenizer.json is kept but for three things. Control characters become spaces. A tagging reads every word
    as if a space stood before it, so a byte-level tokenizer is told to do that, too. And if the post-processor does
    not do what the run does, it is replaced.
    """
    text = tokenizer_json(vocab)
    if vocab.file_name != TOKENIZER_FILE:
        return text
    content = json.loads(text)
    content["normalizer"] = with_controls_as_spaces(content.get("normalizer"))
    splitter = content.get("pre_tokenizer") or {}
    if kind == "tagging" and splitter.get("type") == "ByteLevel":
        content["pre_tokenizer"] = {**splitter, "add_prefix_space": True}
    if not (vocab.puts_ends and _joins_as(vocab, settings)):
        content["post_processor"] = template(vocab)
    return json.dumps(content, ensure_ascii=False)


def _joins_as(vocab: Vocabulary, settings: Settings) -> bool:
    """Whether the tokenizer itself joins the texts of a pair as the task does, if it reads pairs."""
    is_typed = vocab.types_pairs or getattr(settings.model.options, "segments", 0) < 2
    return not getattr(settings.task.options, "pair", "") or (vocab.joins_pairs and is_typed)


def _check_specials(vocab: Vocabulary, model: model_folder.HFModel, folder: str) -> None:
    """Raises a CheckpointError if the tokenizer has not a special that the model must have been trained with."""
    needed = {"<s>": vocab.bos, "</s>": vocab.eos} | ({"<mask>": vocab.mask} if model.kind == "masked_lm" else {})
    named = {role: vocab.piece(id) for role, id in needed.items()} | roles_of_folder(Path(folder))
    missing = [role for role, id in needed.items() if id >= vocab.num_own or not vocab.has_token(named[role])]
    if not missing and vocab.size > model.vocab_size >= vocab.num_own:
        missing = vocab.pieces(range(vocab.num_own, vocab.size))
    if missing:
        raise CheckpointError(
            f"its tokenizer has no {', '.join(missing)}",
            where=folder,
            expected="<s> or [CLS], </s> or [SEP], <pad> or [PAD], <unk> or [UNK], <mask> or [MASK], or tokens that "
            "tokenizer_config.json names as cls_token, sep_token, pad_token, unk_token, mask_token",
            fix="name them there, as tokens of tokenizer.json",
        )


def _check_template(vocab: Vocabulary, settings: Settings, folder: str) -> None:
    """Raises a CheckpointError unless the tokenizer puts around texts what our tasks put there."""
    bos, eos = vocab.pieces([vocab.bos, vocab.eos])
    if vocab.file_name != TOKENIZER_FILE or (vocab.puts_ends and _joins_as(vocab, settings)):
        return
    what = "its tokenizer.json does not put one special token before a text and one behind it"
    expected = f"a post_processor that makes {bos} A {eos} of a text A"
    if vocab.puts_ends:
        what = "its tokenizer.json does not join the texts of a pair as taskmask does"
        joined = " ".join([bos, "A", *[eos] * vocab.pair_separators, "B", eos])
        expected = f"a post_processor that makes {joined} of a pair, with type id 1 from B on"
    fix = "take the tokenizer that the model was trained with"
    raise CheckpointError(what, where=folder, expected=expected, fix=fix)


def _settings_for(model: model_folder.HFModel, folder: str, run: str, overrides: Iterable[Assignment]) -> Settings:
    """Returns the complete settings of a run of the model.

    Raises:
        ConfigError: a setting is wrong, or the task is not that of the model.
    """
    task = "masked_lm" if model.kind == "none" else model.kind
    tables: dict[str, Any] = {
        "data": {"length": model.max_length},
        "run": {"folder": run},
        "task": {"name": task, **model.generation},
        "model": {"name": model.family.model, **model.settings},
        "train": {"max_tokens": max(model.max_length, TrainSettings().max_tokens)},
    }
    if model.pair and "pair" in fields_of(TASKS.get(task).config):
        tables["task"]["pair"] = model.pair
    settings = parse([*from_tables(tables, folder), *overrides])
    if settings.task.name != task:
        raise ConfigError(f"is {settings.task.name}", where="--task", expected=f"{task}, which the model was made for")
    return settings


def _check_fit(
    settings: Settings,
    vocab: Vocabulary,
    labels: dict[str, list[str]],
    weights: dict[str, Tensor],
    model: model_folder.HFModel,
    folder: str,
) -> None:
    """Raises a CheckpointError unless the weights fill the model that the settings say, but for a head there is not."""
    with loaded_model.no_larger_than(weights, folder):
        objective = build_objective(settings, build_task(settings, vocab, labels))
    own = objective.state_dict()
    heads = {name: tensor for name, tensor in own.items() if model.kind == "none" and name.startswith(HEADS)}
    checkpoint.put_weights(objective, {**heads, **weights}, folder)


def _kind_of(loaded: Pretrained) -> Kind:
    """Says what a run's model computes, in the words of Hugging Face.

    Raises:
        CheckpointError: they have no such model.
    """
    settings, where = loaded.settings, str(loaded.file)
    task = KINDS.get(settings.task.name, settings.task.name)
    if task not in CLASSES:
        what = f"its task is {task}, which has no counterpart there"
        raise CheckpointError(what, where=where, expected=f"one of {', '.join(CLASSES)}")
    wanted = EncoderDecoder if task == "seq2seq" else Encoder
    if MODELS.get(settings.model.name).load() is not wanted:
        what = f"its model is {settings.model.name}, which has no counterpart there"
        noun = "an encoder-decoder" if task == "seq2seq" else "an encoder"
        raise CheckpointError(what, where=where, expected=f"{noun}, or a variant of it")
    return next(kind for kind in get_args(Kind) if kind == task)


def _evaluated(run: str, loaded: Pretrained) -> Figures:
    """Measures a run on the splits valid and test, as far as its dataset has them."""
    known = loaded.dataset().splits if loaded.settings.data.path else ()
    found = [evaluate_runs([run], split=split).to_dict() for split in ("valid", "test") if split in known]
    if not found:
        where = f"dataset {loaded.settings.data.path or '(none)'} of {run}"
        raise ConfigError("has no split valid or test", where=where, fix="leave --evaluate out")
    return Figures(found, "measured on the best checkpoint; 95 % intervals over the examples")
