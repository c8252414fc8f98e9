"""Text to token ids and back: a tokenizer, its special pieces, and where words start."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np

from taskmask.errors import DataError, did_you_mean
from taskmask.system.hardware import num_threads
from taskmask.tokenizer.backend import (
    BOS,
    EOS,
    MASK,
    SPECIALS,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    Engine,
    Spans,
)
from taskmask.tokenizer.hf_backend import TokenizersEngine
from taskmask.tokenizer.hf_folder import check_config, roles_of_folder, tokenizer_of_folder
from taskmask.tokenizer.sentencepiece_backend import SentencePieceEngine, holds_other_spaces
from taskmask.tokenizer.special_roles import with_roles
from taskmask.tokenizer.text import to_spaces
from taskmask.tokenizer.token_spans import whole_spans
from taskmask.tokenizer.training import cut_text, train_vocabulary
from taskmask.tokenizer.vocabulary_file import read_vocabulary
from taskmask.tokenizer.word_boundaries import (
    SPACE,
    Piece,
    PieceFlags,
    bits_in_context,
    is_unspaced,
    piece_flags,
    word_numbers,
)
from taskmask.tokenizer.word_cache import WordCache

__all__ = ["TOKENIZER_FILE", "VOCABULARY_FILE", "Vocabulary", "cut_text", "train_vocabulary"]

_LONGEST_ENCODED = 1 << 18  # bytes; longer texts are encoded in parts, which bounds the engine's memory
_CLOSING, _OPENING = frozenset(",.!?;:)]}%"), frozenset("([{")


class Vocabulary:
    """A SentencePiece model or a Hugging Face tokenizer with five special pieces `<pad> <s> </s> <unk> <mask>`.

    A SentencePiece model names them so. In a `tokenizer.json`, `<s>` and `</s>` are what its post-processor puts around
    a text; it and its folder say which tokens have the other roles, else their names do: see `special_roles`.
    Those that are missing are appended after the own pieces, in the order above, so own ids never move. It pickles by
    its model bytes. `num_threads` is that of the engine.

    Pieces are shown alike whatever the tokenizer: `▁the` with a space before it (in WordPiece, which does not know
    spaces, at the start of a word), `ing` without, bytes that are no whole character as `<0xE4>`, specials by name.

    Args:
        model_bytes: the content of a SentencePiece `.model` file, or of a `tokenizer.json`, which starts with `{`.
        name: what to call it in error messages, e.g. the path.

    Raises:
        ConfigError: a `tokenizer.json` needs the package `tokenizers`, which is not installed.
        DataError: the bytes are neither.
    """

    def __init__(self, model_bytes: bytes, name: str = "vocabulary"):
        self.model_bytes = model_bytes
        self.num_threads = num_threads()
        is_json = model_bytes.startswith(b"{")
        self._engine: Engine = (TokenizersEngine if is_json else SentencePieceEngine)(model_bytes, name)
        self._pieces = list(self._engine.names)
        roles = dict(self._engine.roles)
        for role in SPECIALS:
            if role not in roles:
                roles[role] = len(self._pieces)
                self._pieces.append(role)
        self._ids = {piece: id for id, piece in enumerate(self._pieces)} | roles
        self.pad, self.bos, self.eos, self.unk, self.mask = (roles[role] for role in SPECIALS)
        self.is_special = np.zeros(len(self._pieces), bool)
        self.is_special[[*roles.values(), *self._engine.special_ids]] = True

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Reads a `.model` file, a `tokenizer.json`, or the vocabulary of a dataset or Hugging Face folder.

        In a Hugging Face folder that is its `tokenizer.json`, else `vocab.txt`, else `vocab.json` and `merges.txt`; its
        `tokenizer_config.json` and `special_tokens_map.json` name the special tokens.

        Raises:
            ConfigError: the package `tokenizers` is needed and not installed.
            DataError: there is no vocabulary, it is damaged, or other files of the folder contradict it, such as the
                checksum that a run keeps beside it.
        """
        path = Path(path)
        if path.is_dir():
            if (path / VOCABULARY_FILE).exists():
                return cls.load(path / VOCABULARY_FILE)
            if (path / TOKENIZER_FILE).exists():
                vocabulary = cls.load(path / TOKENIZER_FILE)
                check_config(path, vocabulary.model_bytes, vocabulary._engine)
            else:
                vocabulary = cls(tokenizer_of_folder(path), name=str(path))
            return vocabulary._with_roles(roles_of_folder(path), str(path))
        return cls(read_vocabulary(path), name=str(path))

    def _with_roles(self, named: dict[str, str], name: str) -> Vocabulary:
        """The vocabulary in which tokens have the roles named, which are kept in its bytes if it cannot know them.

        What stands around a text is what the tokenizer puts there.
        """
        ids, names = self._engine.ids, {id: token for token, id in self._engine.ids.items()}
        put = {role: names[end[0]] for role, end in zip((BOS, EOS), self._engine.ends, strict=True) if len(end) == 1}
        known = {role: token for role, token in {**named, **put}.items() if token in ids}
        if all(ids[token] == self._ids[role] for role, token in known.items()):
            return self
        return Vocabulary(with_roles(self.model_bytes, known, ids), name)

    def __reduce__(self) -> tuple:
        return Vocabulary, (self.model_bytes,)

    @property
    def file_name(self) -> str:
        """Of its content in a dataset: `vocab.model`, or `tokenizer.json`."""
        return self._engine.file_name

    def has_token(self, name: str) -> bool:
        """Whether its own file has a token of that name."""
        return name in self._engine.ids

    @property
    def puts_ends(self) -> bool:
        """Whether the tokenizer itself puts `<s>` before and `</s>` behind a text."""
        return self._engine.ends == ([self.bos], [self.eos])

    @property
    def pair_separators(self) -> int:
        """How many `</s>` stand between the two texts of a pair: 2 as in RoBERTa, or 1."""
        return self._engine.pair_separators

    @property
    def joins_pairs(self) -> bool:
        """Whether the tokenizer itself joins the texts of a pair so."""
        return self._engine.joins_pairs

    @property
    def types_pairs(self) -> bool:
        """Whether the tokenizer itself gives the second text and its `</s>` type id 1, and the rest 0."""
        return self._engine.types_pairs

    @property
    def size(self) -> int:
        """Number of pieces, specials included."""
        return len(self._pieces)

    @property
    def num_own(self) -> int:
        """Number of pieces that the tokenizer has itself; the ids from there on are specials that it lacks."""
        return len(self._engine.names)

    @property
    def special_ids(self) -> np.ndarray:
        """Ids of the five specials and of every other control piece, ascending, int64."""
        return np.flatnonzero(self.is_special)

    @cached_property
    def sentinels(self) -> np.ndarray:
        """Ids of the pieces that can mark spans, in their order, int64: `<extra_id_0>` (T5) or `[unused0]` (BERT)."""
        found = (re.fullmatch(r"<extra_id_(\d+)>|\[unused(\d+)\]", piece) for piece in self._pieces)
        numbers = {id: int(match[1] or match[2]) for id, match in enumerate(found) if match}
        return np.array(sorted(numbers, key=numbers.__getitem__), dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the model bytes, hexadecimal."""
        return hashlib.sha256(self.model_bytes).hexdigest()

    @property
    def token_dtype(self) -> str:
        """The smallest of uint16 and uint32 that holds every id."""
        return "uint16" if self.size <= 1 << 16 else "uint32"

    def piece(self, id: int) -> str:
        """The piece of one id, e.g. `▁the`."""
        return self.pieces([id])[0]

    def pieces(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """The piece of each id."""
        return [self._pieces[id] for id in self._checked(ids).tolist()]

    def _checked(self, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        array = np.asarray(ids, dtype=np.int64)
        outside = array[(array < 0) | (array >= self.size)]
        if outside.size:
            raise DataError(f"token id {outside[0]} is not in the vocabulary", expected=f"0 to {self.size - 1}")
        return array

    def ids_of_pieces(self, pieces: Iterable[str]) -> np.ndarray:
        """Ids of pieces written as they are shown (`▁the`) or as text: `the` is both `the` and `▁the`.

        What is neither may be written as in a `tokenizer.json`: `Ġthe`, `##ing`.

        Returns:
            int64, all forms there are of each.

        Raises:
            DataError: one is no single piece.
        """
        return np.array([id for piece in pieces for id in self._forms_of(piece)], dtype=np.int64)

    def _forms_of(self, piece: str) -> list[int]:
        forms = [self._ids[form] for form in (piece, SPACE + piece) if form in self._ids]
        if not forms and piece in self._engine.ids:
            forms = [self._engine.ids[piece]]
        if forms:
            return forms
        names = [known.removeprefix(SPACE) for known in self._pieces]
        raise DataError(
            f"{piece!r} is no piece of the vocabulary",
            expected="a single piece",
            fix=did_you_mean(piece.removeprefix(SPACE), names),
        )

    def encode(self, texts: Sequence[str | bytes]) -> list[np.ndarray]:
        """Encodes texts.

        With a `tokenizer.json` the ids are those of the `tokenizer.json`: a special that is spelled out in the text
        becomes that special. A SentencePiece vocabulary takes it as any other text.

        Args:
            texts: strings or UTF-8 bytes, without line breaks.

        Returns:
            One int32 array of ids per text, no specials added, read-only.

        Raises:
            DataError: it is one text, not a list of texts.
        """
        if isinstance(texts, str | bytes):
            fix = "put it in brackets: encode([text])"
            raise DataError(f"is one text, {texts[:40]!r}", where="texts", expected="a list of texts", fix=fix)
        if any(len(text) > _LONGEST_ENCODED for text in texts):
            return [self._encode_long(t) if len(t) > _LONGEST_ENCODED else self.encode([t])[0] for t in texts]
        return self._engine.encode(texts, self.num_threads)

    def _encode_long(self, text: str | bytes) -> np.ndarray:
        raw = text.encode() if isinstance(text, str) else text
        parts = self.encode(list(cut_text(raw, _LONGEST_ENCODED)))
        return np.concatenate([np.zeros(0, np.int32), *parts])

    def encode_flat(self, texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Encodes UTF-8 texts as `encode` does, many at once: (ids of all int32, number of ids of each int64)."""
        is_long = max(map(len, texts), default=0) >= _LONGEST_ENCODED
        if self._words is not None and not is_long and not holds_other_spaces(texts):
            return self._words.encode(texts)
        arrays = self.encode(texts)
        return np.concatenate([np.zeros(0, np.int32), *arrays]), np.fromiter(map(len, arrays), np.int64, len(arrays))

    @cached_property
    def _words(self) -> WordCache | None:
        return WordCache(self.encode, self._engine.names) if self._engine.is_sum_of_words else None

    def encode_with_offsets(self, texts: Sequence[str]) -> list[Spans]:
        """Encodes texts, and says what each token covers.

        A token covers no space at either end; one that is only spaces covers nothing. The bytes of one character all
        cover that character. Characters that the tokenizer drops and that are no space, such as accents, belong to the
        token before them, at the start of a text to the first. So what the tokens cover is the text but for spaces.

        Returns:
            For each text (ids as `encode` gives them, first character, one past the last character), int32. Both
            characters never decrease.
        """
        short = [text for text in texts if len(text) <= _LONGEST_ENCODED]
        spans = iter(self._engine.encode_with_offsets(short, self.num_threads) if short else [])
        return [
            whole_spans(
                self._engine.as_read(text),
                next(spans) if len(text) <= _LONGEST_ENCODED else self._offsets_of_long(text),
            )
            for text in texts
        ]

    def _offsets_of_long(self, text: str) -> Spans:
        parts = [part.decode() for part in cut_text(text.encode(), _LONGEST_ENCODED)]
        starts = accumulate(map(len, parts), initial=0)
        found = self._engine.encode_with_offsets(parts, self.num_threads)
        moved = [(ids, at + first, at + last) for at, (ids, first, last) in zip(starts, found, strict=False)]
        ids, firsts, lasts = (np.concatenate(arrays).astype(np.int32) for arrays in zip(*moved, strict=True))
        return ids, firsts, lasts

    def encode_words(self, rows: Sequence[Sequence[str]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Encodes texts that are given as words, each word as if it stood after a space.

        With a `tokenizer.json` the ids are those of transformers with `is_split_into_words=True`, for byte-level BPE
        with `add_prefix_space=True`. A word that gives no token, e.g. an empty one, becomes `<unk>`.

        Returns:
            For each row (ids, number of the given word of each token), int32.
        """
        distinct = {word: at for at, word in enumerate(dict.fromkeys(word for row in rows for word in row))}
        encoded = self._engine.encode_words(list(distinct), self.num_threads)
        unknown = np.array([self.unk], np.int32)
        arrays = [np.zeros(0, np.int32), *(ids if len(ids) else unknown for ids in encoded)]
        flat, lengths = np.concatenate(arrays), np.array([len(array) for array in arrays])
        starts = np.cumsum(lengths) - lengths
        found = []
        for row in rows:
            at = np.array([distinct[word] + 1 for word in row], np.int64)
            words = np.repeat(np.arange(len(at), dtype=np.int32), lengths[at])
            within = np.arange(len(words)) - (np.cumsum(lengths[at]) - lengths[at])[words]
            found.append((flat[starts[at][words] + within], words))
        return found

    def encode_with_masks(self, text: str) -> np.ndarray:
        """Encodes a text in which `<mask>`, or the vocabulary's own name of it, stands for masked tokens, int32.

        What follows a mask directly (`un<mask>able`) is encoded as the inside of a word, what follows with a space
        (`the <mask> sat`) as a new word. White space before a mask belongs to what is masked, unless a `tokenizer.json`
        says that it does not.
        """
        *before, last = re.split(f"{MASK}|{re.escape(self._pieces[self.mask])}", to_spaces(text))
        takes_space = self._engine.takes_space(self.mask)
        first, *others = [*(chunk.rstrip() if takes_space else chunk for chunk in before), last]
        parts = [self.encode([first])[0]]
        for chunk in others:
            parts += [np.array([self.mask], np.int32), self._engine.encode_inside(chunk)]
        return np.concatenate(parts)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids: specials are left out, a mask is written `<mask>`.

        A mask does not know whether it hides a whole word; a space is written before it unless the next piece goes on
        inside the word, or the piece before it is of a script written without spaces.
        """
        shown = self._checked(ids)
        shown = shown[~self.is_special[shown] | (shown == self.mask)]
        starts = bits_in_context(shown[None], self._flags)[0] & 1 if self.mask in shown else shown
        text = b""
        for at, id in enumerate(shown.tolist()):
            before = text[-4:].decode("utf-8", errors="replace")[-1:]
            if id == self.mask:
                following = shown[at + 1] if at + 1 < len(shown) else self.mask
                begins = following == self.mask or starts[at + 1]
                if begins and before.strip() and not is_unspaced(before):
                    text += b" "
                text += MASK.encode()
            else:
                piece = self._engine.piece(id)
                if piece.spaced and (self._engine.writes_spaces or _is_space_between(before, piece.text)):
                    text += b" "
                text += piece.text
        return text.decode("utf-8", errors="replace").removeprefix(" ")

    @cached_property
    def _flags(self) -> PieceFlags:
        pieces = (self._engine.piece(id) if id < self.num_own else Piece(b"", False) for id in range(self.size))
        return piece_flags(pieces, self.is_special)

    @cached_property
    def starts_word(self) -> np.ndarray:
        """bool [V]: the piece starts a word, whatever is before it; first bytes do if nothing tells their character."""
        return (self._flags.bits & 1).astype(bool)

    @cached_property
    def ends_word(self) -> np.ndarray:
        """bool [V]: the piece always ends a word."""
        return (self._flags.bits & 2).astype(bool)

    def word_numbers(self, tokens: np.ndarray) -> np.ndarray:
        """Word number of each token, from 0 in every row; -1 at specials and padding.

        Args:
            tokens: int [B, T].

        Returns:
            int32 [B, T].
        """
        return word_numbers(tokens, self._flags)


def _is_space_between(before: str, piece: bytes) -> bool:
    """Whether a tokenizer that does not write spaces has most likely left one out here."""
    after = piece.decode("utf-8", errors="replace")[:1]
    unspaced_before = is_unspaced(before) or before == ">"  # perhaps of <mask>, which may hide anything
    return not (after in _CLOSING or before in _OPENING or (unspaced_before and is_unspaced(after)))
