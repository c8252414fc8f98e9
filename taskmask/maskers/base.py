"""What every masking policy shares. A policy chooses positions; everything else is done here or after it.

Shapes: B rows, T tokens in the longest row, K views (masks of one row), U units (tokens, words or spans) of a row.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from taskmask.config import Problems, fields_of, opt
from taskmask.data.draws import Draw
from taskmask.data.rows import Rows
from taskmask.data.vocab import Vocabulary
from taskmask.errors import ConfigError, RegistryError
from taskmask.registry import MASKERS, caller


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
        columns: columns that it reads besides "tokens".
    """

    views: int = 1
    columns: tuple[str, ...] = ()
    name: str = ""

    def __init__(self, config: Any, vocab: Vocabulary):
        self.config = config
        self._always = self._table(config.always, vocab)
        self._never = self._table(config.never, vocab)
        ruled_out = [table for table in (self._always, self._never) if table is not None]
        self._allowed = ~np.logical_or.reduce(ruled_out) if ruled_out else None

    def select(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns bool [K, B, T], or [B, T] for one view: True at the chosen positions, all of them maskable."""
        raise NotImplementedError(f"{type(self).__name__} must define select(rows, draw)")

    def budget(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns int64 [B]: how many tokens to choose in each row.

        The share is rounded up or down at random so that it is met exactly on average; tokens that `always` masks
        are taken off.
        """
        everything = rows.maskable.sum(axis=1)
        taken = np.zeros_like(everything)
        if self._always is not None:
            taken = (rows.keep & self._always[rows.tokens]).sum(axis=1)
        wanted = (everything + taken) * self.config.ratio_at(draw.progress)
        budget = np.floor(wanted + draw.uniform("budget", 1)[:, 0]).astype(np.int64)
        return np.clip(budget - taken, 0, everything)

    def __call__(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Returns bool [K, B, T]: the checked choice of the policy, with the lists of pieces seen to.

        Raises:
            ConfigError: the policy returned nonsense; names it.
        """
        narrowed = rows if self._allowed is None else dataclasses.replace(rows, allowed=self._allowed)
        mask = np.asarray(self.select(narrowed, draw))
        mask = mask[None] if mask.ndim == 2 else mask
        self._check(mask, narrowed)
        if self._always is not None:
            mask = mask | (rows.maskable & self._always[rows.tokens])
        return mask

    def _check(self, mask: np.ndarray, rows: Rows) -> None:
        where, expected = f"masker {self.name or type(self).__name__}", (self.views, *rows.shape)
        fix = f"mend its select(); it is registered at {MASKERS.where(self.name)}" if self.name else ""
        if mask.dtype != np.bool_ or mask.shape != expected:
            raise ConfigError(
                f"returned {mask.dtype} {list(mask.shape)}", where=where, expected=f"bool {list(expected)}", fix=fix
            )
        wrong = mask & ~rows.maskable
        if wrong.any():
            _, row, position = np.argwhere(wrong)[0]
            piece = rows.vocab.piece(int(rows.tokens[row, position]))
            raise ConfigError(
                f"chose position {position} of row {rows.ids[row]}, {piece!r}, which is not maskable",
                where=where,
                expected="a choice among rows.maskable",
                fix=fix,
            )

    @staticmethod
    def _table(pieces: tuple[str, ...], vocab: Vocabulary) -> np.ndarray | None:
        if not pieces:
            return None
        table = np.zeros(vocab.size, dtype=bool)
        table[vocab.ids_of_pieces(list(pieces))] = True
        return table


class RowMasker(Masker):
    """A policy written for one row at a time: easier to write, slower than one over the batch."""

    def select_row(self, tokens: np.ndarray, maskable: np.ndarray, budget: int, random: np.ndarray) -> np.ndarray:
        """Returns bool [T] for one row.

        Args:
            tokens: int64 [T], without padding.
            maskable: bool [T].
            budget: tokens to choose.
            random: float64 [T], uniform in [0, 1), this row's own.
        """
        raise NotImplementedError(f"{type(self).__name__} must define select_row(tokens, maskable, budget, random)")

    def select(self, rows: Rows, draw: Draw) -> np.ndarray:
        """Calls `select_row` for each row."""
        mask = np.zeros(rows.shape, dtype=bool)
        budget, random = self.budget(rows, draw), draw.uniform("row", rows.shape[1])
        for i, length in enumerate(rows.lengths):
            row = slice(0, int(length))
            mask[i, row] = self.select_row(rows.tokens[i, row], rows.maskable[i, row], int(budget[i]), random[i, row])
        return mask


def sample_tokens(weights: np.ndarray, budget: np.ndarray, random: np.ndarray) -> np.ndarray:
    """Chooses exactly `budget` positions a row without replacement, each draw in proportion to `weights`.

    Args:
        weights: float [B, T], not negative; 0 is never chosen.
        budget: int [B].
        random: float [B, T], uniform in [0, 1).

    Returns:
        bool [B, T] with min(budget, number of positive weights) True a row.

    **Source:** exponential keys, Efraimidis and Spirakis 2006, algorithm A.
    """
    with np.errstate(divide="ignore"):
        keys = np.where(weights > 0, -np.log1p(-random) / weights, np.inf)
    return _lowest(keys, np.minimum(budget, (weights > 0).sum(axis=1)))


def _lowest(keys: np.ndarray, num: np.ndarray) -> np.ndarray:
    """Returns bool [B, T], True at the `num` [B] lowest keys of each row."""
    order = np.argsort(keys, axis=1, kind="stable")
    chosen = np.zeros(keys.shape, dtype=bool)
    np.put_along_axis(chosen, order, np.arange(keys.shape[1])[None, :] < num[:, None], axis=1)
    return chosen


def sample_units(units: np.ndarray, maskable: np.ndarray, budget: np.ndarray, draw: Draw) -> np.ndarray:
    """Chooses whole units in random order until the budget of tokens is reached.

    The unit that would pass the budget is taken with the probability that makes the mean number of tokens exact, so a
    row misses its budget by less than the size of one unit.

    Args:
        units: int [B, T], the unit of each token, from 0; -1 where there is none.
        maskable: bool [B, T]; only these are counted and chosen.
        budget: int [B], tokens.

    Returns:
        bool [B, T], whole units.
    """
    num_rows, num_tokens = units.shape
    inside = maskable & (units >= 0)
    flat = np.arange(num_rows)[:, None] * num_tokens + np.maximum(units, 0)
    sizes = np.bincount(flat[inside], minlength=num_rows * num_tokens).reshape(num_rows, num_tokens)  # [B, U]
    keys = np.where(sizes > 0, draw.uniform("units", num_tokens), np.inf)
    order = np.argsort(keys, axis=1, kind="stable")
    ordered = np.take_along_axis(sizes, order, axis=1)
    room = budget[:, None] - (np.cumsum(ordered, axis=1) - ordered)  # what is left before each unit
    last = draw.uniform("last unit", 1) * ordered < room  # certain where the unit fits
    chosen = np.zeros(sizes.shape, dtype=bool)
    np.put_along_axis(chosen, order, (ordered > 0) & (room > 0) & last, axis=1)
    return inside & np.take_along_axis(chosen, np.maximum(units, 0), axis=1)


def register_masker(name: str, *, config: type | None = None) -> Callable[[Any], Any]:
    """Decorator: makes a `Masker` class, or a plain function, known as masker `name`.

    A function is called as `function(rows, draw, **options)` and returns bool [B, T] or [K, B, T]. Its keyword-only
    parameters become its options; `ratio` follows the schedule of the ratio, and a parameter called `budget` is not an
    option but int [B], the tokens to choose.
    """

    def decorate(target: Any) -> Any:
        if inspect.isclass(target):
            target.name = name
            return MASKERS.register(name, config=config or MaskerConfig, place=caller())(target)
        if not callable(target):
            raise RegistryError(f"{target!r} is no class and no function", where=f"masker {name!r}")
        MASKERS.register(name, config=_options_of(target, name), place=caller())(_function_masker(target, name))
        return target

    return decorate


def _options_of(function: Callable, name: str) -> type:
    known = fields_of(MaskerConfig)
    fields: list[Any] = []
    hints = inspect.get_annotations(function, eval_str=True)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.name == "budget":
            continue
        where = f"masker {name!r}, parameter {parameter.name!r}"
        if parameter.default is parameter.empty:
            raise RegistryError("has no default", where=where, fix="give it one: it is an option")
        kind = hints.get(parameter.name, type(parameter.default))
        text = known[parameter.name][2] if parameter.name in known else f"see {function.__module__}.{function.__name__}"
        fields.append((parameter.name, kind, opt(parameter.default, text)))
    return dataclasses.make_dataclass(f"{name}_options", fields, bases=(MaskerConfig,), frozen=True)


def _function_masker(function: Callable, name: str) -> type[Masker]:
    names = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]

    class FunctionMasker(Masker):
        def select(self, rows: Rows, draw: Draw) -> np.ndarray:
            options = {key: getattr(self.config, key) for key in names if key != "budget"}
            if "ratio" in options:
                options["ratio"] = self.config.ratio_at(draw.progress)
            if "budget" in names:
                options["budget"] = self.budget(rows, draw)
            return function(rows, draw, **options)

    FunctionMasker.__doc__, FunctionMasker.name = function.__doc__, name
    FunctionMasker.__wrapped__ = function  # type: ignore[attr-defined]
    return FunctionMasker


def build_masker(name: str, options: Any, vocab: Vocabulary) -> Masker:
    """Makes the masker registered as `name`."""
    return MASKERS.get(name).load()(options, vocab)
