"""Tagging: a label for every word, or every token, of a text."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from taskmask.config import opt
from taskmask.config.settings import DataSettings
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.dataset import Column, Dataset, Split
from taskmask.data.in_memory import MemorySplit
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Source, no_labels
from taskmask.data.sequences.token_labels import FIRST, WORD, Units, content_of, first_tokens
from taskmask.errors import DataError
from taskmask.metrics.classification import classification_limits
from taskmask.metrics.entities import entities_of, entity_counts, entity_limits, f1_of
from taskmask.metrics.tag_schemes import scheme_of
from taskmask.modules.heads_spec import HeadSpec
from taskmask.registry import register_task
from taskmask.stats.bootstrap import Measure
from taskmask.stats.limits import LOSS, Limits
from taskmask.tasks.base import ROWS_AT_ONCE, Answers, Task, Totals, losses_of, mean, relabelling
from taskmask.tasks.class_scores import described
from taskmask.tokenizer.text import to_spaces
from taskmask.tokenizer.word_boundaries import is_unspaced

if TYPE_CHECKING:
    import torch

"""Rows that go through the model together in `predict`."""


@dataclasses.dataclass(frozen=True)
class TaggingConfig:
    """Which column holds the labels, and which pieces of a word learn them."""

    label: str = opt("tags", "column with a label for each token")
    pieces: Literal["first", "all"] = opt(
        "first",
        "pieces of a word that learn its label; a word is always judged by its first; all: for a model that is to "
        "annotate text which is not divided into words, where every piece is judged",
    )


@register_task("tagging", config=TaggingConfig)
class Tagging(Task):
    """Says a label for each word; in a dataset that is not divided into words, for each token.

    Rows longer than `data.length` are read in pieces, so that no word is left out. Labels with the prefixes of entities
    (`B-PER`; any scheme: IOB, IOE, IOBES, BILOU, BMES, BMEWO) are also measured by whole entities, and their F1 picks
    the best checkpoint. A note at the start names the scheme, or says why entities are not measured. With two labels,
    `f1_LABEL` is the F1 of each.

    **Source:** Devlin et al. 2019 (BERT), section 5.3: the first piece of each word is classified.
    """

    default_criterion = "classification"
    best = "accuracy"  # "f1" for entities; more is better of both
    measured_in_training = True
    lists = ("words",)

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        self.columns = ("tokens", config.label)
        self.class_names = labels.get(config.label, [])
        self.class_counts = np.zeros(len(self.class_names), np.int64)
        self.scheme = scheme_of(self.class_names)
        if self.scheme.has_entities:
            self.best = "f1"

    def prepare(self, dataset: Dataset) -> None:
        """Counts the targets of each label in the split train."""
        train, label = dataset.splits.get("train"), self.config.label
        if train and label in train.columns and dataset.labels.get(label) == self.class_names:
            self._check_column(train)
            values = train.values(label)
            chosen = (values >= 0) & (first_tokens(train) if self.config.pieces == "first" else True)
            self.class_counts = np.bincount(values[chosen], minlength=len(self.class_names))

    def source(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool = True) -> Source:
        """The stored rows, each in as many pieces as it needs."""
        if not labelled:
            return Units(split, self.vocab, data.length)
        self._check_column(split)
        name = self.config.label
        if not (split.values(name) >= 0).any():
            raise no_labels(split, f"no token has a label in column {name!r}")
        source = Units(split, self.vocab, data.length, (name,), relabelling(self, dataset, split, name))
        source.notes.append(self.scheme.note)
        return source

    def _check_column(self, split: Split) -> None:
        name, where = self.config.label, f"{split.folder}, split {split.name}"
        of_tokens = [key for key, column in split.columns.items() if column.of == "tokens" and key in self.labels]
        if name not in of_tokens:
            raise DataError(
                f"there is no column {name!r} with labels of tokens",
                where=where,
                expected=f"one of {', '.join(of_tokens)}" if of_tokens else "words with tags",
                fix="name another with task.label, or prepare words with tags, in jsonl or CoNLL's form",
            )
        if len(self.class_names) < 2:
            raise DataError(f"column {name!r} has one label, {self.class_names}", where=where, expected="two or more")

    def heads(self) -> dict[str, HeadSpec]:
        """One head, "label", with a score for each label, at the tokens that are asked."""
        return {"label": HeadSpec("token", len(self.class_names))}

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Rows as they are; the targets are tokens with a label, or all tokens where the rows have no labels."""
        asked, label = content_of(rows), rows.columns.get(self.config.label)
        if label is not None:
            asked &= label >= 0
            if self.config.pieces == "first":
                asked &= rows.columns[FIRST]
        positions = np.flatnonzero(asked)
        inputs: dict[str, Any] = {"tokens": rows.tokens, "positions": {"label": positions}}
        if not rows.is_full:
            inputs["keep"] = rows.keep
        targets = {"first": rows.columns[FIRST].reshape(-1)[positions]}
        if label is not None:
            targets["label"] = label.reshape(-1)[positions].astype(np.int64)
        return Batch(inputs, targets, rows.ids, int(rows.lengths.sum()))

    def metrics(self, totals: Totals) -> dict[str, float]:
        """The loss and accuracy, over the targets."""
        targets = totals["label_rows"]
        return {**self.joint_loss(totals, label=targets), "accuracy": mean(totals["label_correct"], targets)}

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch, losses: dict[str, torch.Tensor]) -> Answers:
        """Of each target label, loss, place in the row ("at"), and whether it begins a word ("first")."""
        row, column = np.divmod(batch.inputs["positions"]["label"].cpu().numpy(), batch.inputs["tokens"].shape[1])
        answers = {
            "ids": np.asarray(batch.ids)[row],
            "at": column - 1,
            "first": batch.targets["first"].cpu().numpy(),
            "guess": outputs["label"].argmax(-1).cpu().numpy(),
        }
        if "label" in batch.targets:
            truth = batch.targets["label"]
            answers |= {"truth": truth.cpu().numpy(), "loss": losses_of(losses, "label", truth).cpu().numpy()}
        return answers

    def measure(self, answers: Answers, source: Source) -> Measure:
        """Over sentences: loss of the targets, accuracy of words, macro F1 of their labels, and more of entities."""
        classes = len(self.class_names)
        sentences, example = np.unique(source.stored[answers["ids"]], return_inverse=True)
        size, first = len(sentences), answers["first"]
        truth, guess, sentence = answers["truth"][first], answers["guess"][first], example[first]

        def sums(values: np.ndarray, width: int, where: np.ndarray) -> np.ndarray:
            flat = np.bincount(sentence[where] * width + values[where], minlength=size * width)
            return flat.reshape(size, width)

        every, right = np.ones(len(truth), bool), truth == guess
        parts = [
            np.bincount(example, answers["loss"].astype(np.float64), size)[:, None],
            np.bincount(example, minlength=size)[:, None],
            sums(guess, classes, right),
            sums(guess, classes, every),
            sums(truth, classes, every),
            entity_counts(truth, guess, sentence, size, self.scheme)
            if self.scheme.has_entities
            else np.zeros((size, 0)),
        ]
        table = np.concatenate(parts, axis=1)  # float64, so that counts stay exact in the sums
        borders = np.cumsum([part.shape[1] for part in parts])[:-1]

        def metrics(index: np.ndarray) -> dict[str, float]:
            chosen = np.bincount(index, minlength=size).astype(np.float64) @ table
            loss, targets, right, guessed, true, entities = np.split(chosen, borders)
            found = {"loss": mean(loss[0], targets[0]), "accuracy": mean(right.sum(), true.sum())}
            both = guessed + true
            f1 = 2 * right / np.maximum(both, 1)
            found["macro_f1"] = mean(f1[both > 0].sum(), int(np.count_nonzero(both)))
            if classes == 2:
                found |= dict(zip(self.f1_names(), f1.tolist(), strict=True))
            return {**found, **(f1_of(entities) if self.scheme.has_entities else {})}

        with_label = np.count_nonzero(parts[-2], axis=0)
        limits = {"loss": LOSS, **classification_limits(with_label)}
        limits |= {name: Limits(0, 1, count) for name, count in zip(self.f1_names(), with_label.tolist(), strict=True)}
        return Measure(size, metrics, {**limits, **(entity_limits(parts[-1]) if self.scheme.has_entities else {})})

    def f1_names(self) -> list[str]:
        """Names of the metrics that are the F1 of one label: `f1_LABEL`, what is no letter or digit written `_`."""
        names = [f"f1_{re.sub(r'[^A-Za-z0-9]', '_', name)[:40]}" for name in self.class_names]
        is_clear = len(set(names)) == len(names) and all(re.search("[A-Za-z0-9]", name[3:]) for name in names)
        return names if is_clear else [f"f1_{number}" for number in range(len(names))]

    def annotations(self) -> dict[str, Column]:
        """For each token: the label, its probability and log-odds; and probability, log-odds or logit of one label."""
        number, kinds = Column("aligned", "float32", of="tokens"), ("probability", "log_odds", "logit")
        return {
            "label": Column("aligned", "int32", of="tokens"),
            "confidence": number,
            "log_odds": number,
            **{f"{kind}:{name}": number for kind in kinds for name in self.class_names},
        }

    def annotate(self, outputs: dict[str, torch.Tensor], batch: Batch, what: tuple[str, ...]) -> Answers:
        """The values of these annotations, [B, T]; all pieces of a word get those of its first piece in the row."""
        import torch

        positions, tokens, first = batch.inputs["positions"]["label"], batch.inputs["tokens"], batch.targets["first"]
        first = first | (positions % tokens.shape[1] == 1)  # the rest of a word that a row begins with
        number = torch.arange(len(positions), device=positions.device)
        said_at = torch.where(first, number, 0).cummax(0).values
        found = {}
        for name, values in described(outputs["label"].float()[said_at], self.class_names, what).items():
            at_tokens = values.new_zeros(tokens.shape).flatten().index_copy(0, positions, values)
            found[name] = at_tokens.view(tokens.shape).cpu().numpy()
        return found

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns the text of each row, a word's label after it in brackets, or the right one > the guess.

        Labels outside of entities, such as `O`, are left out.
        """
        tokens, positions = np.asarray(batch.inputs["tokens"]), np.asarray(batch.inputs["positions"]["label"])
        said = [self.class_names[label] for label in np.asarray(batch.targets["label"]).tolist()]
        if outputs is not None:
            guesses = [self.class_names[label] for label in outputs["label"].argmax(-1).tolist()]
            pairs = zip(said, guesses, strict=True)
            said = [right if right == guess else f"{right} > {guess}" for right, guess in pairs]
        first = np.asarray(batch.targets["first"])
        said_at = {at: text for at, text, is_first in zip(positions.tolist(), said, first, strict=True) if is_first}
        lines, outside = [], self.scheme.outside
        for number, row in enumerate(tokens):
            begin = number * len(row)
            here = [at - begin for at in said_at if begin <= at < begin + len(row)]
            words = [self.vocab.decode(row[: here[0]] if here else row)]
            for at, stop in pairwise([*here, len(row)]):
                text = said_at[begin + at]
                words.append(self.vocab.decode(row[at:stop]) + (f" [{text}]" if text not in outside else ""))
            lines.append(" ".join(filter(None, words)))
        return lines

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Says {"words", "tags", "probabilities"} and, for labels of entities, "entities".

        A record has a "text", which is divided at white space, and in scripts written without spaces into characters;
        or it has "words", a list. An entity is {"type", "text", "start", "end"}: its first word, and one past its last.

        Raises:
            DataError: there is no word, or one is no text.
        """
        import torch

        sentences = [words_of(record) for record in records]
        encoded = self.vocab.encode_words([[to_spaces(word) for word in words] for words, _ in sentences])
        close = ([self.vocab.eos], [-1])
        tokens, word = ([np.append(part[at], close[at]) for part in encoded] for at in (0, 1))
        source = Units(MemorySplit({"tokens": tokens}, {WORD: word}), self.vocab, max_length)
        labels, chances = [], []
        for begin in range(0, len(source), ROWS_AT_ONCE):
            rows = source[np.arange(begin, min(begin + ROWS_AT_ONCE, len(source)))]
            batch = self.make_batch(rows, RowRng(0, 0, rows.ids)).map(torch.from_numpy)
            found = model(**batch.inputs)["label"][batch.targets["first"]].double()
            labels += found.argmax(-1).tolist()
            chances += found.softmax(-1).amax(-1).tolist()
        stops = np.cumsum([0, *(len(words) for words, _ in sentences)]).tolist()
        return [
            self._answer(words, joined, labels[start:stop], chances[start:stop])
            for (words, joined), (start, stop) in zip(sentences, pairwise(stops), strict=True)
        ]

    def _answer(
        self, words: list[str], text_of: Any, labels: Sequence[int], chances: Sequence[float]
    ) -> dict[str, Any]:
        tags = [self.class_names[label] for label in labels]
        answer: dict[str, Any] = {"words": words, "tags": tags, "probabilities": list(chances)}
        if self.scheme.has_entities:
            answer["entities"] = [
                {"type": type, "text": text_of(start, end), "start": start, "end": end}
                for type, start, end in entities_of(labels, self.scheme)
            ]
        return answer

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """The words, each with its label unless it is outside of entities; then one line per entity."""
        outside = self.scheme.outside
        words = [
            word if tag in outside else f"{word} [{tag} {chance:.0%}]"
            for word, tag, chance in zip(answer["words"], answer["tags"], answer["probabilities"], strict=True)
        ]
        return [" ".join(words), *(f"  {found['type']}  {found['text']}" for found in answer.get("entities", []))]


