"""What the laws of masking are checked on: texts in eight scripts, vocabularies of four kinds, rows of every length.

Shapes: B rows, T tokens in the longest row.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from taskmask.data.batch import TokenBatch
from taskmask.data.padding import gather
from taskmask.data.rng import RowRng
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

LENGTHS = (0, 1, 2, 96)  # tokens of a row, without <s> and </s>
LONG = LENGTHS[-1]
TEXTS = {
    "english": (
        "The unreasonably quick brown foxes aren't jumping over the lazy dogs (really)!",
        "Hello, world! It's a state-of-the-art, 3.14159-point plan; isn't it?",
        "In 1984 the naïve café owner sold 1,000,000 unforgettable cups of coffee.",
        "She returned the overwhelmingly long letter, and nobody answered it.",
    ),
    "german": (
        "Die schönen Straßenbahnhaltestellen führen über größere Brücken – „wirklich“, oder?",
        "Donaudampfschifffahrtsgesellschaft heißt ein sehr langes Wort, das niemand täglich braucht.",
        "Übermorgen fährt der Zug um 7:45 Uhr nach Köln, z. B. über Münster.",
        "Der Bäcker verkaufte süße Brötchen und übergroße Kürbisse.",
    ),
    "chinese": (
        "我爱北京天安门，今天的天气很好。",
        "人民大会堂在天安门广场的西边，每天有很多人来参观。",
        "他说：“明天我们一起去图书馆看书吧！”",
        "这种语言的句子里没有空格，所以一句话不是一个词。",
    ),
    "japanese": (
        "今日は天気がいいですね。カタカナも読みます。",
        "東京タワーは高いです。駅から歩いて十分ぐらいかかります。",
        "コンピューターで日本語の文章を書くのは、とても楽しいと思います。",
        "「すみません、この本はいくらですか」と彼女は聞きました。",
    ),
    "thai": (
        "สวัสดีครับวันนี้อากาศดีมากและเราจะไปเที่ยวกัน",
        "ภาษาไทยเขียนโดยไม่เว้นวรรคระหว่างคำ",
        "เขาซื้อหนังสือสามเล่มที่ตลาดใกล้บ้าน ราคา ๑๒๐ บาท",
        "น้ำใจของผู้คนที่นี่ทำให้เรารู้สึกอบอุ่น",
    ),
    "arabic": (
        "مرحبا بالعالم، كيف حالك اليوم؟",
        "الكتاب على الطاولة الكبيرة في المكتبة القديمة.",
        "ذَهَبَ الوَلَدُ إِلى المَدْرَسَةِ صَباحًا.",
        "يكتبون الرسائل بلغتهم ويستقبلونها كل أسبوع.",
    ),
    "code": (
        "for (int i = 0; i < n_rows; ++i) { total += values[i] * weight; }",
        "def get_or_none(self, key): return {k: v for k, v in self._items.items() if k != 'a_b'}  # done",
        "assert x[0][1:-1] == (y << 2) | 0xFF, f\"{path}/{name}.json\"",
        "SELECT id, COUNT(*) FROM users WHERE created_at >= '2020-01-01' GROUP BY id;",
    ),
    "emoji": (
        "smile 😀😀 and 👩‍👩‍👧 with 🚀🚀 on 🇩🇪 then ❤️‍🔥",
        "👍🏽 great 🎉🎉🎉 see you ☀️ tomorrow 🌍",
        "🤷‍♀️ why not 🍕 or 🍣 ꙮ tonight?",
        "cats 🐈 dogs 🐕 birds 🐦 all at once 🥳",
    ),
}  # fmt: skip
_LINES = [line for lines in TEXTS.values() for line in lines] * 4
_SIZE = 660  # pieces of each vocabulary: few, so that words have several


def vocabularies() -> tuple[dict[str, Vocabulary], tuple[str, ...]]:
    """Returns {kind: vocabulary}, trained on the texts once a process, and a note for each kind that is left out."""
    made, notes = {}, []
    for kind, train in _KINDS.items():
        try:
            made[kind] = train()
        except ImportError:
            notes.append(f"{kind} is left out: it needs the package tokenizers; pip install 'taskmask[hf]'")
    return made, tuple(notes)


@functools.cache
def _unigram() -> Vocabulary:
    return Vocabulary(train_vocabulary(_LINES, _SIZE, "unigram", 0.98), "SentencePiece unigram")


@functools.cache
def _bpe() -> Vocabulary:
    return Vocabulary(train_vocabulary(_LINES, _SIZE, "bpe", 0.98), "SentencePiece bpe")


@functools.cache
def _wordpiece() -> Vocabulary:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=_SIZE, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(_LINES, trainer)
    return Vocabulary(tokenizer.to_str().encode(), "WordPiece")


@functools.cache
def _byte_bpe() -> Vocabulary:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    return Vocabulary(tokenizer.to_str().encode(), "byte-level BPE")


_KINDS = {"unigram": _unigram, "bpe": _bpe, "wordpiece": _wordpiece, "byte_bpe": _byte_bpe}
KINDS = tuple(_KINDS)


class Line(NamedTuple):
    """One row to be masked.

    Args:
        script: a name of `TEXTS`, "documents" (two in one row) or "specials" (nothing but special pieces).
        content: ids between `<s>` and `</s>`.
        id: the row's number.
    """

    script: str
    content: tuple[int, ...]
    id: int


@dataclass(frozen=True)
class Case:
    """Rows, and the random numbers and options with which they are masked.

    Args:
        lines: the rows.
        seed: of the draw.
        epoch: of the draw.
        progress: of the draw.
        extra: padding beyond that of the longest row.
        options: options of the masker that differ from those that are checked.
    """

    lines: tuple[Line, ...]
    seed: int = 1
    epoch: int = 1
    progress: float = 0.0
    extra: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def rng(self) -> RowRng:
        """The random numbers of the rows."""
        return RowRng(self.seed, self.epoch, np.array([line.id for line in self.lines], np.int64), self.progress)


def lines_of(vocab: Vocabulary) -> tuple[Line, ...]:
    """Returns rows of every script and length, of two documents, and of special pieces, numbered from 0."""
    found: list[tuple[str, list[int]]] = []
    for script, lines in TEXTS.items():
        ids = np.concatenate(vocab.encode(list(lines))).tolist()
        ids *= -(-LONG // len(ids))
        found += [(script, ids[:length]) for length in LENGTHS]
    half = vocab.encode([TEXTS["english"][0]])[0].tolist()
    found += [("documents", [*half, vocab.eos, *half]), ("documents", [vocab.eos, *half[:2], vocab.eos])]
    found += [("specials", [vocab.mask, vocab.unk, vocab.pad]), ("specials", [vocab.eos] * 3)]
    return tuple(Line(script, tuple(ids), number) for number, (script, ids) in enumerate(found))


def copies(line: Line, num: int) -> tuple[Line, ...]:
    """Returns rows of the same content, with numbers that no other line has."""
    return tuple(line._replace(id=line.id * 10**6 + number) for number in range(num))


Columns = Callable[[TokenBatch, str], np.ndarray]


def made_up(batch: TokenBatch, name: str) -> np.ndarray:
    """Returns int64 [B, T], values of a token-aligned column that nobody stored: 1 at three tokens of ten, else 0."""
    values = RowRng(0, 0, batch.ids).uniform(name, batch.shape[1]) < 0.3
    return (values & batch.maskable).astype(np.int64)


def rows_of(vocab: Vocabulary, case: Case, names: Sequence[str] = (), columns: Columns = made_up) -> TokenBatch:
    """Returns the rows of a case, padded to the longest, with the columns of these names."""
    sizes = np.array([len(line.content) for line in case.lines], np.int64)
    values = np.array([id for line in case.lines for id in line.content], np.int64)
    stops = np.cumsum(sizes)
    tokens, lengths = gather(values, stops - sizes, stops, vocab.bos, vocab.eos, vocab.pad)
    tokens = np.pad(tokens, ((0, 0), (0, case.extra)), constant_values=vocab.pad)
    rows = TokenBatch(tokens, lengths, case.rng().ids, vocab)
    rows.columns.update({name: columns(rows, name) for name in names})
    return rows


W = TypeVar("W")


def smallest(case: Case, wrong: W, look: Callable[[Case], W | None], attempts: int = 400) -> tuple[Case, W]:
    """Returns a case that is still wrong though no single row or token can be left out, and what is wrong with it.

    Args:
        case: a case that is wrong.
        wrong: what is wrong with it.
        look: what is wrong with a smaller one, None where nothing is.
        attempts: calls of `look`, after which it stays as it is.
    """
    calls = itertools.count()

    def shrunk(size: int, without: Callable[[int, int], Case]) -> bool:
        """Leaves out a part of something of `size`, the largest that can be; False where there is none."""
        nonlocal case, wrong
        part = size
        while part:
            for start in range(0, size, part):
                smaller = without(start, start + part)
                if smaller.lines and next(calls) < attempts and (found := look(smaller)) is not None:
                    case, wrong = smaller, found
                    return True
            part //= 2
        return False

    def without_rows(start: int, stop: int) -> Case:
        return replace(case, lines=case.lines[:start] + case.lines[stop:])

    def without_tokens(row: int, start: int, stop: int) -> Case:
        line = case.lines[row]
        shorter = line._replace(content=line.content[:start] + line.content[stop:])
        return replace(case, lines=(*case.lines[:row], shorter, *case.lines[row + 1 :]))

    while shrunk(len(case.lines), without_rows):
        pass
    for row in range(len(case.lines)):
        while shrunk(len(case.lines[row].content), functools.partial(without_tokens, row)):
            pass
    return case, wrong
