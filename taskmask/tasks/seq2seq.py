"""Text to text: answer a question, summarise, translate; or rank given answers."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from taskmask.config import opt
from taskmask.config.settings import DataSettings
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.dataset import Dataset, Split
from taskmask.data.in_memory import MemorySplit
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Source
from taskmask.data.sequences.seq2seq import LABEL_LENGTHS, LABELS, TextToText
from taskmask.errors import DataError
from taskmask.metrics.answers import exact_match, token_f1
from taskmask.metrics.rouge import COUNTED, KINDS, latin_words, rouge
from taskmask.modules.heads_spec import GenerationConfig
from taskmask.registry import register_task
from taskmask.stats.bootstrap import Measure
from taskmask.stats.limits import Limits
from taskmask.tasks.base import Answers
from taskmask.tasks.text_to_text import TextToTextTask, read_texts, written_texts
from taskmask.tokenizer.text import texts_to_read, to_spaces
from taskmask.tokenizer.word_boundaries import words_of_text


@dataclasses.dataclass(frozen=True)
class Seq2SeqConfig(GenerationConfig):
    """Which columns hold the texts, and how texts are generated; targets beyond max_length are cut."""

    target: str = opt("answers", "column with the text to be written, of --text or --list: then the first is learned")
    pair: str = opt("", "column with a second text to be read, such as a context; none: one text")
    choices: str = opt("", "column of --list with the answers to choose among; none: there are none")
    rouge_words: Literal["latin", "unicode"] = opt(
        "latin",
        "words that ROUGE counts: of the letters a to z and digits, as for English, or of the letters of every script, "
        "of Chinese, Japanese, Thai and the like the single characters",
    )
    validate: bool = opt(False, "validations in training generate texts too, so that train.metric may be exact_match")


@register_task("seq2seq", config=Seq2SeqConfig)
class Seq2Seq(TextToTextTask):
    """Writes a text for a text, or for a pair of texts, such as the answer to a question.

    Validations in training measure how likely the right text is. `taskmask evaluate` has texts generated too, and
    compares them with all that are accepted: exact match and F1 of SQuAD, ROUGE; and where there are choices, how often
    the likeliest of them, by the sum of the log-probabilities of its tokens, is an accepted one. Where another text is
    as likely, and where a row has no choices, that is no hit.

    **Source:** Sutskever et al. 2014 (arXiv 1409.3215); Roberts et al. 2020 (arXiv 2002.08910), section 3 (questions
    without a context).
    """

    default_masker = None

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        self.columns = ("tokens", *filter(None, (config.pair, config.target)))
        self.measured_in_training = config.validate
        self.fields = ("text", *([config.pair] if config.pair else []))

    def generation(self, longest: int) -> GenerationConfig:
        """As the options say."""
        return dataclasses.replace(self.config, max_length=min(self.config.max_length, longest))

    def source(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool = True) -> TextToText:
        """The stored rows, one row each, with their targets; longer ones are cut at their end."""
        return self._rows_of(split, data.length, self.config.target if labelled else "", self.config.choices)

    def _rows_of(self, split: Split, length: int, target: str, choices: str) -> TextToText:
        config, vocab = self.config, self.vocab
        return TextToText(
            split, vocab, length, target=target, pair=config.pair, choices=choices, max_target=config.max_length
        )

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Rows as they are, and their targets; texts without targets as they are."""
        columns, inputs = rows.columns, read_texts(rows.tokens, rows.lengths)
        if LABELS not in columns:
            return Batch(inputs, {}, rows.ids, int(rows.lengths.sum()))
        written, right = written_texts(columns[LABELS], columns[LABEL_LENGTHS], self.vocab)
        num_tokens = np.maximum(rows.lengths, columns[LABEL_LENGTHS]).sum()
        return Batch({**inputs, **written}, {"seq2seq": right}, rows.ids, int(num_tokens))

    def generate(self, model: Any, batch: Batch, source: Source) -> Answers:
        """The text generated for each row, as ids; and which of its choices is the likeliest, -1 where none is."""
        assert isinstance(source, TextToText)
        found = {"guess": np.full((len(batch.ids), source.max_target), self.vocab.pad, np.int64)}
        for row, text in zip(found["guess"], self._generated(model, batch, source), strict=True):
            row[: len(text)] = text
        if source.choices:
            ids = np.asarray(batch.ids)
            labels, lengths, of_row = source.gather_choices(ids)
            scores = self._likelihoods(model, batch, labels, lengths, of_row)
            own = [of_row == row for row in range(len(ids))]
            texts = source.choices_of(ids)
            found["choice"] = np.array([_likeliest(t, labels[o], scores[o]) for t, o in zip(texts, own, strict=True)])
        return found

    def _generated(self, model: Any, batch: Batch, source: TextToText) -> list[np.ndarray]:
        """The ids of the text for each row of the batch, without specials around it."""
        how, keep, vocab = self.generation(source.max_target), batch.inputs.get("keep"), self.vocab
        found: list[np.ndarray] = model.generate(batch.inputs["tokens"], keep, how, bos=vocab.bos, eos=vocab.eos)
        return found

    def _likelihoods(
        self, model: Any, batch: Batch, labels: np.ndarray, lengths: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Log-probability of each choice, float64 [C], in nats; what they are is as of `gather_choices`."""
        import torch
        import torch.nn.functional as F

        tokens, keep = batch.inputs["tokens"], batch.inputs.get("keep")
        scores = np.zeros(len(rows))
        room = max(tokens.shape[1], self.config.max_length)
        at_once = max(1, len(tokens) * room // max(room, lengths.max(initial=0)))  # fewer than rows where they are long
        for begin in range(0, len(rows), at_once):
            part = slice(begin, begin + at_once)
            width, row = lengths[part].max(), torch.from_numpy(rows[part]).to(tokens.device)
            written, right = written_texts(labels[part, :width], lengths[part], self.vocab)
            given = Batch(written, {"right": right}, batch.ids, 0).map(lambda a: torch.from_numpy(a).to(tokens.device))
            outputs = model(tokens=tokens[row], keep=None if keep is None else keep[row], **given.inputs)
            losses = F.cross_entropy(outputs["seq2seq"].float(), given.targets["right"], reduction="none")
            line = written["positions"]["seq2seq"] // width
            scores[part] = -np.bincount(line, losses.cpu().numpy().astype(np.float64), len(row))
        return scores

    def measure(self, answers: Answers, source: Source) -> Measure:
        """By rows: the metrics of the right texts; where texts were generated exact match, F1 and ROUGE of them."""
        of_right = super().measure(answers, source)
        if "guess" not in answers:
            return of_right
        assert isinstance(source, TextToText)
        accepted = source.accepted(answers["ids"])
        pairs = [(self.vocab.decode(text), right) for text, right in zip(answers["guess"], accepted, strict=True)]
        words_of = {"latin": latin_words, "unicode": words_of_text}[self.config.rouge_words]
        columns = {
            "exact_match": [exact_match(*pair) for pair in pairs],
            "f1": [token_f1(*pair) for pair in pairs],
            **dict(zip(KINDS, zip(*(rouge(*pair, words_of) for pair in pairs), strict=True), strict=True)),
        }
        if "choice" in answers:
            choices = source.choices_of(answers["ids"])
            pairs_of = zip(choices, answers["choice"], strict=True)
            chosen = [texts[number] if number >= 0 else None for texts, number in pairs_of]
            columns["choice_accuracy"] = [text in right for text, right in zip(chosen, accepted, strict=True)]
        table = np.array(list(columns.values()), np.float64)
        is_defined = ~np.isnan(table)
        sums_of = np.concatenate([np.where(is_defined, table, 0.0), is_defined]).T

        def metrics(index: np.ndarray) -> dict[str, float]:
            sums, counts = np.split(np.bincount(index, minlength=len(sums_of)) @ sums_of, 2)
            means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
            return {**of_right.metrics(index), **dict(zip(columns, means.tolist(), strict=True))}

        counts = dict(zip(columns, is_defined.sum(1).tolist(), strict=True))
        limits = {**of_right.limits, **{name: Limits(0, 1, count) for name, count in counts.items()}}
        passed_over = sum(map(_has_other_scripts, accepted)) if self.config.rouge_words == "latin" else 0
        return Measure(of_right.size, metrics, limits, self._notes_on_rouge(counts, of_right.size, passed_over))

    def _notes_on_rouge(self, counts: dict[str, int], rows: int, passed_over: int) -> tuple[str, ...]:
        """What people should know if words of references do not count.

        Args:
            counts: of how many rows each metric is the mean.
            rows: all of them.
            passed_over: how many rows have words that count and, in another script, more letters that do not.
        """
        of = {counted: counts[kind] for kind, counted in COUNTED.items()}
        kinds = {counted: ", ".join(kind for kind in KINDS if COUNTED[kind] == counted) for counted in of}
        fix = "; --task.rouge_words unicode counts the words of every script" * (self.config.rouge_words == "latin")
        notes = (
            f"rouge1, rouge2, rougeL: the references of {passed_over:,} of {rows:,} rows have words in another script,"
            f" which do not count (latin){fix}",
        )
        return notes[: bool(passed_over)] + tuple(
            f"{kinds[counted]}: the references of {rows - count:,} of {rows:,} rows have no {counted}"
            f" ({self.config.rouge_words}) and are left out{fix if counted == 'word' else ''}"
            for counted, count in of.items()
            if count < rows
        )

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Says {"generated", "cut": only if the text was}; where a record has the list "choices", or as `task.choices`
        names it, also {"choice", "probability": among them, "log_probability", "ranked": the `top` likeliest}.

        Raises:
            DataError: a text is empty, or the choices are no list of texts.
        """
        import torch

        name = self.config.choices or "choices"
        lists = [_choices_of(record, name) for record in records]
        columns = {name: [np.frombuffer("\n".join(texts).encode(), np.uint8) for texts in lists]}
        for column, field in zip(("tokens", self.config.pair), self.fields, strict=False):
            texts = texts_to_read(records, field)
            columns[column] = [np.append(ids, self.vocab.eos) for ids in self.vocab.encode(texts)]
        source = self._rows_of(MemorySplit(columns), max_length, "", name)
        rows = source[np.arange(len(records))]
        batch = self.make_batch(rows, RowRng(0, 0, rows.ids)).map(torch.from_numpy)
        texts = [self.vocab.decode(text) for text in self._generated(model, batch, source)]
        labels, lengths, of_row = source.gather_choices(rows.ids)
        scores = self._likelihoods(model, batch, labels, lengths, of_row)
        answers: list[dict[str, Any]] = []
        for number, (text, choices) in enumerate(zip(texts, lists, strict=True)):
            ranked = _ranked(choices, scores[of_row == number])[:top]
            cut = {"cut": True} if source.is_cut[number] else {}
            answers.append({"generated": text, **({**ranked[0], "ranked": ranked} if ranked else {}), **cut})
        return answers

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """The text with what is generated, and its choices."""
        cut = "  (text was cut)" * ("cut" in answer)
        lines = [f"  {found['probability']:6.1%}  {found['choice']}" for found in answer.get("ranked", ())]
        return ["  ".join(record[field] for field in self.fields), f"  = {answer['generated']}{cut}", *lines]


def _has_other_scripts(references: list[str]) -> bool:
    """Whether a reference has Latin words, and more letters of other scripts, which ROUGE passes over."""
    for text in references:
        others = sum(character >= "\u0370" and character.isalpha() for character in text)  # behind the Latin letters
        if others and latin_words(text) and others > sum(map(len, latin_words(text))):
            return True
    return False


def _choices_of(record: dict[str, Any], name: str) -> list[str]:
    """The choices of a record; none where it has none."""
    choices = record.get(name)
    if choices is None:
        return []
    if not isinstance(choices, list) or not all(isinstance(text, str) and text.strip() for text in choices):
        raise DataError(f"{name!r} is {str(choices)[:60]!r}", where=name, expected="a list of texts, none blank")
    return [to_spaces(text) for text in choices]


def _likeliest(texts: list[str], labels: np.ndarray, scores: np.ndarray) -> int:
    """Number of the likeliest choice of a row; -1 where there is none, or another text is as likely.

    Texts of the same tokens are as likely, whatever rounding says.
    """
    if not texts:
        return -1
    best = int(scores.argmax())
    alike = (scores == scores[best]) | (labels == labels[best]).all(axis=1)
    return best if {texts[at] for at in np.flatnonzero(alike)} == {texts[best]} else -1


def _ranked(choices: list[str], scores: np.ndarray) -> list[dict[str, Any]]:
    """The choices by their log-probabilities, in nats, the likeliest first."""
    chances = np.exp(scores - scores.max(initial=-np.inf))
    chances = (chances / chances.sum()).tolist()
    order = np.argsort(-scores, kind="stable")
    return [{"choice": choices[at], "probability": chances[at], "log_probability": float(scores[at])} for at in order]
