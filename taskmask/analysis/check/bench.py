"""A masker on the bench: one of its kind with one vocabulary, and what it chooses among rows that are made for it.

Shapes: B rows, T tokens in the longest row, K views.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from taskmask.analysis.check.cases import Case, Columns, Line, lines_of, rows_of
from taskmask.config.settings import Component
from taskmask.data.batch import TokenBatch
from taskmask.data.rng import RowRng
from taskmask.errors import ConfigError
from taskmask.maskers.base import Masker, build_masker
from taskmask.maskers.exchange import as_array, described
from taskmask.system.process_state import ProcessState
from taskmask.tokenizer.tokenizer import Vocabulary

PATIENCE, PATIENCE_PER_TOKEN = 10.0, 0.01  # seconds, after which a masker is taken to be endless


class Unfit(Exception):
    """The masker fails on these rows, or returns what is no mask."""


class _TooLong(BaseException):
    """The masker is not done in time; no `except Exception` of its author holds it up."""


class Wrong(NamedTuple):
    """What is wrong with a mask.

    Args:
        row: which row of the case.
        position: which token of it; None where no single one is.
        says: what is wrong there, in words.
    """

    row: int
    position: int | None
    says: str


class Bench:
    """A masker with one vocabulary.

    Args:
        kind: what the vocabulary is called.
        vocab: the vocabulary.
        chosen: name and options of the masker.
        columns: makes the values of the columns that it reads.

    Attributes:
        is_endless: whether it once was not done in time.
        changed: what of the whole process it has changed, in words.
    """

    def __init__(self, kind: str, vocab: Vocabulary, chosen: Component, columns: Columns):
        self.kind, self.vocab, self.chosen, self.columns = kind, vocab, chosen, columns
        self.lines: tuple[Line, ...] = lines_of(vocab)
        self.counted: dict[Any, Any] = {}  # what `check_budget.count` found
        self.is_endless = False
        self.changed: dict[str, None] = {}
        self._made: dict[str, Masker] = {}
        self.masker = self.made({})

    def made(self, options: dict[str, Any]) -> Masker:
        """Returns the masker with some options changed; the same one for the same options."""
        key = repr(options)
        if key not in self._made:
            self._made[key] = self.anew(options)
        return self._made[key]

    def anew(self, options: dict[str, Any]) -> Masker:
        """Makes the masker with some options changed."""
        return build_masker(self.chosen.name, dataclasses.replace(self.chosen.options, **options), self.vocab)

    def can(self, options: dict[str, Any]) -> bool:
        """Whether its author allows these options."""
        try:
            self.made(options)
        except (ConfigError, ValueError):  # the latter of an author who has not read of the former
            return False
        return True

    def rows(self, case: Case) -> TokenBatch:
        """Returns the rows of a case as the policy sees them: what the lists rule out is not maskable."""
        masker = self.made(case.options)
        rows = rows_of(self.vocab, case, masker.columns, self.columns)
        return ruled_out(rows, self.vocab.ids_of_pieces((*masker.config.never, *masker.config.always)))

    def raw(self, batch: TokenBatch, rng: RowRng, masker: Masker, copied: bool = True) -> np.ndarray:
        """Returns what the policy itself returns, with an axis of views.

        Args:
            batch: what it is given.
            rng: their random numbers.
            masker: the policy.
            copied: whether it gets a copy of the rows, so that it can do no harm to them.

        Raises:
            Unfit: it fails.
        """
        given = batch
        if copied:
            own = {name: getattr(batch, name).copy() for name in ("tokens", "lengths", "ids")}
            columns = {name: column.copy() for name, column in batch.columns.items()}
            given = dataclasses.replace(batch, columns=columns, **own)
        before = ProcessState.now(generators=False)
        try:
            with _time_limit(PATIENCE + PATIENCE_PER_TOKEN * batch.tokens.size):
                mask = as_array(masker.select(given, rng)).copy()
        except _TooLong as error:
            self.is_endless = True
            raise Unfit(str(error)) from None
        except (Exception, SystemExit) as error:
            raise Unfit(self._said(batch, rng, masker) or f"{type(error).__name__}: {error}") from error
        finally:
            self.changed |= dict.fromkeys(before.changes())
            before.restore()
        return mask[None] if mask.ndim == 2 else mask

    def _said(self, batch: TokenBatch, rng: RowRng, masker: Masker) -> str:
        """Returns what the user of a run would read of a failure."""
        try:
            masker(batch, rng)
        except Exception as error:
            return str(error)
        return ""

    def mask(self, case: Case, masker: Masker | None = None) -> tuple[TokenBatch, np.ndarray]:
        """Returns the rows, and bool [K, B, T]: what the policy chooses among the maskable tokens, and what `always`
        adds.

        Raises:
            Unfit: it fails, or returns what is no mask.
        """
        masker = masker or self.made(case.options)
        rows = self.rows(case)
        mask = self.raw(rows, case.rng(), masker)
        if says := misshapen(mask, rows, masker):
            raise Unfit(says)
        return rows, (mask & rows.maskable) | self.always(rows, masker)

    def always(self, batch: TokenBatch, masker: Masker) -> np.ndarray:
        """Returns bool [B, T], where the pieces stand that `masker.always` masks."""
        return batch.keep & np.isin(batch.tokens, self.vocab.ids_of_pieces(masker.config.always))


def ruled_out(batch: TokenBatch, ids: np.ndarray) -> TokenBatch:
    """Returns the rows with these pieces not maskable."""
    if not len(ids):
        return batch
    allowed = np.ones(batch.vocab.size, bool) if batch.allowed is None else batch.allowed.copy()
    allowed[ids] = False
    return dataclasses.replace(batch, allowed=allowed)


def misshapen(mask: np.ndarray, batch: TokenBatch, masker: Masker) -> str:
    """Returns what is wrong with the type or the shape of a mask, "" where nothing is."""
    expected = (masker.views, *batch.shape)
    if mask.dtype == np.bool_ and mask.shape == expected:
        return ""
    return f"returned {described(mask)}; expected bool {list(expected)}"


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _TooLong where what it holds is not done in time; without a limit where no alarm can be set: in a thread,
    and on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLong(f"it is not done after {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:  # an alarm of somebody else, such as that of a test that may take so long
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 1e-3), interval)
