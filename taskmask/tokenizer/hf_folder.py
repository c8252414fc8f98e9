"""The tokenizer of a Hugging Face folder: made from its older files, where it has no `tokenizer.json`, else checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taskmask.errors import DataError
from taskmask.system.files import read_text
from taskmask.system.json_input import from_json
from taskmask.tokenizer.backend import BOS, EOS, MASK, PAD, TOKENIZER_FILE, UNK, VOCABULARY_FILE, Engine
from taskmask.tokenizer.hf_backend import tokenizers_package

_CONFIG = "tokenizer_config.json"
_WORD_PIECE = ("Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert", "ConvBert", "LayoutLM")
_BYTE_LEVEL = ("Roberta", "GPT2", "Longformer", "Bart")
_SPECIALS = ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token", "bos_token", "eos_token")
_ROLES = {
    PAD: ("pad_token",), BOS: ("cls_token", "bos_token"), EOS: ("sep_token", "eos_token"), UNK: ("unk_token",),
    MASK: ("mask_token",),
}  # fmt: skip
_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")


def tokenizer_of_folder(folder: Path) -> bytes:
    """The content of a `tokenizer.json` that does what the files of the folder say.

    `vocab.txt` is WordPiece as in BERT, `vocab.json` with `merges.txt` byte-level BPE as in RoBERTa and GPT-2;
    `tokenizer_config.json` may have their options, and `special_tokens_map.json` the names of their special tokens.

    Raises:
        ConfigError: the package `tokenizers` is not installed.
        DataError: there are no such files, they are damaged, or ask for what only transformers can do.
    """
    classes: tuple[str, ...]
    if (folder / "vocab.txt").exists():
        make, classes = _word_piece, _WORD_PIECE
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        make, classes = _byte_level, _BYTE_LEVEL
    else:
        raise _nothing_found(folder)
    package = tokenizers_package()
    options = _options(folder)
    _check_options(folder, options, classes)
    try:
        return make(package, folder, options).to_str().encode()
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"cannot make a tokenizer from these files: {' '.join(str(error).split())[:200]}",
            where=str(folder),
            expected="undamaged files of a Hugging Face tokenizer",
        ) from error


def roles_of_folder(folder: Path) -> dict[str, str]:
    """Role -> token, as `tokenizer_config.json` and `special_tokens_map.json` name them.

    Raises:
        DataError: the files are damaged.
    """
    options = _options(folder)
    named = {
        role: next(filter(None, (_content(options.get(key)) for key in keys)), "") for role, keys in _ROLES.items()
    }
    return {role: token for role, token in named.items() if token}


def check_config(folder: Path, content: bytes, engine: Engine) -> None:
    """Checks that the `tokenizer_config.json` of a folder, if there is one, agrees with the `tokenizer.json`.

    transformers follows the former, taskmask the latter.

    Args:
        folder: of Hugging Face.
        content: of its `tokenizer.json`, which is valid.
        engine: made of it.

    Raises:
        DataError: both state a value, and they differ.
    """
    _check_ends(folder, engine)
    options, tokenizer = _read_json_if_there(folder / _CONFIG), json.loads(content)
    bert = _component(tokenizer.get("normalizer"), "BertNormalizer")
    byte_level = _component(tokenizer.get("pre_tokenizer"), "ByteLevel")
    for key, of_tokenizer in (
        ("do_lower_case", bert.get("lowercase")),
        ("strip_accents", bert.get("strip_accents")),
        ("tokenize_chinese_chars", bert.get("handle_chinese_chars")),
        ("add_prefix_space", byte_level.get("add_prefix_space")),
    ):
        of_config = options.get(key)
        if of_config is not None and of_tokenizer is not None and bool(of_config) != of_tokenizer:
            raise DataError(
                f"{key} is {json.dumps(of_config)} in {_CONFIG} and {json.dumps(of_tokenizer)} in {TOKENIZER_FILE}",
                where=str(folder),
                expected="the same in both; transformers follows the former",
                fix=_save_again(folder),
            )


def _check_ends(folder: Path, engine: Engine) -> None:
    """Raises a DataError if the folder names other tokens for the ends of a text than the tokenizer puts there."""
    options, names = _options(folder), {id: name for name, id in engine.ids.items()}
    for key, end in zip(("cls_token", "sep_token"), engine.ends, strict=True):
        named = _content(options.get(key))
        if len(end) == 1 and named in engine.ids and end != [engine.ids[named]]:
            put = " ".join(names[id] for id in end)
            raise DataError(
                f"{key} is {named} in {_CONFIG}, and {TOKENIZER_FILE} puts {put} there",
                where=str(folder),
                expected="the same in both",
                fix=f"name in {_CONFIG} what the post_processor of {TOKENIZER_FILE} puts around a text",
            )


def _component(part: Any, type: str) -> dict[str, Any]:
    """The component of this type in a part of a tokenizer.json, which may be a sequence; empty if there is none."""
    if not isinstance(part, dict):
        return {}
    if part.get("type") == type:
        return part
    inside = [*part.get("normalizers", []), *part.get("pretokenizers", [])]
    return next(filter(None, (_component(entry, type) for entry in inside)), {})


def _save_again(folder: Path) -> str:
    place = repr(str(folder))
    return f"make a {TOKENIZER_FILE} with AutoTokenizer.from_pretrained({place}).save_pretrained({place})"


def _refusal(what: str, folder: Path, expected: str) -> DataError:
    return DataError(what, where=str(folder), expected=expected, fix=_save_again(folder))


def _options(folder: Path) -> dict[str, Any]:
    """The options of a folder's tokenizer, names of special tokens and tokens added to the vocabulary included."""
    options = _read_json_if_there(folder / _CONFIG)
    if "added_tokens_decoder" not in options:  # else transformers ignores the older files
        options |= _read_json_if_there(folder / "special_tokens_map.json")
        options["added_tokens"] = _read_json_if_there(folder / "added_tokens.json")
    if not options.get("tokenizer_class"):
        options["tokenizer_class"] = _read_json_if_there(folder / "config.json").get("tokenizer_class")
    return options


