"""Extractive question answering: where in a context the answer to a question stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.config import Problems, opt
from taskmask.config.settings import DataSettings
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.batching import plan_epoch
from taskmask.data.dataset import Column, Dataset, Split
from taskmask.data.in_memory import MemorySplit
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Source
from taskmask.data.sequences.qa_windows import Contexts, Windows, contexts_of
from taskmask.data.sequences.seq2seq import texts_of
from taskmask.metrics.answers import exact_match, token_f1
from taskmask.modules.heads_spec import HeadSpec
from taskmask.registry import register_task
from taskmask.stats.bootstrap import Measure
from taskmask.stats.limits import LOSS, SHARE
from taskmask.tasks.base import ROWS_AT_ONCE, Answers, Ask, Task, Totals, losses_of, mean
from taskmask.tokenizer.text import texts_to_read

if TYPE_CHECKING:
    import torch

"""Windows that go through the model together in `predict`."""


@dataclasses.dataclass(frozen=True)
class SpanConfig:
    """What is read, how contexts are cut into windows, and how long an answer may be."""

    question: str = opt(
        "question", 'column with the questions; "": contexts are read alone, to learn what is asked for'
    )
    stride: int = opt(128, "tokens that neighbouring windows of a long context share; at most half of a window")
    max_question: int = opt(64, "tokens of the longest question; longer ones are cut at their end")
    max_answer: int = opt(30, "tokens of the longest answer that is given")
    max_words: int = opt(0, "words of the longest answer, which is of whole words then; 0: any tokens")
    best: int = opt(5, "annotate: likeliest spans of each stored row that are written, at most 127; 1: top 1")

    def __post_init__(self) -> None:
        problems = Problems()
        expected = "at most 127: those of two rows have numbers in a byte"
        problems.check(self.best <= 127, f"is {self.best}", where="task.best", expected=expected)
        for name, least in (("stride", 0), ("max_question", 1), ("max_answer", 1), ("max_words", 0), ("best", 1)):
            value = getattr(self, name)
            problems.check(value >= least, f"is {value}", where=f"task.{name}", expected=f"at least {least}")
        problems.raise_any()


@register_task("span", config=SpanConfig)
class Span(Task):
    """Says where in a context the answer to a question stands, as in SQuAD 1.1; or what one would ask for.

    Without a question (`question ""`) the model reads contexts alone and learns which spans of them were asked for: a
    masking policy under direct supervision. `taskmask annotate` writes its best spans into any running text.

    A long context is read in windows that overlap. In training, a window that does not hold the whole answer points to
    `<s>`. Spans of different windows are compared by how much better they are than `<s>`, the answer "not here":
    logit(first) + logit(last) - the two logits of `<s>`. The logits alone are not comparable, since training leaves
    their level free in each window; nor are probabilities, which compare within a window only.

    **Source:** Devlin et al. 2019 (BERT), section 4.2 (the spans); Alberti et al. 2019 (arXiv 1901.08634)
    (the comparison of windows); Ye et al. 2021 (EMNLP), the directly supervised masking policy.

    Differs from the paper: BERT compares windows by the logits alone. The n best spans of a policy are the n best that
    do not overlap, since a column holds one span a token.
    """

    default_criterion = "span"
    best = "f1"
    measured_in_training = True

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        question = (config.question,) if config.question else ()
        self.columns = ("tokens", *question, "answer")
        self.fields = ("context", *(("question",) if question else ()))

    @classmethod
    def sample(cls, options: Any) -> dict[str, str]:
        """A context, and a question if questions are read."""
        question = {"question": "Who wrote the book?"} if options.question else {}
        return {"context": "Ada wrote the book.", **question}

    def source(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool = True) -> Source:
        """The windows of the contexts, each beside its question if there is one; to annotate, the contexts."""
        windows = self._windows(split, data.length, labelled)
        return windows if labelled else Contexts(windows)

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
            question=config.question,
        )

    def heads(self) -> dict[str, HeadSpec]:
        """One head, "span", with two scores for each token: as the first, and as the last of the answer."""
        return {"span": HeadSpec("token", 2)}

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Rows as they are; the targets are two places in each row, to be chosen among `<s>` and the context."""
        inputs: dict[str, Any] = {"tokens": rows.tokens}
        if "segments" in rows.columns:
            inputs["segments"] = rows.columns["segments"]
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
        """The loss, over the windows."""
        return self.joint_loss(totals)

    def answers(self, outputs: dict[str, torch.Tensor], batch: Batch, losses: dict[str, torch.Tensor]) -> Answers:
        """The best span of each window: first and last token in the whole context, and how good it is; the loss.

        Where a window has no tokens, "last" is below "first".
        """
        import torch

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
            found["loss"] = losses_of(losses, "span", batch.targets["span"])
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
            return {"loss": mean(loss, windows), "exact_match": mean(exact, len(index)), "f1": mean(f1, len(index))}

        return Measure(len(examples), metrics, {"loss": LOSS, "exact_match": SHARE, "f1": SHARE})

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
            lines.append(f"[{' > '.join(answers)}] {' | '.join(filter(None, (question, context)))}")
        return lines

    def annotations(self) -> dict[str, Column]:
        """For each token: the number of its span in the stored row, from 1, the likeliest; and the span's probability.

        Outside of spans both are 0. In every other row of a document numbers go on from `best`, so that a span that
        ends a row and one that begins the next differ where they are read together.
        """
        return {"spans": Column("aligned", "uint8", of="tokens"), "chance": Column("aligned", "float32", of="tokens")}

    def annotate_rows(
        self, ask: Ask, source: Source, ids: np.ndarray, what: tuple[str, ...], max_tokens: int, advance: Callable
    ) -> dict[str, list[np.ndarray]]:
        """Returns the `best` spans of contexts, that do not overlap: read in windows, compared over all of them."""
        assert isinstance(source, Contexts)
        windows = source.windows
        wanted = np.flatnonzero(np.isin(windows.stored, ids))
        plan = plan_epoch(windows.lengths[wanted], 0, 0, max_tokens, 1)
        tables = self._tables(ask, windows, ids, (wanted[plan[place]] for place in range(len(plan))))
        width, offsets = source.lengths[ids].max(), source.starts
        found: dict[str, list[np.ndarray]] = {"spans": [], "chance": []}
        for id, table in tables.items():
            spans, chance = np.zeros(width, np.uint8), np.zeros(width, np.float32)
            self._keep_words(table, windows.split.tokens(offsets[id], offsets[id] + len(table)))
            begin = 1 + self.config.best * bool(source.is_odd[id])
            for number, (first, last, share) in enumerate(best_spans(table, self.config.best, apart=True), begin):
                spans[1 + first : 2 + last], chance[1 + first : 2 + last] = number, share
            found["spans"].append(spans)
            found["chance"].append(chance)
        advance(int(source.lengths[ids].sum()))
        return {name: found[name] for name in what}

    def _tables(
        self, ask: Ask, windows: Windows, contexts: np.ndarray, batches: Iterable[np.ndarray]
    ) -> dict[int, np.ndarray]:
        """Returns {context: the scores of all its spans, float [tokens, W]}; one in several windows has its best."""
        longest, sizes = self.config.max_answer, contexts_of(windows.split)
        tables = {int(id): np.full((sizes[id], longest), -np.inf, np.float32) for id in contexts}
        for ids in batches:
            rows = windows[ids]
            outputs, batch = ask(self.make_batch(rows, RowRng(0, 0, ids)))
            scores = scores_of(outputs["span"], batch.targets["choices"], longest).cpu().numpy()
            for id, row, start in zip(ids, scores, rows.columns["begin"], strict=True):
                offset, size = windows.offset[id], windows.sizes[id]
                table = tables[int(windows.stored[id])][offset : offset + size]
                np.maximum(table, row[start : start + size], out=table)
        return tables

    def _keep_words(self, table: np.ndarray, tokens: np.ndarray) -> None:
        """Rules out, in a table of spans, those that are not of whole words or of too many of them, if that counts."""
        if not self.config.max_words or not len(tokens):
            return
        words = self.vocab.word_numbers(tokens[None])[0]
        changes = words[1:] != words[:-1]
        is_first, is_last = np.append(True, changes) & (words >= 0), np.append(changes, True) & (words >= 0)
        for width in range(min(table.shape[1], len(tokens))):
            first, last = slice(None, len(tokens) - width), slice(width, None)
            fits = is_first[first] & is_last[last] & (words[last] - words[first] < self.config.max_words)
            table[first, width][~fits] = -np.inf

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Says {"answer", "probability", "start", "end", "answers": the `top` best}, places in characters.

        The probability of an answer is its share among all spans of the context, in a softmax of their scores.

        Raises:
            DataError: a text is empty.
        """
        import torch

        texts = {field: texts_to_read(records, field) for field in self.fields}  # places stay what they are
        contexts = self.vocab.encode_with_offsets(texts["context"])
        close = [self.vocab.eos]
        columns = {"tokens": [np.append(ids, close) for ids, _, _ in contexts]}
        if "question" in texts:
            questions = self.vocab.encode(texts["question"])
            columns[self.config.question] = [np.append(ids, close) for ids in questions]
        windows = self._windows(MemorySplit(columns), max_length, labelled=False)

        def ask(batch: Batch) -> tuple[dict[str, torch.Tensor], Batch]:
            given = batch.map(torch.from_numpy)
            return model(**given.inputs), given

        every = np.arange(len(windows))
        batches = (every[begin : begin + ROWS_AT_ONCE] for begin in range(0, len(every), ROWS_AT_ONCE))
        tables = self._tables(ask, windows, np.arange(len(records)), batches)
        for number, table in tables.items():
            self._keep_words(table, contexts[number][0])
        return [
            self._answer(record["context"], starts, ends, best_spans(tables[number], top))
            for number, (record, (_, starts, ends)) in enumerate(zip(records, contexts, strict=True))
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
        """The question, or the context, and the best answers."""
        lines = [f"  {found['probability']:6.1%}  {found['answer']}" for found in answer["answers"]]
        return [record[self.fields[-1]], *lines]


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


def best_spans(scores: np.ndarray, top: int, apart: bool = False) -> list[tuple[int, int, float]]:
    """Returns the best spans of a context.

    Args:
        scores: float [tokens, W], of the span from token t to token t + w; -inf where there is none.
        top: how many, at most.
        apart: whether a span that overlaps a better one is passed over.

    Returns:
        (first token, last token, its probability in a softmax over all spans), the likeliest first.
    """
    if not np.isfinite(scores).any():
        return []
    chances = np.exp(scores.astype(np.float64) - scores.max())
    chances /= chances.sum()
    width, found = scores.shape[1], []
    stops = np.arange(len(scores))[:, None] + np.arange(width)
    for _ in range(min(top, scores.size)):
        first, further = divmod(int(chances.argmax()), width)
        if chances[first, further] <= 0:
            break
        last = first + further
        found.append((first, last, float(chances[first, further])))
        if apart:
            near = slice(max(0, first - width + 1), last + 1)  # those that begin so that they may reach it
            chances[near][stops[near] >= first] = 0
        else:
            chances[first, further] = 0
    return found
