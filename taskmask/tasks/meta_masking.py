"""Learn a masking policy from a task: what to mask so that a step of pre-training helps the task most.

Shapes: B rows, T tokens, C classes, P tokens that may be masked, R right answers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.config import Problems, opt
from taskmask.config.settings import DataSettings
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.dataset import Column, Dataset, Split
from taskmask.data.in_memory import MemorySplit
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Examples, Source, labelled_rows
from taskmask.data.sequences.episodes import QUESTION, QUESTION_LENGTHS, Episodes
from taskmask.data.sequences.seq2seq import LABEL_LENGTHS, LABELS
from taskmask.data.sequences.token_labels import Units
from taskmask.errors import ConfigError
from taskmask.masking.targets import shift_right
from taskmask.modules.heads_spec import MOST_DRAWS, HeadSpec
from taskmask.registry import register_task
from taskmask.tasks.base import ROWS_AT_ONCE, Answers, Task, Totals, mean, mean_loss, relabelling
from taskmask.tasks.text_to_text import read_texts, written_texts
from taskmask.tokenizer.text import texts_to_read

if TYPE_CHECKING:
    import torch

POLICY = "policy"


@dataclasses.dataclass(frozen=True)
class MetaMaskingConfig:
    """What is masked how much, and which columns hold the task."""

    ratio: float = opt(0.15, "share of the tokens of a row that the policy masks, at least one")
    label: str = opt("label", "column with the labels, which are the task of an encoder")
    question: str = opt(
        "", "column with questions about the text, which are the task of an encoder-decoder; none: label"
    )
    target: str = opt("answers", "with questions: column with their answers, the first of which is learned")
    max_length: int = opt(32, "with questions: tokens in the longest answer, <s> and </s> included")

    def __post_init__(self) -> None:
        problems = Problems()
        problems.check(0 < self.ratio <= 1, f"is {self.ratio}", where="task.ratio", expected="above 0, at most 1")
        problems.check(self.max_length >= 3, f"is {self.max_length}", where="task.max_length", expected="at least 3")
        problems.raise_any()


@register_task("meta_masking", config=MetaMaskingConfig)
class MetaMasking(Task):
    """Trains a policy that scores tokens, beside the language model that it masks for.

    `annotate` applies it: the column "policy", a score of each token from 0 to 1, is what the masker `scored` reads.
    The task is the label of a text, or, for an encoder-decoder, the answer to a question, asked without the text.

    **Source:** Ye et al. 2021 (EMNLP), the meta-learned policy, reconstructed. Differs from the paper: the policy is a
    layer on the hidden states of the language model, which learns on with it.
    """

    default_criterion = "meta_mask"
    lower_is_better = frozenset({"loss", "task_loss", "mlm_loss"})

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        self.gives_target = bool(config.question)
        self.class_names = [] if config.question else labels.get(config.label, [])
        own = (config.question, config.target) if config.question else (config.label,)
        self.columns = ("tokens", *own)
        self.class_counts = np.zeros(len(self.class_names), np.int64)

    def prepare(self, dataset: Dataset) -> None:
        """Counts the classes of the split train."""
        train, label = dataset.splits.get("train"), self.config.label
        if self.class_names and train and dataset.labels.get(label) == self.class_names and label in train.columns:
            values = train.values(label)
            self.class_counts = np.bincount(values[values >= 0], minlength=len(self.class_names))

    @property
    def head(self) -> str:
        """The head that fills in what is masked."""
        return "seq2seq" if self.config.question else "mlm"

    def heads(self) -> dict[str, HeadSpec]:
        """A language-model head, the policy, and for labels a head of rows."""
        of_task = {} if self.config.question else {"label": HeadSpec("row", len(self.class_names))}
        return {self.head: HeadSpec("lm"), **of_task, POLICY: HeadSpec("token", 1)}

    def source(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool = True) -> Source:
        """The stored rows, one row each, with what is asked about them; without, in pieces, to be scored."""
        config = self.config
        if not labelled:
            return Units(split, self.vocab, data.length)
        if config.question:
            return Episodes(split, self.vocab, data.length, config.question, config.target, config.max_length)
        relabel = relabelling(self, dataset, split, config.label)
        if len(self.class_names) < 2:
            what = f"column {config.label!r} has {len(self.class_names)} labels"
            raise ConfigError(what, where="task.label", expected="two or more, or task.question")
        rows = Examples(split, self.vocab, data.length, "", (config.label,), relabel)
        return rows.only(labelled_rows(split, config.label), f"have no label in column {config.label!r}")

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Rows for the policy; and the inputs of filling in and of answering among the targets, where there are any."""
        vocab, nothing = self.vocab, np.zeros(0, np.int64)
        inputs: dict[str, Any] = {**read_texts(rows.tokens, rows.lengths), "positions": {self.head: nothing}}
        if self.config.question:
            inputs["target"] = np.full((len(rows.ids), 1), vocab.eos)
        batch = Batch(inputs, {}, rows.ids, int(rows.lengths.sum()))
        if LABELS not in rows.columns and self.config.label not in rows.columns:
            return batch
        num = rows.maskable.sum(1)
        fill: dict[str, Any] = {"positions": {self.head: np.flatnonzero(rows.maskable)}}
        if self.config.question:
            fill["target"] = shift_right(rows.tokens, rows.lengths, vocab.eos, vocab.pad)
        answer, right = self._asked(rows, inputs)
        targets = {
            "right": right,
            "answer": answer,
            "fill": fill,
            "maskable": rows.maskable,
            "sizes": np.minimum(np.maximum(np.round(self.config.ratio * num).astype(np.int64), 1), num),
            "uniform": rng.uniform("policy", MOST_DRAWS * rows.shape[1])
            .reshape(len(num), MOST_DRAWS, -1)
            .swapaxes(0, 1),
            "progress": np.array(rng.progress),
            "mask": np.array(vocab.mask),
        }
        return dataclasses.replace(batch, targets=targets)

    def _asked(self, rows: TokenBatch, inputs: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        """The inputs of the task, and the right answers, int64 [R]."""
        columns = rows.columns
        if not self.config.question:
            return inputs, columns[self.config.label].astype(np.int64)
        written, right = written_texts(columns[LABELS], columns[LABEL_LENGTHS], self.vocab)
        return {**read_texts(columns[QUESTION], columns[QUESTION_LENGTHS]), **written}, right

    def metrics(self, totals: Totals) -> dict[str, float]:
        """The task's mean loss after the inner steps, before them, the difference, and the loss of filling in.

        In training, too, these are measured without dropout; the objective of the policy is the loss less the bonus.
        """
        count = totals["meta_count"]
        after, before = (mean_loss(totals, name, count) for name in ("meta", "task"))
        found = {**after, "task_loss": before["loss"], "gain": before["loss"] - after["loss"]}
        if "bonus" in totals:
            found["entropy_bonus"] = mean(totals["bonus"], count)
        return {**found, "mlm_loss": mean(totals["mlm"], totals["mlm_count"])}

    def annotations(self) -> dict[str, Column]:
        """For each token how gladly the policy masks it, from 0 to 1, and the log-odds of that, which order all."""
        number = Column("aligned", "float32", of="tokens")
        return {"policy": number, "log_odds": number}

    def annotate(self, outputs: dict[str, torch.Tensor], batch: Batch, what: tuple[str, ...]) -> Answers:
        """The policy's score of each token, [B, T], from 0 to 1, or its log-odds."""
        odds = outputs[POLICY].float().view(batch.inputs["tokens"].shape).cpu()
        return {name: (odds if name == "log_odds" else odds.double().sigmoid()).numpy() for name in what}

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns a line a row: the text that the policy reads, with outputs what it would mask rather in brackets."""
        tokens = np.asarray(batch.inputs["tokens"])
        if outputs is None:
            return [self.vocab.decode(row) for row in tokens]
        scores = outputs[POLICY].float().view(tokens.shape).cpu().numpy()
        best = np.where(np.asarray(batch.targets["maskable"]), scores, -np.inf).argmax(1)
        return [
            f"{self.vocab.decode(row)} [{self.vocab.piece(int(row[at]))}]" for row, at in zip(tokens, best, strict=True)
        ]

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Says {"tokens": the `top` that the policy masks most gladly, each {"piece", "place", "score"}}.

        Raises:
            DataError: a text is empty.
        """
        import torch

        texts = texts_to_read(records, "text")
        source = Units(
            MemorySplit({"tokens": [np.append(ids, self.vocab.eos) for ids in self.vocab.encode(texts)]}),
            self.vocab,
            max_length,
        )
        answers: list[dict[str, Any]] = []
        found: list[list[tuple[float, int, int]]] = [[] for _ in texts]
        for begin in range(0, len(source), ROWS_AT_ONCE):
            rows = source[np.arange(begin, min(begin + ROWS_AT_ONCE, len(source)))]
            outputs = model(**self.make_batch(rows, RowRng(0, 0, rows.ids)).map(torch.from_numpy).inputs)
            odds = outputs[POLICY].double().view(rows.shape).numpy()  # many scores of 0 to 1 may be equal
            first = source.starts[rows.ids] - source.first_of[rows.ids] - 1  # of a row, whose place 0 is <s>
            for row, at in zip(*np.nonzero(rows.maskable), strict=True):
                one = (float(odds[row, at]), int(first[row] + at), int(rows.tokens[row, at]))
                found[source.stored[rows.ids[row]]].append(one)
        for said in found:
            best = sorted(said, key=lambda one: -one[0])[:top]
            scores = torch.tensor([odds for odds, _, _ in best], dtype=torch.float64).sigmoid().tolist()
            tokens = [
                {"piece": self.vocab.piece(i), "place": at, "score": score}
                for score, (_, at, i) in zip(scores, best, strict=True)
            ]
            answers.append({"tokens": tokens})
        return answers

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """The text, and the tokens that the policy masks most gladly."""
        lines = [f"  {found['score']:.3f}  {found['piece']}" for found in answer["tokens"]]
        return [record["text"], *lines]