def words_of(record: dict[str, Any]) -> tuple[list[str], Any]:
    """Returns the words of a record, and what gives the text from one word to another.

    Raises:
        DataError: there is none, or one is no text.
    """
    words = record.get("words")
    if words is not None:
        if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
            raise DataError(
                f"'words' is {str(words)[:60]!r}", where="record", expected="a list of words, none of them empty"
            )
        return words, lambda start, end: " ".join(words[start:end])
    text = record["text"]
    bounds = word_bounds(text)
    if not bounds:
        raise DataError("the text is empty", where="text", expected="a text")
    return [text[start:end] for start, end in bounds], lambda start, end: text[bounds[start][0] : bounds[end - 1][1]]


def word_bounds(text: str) -> list[tuple[int, int]]:
    """Returns where the words of a text begin and end: what white space divides, and each character of Han and kin."""
    bounds: list[tuple[int, int]] = []
    for at, character in enumerate(text):
        if character.isspace():
            continue
        follows = bool(bounds) and bounds[-1][1] == at
        is_mark = unicodedata.category(character)[0] == "M"  # as the vowel signs of Thai
        if follows and (is_mark or not (is_unspaced(character) or is_unspaced(text[bounds[-1][0]]))):
            bounds[-1] = (bounds[-1][0], at + 1)
        else:
            bounds.append((at, at + 1))
    return bounds
