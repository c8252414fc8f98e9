"""Masked language modelling and a task's (pseudo) labels, together or the labels alone.

Shapes: B rows, T tokens, K views, N rows of a batch, C classes, P targets.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from taskmask.config import Problems, opt
from taskmask.config.settings import DataSettings
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.dataset import Dataset, Split
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import Examples, Source, labelled_rows
from taskmask.data.sequences.token_labels import content_of
from taskmask.data.value_checks import LARGEST, check_numbers
from taskmask.errors import ConfigError, DataError
from taskmask.modules.heads_spec import HeadSpec
from taskmask.registry import TASKS, register_task
from taskmask.stats.limits import Limits
from taskmask.tasks.base import Totals, mean, mean_loss, relabelling
from taskmask.tasks.masked_lm import MaskedLM, MaskedLMConfig

if TYPE_CHECKING:
    import torch

HEAD = "pseudo"
SAMPLE, ENOUGH = 1000, 100
"""How many scores are looked at, and how many tell whether they are those of other classes than their label's."""
KINDS = {"row": "rows", "aligned": "tokens", "ragged": "texts"}


@dataclasses.dataclass(frozen=True)
class JointMLMConfig(MaskedLMConfig):
    """Which columns hold the labels, and what the model reads."""

    label: str = opt("label", "column with the labels of rows or of tokens; a row without one counts for MLM alone")
    soft: tuple[str, ...] = opt(
        (), "columns with a teacher's scores, learned in place of the label: logits, or one a class"
    )
    soft_is: Literal["logits", "probabilities"] = opt("logits", "what these columns hold")
    read: Literal["masked", "clean"] = opt("masked", "the text that the label is read from; without mlm the clean one")
    mlm: bool = opt(True, "mask tokens and predict them, too; false: nothing is masked")

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = Problems()
        twice = len(set(self.soft)) < len(self.soft)
        problems.check(not twice, f"names a column twice: {' '.join(self.soft)}", where="task.soft")
        problems.raise_any()


