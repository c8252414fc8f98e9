"""The tokenizer of a Hugging Face folder that has no `tokenizer.json`, made from its older files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from taskmask.data.engine import TOKENIZER_FILE, VOCABULARY_FILE
from taskmask.data.engine_tokenizers import tokenizers_package
from taskmask.errors import DataError

_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")


def tokenizer_of_folder(folder: Path) -> bytes:
    """The content of a `tokenizer.json` that does what the files of the folder say.

    `vocab.txt` is WordPiece as in BERT, `vocab.json` with `merges.txt` byte-level BPE as in RoBERTa and GPT-2;
    `tokenizer_config.json` may have their options.

    Raises:
        ConfigError: the package `tokenizers` is not installed.
        DataError: there are no such files, or they are damaged.
    """
    if (folder / "vocab.txt").exists():
        make = _word_piece
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        make = _byte_level
    else:
        raise _nothing_found(folder)
    package = tokenizers_package()
    options = _read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
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


def _nothing_found(folder: Path) -> DataError:
    model = next((name for name in _SENTENCEPIECE if (folder / name).exists()), None)
    if model:
        return DataError(
            f"there is only {model}, whose ids are not always those of the model",
            where=str(folder),
            expected=TOKENIZER_FILE,
            fix=f"make one with AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})",
        )
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
    tokenizer = package.Tokenizer(package.models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = package.normalizers.BertNormalizer(
        handle_chinese_chars=bool(options.get("tokenize_chinese_chars", True)),
        strip_accents=options.get("strip_accents"),
        lowercase=bool(options.get("do_lower_case", True)),
    )
    tokenizer.pre_tokenizer = package.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = package.decoders.WordPiece()
    tokenizer.add_special_tokens([name for name in specials if name in vocabulary])
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
    tokenizer = package.Tokenizer(package.models.BPE(vocabulary, pairs))
    spaced = bool(options.get("add_prefix_space", False))
    tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = package.decoders.ByteLevel()
    start, end = _name(options, "bos_token", "<s>"), _name(options, "eos_token", "</s>")
    plain = [name for name in (start, end, "<s>", "<pad>", "</s>", "<unk>", "<|endoftext|>") if name in vocabulary]
    tokenizer.add_special_tokens(list(dict.fromkeys(plain)))
    if "<mask>" in vocabulary:  # takes the space before it, as RoBERTa's does
        tokenizer.add_special_tokens([package.AddedToken("<mask>", lstrip=True, special=True)])
    if start == "<s>" and {"<s>", "</s>"} <= vocabulary.keys():
        tokenizer.post_processor = package.processors.RobertaProcessing(
            ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]), add_prefix_space=spaced
        )
    return tokenizer


def _name(options: dict[str, Any], key: str, default: str) -> str:
    """The name of a special token; files write it as a string or as an object."""
    value = options.get(key)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) and value else default


def _read_text(path: Path) -> str:
    try:
        if not path.is_file():  # a device or a pipe is read for ever
            raise DataError("is no plain file", where=str(path))
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read it: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError("the file is not UTF-8", where=str(path)) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}", where=str(path)) from error
    if not isinstance(content, dict):
        raise DataError("this is no JSON object", where=str(path))
    return content
