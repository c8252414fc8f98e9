"""Extractive question answering: where in a context the answer to a question stands."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.columns import Dataset, Split
from taskmask.data.draws import Draw
from taskmask.data.in_memory import MemorySplit
from taskmask.data.rows import Batch, Rows
from taskmask.data.source import Source
from taskmask.data.text_to_text import texts_of
from taskmask.data.windows import Windows
from taskmask.errors import DataError
from taskmask.metrics.answers import exact_match, token_f1
from taskmask.metrics.bootstrap import Measure
from taskmask.modules.spec import HeadSpec
from taskmask.registry import register_task
from taskmask.settings import DataSettings
from taskmask.tasks.base import Answers, Task, Totals

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 32
"""Windows that go through the model together in `predict`."""


@dataclasses.dataclass(frozen=True)
class SpanConfig:
    """How contexts are cut into windows, and how long an answer may be."""

    stride: int = opt(128, "tokens that neighbouring windows of a long context share; at most half of a window")
    max_question: int = opt(64, "tokens of the longest question; longer ones are cut at their end")
    max_answer: int = opt(30, "tokens of the longest answer that is given")

    def __post_init__(self) -> None:
        problems = Problems()
        for name, least in (("stride", 0), ("max_question", 1), ("max_answer", 1)):
            value = getattr(self, name)
            problems.check(value >= least, f"is {value}", where=f"task.{name}", expected=f"at least {least}")
        problems.raise_any()


@register_task("span", config=SpanConfig)
class Span(Task):
    """Says where in a context the answer to a question stands, as in SQuAD 1.1.

    A long context is read in windows that overlap. In training, a window that does not hold the whole answer points to
    `<s>`. Spans of different windows are compared by how much better they are than `<s>`, the answer "not here":
    logit(first) + logit(last) - the two logits of `<s>`. The logits alone are not comparable, since training leaves
    their level free in each window; nor are probabilities, which compare within a window only.

    **Source:** Devlin et al. 2019 (BERT), section 4.2 (the spans); Alberti et al. 2019 (arXiv 1901.08634)
    (the comparison of windows).

    Differs from the paper: BERT compares windows by the logits alone.
    """

    default_criterion = "span"
    columns = ("tokens", "question", "answer")
    best = "f1"
    measured_in_training = True
    fields = ("context", "question")

    def source(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool = True) -> Source:
        """The windows of the contexts, each beside its question."""
        return self._windows(split, data.length, labelled)

    def _windows(self, split: Split, length: int, labelled: bool) -> Windows:
        config = self.config
        return Windows(
            split,
            self.vocab,
            length,
            stride=config.stride,
            max_question=config.max_question,
            least=config.max_answer,
            labelled=labelled,
        )

    def heads(self) -> dict[str, HeadSpec]:
        """One head, "span", with two scores for each token: as the first, and as the last of the answer."""
        return {"span": HeadSpec("token", 2)}

    def make_batch(self, rows: Rows, draw: Draw) -> Batch:
        """Rows as they are; the targets are two places in each row, to be chosen among `<s>` and the context."""
        inputs: dict[str, Any] = {"tokens": rows.tokens, "segments": rows.columns["segments"]}
        if not rows.is_full:
            inputs["keep"] = rows.keep
        begin, offset = rows.columns["begin"], rows.columns["offset"]
        place, last = np.arange(rows.shape[1])[None, :], rows.lengths - 2
        context = (place >= begin[:, None]) & (place <= last[:, None])
        targets = {"choices": context | (place == 0), "shift": offset - begin}
        if "answer" in rows.columns:
            span = rows.columns["answer"].astype(np.int64) + (begin - offset)[:, None]
            is_inside = (span[:, 0] >= begin) & (span[:, 1] <= last)
            targets["span"] = np.where(is_inside[:, None], span, 0)
        return Batch(inputs, targets, rows.ids, int(rows.lengths.sum()))

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Mean loss of the windows, in nats."""
        return {"loss": totals["span"] / max(totals["span_count"], 1)}

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch) -> Answers:
        """The best span of each window: first and last token in the whole context, and how good it is; the loss.

        Where a window has no tokens, "last" is below "first".
        """
        import torch

        from taskmask.criteria.span import among

        choices = batch.targets["choices"]
        scores = scores_of(outputs["span"], choices, self.config.max_answer)
        best, number = scores.flatten(1).max(1)
        first, width = number // scores.shape[2], number % scores.shape[2]
        shift, none = batch.targets["shift"], best == -torch.inf
        found = {
            "first": first + shift,
            "last": torch.where(none, first - 1, first + width) + shift,
            "score": best,
        }
        if "span" in batch.targets:
            chances = among(outputs["span"], choices).log_softmax(1)
            found["loss"] = -chances.gather(1, batch.targets["span"][:, None]).mean((1, 2))
        return {"ids": np.asarray(batch.ids), **{name: value.cpu().numpy() for name, value in found.items()}}

    def measure(self, answers: Answers, source: Source) -> Measure:
        """Over questions: loss of their windows, exact match and F1 of the best span of all windows."""
        split, stored = source.split, source.stored[answers["ids"]]
        examples, example = np.unique(stored, return_inverse=True)
        # the best window of each example is the last of it in this order, of equal ones the first in the context
        order = np.lexsort((-answers["ids"], answers["score"], stored))
        best = order[np.searchsorted(stored[order], examples, side="right") - 1]
        texts, accepted = texts_of(split, "text", examples), texts_of(split, "answers", examples)
        at = split.offsets("tokens")[examples]
        is_empty = answers["last"][best] < answers["first"][best]
        starts = split.values("starts")[at + np.where(is_empty, 0, answers["first"][best])]
        ends = np.where(is_empty, starts, split.values("ends")[at + np.maximum(answers["last"][best], 0)])
        guesses = [text[start:end] for text, start, end in zip(texts, starts.tolist(), ends.tolist(), strict=True)]
        pairs = [(guess, right.split("\n")) for guess, right in zip(guesses, accepted, strict=True)]
        table = np.stack([
            np.bincount(example, answers["loss"].astype(np.float64), len(examples)),
            np.bincount(example, minlength=len(examples)),
            [exact_match(guess, right) for guess, right in pairs],
            [token_f1(guess, right) for guess, right in pairs],
        ])  # fmt: skip

        def metrics(index: np.ndarray) -> dict[str, float]:
            loss, windows, exact, f1 = table[:, index].sum(1).tolist()
            return {"loss": loss / windows, "exact_match": exact / len(index), "f1": f1 / len(index)}

        return Measure(len(examples), metrics)

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns a line a window: [the answer] or, with outputs, [the answer > the model's], question and context."""
        import torch

        from taskmask.criteria.span import among

        choices, tokens = np.asarray(batch.targets["choices"]), np.asarray(batch.inputs["tokens"])
        begins = choices[:, 1:].argmax(1) + 1
        spans = [np.asarray(batch.targets["span"])]
        if outputs is not None:
            spans.append(among(outputs["span"], torch.from_numpy(choices)).argmax(1).numpy())
        lines = []
        for row, begin, *said in zip(tokens, begins, *spans, strict=True):
            answers = [self.vocab.decode(row[first : last + 1]) or "-" for first, last in said]
            question, context = self.vocab.decode(row[:begin]), self.vocab.decode(row[begin:])
            lines.append(f"[{' > '.join(answers)}] {question} | {context}")
        return lines

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Says {"answer", "probability", "start", "end", "answers": the `top` best}, places in characters.

        The probability of an answer is its share among all spans of the context, in a softmax of their scores.

        Raises:
            DataError: a text is empty.
        """
        import torch

        texts: dict[str, list[str]] = {}
        for field in self.fields:
            # what ends a line elsewhere is a space here, as it was in training; the places stay what they are
            texts[field] = [re.sub(r"[\x00-\x1f\x7f]", " ", record[field]) for record in records]
            if not all(map(str.strip, texts[field])):
                raise DataError("the text is empty", where=field, expected="a text")
        contexts = self.vocab.encode_with_offsets(texts["context"])
        questions = self.vocab.encode([text.strip() for text in texts["question"]])
        close = [self.vocab.eos]
        columns = {"tokens": [np.append(ids, close) for ids, _, _ in contexts]}
        columns["question"] = [np.append(ids, close) for ids in questions]
        source = self._windows(MemorySplit(columns), max_length, labelled=False)
        tables = [np.full((len(ids), self.config.max_answer), -np.inf, np.float32) for ids, _, _ in contexts]
        for begin in range(0, len(source), ROWS_AT_ONCE):
            rows = source[np.arange(begin, min(begin + ROWS_AT_ONCE, len(source)))]
            batch = self.make_batch(rows, Draw(0, 0, rows.ids)).map(torch.from_numpy)
            outputs = model(**batch.inputs)["span"]
            scores = scores_of(outputs, batch.targets["choices"], self.config.max_answer).cpu().numpy()
            for id, row, start in zip(rows.ids, scores, rows.columns["begin"], strict=True):
                offset, size = source.offset[id], source.sizes[id]
                table = tables[source.stored[id]][offset : offset + size]
                np.maximum(table, row[start : start + size], out=table)  # a span of two windows has its better score
        return [
            self._answer(record["context"], starts, ends, best_spans(table, top))
            for record, (_, starts, ends), table in zip(records, contexts, tables, strict=True)
        ]

    def _answer(
        self, context: str, starts: np.ndarray, ends: np.ndarray, spans: list[tuple[int, int, float]]
    ) -> dict[str, Any]:
        answers: list[dict[str, Any]] = [
            {"answer": context[starts[first] : ends[last]], "probability": chance, "start": int(starts[first]),
             "end": int(ends[last])}
            for first, last, chance in spans
        ]  # fmt: skip
        nothing = {"answer": "", "probability": 0.0, "start": 0, "end": 0}
        return {**(answers[0] if answers else nothing), "answers": answers}

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """The question and the best answers."""
        lines = [f"  {found['probability']:6.1%}  {found['answer']}" for found in answer["answers"]]
        return [record["question"], *lines]


def scores_of(logits: torch.Tensor, choices: torch.Tensor, max_answer: int) -> torch.Tensor:
    """Scores all spans of up to `max_answer` tokens of the context, compared with `<s>`.

    Args:
        logits: [N T, 2], of the head "span".
        choices: bool [N, T], `<s>` and the context.
        max_answer: W, tokens of the longest span.

    Returns:
        Float [N, T, W]: of the span from token t to token t + w; -inf where it is not inside the context.
    """
    import torch.nn.functional as F

    from taskmask.criteria.span import among

    scores = among(logits, choices)
    scores = scores - scores[:, :1]  # [N, T, 2]
    scores[:, 0] = -float("inf")  # <s> itself is no answer
    ends = F.pad(scores[:, :, 1], (0, max_answer - 1), value=-float("inf"))  # [N, T + W - 1]
    return scores[:, :, :1] + ends.unfold(1, max_answer, 1)  # [N, T, 1] + [N, T, W]


def best_spans(scores: np.ndarray, top: int) -> list[tuple[int, int, float]]:
    """Returns the best spans of a context.

    Args:
        scores: float [tokens, W], of the span from token t to token t + w; -inf where there is none.
        top: how many, at most.

    Returns:
        (first token, last token, its probability in a softmax over all spans), the likeliest first.
    """
    flat = scores.reshape(-1).astype(np.float64)
    if not np.isfinite(flat).any():
        return []
    chances = np.exp(flat - flat.max())
    chances /= chances.sum()
    best = np.argsort(-chances, kind="stable")[:top]
    width = scores.shape[1]
    return [(int(at // width), int(at // width + at % width), float(chances[at])) for at in best if chances[at] > 0]
