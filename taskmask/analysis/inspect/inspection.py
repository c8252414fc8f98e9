"""What maskers do on real rows: shown piece by piece, and counted over a corpus."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from taskmask.analysis.inspect.difficulty import hardness
from taskmask.analysis.inspect.groupings import annotation_columns, divide
from taskmask.analysis.inspect.mask_stats import Policy, observe, rates
from taskmask.analysis.inspect.records import Seen, Shown
from taskmask.analysis.inspect.render_html import page_of
from taskmask.analysis.inspect.render_text import figures_of, lines_of
from taskmask.analysis.reporting.html import frame
from taskmask.config.settings import DataSettings, Settings
from taskmask.data.batch import TokenBatch
from taskmask.data.dataset import Dataset, Split
from taskmask.data.in_memory import MemorySplit
from taskmask.data.rng import RowRng
from taskmask.data.sequences.base import RowSource
from taskmask.errors import ConfigError, DataError
from taskmask.maskers.base import build_masker
from taskmask.maskers.policy import read_policy
from taskmask.tokenizer.text import to_spaces
from taskmask.tokenizer.tokenizer import Vocabulary

if TYPE_CHECKING:
    from taskmask.inference.loaded_model import Pretrained

BATCH, SHOWN_DRAWS, LONGEST_TEXT = 64, 200, 1 << 20
TITLE = "What the policies mask"
USUAL = ("uniform", "whole_word", "span")


class Inspection(Seen):
    """What was seen of some policies; shows itself as a page in a notebook."""

    def page(self) -> str:
        """Returns a page of HTML that stands alone."""
        return page_of(self)

    def lines(self, colour: bool = False, width: int = 100) -> list[str]:
        """Returns lines for the terminal."""
        return lines_of(self, colour, width)

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as JSON types."""
        return figures_of(self)

    def _repr_html_(self) -> str:
        return frame(self.page(), self.title)


def inspect(
    data: str = "",
    maskers: Sequence[str] = (),
    *,
    source: str = "",
    split: str = "",
    texts: Sequence[str] = (),
    rows: int = 4,
    sample: int = 1000,
    draws: int = 20,
    seed: int = 1,
    rows_of: DataSettings | None = None,
    advance: Callable[[int], object] = lambda rows: None,
) -> Inspection:
    """Looks at what maskers do.

    Args:
        data: dataset folder; where none is given, that of the run.
        maskers: policies, "name option=value ..."; where none is given, the run's, or uniform, whole_word and span.
        source: run folder or checkpoint whose model is asked for what is masked.
        split: split of the dataset ["train", or "valid" with a model].
        texts: texts to show instead of rows of the dataset; then nothing is counted.
        rows: rows to show.
        sample: rows to count on, spread evenly over the split.
        draws: how often each row of the sample is masked; shown rows are masked 200 times.
        seed: of the masks.
        rows_of: length of the rows, and how they are cut; those of the run where none is given.
        advance: called with the rows of the sample that are done.

    Raises:
        ConfigError: an unknown masker, or an option that it does not have.
        DataError: a masker reads a column that the data lacks.
        CheckpointError: the checkpoint is damaged, or knows another vocabulary than the dataset.
    """
    _check_counts(rows=rows, sample=sample, draws=draws)
    loaded = _load(source) if source else None
    settings: Settings | None = loaded.settings if loaded else None
    data = data or (settings.data.path if settings and not texts else "")
    if not (data or (texts and loaded)):
        raise ConfigError("no dataset is named", where="--data", fix="add --data DIR, made by taskmask-preprocess")
    dataset = (loaded.dataset(data) if loaded else Dataset.open_to_read(data)) if data else None
    if loaded and data:
        loaded.check_vocabulary(data)
    vocab = dataset.vocabulary() if dataset else loaded.vocab  # type: ignore[union-attr]
    policies = read_policies(maskers, vocab, settings)
    if texts or not dataset:
        typed = RowSource(_typed(texts, vocab, policies), vocab, LONGEST_TEXT, "sentence")
        return Inspection(TITLE, [f"typed text, seed {seed}"], _show(policies, typed, len(texts), seed))
    part = dataset.split(split or ("valid" if loaded and "valid" in dataset.splits else "train"))
    rows_of = rows_of or (settings.data if settings else DataSettings())
    source_of_rows = RowSource(part, vocab, rows_of.length, rows_of.blocks, columns_of(policies, part))
    if not len(source_of_rows):
        raise DataError("has no text", where=f"{data}, split {part.name}")
    ids = spread(len(source_of_rows), sample)
    batches = [source_of_rows[ids[start : start + BATCH]] for start in range(0, len(ids), BATCH)]
    seen = _counted(policies, batches, dataset, part, draws, seed, loaded, advance)
    seen.shown = _show(policies, source_of_rows, rows, seed)
    return seen


def _counted(
    policies: Sequence[Policy],
    batches: Sequence[TokenBatch],
    dataset: Dataset,
    split: Split,
    draws: int,
    seed: int,
    loaded: Pretrained | None,
    advance: Callable[[int], object],
) -> Inspection:
    """Returns what was counted over a sample."""
    divisions = divide(batches, split, dataset, annotation_columns(split))
    replacement = _replacement(loaded.settings if loaded else None)
    observed, overlaps = observe(policies, batches, divisions, draws, seed, replacement, advance)
    found = hardness(loaded, policies, batches, divisions, seed, advance) if loaded else []
    rows, tokens = sum(len(one.ids) for one in batches), int(sum(one.lengths.sum() for one in batches))
    about = [
        f"{dataset.path}, split {split.name}: {rows:,} rows, {tokens:,} tokens, each masked {draws} times, seed {seed}",
        *([f"asked: {loaded.file}, step {loaded.step:,}"] if loaded else []),
    ]
    return Inspection(TITLE, about, [], observed, overlaps, divisions, found)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"is {value}", where=f"--{name}", expected="at least 1")


