"""What `check_masker` found, as plain records: a line a law, and the smallest counterexample where one is broken."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["kept", "broken", "not promised", "not reached"]


@dataclass(frozen=True)
class Counterexample:
    """The smallest case found in which a law is broken: all that is needed to see it again.

    Args:
        vocabulary: kind of the vocabulary.
        script: of the row that is wrong.
        rows: the pieces of each row of the batch, the wrong one in [[ ]].
        tokens: the ids of each row, between `<s>` and `</s>`.
        ids: the number of each row.
        seed: of the draw.
        epoch: of the draw.
        progress: of the draw.
        options: options of the masker that differ from those that were asked for.
    """

    vocabulary: str
    script: str
    rows: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    ids: tuple[int, ...]
    seed: int
    epoch: int
    progress: float
    options: dict[str, Any]

    def lines(self) -> list[str]:
        """For the terminal."""
        options = "".join(f", {name}={value}" for name, value in self.options.items())
        rng = f"seed {self.seed}, epoch {self.epoch}" + (f", progress {self.progress:g}" if self.progress else "")
        shown = [f"row {id}: {row}" for id, row in zip(self.ids, self.rows, strict=True)]
        more = [f"and {len(shown) - 6} rows more"] if len(shown) > 6 else []
        return [f"vocabulary {self.vocabulary}, {self.script}, {rng}{options}", *shown[:6], *more]


@dataclass(frozen=True)
class Law:
    """One law.

    Args:
        name: what it asks for, in a few words.
        status: "kept", "broken", "not promised" (measured only), or "not reached", as the masker fails before.
        says: what was measured, what is wrong, or why it was not reached.
        counterexample: where it is broken.
    """

    name: str
    status: Status
    says: str
    counterexample: Counterexample | None = None


@dataclass(frozen=True)
class Report:
    """What a masker keeps and breaks.

    Args:
        masker: the policy as it was asked for.
        laws: what was looked at, in order.
        tokens_per_second: how fast it chooses, on one core; 0.0 where it does not choose.
        vocabularies: kinds of the vocabularies.
        rows: scripts and lengths of the rows, in words.
        notes: what was left out, and why.
    """

    masker: str
    laws: tuple[Law, ...]
    tokens_per_second: float
    vocabularies: tuple[str, ...]
    rows: str
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no law is broken, and each was reached."""
        return all(law.status in ("kept", "not promised") for law in self.laws)

    def lines(self) -> list[str]:
        """The table for the terminal."""
        width = max(len(law.name) for law in self.laws)
        lines = [f"masker {self.masker}: {', '.join(self.vocabularies)}; {self.rows}"]
        for law in self.laws:
            lines.append(f"  {law.status:<12}  {law.name:<{width}}  {law.says}".rstrip())
            if law.counterexample:
                lines += [f"  {'':<12}  {line}" for line in law.counterexample.lines()]
        lines += [f"  note: {note}" for note in self.notes]
        speed = f"{self.tokens_per_second:,.0f} tokens a second" if self.tokens_per_second else "no speed: it fails"
        return [*lines, f"{self._verdict()}; {speed}"]

    def _verdict(self) -> str:
        num = {status: sum(law.status == status for law in self.laws) for status in ("kept", "broken", "not reached")}
        if self.passed:
            return f"{self.masker} keeps all {num['kept']} laws that hold for it"
        left = num["not reached"]
        unknown = f", {left} {'was' if left == 1 else 'were'} not reached" if left else ""
        return f"{self.masker} breaks {num['broken']} of {sum(num.values())} laws{unknown}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types."""
        return {"passed": self.passed, **dataclasses.asdict(self)}

    def assert_passed(self) -> None:
        """Raises an AssertionError with the table unless every law is kept: for a test suite of one's own."""
        if not self.passed:
            raise AssertionError("\n" + "\n".join(self.lines()))