def _check_options(folder: Path, options: dict[str, Any], classes: tuple[str, ...]) -> None:
    name = options["tokenizer_class"]
    if name and str(name).removesuffix("Fast").removesuffix("Tokenizer") not in classes:
        expected = f"the tokenizer of {', '.join(classes)}, or {TOKENIZER_FILE}"
        raise _refusal(f"tokenizer_class is {str(name)[:60]!r}", folder, expected)
    if options.get("do_basic_tokenize") is False:
        raise _refusal("do_basic_tokenize is false", folder, f"true, or {TOKENIZER_FILE}")


def _check_tokens(folder: Path, options: dict[str, Any], needed: list[str], vocabulary: dict[str, int]) -> None:
    """Checks that the tokens needed, named as special, or added are those of the vocabulary."""
    added = dict(options.get("added_tokens", {}))
    for id, entry in dict(options.get("added_tokens_decoder", {})).items():
        added[_content(entry)] = int(id)
    wrong = [token for token in added if vocabulary.get(token) != added[token]]
    named = [*needed, *(_content(options.get(key)) for key in _SPECIALS), *_additional(options)]
    wrong += [token for token in named if token and token not in vocabulary]
    if wrong:
        raise _refusal(f"the token {wrong[0][:60]!r} is not in the vocabulary", folder, f"that, or {TOKENIZER_FILE}")


def _additional(options: dict[str, Any]) -> list[str]:
    return [_content(entry) for entry in options.get("additional_special_tokens") or []]


def _nothing_found(folder: Path) -> DataError:
    model = next((name for name in _SENTENCEPIECE if (folder / name).exists()), None)
    if model:
        return _refusal(f"there is only {model}, whose ids are not always those of the model", folder, TOKENIZER_FILE)
    return DataError(
        "No such file: there is no vocabulary in this folder",
        where=str(folder),
        expected=f"{VOCABULARY_FILE} (SentencePiece), {TOKENIZER_FILE}, vocab.txt, or vocab.json and merges.txt",
    )


def _word_piece(package: Any, folder: Path, options: dict[str, Any]) -> Any:
    lines = _read_text(folder / "vocab.txt").split("\n")
    vocabulary = {line.removesuffix("\r"): id for id, line in enumerate(lines) if line or id + 1 < len(lines)}
    unknown, start, end, *_ = specials = [
        _name(options, key, default)
        for key, default in (("unk_token", "[UNK]"), ("cls_token", "[CLS]"), ("sep_token", "[SEP]"),
                             ("pad_token", "[PAD]"), ("mask_token", "[MASK]"))
    ]  # fmt: skip
    _check_tokens(folder, options, [unknown], vocabulary)
    tokenizer = package.Tokenizer(package.models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = package.normalizers.BertNormalizer(
        handle_chinese_chars=bool(options.get("tokenize_chinese_chars", True)),
        strip_accents=options.get("strip_accents"),
        lowercase=bool(options.get("do_lower_case", True)),
    )
    tokenizer.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = package.decoders.WordPiece()
    tokenizer.add_special_tokens([name for name in [*specials, *_additional(options)] if name in vocabulary])
    if start in vocabulary and end in vocabulary:
        tokenizer.post_processor = package.processors.TemplateProcessing(
            single=f"{start} $A {end}",
            pair=f"{start} $A {end} $B:1 {end}:1",
            special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
        )
    return tokenizer


def _byte_level(package: Any, folder: Path, options: dict[str, Any]) -> Any:
    vocabulary = _read_json(folder / "vocab.json")
    lines = _read_text(folder / "merges.txt").split("\n")
    pairs = [tuple(line.rstrip("\r").split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    _check_tokens(folder, options, [], vocabulary)
    tokenizer = package.Tokenizer(package.models.BPE(vocabulary, pairs))
    spaced = bool(options.get("add_prefix_space", False))
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = package.decoders.ByteLevel()
    start, end = _name(options, "bos_token", "<s>"), _name(options, "eos_token", "</s>")
    mask = _name(options, "mask_token", "<mask>")
    plain = [start, end, "<s>", "<pad>", "</s>", "<unk>", "<|endoftext|>"]
    plain += [*(_content(options.get(key)) for key in _SPECIALS), *_additional(options)]
    tokenizer.add_special_tokens([name for name in dict.fromkeys(plain) if name in vocabulary and name != mask])
    if mask in vocabulary:  # takes the space before it, as RoBERTa's does
        tokenizer.add_special_tokens([package.AddedToken(mask, lstrip=True, special=True)])
    before, after = _name(options, "cls_token", start), _name(options, "sep_token", end)
    if before != "<|endoftext|>" and {before, after} <= vocabulary.keys():  # GPT-2 puts nothing around a text
        tokenizer.post_processor = package.processors.RobertaProcessing(
            (after, vocabulary[after]), (before, vocabulary[before]), add_prefix_space=spaced
        )
    return tokenizer


def _name(options: dict[str, Any], key: str, default: str) -> str:
    return _content(options.get(key)) or default


def _content(token: Any) -> str:
    """The text of a token, which files write as a string or as an object; empty if it is neither."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise DataError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8", where=str(path)) from error


def _read_json_if_there(path: Path) -> dict[str, Any]:
    return _read_json(path) if path.exists() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = from_json(_read_text(path))
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise DataError("this is no JSON object", where=str(path))
    return content
