"""What every masking policy shares. A policy chooses positions; everything else is done here or after it.

Shapes: B rows, T tokens in the longest row, K views (masks of one row), U units (tokens, words or spans) of a row.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from taskmask.config import Problems, fields_of, opt, type_name
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError, DataError, RegistryError, TaskmaskError, did_you_mean
from taskmask.maskers.exchange import as_array, described, failing_line, read_only, undeclared_column
from taskmask.registry import MASKERS, caller
from taskmask.system.process_state import process_kept
from taskmask.tokenizer.tokenizer import Vocabulary

PROMISES = {
    "exact_budget": "in every row the share, rounded up or down, is masked exactly",
    "budget_within_a_word": "a row misses its share by less than its longest word",
    "mean_budget": "over many draws the share is met exactly",
    "whole_words": "all of a word is masked, or nothing of it",
    "same_every_epoch": "content alone decides what is masked",
    "own_budget": "how much is masked is up to the policy, whatever the ratio says",
}


@dataclasses.dataclass(frozen=True)
class MaskerConfig:
    """Options that every masker has."""

    ratio: float = opt(0.15, "share of the maskable tokens that is masked")
    ratio_end: float | None = opt(None, "share at the end of the run; none = the same all along")
    ratio_schedule: Literal["constant", "linear", "cosine"] = opt("linear", "way from ratio to ratio_end")
    never: tuple[str, ...] = opt((), "pieces or words that are never masked")
    always: tuple[str, ...] = opt((), "pieces or words that are masked wherever they stand, as part of the budget")

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("ratio", "ratio_end"):
            value = getattr(self, name)
            problems.check(
                value is None or 0 <= value <= 1, f"is {value}", where=f"masker.{name}", expected="a share from 0 to 1"
            )
        problems.check(
            self.ratio_end is None or self.ratio_schedule != "constant",
            f"is {self.ratio_end}, but masker.ratio_schedule is constant",
            where="masker.ratio_end",
            expected="none, or a schedule that goes there",
        )
        both = sorted(set(self.never) & set(self.always))
        problems.check(not both, f"{', '.join(both)} are also in masker.always", where="masker.never")
        problems.raise_any()

    def ratio_at(self, progress: float) -> float:
        """Returns the share to mask when `progress` (0 to 1) of the run is over."""
        if self.ratio_end is None or self.ratio_schedule == "constant":
            return self.ratio
        way = progress if self.ratio_schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return self.ratio + (self.ratio_end - self.ratio) * way


class Masker:
    """A masking policy: it chooses positions, and is stateless.

    A subclass writes `select`. Callers call the masker itself: that adds what no policy should have to think of
    (lists of pieces, schedules of the ratio, the check of what came back).

    Args:
        config: its options.
        vocab: the vocabulary of the dataset.

    Attributes:
        views: masks of each row; the plan divides its token budget by it.
        turns: updates in succession that see the same rows, told apart by `rng.turn`.
        over_epochs: whether its masks of successive epochs belong together, so that a row must stay as it is.
        columns: columns that it reads besides "tokens".
        note: what people should know before they train with it, if anything.
        promises: names of `PROMISES`, what it keeps with the options that it has; `taskmask check` tests it.
    """

    views: int = 1
    turns: int = 1
    over_epochs: bool = False
    note: str = ""
    columns: tuple[str, ...] = ()
    promises: tuple[str, ...] = ()
    name: str = ""

    def __init__(self, config: Any, vocab: Vocabulary):
        self.config = config
        self._always = _table("always", config.always, vocab)
        never = _table("never", config.never, vocab)
        both = np.flatnonzero(self._always & never)
        if len(both):
            raise ConfigError(f"{vocab.piece(int(both[0]))} is also in masker.always", where="masker.never")
        self._allowed = ~(self._always | never)
        self._has_lists = not self._allowed.all()

    def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [K, B, T], or [B, T] for one view: True at the chosen positions, all of them maskable."""
        raise NotImplementedError(f"{type(self).__name__} must define select(batch, rng)")

    def scores(self, batch: TokenBatch) -> np.ndarray | None:
        """Returns float [B, T], what the policy goes by, for people to look at; None where it goes by no score."""
        return None

    def units(self, batch: TokenBatch, rng: RowRng) -> np.ndarray | None:
        """Returns int [B, T], the unit that each token is taken with, -1 where none; None: it knows no units."""
        return None

    def wanted(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns float64 [B]: the tokens to choose in each row, before they are rounded; at most the maskable ones.

        Tokens that `always` masks are taken off.
        """
        everything = batch.maskable.sum(axis=1)
        taken = (batch.keep & self._always[batch.tokens]).sum(axis=1) if self._has_lists else 0
        return np.clip((everything + taken) * self.config.ratio_at(rng.progress) - taken, 0, everything)

    def budget(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns int64 [B]: how many tokens to choose in each row.

        What is wanted is rounded up or down at random, so that it is met exactly on average.
        """
        return (self.wanted(batch, rng) + rng.once[:, 0]).astype(np.int64)  # rounds down

    def __call__(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        """Returns bool [K, B, T]: the checked choice of the policy, with the lists of pieces seen to.

        Raises:
            ConfigError: the policy failed or returned nonsense; names it, and the line that failed.
        """
        if not self._has_lists:
            return self._checked(batch, rng)
        allowed = self._allowed if batch.allowed is None else self._allowed & batch.allowed
        mask = self._checked(dataclasses.replace(batch, allowed=allowed), rng)
        return mask | (batch.maskable & self._always[batch.tokens])

    def _checked(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
        try:
            with read_only(batch), self._harmless():
                mask = as_array(self.select(batch, rng))
        except (TaskmaskError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            line = failing_line(error)
            where = f"{self._title()}{self._failing_row(batch, rng)}, {line.filename}:{line.lineno}"
            if column := undeclared_column(error, batch):
                fix = f"name it: columns = ({column!r},) in the class, or in @register_masker"
                raise ConfigError(f"reads column {column!r}, which it does not name", where=where, fix=fix) from error
            raise ConfigError(f"{type(error).__name__}: {error}", where=where, fix=self._remedy()) from error
        mask = mask[None] if mask.ndim == 2 else mask
        self._check(mask, batch)
        return mask

    def _harmless(self) -> contextlib.AbstractContextManager[None]:
        """Keeps the code of others from changing the process. Ours does not; nothing reads the global generators."""
        author = getattr(type(self), "__wrapped__", type(self))
        return contextlib.nullcontext() if author.__module__.startswith("taskmask.maskers.") else process_kept()

    def _failing_row(self, batch: TokenBatch, rng: RowRng) -> str:
        """Returns ", row N" of the first row on which the policy fails alone as well, "" where there is none."""
        for number, row in enumerate(batch.ids):
            index = np.array([number])
            try:
                with self._harmless():
                    self.select(batch.take(index), rng.take(index))
            except (Exception, SystemExit):
                return f", row {row}"
        return ""

    def _title(self) -> str:
        return f"masker {self.name or type(self).__name__}"

    def _remedy(self) -> str:
        return f"mend it; it is registered at {MASKERS.where(self.name)}" if self.name else ""

    def _check(self, mask: np.ndarray, batch: TokenBatch) -> None:
        expected = (self.views, *batch.shape)
        if mask.dtype != np.bool_ or mask.shape != expected:
            raise ConfigError(
                f"returned {described(mask)}",
                where=self._title(),
                expected=f"bool {list(expected)}",
                fix=self._remedy(),
            )
        wrong = mask > batch.maskable
        if wrong.any():
            _, row, position = np.argwhere(wrong)[0]
            piece = batch.vocab.piece(int(batch.tokens[row, position]))
            raise ConfigError(
                f"chose position {position} of row {batch.ids[row]}, {piece!r}, which is not maskable",
                where=self._title(),
                expected="a choice among rows.maskable",
                fix=self._remedy(),
            )


def _table(field: str, pieces: tuple[str, ...], vocab: Vocabulary) -> np.ndarray:
    """Returns bool [V], True at the pieces that a list of the options names."""
    table = np.zeros(vocab.size, dtype=bool)
    try:
        table[vocab.ids_of_pieces(pieces)] = True
    except DataError as error:
        raise ConfigError(error.what, where=f"masker.{field}", expected=error.expected, fix=error.fix) from None
    special = np.flatnonzero(table & vocab.is_special)
    if len(special):
        piece = vocab.piece(int(special[0]))
        raise ConfigError(f"{piece} is a special piece", where=f"masker.{field}", fix="specials are never masked")
    return table


def sample_tokens(weights: np.ndarray, budget: np.ndarray, random: np.ndarray) -> np.ndarray:
    """Chooses exactly `budget` positions a row without replacement, each draw in proportion to `weights`.

    Args:
        weights: float [B, T], not negative; 0 is never chosen; infinite ones come before all others, each as likely.
        budget: int [B].
        random: float [B, T], uniform in [0, 1).

    Returns:
        bool [B, T] with min(budget, number of positive weights) True a row.

    **Source:** exponential keys, Efraimidis and Spirakis 2006, algorithm A; here their logarithms.
    """
    endless = np.isposinf(weights)
    if endless.any():
        first = sample_tokens(endless.astype(np.float64), budget, random)
        return first | sample_tokens(np.where(endless, 0.0, weights), budget - first.sum(axis=1), random)
    able = weights > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        keys = np.log(weights) - np.log(-np.log1p(-random))  # logarithms, so that no weight is too small to be told
    return highest(np.where(able, keys, -np.inf), np.minimum(budget, able.sum(axis=1)))


def random_keys(inside: np.ndarray, stream: str, rng: RowRng) -> np.ndarray:
    """Returns uint32 [B, T], high where `rng.uniform` of the stream is low; 0 where not `inside`, and only there."""
    return np.maximum(~rng.small(stream, inside.shape[1], "<u4"), np.uint32(1)) * inside


def highest(keys: np.ndarray, num: np.ndarray) -> np.ndarray:
    """Returns bool [B, T], True at the `num` [B] highest keys of each row; of equal keys those that come first."""
    num_rows, num_tokens = keys.shape
    place = np.arange(1, num_rows + 1) * num_tokens - np.maximum(num, 1)
    limit = np.sort(keys, axis=1).reshape(-1).take(place)
    chosen = keys >= limit[:, None]
    chosen[num == 0] = False
    if np.count_nonzero(chosen) != num.sum():  # some row has more keys that equal its limit than it needs
        order = np.argsort(-keys.astype(np.float64), axis=1, kind="stable")
        np.put_along_axis(chosen, order, np.arange(num_tokens) < num[:, None], axis=1)
    return chosen


def sample_units(units: np.ndarray, maskable: np.ndarray, budget: np.ndarray, rng: RowRng) -> np.ndarray:
    """Chooses whole units so that every token is as likely as any other, whatever the size of its unit.

    The units of a row are laid in random order around a circle. Those that start in an arc of `budget` tokens, at a
    random place, are taken. So a unit is taken with probability budget / tokens exactly, the mean number of tokens is
    exact, and a row misses its budget by less than the size of one unit. (Two units of a row that draw the same number,
    one pair in 2**32, count as one unit.)

    Args:
        units: int [B, T], the unit of each token, from 0; -1 where there is none.
        maskable: bool [B, T]; only these are counted and chosen.
        budget: int [B], tokens.

    Returns:
        bool [B, T], whole units.

    **Source:** systematic sampling of units in random order, Madow 1949 ("On the theory of systematic sampling, II").
    """
    num_rows, num_tokens = units.shape
    row = np.arange(num_rows) * num_tokens  # where each begins in a flat array
    inside = maskable & (units >= 0)
    # Each token has the key of its unit, so sorting lays the circle out, token by token, after those of no unit.
    numbers = rng.small("units", num_tokens, "<u4").reshape(-1)
    keys = numbers.take(units + row[:, None]) * inside
    circle = np.sort(keys, axis=1).reshape(-1)
    total = np.maximum(inside.sum(axis=1), 1)
    begin = (rng.once[:, 1] * total).astype(np.int64) + 1  # a place of the circle, counted from 1 to `total`
    end = begin + np.minimum(budget, total)
    wraps = end > total
    # A unit starts at or after a place if its key is above that of the place before.
    before = row + num_tokens - total - 1
    after_begin = keys > circle.take(before + begin)[:, None]
    after_end = keys > circle.take(before + end - wraps * total)[:, None]
    return inside & (after_begin ^ after_end ^ wraps[:, None])


def register_masker(
    name: str, *, config: type | None = None, promises: tuple[str, ...] = (), columns: tuple[str, ...] = ()
) -> Callable[[Any], Any]:
    """Decorator: makes a `Masker` class, or a plain function, known as masker `name`.

    A function is called as `function(rows, rng, **options)` and returns bool [B, T] or [1, B, T]. Its keyword-only
    parameters become its options; `ratio` follows the schedule of the ratio, and a parameter called `budget` is not an
    option but int [B], the tokens to choose. `promises` are names of `PROMISES`, `columns` those that it reads.

    Raises:
        RegistryError: it is no masker, has a parameter that cannot be an option, or promises what nobody knows.
    """
    options = config or MaskerConfig
    if not issubclass(options, MaskerConfig):
        raise RegistryError(
            f"its options {options.__name__} are no MaskerConfig", where=f"masker {name!r}", fix="derive them from it"
        )
    _check_names(f"masker {name!r}", promises, columns)

    def decorate(target: Any) -> Any:
        if inspect.isclass(target):
            if not issubclass(target, Masker):
                raise RegistryError(f"{target.__name__} is no Masker", where=f"masker {name!r}", fix="derive it")
            target.name = name
            target.promises, target.columns = promises or target.promises, columns or target.columns
            _check_names(f"masker {name!r}", target.promises, target.columns)
            return MASKERS.register(name, config=options, place=caller())(target)
        if not callable(target):
            raise RegistryError(f"{target!r} is no class and no function", where=f"masker {name!r}")
        masker = _function_masker(target, name)
        masker.promises, masker.columns = promises, columns
        MASKERS.register(name, config=_options_of(target, name), place=caller())(masker)
        return target

    return decorate


def _check_names(where: str, promises: Any, columns: Any) -> None:
    """Raises a RegistryError unless both are tuples of names, the promises known ones."""
    for field, names in (("promises", promises), ("columns", columns)):
        if isinstance(names, str):  # which would be read letter by letter
            fix = f"write {field} = ({names!r},)"
            raise RegistryError(f"{field} is {names!r}", where=where, expected="a tuple of names", fix=fix)
    for promise in promises:
        if promise not in PROMISES:
            expected, near = f"some of {', '.join(PROMISES)}", did_you_mean(promise, PROMISES)
            raise RegistryError(f"promises {promise!r}", where=where, expected=expected, fix=near)


def _options_of(function: Callable, name: str) -> type:
    known = fields_of(MaskerConfig)
    fields: list[Any] = []
    hints = inspect.get_annotations(function, eval_str=True)
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        where = f"masker {name!r}, parameter {parameter.name!r}"
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and number > 1:
            raise RegistryError("is not keyword-only", where=where, expected=f"{name}(rows, rng, *, {parameter.name})")
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name == "budget":
            continue
        if parameter.default is parameter.empty:
            raise RegistryError("has no default", where=where, fix="give it one: it is an option")
        kind = hints.get(parameter.name, type(parameter.default))
        try:
            type_name(kind)
        except (KeyError, IndexError, StopIteration):
            raise RegistryError(
                f"is of type {getattr(kind, '__name__', kind)}",
                where=where,
                expected="int, float, bool, str, a Literal, a tuple of one of them or one of them or None",
            ) from None
        text = known[parameter.name][2] if parameter.name in known else f"see {function.__module__}.{function.__name__}"
        fields.append((parameter.name, kind, opt(parameter.default, text)))
    return dataclasses.make_dataclass(f"{name}_options", fields, bases=(MaskerConfig,), frozen=True)


def _function_masker(function: Callable, name: str) -> type[Masker]:
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]

    class FunctionMasker(Masker):
        def select(self, batch: TokenBatch, rng: RowRng) -> np.ndarray:
            options = {key: getattr(self.config, key) for key in names if key != "budget"}
            if "ratio" in options:
                options["ratio"] = self.config.ratio_at(rng.progress)
            if "budget" in names:
                options["budget"] = self.budget(batch, rng)
            return function(batch, rng, **options)

    FunctionMasker.__doc__, FunctionMasker.name = function.__doc__, name
    FunctionMasker.__wrapped__ = function  # type: ignore[attr-defined]
    return FunctionMasker


def build_masker(name: str, options: Any, vocab: Vocabulary) -> Masker:
    """Makes the masker registered as `name`."""
    with process_kept():
        masker: Masker = MASKERS.get(name).make(options, vocab)
    return masker