def _load(source: str) -> Pretrained:
    from taskmask.inference.loaded_model import load

    return load(source)


def read_policies(texts: Sequence[str], vocab: Vocabulary, settings: Settings | None = None) -> list[Policy]:
    """Returns the policies that texts such as "span p=0.3" name; of a run, or the usual ones, where there is no text.

    Raises:
        ConfigError: one is wrong, or stands there twice.
    """
    if not texts and settings and settings.masker:
        return [Policy(settings.masker.name, build_masker(settings.masker.name, settings.masker.options, vocab))]
    found = []
    for text in texts or USUAL:
        try:
            chosen = read_policy(text)
            found.append(Policy(" ".join(text.split()), build_masker(chosen.name, chosen.options, vocab)))
        except ConfigError as error:
            raise ConfigError(str(error), where=f"--masker {text!r}") from None
    names = [policy.name for policy in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"names {twice[0]!r} twice", where="--masker", fix="name each policy once")
    return found


def _replacement(settings: Settings | None) -> tuple[float, float, str]:
    """Returns how chosen tokens are replaced: as the run does, or as masked language modelling does by itself."""
    from taskmask.tasks.masked_lm import MaskedLMConfig

    options = settings.task.options if settings and isinstance(settings.task.options, MaskedLMConfig) else None
    options = options or MaskedLMConfig()
    return options.mask_share, options.random_share, options.replace_per


def columns_of(policies: Sequence[Policy], split: Split) -> tuple[str, ...]:
    """Returns the annotations and the columns that maskers read; one that the split lacks is an error."""
    data = shlex.quote(str(split.folder))
    for policy in policies:
        for name in policy.masker.columns:
            if name not in split.columns:
                raise DataError(
                    f"reads column {name!r}, which is not there",
                    where=f"masker {policy.name}, {split.folder}, split {split.name}",
                    expected=f"one of {', '.join(split.columns)}",
                    fix=f"write it first: taskmask annotate --data {data} --from RUN --column {name}, or "
                    f"taskmask spans --data {data} --column {name} --heuristic",
                )
    needed = [name for policy in policies for name in policy.masker.columns]
    return tuple(dict.fromkeys([*annotation_columns(split), *needed]))


def _typed(texts: Sequence[str], vocab: Vocabulary, policies: Sequence[Policy]) -> MemorySplit:
    for policy in policies:
        if policy.masker.columns:
            what = f"masker {policy.name} reads column {policy.masker.columns[0]!r}, which typed text does not have"
            raise DataError(what, where="--text", fix="show rows of a dataset with --data DIR --rows N")
    encoded = [np.append(ids, vocab.eos) for ids in vocab.encode([to_spaces(text) for text in texts])]
    if any(len(ids) == 1 or not text.strip() for ids, text in zip(encoded, texts, strict=True)):
        raise DataError("is empty", where="--text", fix="write something")
    return MemorySplit({"tokens": encoded})


def spread(total: int, wanted: int) -> np.ndarray:
    """Returns int64, at most `wanted` row numbers, spread evenly over `total` rows."""
    num = min(wanted, total)
    return (2 * np.arange(num) + 1) * total // (2 * max(num, 1))


def _show(policies: Sequence[Policy], source: RowSource, wanted: int, seed: int) -> list[Shown]:
    shown = []
    for number in spread(len(source), wanted).tolist():
        rows = source[np.array([number])]
        for policy in policies:
            shown += _views(policy, rows, seed)
    return shown


def _views(policy: Policy, batch: TokenBatch, seed: int) -> list[Shown]:
    """Returns one row under each view of a policy."""
    inside = slice(1, int(batch.lengths[0]) - 1)
    pieces, words = batch.vocab.pieces(batch.tokens[0, inside]), batch.words[0, inside]
    masks = policy.masker(batch, RowRng(seed, 1, batch.ids))
    scores = policy.masker.scores(batch)
    many = rates(policy, batch, SHOWN_DRAWS, seed) if scores is None else np.broadcast_to(scores, masks.shape)
    views = []
    for view, (mask, rate) in enumerate(zip(masks, many, strict=True)):
        own = rate[0, inside]
        name = policy.name if len(masks) == 1 else f"{policy.name}, view {view + 1}"
        tint = _tint(own, batch.maskable[0, inside], scores is not None)
        views.append(Shown(int(batch.ids[0]), name, pieces, words, mask[0, inside], tint, own, scores is not None))
    return views


def _tint(rate: np.ndarray, maskable: np.ndarray, is_score: bool) -> np.ndarray:
    """Returns float [T]: rates as they are; scores from the lowest (0) to the highest (1) of the row.

    Infinite scores get the same ends, and a token without a score 0.
    """
    if not is_score:
        return rate
    inside = rate[maskable & np.isfinite(rate)]
    low, high = (inside.min(), inside.max()) if len(inside) else (0.0, 0.0)
    shares = (np.clip(rate, low, high) - low) / (high - low or 1.0)
    return np.where(maskable & ~np.isnan(rate), np.where(rate == np.inf, 1.0, shares), 0.0)
