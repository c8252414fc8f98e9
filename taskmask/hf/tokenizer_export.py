"""A vocabulary as the `tokenizer.json` of Hugging Face, for transformers; nothing of theirs is needed to write it.

The ids are the same but for texts that spell out a special (`<mask>`) or a byte (`<0x41>`): transformers take those for
what they spell, a SentencePiece vocabulary takes them as text. Sums of scores are rounded differently, so of two ways
to cut a word that are equally good up to the seventh digit the other may win. And where a model normalises, the package
`tokenizers` drops a mark behind a character that it replaces (`ﬁ` and U+0301), which SentencePiece keeps.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

from taskmask.errors import DataError
from taskmask.tokenizer.special_roles import without_roles
from taskmask.tokenizer.tokenizer import VOCABULARY_FILE, Vocabulary
from taskmask.tokenizer.word_boundaries import SPACE

_CONTROLS = r"\x00-\x1f\x7f"  # in a class of a regular expression
_UNIGRAM, _BPE = 1, 2  # model types of SentencePiece
_USER_DEFINED = 4  # type of a piece


def tokenizer_json(vocab: Vocabulary) -> str:
    """The content of a `tokenizer.json` that gives the same ids.

    Specials go around one text as `<s> A </s>`, around two as `<s> A </s> B </s>` with type ids 0 and 1. A vocabulary
    that was made of a `tokenizer.json` gives that one back, with the specials that it lacked.

    Raises:
        DataError: the SentencePiece model has what a `tokenizer.json` cannot say.
    """
    if vocab.file_name != VOCABULARY_FILE:
        return _with_lacking_specials(vocab)
    model = _read_model(vocab.model_bytes)
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(vocab),
        "normalizer": _normalizer(model),
        "pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": True},
        "post_processor": template(vocab),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": (_unigram if model["type"] == _UNIGRAM else _bpe)(model, vocab),
    }
    return json.dumps(content, ensure_ascii=False)


def tokenizer_config(vocab: Vocabulary, max_length: int) -> dict[str, Any]:
    """The content of `tokenizer_config.json` beside it.

    Args:
        vocab: the vocabulary.
        max_length: of a text in tokens, specials included.
    """
    pad, bos, eos, unk, mask = vocab.pieces([vocab.pad, vocab.bos, vocab.eos, vocab.unk, vocab.mask])
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "pad_token": pad,
        "bos_token": bos,
        "cls_token": bos,
        "eos_token": eos,
        "sep_token": eos,
        "unk_token": unk,
        "mask_token": mask,
    }


def _with_lacking_specials(vocab: Vocabulary) -> str:
    plain = without_roles(vocab.model_bytes)
    if vocab.num_own == vocab.size:
        return plain.decode()
    content = json.loads(plain)
    lacking = [_added_token(id, vocab.piece(id), id == vocab.mask) for id in range(vocab.num_own, vocab.size)]
    content["added_tokens"] = [*(content.get("added_tokens") or []), *lacking]
    if any(name.startswith("<no token ") for name in vocab.pieces(range(vocab.num_own))):  # they would fill the gaps
        raise DataError(
            f"the tokenizer has ids without tokens, so {lacking[0]['content']} cannot be added to it",
            expected="a tokenizer without gaps among its ids, or one that has all the special tokens",
        )
    return json.dumps(content, ensure_ascii=False)


def _added_tokens(vocab: Vocabulary) -> list[dict[str, Any]]:
    """The specials; `<mask>` takes the space before it with it, as `Vocabulary.encode_with_masks` does."""
    return [_added_token(id, vocab.piece(id), id == vocab.mask) for id in vocab.special_ids.tolist()]


def _added_token(id: int, content: str, takes_space: bool = False) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": takes_space, "rstrip": False, "normalized": False, "special": True}
    return {"id": id, "content": content, **flags}


def template(vocab: Vocabulary) -> dict[str, Any]:
    """The `post_processor` that puts specials around texts as the tasks do; the second of a pair has type id 1."""
    bos, eos = vocab.pieces([vocab.bos, vocab.eos])

    def special(name: str, type_id: int) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": type_id}}

    def text(name: str, type_id: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": type_id}}

    first = [special(bos, 0), text("A", 0), special(eos, 0)]
    between = [special(eos, 0)] * (vocab.pair_separators - 1)
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": [*first, *between, text("B", 1), special(eos, 1)],
        "special_tokens": {
            name: {"id": name, "ids": [id], "tokens": [name]} for name, id in ((bos, vocab.bos), (eos, vocab.eos))
        },
    }


def _normalizer(model: dict[str, Any]) -> dict[str, Any]:
    """Control characters and `▁` become spaces, runs of spaces one, and none stays at the end.

    Metaspace puts the one at the beginning. `\\z` is the end of the text, `$` would be that of every line.
    """
    charsmap = base64.b64encode(model["charsmap"]).decode()
    steps = [
        _replace(f"[{_CONTROLS}{SPACE}]", " "),
        *([{"type": "Precompiled", "precompiled_charsmap": charsmap}] if charsmap else []),
        _replace(" {2,}", " "),
        _replace(r" \z", ""),
    ]
    return {"type": "Sequence", "normalizers": steps}


def with_controls_as_spaces(normalizer: dict[str, Any] | None) -> dict[str, Any]:
    """The normalizer that makes control characters spaces first, as every text of a dataset is read."""
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    known = [_replace(f"[{_CONTROLS}{more}]", " ") for more in ("", SPACE)]
    if normalizer is not None and steps and steps[0] in known:
        return normalizer
    return {"type": "Sequence", "normalizers": [known[0], *steps]}


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _unigram(model: dict[str, Any], vocab: Vocabulary) -> dict[str, Any]:
    vocabulary = [[name, score] for name, score, _ in model["pieces"]]
    return {"type": "Unigram", "unk_id": vocab.unk, "vocab": vocabulary, "byte_fallback": model["byte_fallback"]}


def _bpe(model: dict[str, Any], vocab: Vocabulary) -> dict[str, Any]:
    """SentencePiece joins any two pieces whose joint form is a piece, best score first: all those pairs are merges."""
    ids = {name: id for id, (name, _, _) in enumerate(model["pieces"])}
    ordinary = {name for name, _, kind in model["pieces"] if kind == 1}
    ranked = sorted((-score, ids[name], name) for name, score, kind in model["pieces"] if kind == 1 and len(name) > 1)
    merges = [
        [name[:at], name[at:]]
        for _, _, name in ranked
        for at in range(1, len(name))
        if name[:at] in ordinary and name[at:] in ordinary
    ]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": vocab.piece(vocab.unk),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model["byte_fallback"],
        "ignore_merges": False,
        "vocab": ids,
        "merges": merges,
    }


def _read_model(content: bytes) -> dict[str, Any]:
    """What there is in a SentencePiece model (a protocol buffer), checked to be what a `tokenizer.json` can say."""
    pieces, trainer, normalizer = [], {}, {}
    for number, value in _fields(content):
        if number == 1:
            piece = dict(_fields(value))
            pieces.append((piece[1].decode(), struct.unpack("<f", piece.get(2, bytes(4)))[0], piece.get(3, 1)))
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    problems = {
        "is neither unigram nor bpe": trainer.get(3, _UNIGRAM) not in (_UNIGRAM, _BPE),
        "writes spaces at the end of words": trainer.get(24, 0),
        "puts no space before a text": not normalizer.get(3, 1),
        "keeps runs of spaces": not normalizer.get(4, 1),
        "writes spaces as they are": not normalizer.get(5, 1),
        "has pieces with spaces inside": any(SPACE in name[1:] or " " in name for name, _, _ in pieces),
        "has pieces defined by hand": any(kind == _USER_DEFINED for _, _, kind in pieces),
    }
    if found := [problem for problem, is_so in problems.items() if is_so]:
        raise DataError(
            f"the SentencePiece model {found[0]}, which a tokenizer.json cannot say",
            expected="a model as taskmask-preprocess trains it",
        )
    type_, charsmap = trainer.get(3, _UNIGRAM), normalizer.get(2, b"")
    return {"pieces": pieces, "type": type_, "byte_fallback": bool(trainer.get(35, 0)), "charsmap": charsmap}


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer: (number, whole number or bytes)."""
    at = 0
    while at < len(content):
        tag, at = _read_number(content, at)
        if tag & 7 == 0:
            value, at = _read_number(content, at)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(tag & 7)
        if size is None:
            size, at = _read_number(content, at)
        yield tag >> 3, content[at : at + size]
        at += size


def _read_number(content: bytes, at: int) -> tuple[int, int]:
    """(a number of seven bits a byte, where it ends)."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
