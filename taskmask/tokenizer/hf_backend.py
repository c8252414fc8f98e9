"""A Hugging Face `tokenizer.json` as the engine of a vocabulary, through the package `tokenizers` (extra `[hf]`).

Ids are those of the `tokenizer.json`, without the specials around a text. So a special token that is spelled out
in a text, like `[MASK]`, becomes that token, which a SentencePiece vocabulary never does. Truncation and padding that
the file may ask for are switched off.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from taskmask.errors import ConfigError, DataError, TaskmaskError
from taskmask.tokenizer.backend import BOS, EOS, TOKENIZER_FILE, UNK, Engine, Spans
from taskmask.tokenizer.special_roles import find_roles, stated_roles
from taskmask.tokenizer.word_boundaries import SPACE, Piece, is_unspaced, marked_piece, shown

_UNKNOWN = re.compile(rb'"unk_id"\s*:\s*(\d+)')  # of a Unigram, whose pieces are no keys of its file
_SUPPORTED = "WordPiece, byte-level BPE, or Unigram or BPE whose pieces write a space as ▁"


class TokenizersEngine(Engine):
    """A `tokenizer.json`.

    Ids that no token has (holes) are named `<no token N>` and count as special.

    Args:
        content: of the file.
        where: what to call it in error messages.

    Raises:
        ConfigError: the package `tokenizers` is not installed.
        DataError: it is no tokenizer, or one of a kind whose words cannot be told.
    """

    file_name = TOKENIZER_FILE

    def __init__(self, content: bytes, where: str):
        self._where = where
        with self._errors("this is no tokenizer.json"):
            self._tokenizer = tokenizers_package().Tokenizer.from_str(content.decode())
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        self.ids = self._tokenizer.get_vocab(with_added_tokens=True)
        self._added: dict[int, Any] = self._tokenizer.get_added_tokens_decoder()
        self._raw = self._by_id()
        self._kind, self._prefix = self._kind_of_pieces()
        self.writes_spaces = self._kind in ("bytes", "marked")
        holes = [id for id, raw in enumerate(self._raw) if raw is None]
        specials = [id for id, token in self._added.items() if token.special]
        self.ends = self._find_ends()
        stated = {role: self.ids[token] for role, token in stated_roles(content).items() if token in self.ids}
        self.roles = find_roles(self.ids, specials, self._own_roles(content), stated)
        self.special_ids = [*holes, *specials]
        literal = {*self.special_ids, *self.roles.values()}
        self.names = [
            f"<no token {id}>" if raw is None else raw if id in literal else shown(self.piece(id))
            for id, raw in enumerate(self._raw)
        ]
        self.encode(["a [b] Ω 龘"], 1)  # what cannot encode should fail now
        self.pair_separators, self.joins_pairs, self.types_pairs = self._find_pairs()
        self._tokenizer.post_processor = None  # it only adds specials, and trims offsets, of byte-level BPE wrongly

    def _by_id(self) -> list[str | None]:
        """What the file calls each id; None where it has none."""
        size = max(self.ids.values(), default=-1) + 1
        if not size:
            raise self._error("the tokenizer has no tokens")
        if size > 4 * len(self.ids) + 1024:
            raise self._error(f"the largest id is {size - 1}, and there are {len(self.ids)} tokens", "ids without gaps")
        raw: list[str | None] = [None] * size
        for token, id in self.ids.items():
            if raw[id] is not None:
                raise self._error(f"the tokens {raw[id]!r} and {token!r} have the same id {id}", "an id for each token")
            raw[id] = token
        return raw

    def _kind_of_pieces(self) -> tuple[str, str]:
        """How the pieces tell the starts of words, and what those that continue one start with."""
        model = self._tokenizer.model
        parts = {name for part in (self._tokenizer.pre_tokenizer, self._tokenizer.decoder, self._tokenizer.normalizer)
                 for name in _component_types(part)}  # fmt: skip
        prefix = getattr(model, "continuing_subword_prefix", None)
        if not getattr(model, "end_of_word_suffix", None):
            if prefix:
                return "prefixed", prefix
            if type(model).__name__ == "WordLevel":
                return "words", ""
            if "ByteLevel" in parts:
                return "bytes", ""
            if any(piece.startswith(SPACE) for piece in self.ids):
                return "marked", ""
        raise self._error(f"a {type(model).__name__} tokenizer whose pieces do not tell where words start", _SUPPORTED)

    def _find_ends(self) -> tuple[list[int], list[int]]:
        """The ids that the post-processor puts before and after a text."""
        with self._errors("the tokenizer cannot encode a text"):
            around = self._tokenizer.encode("a").ids
            inside = self._tokenizer.encode("a", add_special_tokens=False).ids
        rest = len(around) - len(inside)
        before = next((at for at in range(rest + 1) if around[at : at + len(inside)] == inside), 0)
        before = before if inside else rest // 2  # it has no token for this text
        return around[:before], around[before + len(inside) :]

    def _own_roles(self, content: bytes) -> dict[str, int]:
        """The roles that the tokenizer itself gives: a single token on a side of a text, and what is unknown."""
        own = {role: end[0] for role, end in zip((BOS, EOS), self.ends, strict=True) if len(end) == 1}
        unknown = self.ids.get(getattr(self._tokenizer.model, "unk_token", None) or "")
        if type(self._tokenizer.model).__name__ == "Unigram" and (found := _UNKNOWN.search(content)):
            unknown = int(found[1])
        return own if unknown is None else {**own, UNK: unknown}

    def _find_pairs(self) -> tuple[int, bool, bool]:
        """(how many `</s>` stand between the texts of a pair, whether they are all, whether the second has type 1)."""
        with self._errors("the tokenizer cannot encode a pair of texts"):
            pair = self._tokenizer.encode("a", "a")
        inside = self._tokenizer.encode("a", add_special_tokens=False).ids
        if EOS not in self.roles:
            return 1, False, False
        bos, eos = (self.roles.get(role, -1) for role in (BOS, EOS))
        separators = max(1, pair.ids.count(eos) - 1)
        first = [bos, *inside, *[eos] * separators]
        types = [0] * len(first) + [1] * (len(inside) + 1)
        return separators, pair.ids == [*first, *inside, eos], pair.type_ids == types

    def piece(self, id: int) -> Piece:
        """What an id stands for."""
        raw = self._raw[id] or ""
        if id in self._added:
            return Piece(raw.removeprefix(" ").encode(), raw.startswith(" ") or not self.writes_spaces)
        if self._kind == "marked":
            return marked_piece(raw)
        if self._kind == "bytes":
            codes = _byte_of_character()
            text = bytes(codes[c] for c in raw) if all(c in codes for c in raw) else raw.encode()
            return Piece(text.removeprefix(b" "), text.startswith(b" "))
        if self._prefix and raw.startswith(self._prefix) and raw != self._prefix:
            return Piece(raw.removeprefix(self._prefix).encode(), False)
        return Piece(raw.encode(), True)

    def takes_space(self, id: int) -> bool:
        """Whether a special takes the white space before it with it."""
        return id not in self._added or self._added[id].lstrip

    def encode(self, texts: Sequence[str | bytes], num_threads: int) -> list[np.ndarray]:
        """The ids of each text, int32.

        One text, or one thread, is encoded in the calling thread alone; else the package takes all the threads it has.
        """
        with self._errors("the tokenizer cannot encode a text"):
            plain = [text if isinstance(text, str) else text.decode() for text in texts]
            if num_threads == 1 or len(plain) < 2:
                found = [self._tokenizer.encode(text, add_special_tokens=False) for text in plain]
            else:
                _guard_forks()
                found = self._tokenizer.encode_batch_fast(plain, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in found]

    def encode_inside(self, text: str) -> np.ndarray:
        """Encodes what follows something directly; for WordPiece the rest of a word, `##able`."""
        if not self._prefix or not text[:1].isalnum():
            return super().encode_inside(text)
        normalizer, splitter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        plain = normalizer.normalize_str(text) if normalizer else text
        words = splitter.pre_tokenize_str(plain) if splitter else []
        first, (start, stop) = words[0] if words else ("", (0, 0))
        continued = self._continue_word(first) if first and start == 0 and not is_unspaced(first[0]) else None
        if continued is None:
            return self.encode([text], 1)[0]
        return np.concatenate([np.array(continued, np.int32), self.encode([plain[stop:]], 1)[0]])

    def _continue_word(self, rest: str) -> list[int] | None:
        """Longest pieces first, as WordPiece does it, but none that starts a word; None if there is no way."""
        ids = []
        while rest:
            stop = next((n for n in range(len(rest), 0, -1) if self._prefix + rest[:n] in self.ids), 0)
            if not stop:
                return None
            ids.append(self.ids[self._prefix + rest[:stop]])
            rest = rest[stop:]
        return ids

    def encode_words(self, words: list[str], num_threads: int) -> list[np.ndarray]:
        """The ids of each word, as transformers gives them with `is_split_into_words=True`, in the calling thread."""
        if not words:
            return []
        tokenizer, needs_space = self._for_words
        if needs_space:
            whole = {token.content for token in self._added.values()}
            words = [" " + word if word and not word[0].isspace() and word not in whole else word for word in words]
        with self._errors("the tokenizer cannot encode a word"):
            found = tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
        stops = np.searchsorted(np.array(found.word_ids, np.int64), np.arange(1, len(words)))
        return np.split(np.array(found.ids, np.int32), stops)

    @cached_property
    def _for_words(self) -> tuple[Any, bool]:
        """(tokenizer for words, whether to write a space before each): byte-level BPE writes none by itself."""
        if self._kind != "bytes":
            return self._tokenizer, False
        state = _state(self._tokenizer.pre_tokenizer)
        if state.get("type") != "ByteLevel":
            return self._tokenizer, True
        tokenizer = copy.deepcopy(self._tokenizer)
        tokenizer.pre_tokenizer = tokenizers_package().pre_tokenizers.ByteLevel(
            add_prefix_space=True, use_regex=state.get("use_regex", True)
        )
        return tokenizer, False

    def encode_with_offsets(self, texts: list[str], num_threads: int) -> list[Spans]:
        """Ids of each text and the characters that each covers, perhaps with the space before it."""
        with self._errors("the tokenizer cannot encode a text"):
            if num_threads == 1 or len(texts) < 2:
                found = [self._tokenizer.encode(text, add_special_tokens=False) for text in texts]
            else:
                _guard_forks()
                found = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [self._spans(np.array(encoding.ids, np.int32), encoding.offsets) for encoding in found]

    def as_read(self, text: str) -> str:
        """The text with a space for each `▁`, if the pieces write a space so."""
        return text.replace(SPACE, " ") if self._kind == "marked" else text

    def _spans(self, ids: np.ndarray, offsets: list[tuple[int, int]]) -> Spans:
        spans = np.array(offsets, np.int32).reshape(-1, 2)
        is_blank = self._is_blank[ids]  # a space that is put before a text would cover the text's first character
        spans[is_blank, 1] = spans[is_blank, 0]
        leads = self._byte_leads[ids]
        if not (leads >= 0).any():
            return ids, spans[:, 0], spans[:, 1]
        # Unigram says of every byte that it covers all the unknown characters in a row: share them out.
        same = np.append(False, (spans[1:] == spans[:-1]).all(1) & (leads[1:] >= 0) & (leads[:-1] >= 0))
        for run in np.split(np.arange(len(ids)), np.flatnonzero(~same)[1:]):
            start, end = spans[run[0]]
            if (characters := leads[run]).min() >= 0 and characters.sum() == end - start > 1:
                spans[run, 0] = start + np.cumsum(characters) - 1
                spans[run, 1] = spans[run, 0] + 1
        return ids, spans[:, 0], spans[:, 1]

    @cached_property
    def _is_blank(self) -> np.ndarray:
        space = {"marked": SPACE, "bytes": "Ġ"}.get(self._kind)
        return np.array([bool(space and raw) and not (raw or "").strip(space) for raw in self._raw])

    @cached_property
    def _byte_leads(self) -> np.ndarray:
        """Of each id: 1 if it is a byte that starts a character, 0 if one that continues it, -1 if it is no byte."""
        leads = np.full(len(self._raw), -1, np.int8)
        for byte in range(256):
            if self._kind == "marked" and (id := self.ids.get(f"<0x{byte:02X}>")) is not None:
                leads[id] = byte & 0xC0 != 0x80
        return leads

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turns what the package raises, its panics too, into a DataError."""
        try:
            yield
        except (TaskmaskError, KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # a panic is no Exception
            raise self._error(f"{what}: {' '.join(str(error).split())[:200]}") from error

    def _error(self, what: str, expected: str = "an undamaged tokenizer.json") -> DataError:
        fix = "save it once more with AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)"
        return DataError(what, where=self._where, expected=expected, fix=fix)


def tokenizers_package() -> Any:
    """The package `tokenizers`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise ConfigError(
            "a Hugging Face tokenizer needs the package tokenizers, which is not installed",
            fix="pip install taskmask[hf]",
        ) from error
    return tokenizers


def _state(component: Any) -> dict[str, Any]:
    return json.loads(component.__getstate__()) if component is not None else {}


def _component_types(component: Any) -> Iterator[str]:
    """The types of a part of a tokenizer and of the parts inside it."""
    waiting: list[Any] = [_state(component)]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, dict):
            yield str(entry.get("type"))
            waiting += entry.values()
        elif isinstance(entry, list):
            waiting += entry


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """How byte-level BPE writes bytes: visible characters of Latin-1 as they are, the others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(visible))
    return {chr(byte): byte for byte in visible} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


@lru_cache(maxsize=1)
def _guard_forks() -> None:
    """Keeps forked processes off the threads of the package, which stay behind in their parent, without its warning."""
    key = "TOKENIZERS_PARALLELISM"
    unset_by_us: list[bool] = []

    def before() -> None:
        if key not in os.environ:
            os.environ[key] = "false"
            unset_by_us.append(True)

    def after_in_parent() -> None:
        if unset_by_us:
            unset_by_us.clear()
            os.environ.pop(key, None)

    os.register_at_fork(before=before, after_in_parent=after_in_parent)