@register_task("joint_mlm", config=JointMLMConfig)
class JointMLM(MaskedLM):
    """Learns the labels that a model gave to unlabelled texts, with masked language modelling or without it.

    Labels are of rows (classification) or of tokens (tagging), whichever the column holds; hard ones, or the teacher's
    scores where `soft` names them. The head is called pseudo, so that a fine-tuning begins with a new one.

    **Source:** Guo 2020 (arXiv 2011.09031), sections 3.2 and 4.3: labels and masks on the masked text together (v1), or
    the teacher's logits on the clean text alone (v4). Differs from the paper: tags are learned token by token, without
    a conditional random field.
    """

    default_criterion = "joint"
    targets_of = {"soft": HEAD}  # noqa: RUF012 - replaced, never changed
    measured_in_training = False
    config: JointMLMConfig

    def __init__(self, config: Any, vocab: Any, masker: Any, labels: dict[str, list[str]]):
        super().__init__(config, vocab, masker, labels)
        self.columns = ("tokens", config.label, *config.soft)
        self.class_names = labels.get(config.label, [])
        self.class_counts = np.zeros(len(self.class_names), np.int64)
        self.of_tokens: bool | None = None  # unknown without the dataset
        self.soft_order: list[int] = []  # the places of the classes among the scores of the dataset

    @classmethod
    def sample(cls, options: Any) -> dict[str, str]:
        """A text with a gap, if masks are learned."""
        return super().sample(options) if options.mlm else {}

    @classmethod
    def masks(cls, options: JointMLMConfig) -> bool:
        """Whether tokens are masked."""
        return options.mlm

    def prepare(self, dataset: Dataset) -> None:
        """Looks whether the labels are those of rows or of tokens, in which order they stand, and counts them."""
        name = self.config.label
        names = dataset.labels.get(name, [])
        self.soft_order = [names.index(one) for one in self.class_names if one in names]
        split = next((split for split in dataset.splits.values() if name in split.columns), None)
        self.of_tokens = bool(split) and split.column(name).kind == "aligned"  # type: ignore[union-attr]
        train = dataset.splits.get("train")
        if train and name in train.columns and dataset.labels.get(name) == self.class_names:
            values = train.values(name)
            self.class_counts = np.bincount(values[values >= 0], minlength=len(self.class_names))

    def source(self, split: Split, data: DataSettings, dataset: Dataset, labelled: bool = True) -> Source:
        """The stored rows, one row each; longer ones are cut at their end; without MLM only those with a label."""
        where = f"{split.folder}, split {split.name}"
        if len(self.class_names) < 2:
            what = f"column {self.config.label!r} has {len(self.class_names)} labels"
            raise DataError(what, where=where, expected="two or more", fix="write it with taskmask annotate")
        relabel = relabelling(self, dataset, split, self.config.label)
        if self.config.soft:
            self._check_columns(split, dataset.labels[self.config.label], where)
            self._check_scores(split, dataset.labels[self.config.label], where)
        masker = self.masker.columns if self.masker else ()
        columns = tuple(dict.fromkeys((self.config.label, *self.config.soft, *masker)))
        rows, known = Examples(split, self.vocab, data.length, "", columns, relabel), labelled_rows(split, columns[0])
        return rows if self.config.mlm else rows.only(known, f"have no label in column {columns[0]!r}")

    def _check_columns(self, split: Split, names: list[str], where: str) -> None:
        """Raises a DataError unless the columns of scores have one for each class, of what the label is of."""
        of, size = "tokens" if self.of_tokens else "rows", len(self.class_names)
        columns = {name: split.column(name) for name in self.config.soft}
        for name, column in columns.items():
            if (column.kind == "aligned") != self.of_tokens or not column.dtype.startswith("float"):
                what = f"column {name!r} of task.soft holds {column.dtype} of {KINDS[column.kind]}"
                expected = f"scores of {of}, as {self.config.label!r} has labels of {of}"
                raise DataError(what, where=where, expected=expected)
        if (widths := sum(column.width for column in columns.values())) != size:
            what = f"task.soft names {widths} scores a row: {', '.join(columns)}"
            fix = "one column of logits, or a column for each class in their order"
            raise DataError(what, where=where, expected=f"{size}, one a class", fix=fix)
        if set(names) != set(self.class_names):
            what = f"the scores of task.soft are those of {', '.join(names[:20])}"
            fix = "use a model that was trained with these classes"
            raise DataError(what, where=where, expected=f"of {', '.join(self.class_names[:20])}", fix=fix)

    def _check_scores(self, split: Split, names: list[str], where: str) -> None:
        """Raises a DataError where the first scores are not what `soft_is` says, or those of other classes.

        Also where any cannot be learned: a logit of -inf can, it rules a class out.
        """
        columns = [np.asarray(split.values(name)[:SAMPLE], np.float64) for name in self.config.soft]
        scores = np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)
        label = np.asarray(split.values(self.config.label)[:SAMPLE])
        known = (label >= 0) & np.isfinite(scores).all(axis=1)
        scores, label = scores[known], label[known]
        are_chances = bool(((scores >= 0) & (scores <= 1)).all() and (np.abs(scores.sum(axis=1) - 1) < 0.01).all())
        if len(scores) and are_chances != (self.config.soft_is == "probabilities"):
            what = f"is {self.config.soft_is}, and the scores are {'' if are_chances else 'no '}probabilities"
            raise DataError(what, where="task.soft_is", fix="say what the columns of task.soft hold")
        least, most = (0.0, 1.0) if self.config.soft_is == "probabilities" else (-np.inf, LARGEST)
        for name in self.config.soft:
            check_numbers(split, name, least, most, labels=split.values(self.config.label))
        right = float((scores.argmax(axis=1) == label).mean()) if len(scores) else 1.0
        if len(scores) >= ENOUGH and right < 0.5 / len(names):
            what = f"the highest score of task.soft is that of the label in {right:.1%} of {len(scores):,} cases"
            raise DataError(
                what, where=where, expected=f"a column for each class in this order: {', '.join(names[:20])}"
            )

    def heads(self) -> dict[str, HeadSpec]:
        """The language-model head, where tokens are masked, and "pseudo" with a score for each class.

        Before `prepare` it is unknown whether "pseudo" scores rows or tokens, so it is missing: `predict` needs none.
        """
        found = super().heads() if self.config.mlm else {}
        if self.of_tokens is not None:
            found[HEAD] = HeadSpec("token" if self.of_tokens else "row", len(self.class_names))
        return found

    @property
    def is_clean(self) -> bool:
        """Whether the label is read from the text as it is."""
        return self.config.read == "clean" or not self.config.mlm

    @property
    def views(self) -> int:
        """Rows of a batch that one row of the dataset becomes."""
        return (super().views if self.config.mlm else 0) + self.is_clean

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Masked rows, clean ones, or both, the masked ones first; rows that no label is read from have none."""
        made = super().make_batch(rows, rng) if self.config.mlm else None
        masked = [made.inputs["tokens"]] if made else []
        tokens = np.concatenate([*masked, *([rows.tokens] if self.is_clean else [])])
        times = len(tokens) // max(len(rows.ids), 1)
        inputs: dict[str, Any] = {"tokens": tokens, "positions": {}}
        if not rows.is_full:
            inputs["keep"] = np.tile(rows.keep, (times, 1))
        targets: dict[str, Any] = {}
        if made:
            inputs["positions"]["mlm"], targets["mlm"] = made.inputs["positions"]["mlm"], made.targets["mlm"]
        asked = np.full(times, not self.is_clean)  # of the copies of the rows, those that the label is read from
        asked[-1:] = True
        label, soft = rows.columns[self.config.label], self._soft(rows)
        if self.of_tokens:
            known = (label >= 0) & content_of(rows)
            places = np.flatnonzero(asked[:, None, None] & known)
            inputs["positions"][HEAD], here = places, places % rows.tokens.size
            targets[HEAD] = label.reshape(-1)[here].astype(np.int64)
            soft = None if soft is None else soft.reshape(-1, soft.shape[-1])[here]
        else:
            targets[HEAD] = np.where(asked[:, None], label, -1).reshape(-1).astype(np.int64)
            soft = None if soft is None else np.tile(soft, (times, 1))
        if soft is not None:
            targets["soft"] = soft
        return Batch(inputs, targets, rows.ids, int(rows.lengths.sum()) * times)

    def _soft(self, rows: TokenBatch) -> np.ndarray | None:
        """Returns the teacher's logits, float32 [B, C] or [B, T, C]; of probabilities their logarithms.

        A probability of 0 counts as the smallest that its column can hold.
        """
        if not self.config.soft:
            return None
        columns = [rows.columns[name] for name in self.config.soft]
        if self.config.soft_is == "probabilities":
            least = [np.finfo(column.dtype).smallest_subnormal for column in columns]
            columns = [np.log(np.maximum(c, p), dtype=np.float64) for c, p in zip(columns, least, strict=True)]
        depth = 3 if self.of_tokens else 2
        values = np.concatenate([c if c.ndim == depth else c[..., None] for c in columns], axis=-1)
        return values[..., self.soft_order].astype(np.float32)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of all heads whose targets are measured."""
        return (self.kind, HEAD) if self.config.mlm else (HEAD,)

    def metrics(self, totals: Totals) -> dict[str, float]:
        """The loss: the mean losses of the two parts by their weights; each of them, and how often each is right."""
        totals = {**{f"{self.kind}{end}": 0.0 for end in ("", "_correct", "_count")}, **totals}
        found = self.joint_loss(totals)
        for kind, name in zip(self.kinds, ("mlm", "label")[-len(self.kinds) :], strict=True):
            count = totals[f"{kind}_count"]
            found |= {f"{name}_{key}": value for key, value in mean_loss(totals, kind, count).items()}
            found[f"{name}_accuracy"] = mean(totals[f"{kind}_correct"], count)
        return found

    def limits(self, examples: dict[str, int]) -> dict[str, Limits]:
        """Between which values each metric is."""
        there = [count for kind, count in examples.items() if count and self.weights.get(kind, 1.0)]
        found = {"loss": Limits(0, examples=min(there, default=0))}
        for kind, name in ((self.kind, "mlm"), (HEAD, "label")):
            count = examples.get(kind, 0)
            found |= {f"{name}_loss": Limits(0, examples=count), f"{name}_accuracy": Limits(0, 1, count)}
        return found

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns a line a row: its label, if it is of the row, and the text with what stood at the masks."""
        if "mlm" in batch.targets:
            lines = super().show(batch, outputs)
        else:
            lines = [self.vocab.decode(row) for row in np.asarray(batch.inputs["tokens"])]
        if self.of_tokens:
            return lines
        names = [self.class_names[n] if n >= 0 else "no label" for n in np.asarray(batch.targets[HEAD]).tolist()]
        return [f"[{name}] {line}" for name, line in zip(names, lines, strict=True)]

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Fills every `<mask>`, where masks were learned; labels are said by what is fine-tuned from it.

        Raises:
            ConfigError: no masks were learned.
        """
        if not self.config.mlm:
            what, fix = "is false, so that this model fills no masks", "fine-tune it: --train.init_from RUN"
            raise ConfigError(what, where="task.mlm", fix=fix)
        return super().predict(model, records, top, max_length)


def _preset(name: str, summary: str, **values: Any) -> None:
    """A variant that the paper compares, with the columns of `annotate --column pseudo=label logits=logits`."""
    TASKS.variant(name, of="joint_mlm", summary=f"{summary} (Guo 2020, table 8).", label="pseudo", **values)


_preset("pseudo_v1_joint", "A teacher's labels and masked tokens, both of masked text: version 1")
_preset("pseudo_one_hot", "A teacher's labels alone, of the text as it is", mlm=False)
_preset("pseudo_kl_mlm", "A teacher's scores and masked tokens, both of masked text", soft=("logits",))
_preset("pseudo_v4_kl", "A teacher's scores alone, of the text as it is: version 4", soft=("logits",), mlm=False)
