"""What taskmask-preprocess prints of the dataset it has made, and which command is next."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from taskmask.errors import visible
from taskmask.metrics.tag_schemes import scheme_of
from taskmask.preprocess.guesses import Guess
from taskmask.preprocess.label_names import plain_name
from taskmask.preprocess.pipeline import SplitSummary
from taskmask.preprocess.readers import Source
from taskmask.preprocess.schema import Fields, Layout
from taskmask.tokenizer.tokenizer import Vocabulary

MOST_SHOWN = 10  # labels of a column


def warn_of_files_given_twice(paths: Mapping[str, Sequence[str]]) -> None:
    """Says which files are read twice: what is trained on measures nothing, and what stands twice counts twice."""
    splits: dict[str, list[str]] = {}
    for split, files in paths.items():
        for file in files:
            splits.setdefault(os.path.realpath(file), []).append(split)
    for file, names in splits.items():
        if len(names) > 1:
            where = f"splits {' and '.join(dict.fromkeys(names))}" if len({*names}) > 1 else f"split {names[0]} twice"
            print(visible(f"taskmask: warning: {file} is in {where}"), file=sys.stderr)


def warn_of_doubts(sources: list[Source]) -> None:
    """Prints what in these files looks as if it was to be read otherwise."""
    fix = "if pandas or a spreadsheet wrote them, give --quoted; now the marks are text"
    for source in sources:
        if source.doubt:
            print(visible(f"taskmask: warning: {source.layout.name}: {source.doubt}; {fix}"), file=sys.stderr)


def warn_of_unused_marks(asked: Fields, summaries: dict[str, SplitSummary]) -> None:
    """Prints which marks of --missing-label no label is; of numbers it is not known which of the marks they were."""
    seen = {mark for part in summaries.values() for marks in part.unlabelled.values() for mark in marks}
    for mark in asked.missing or ():
        if not seen & {mark, plain_name(mark, is_number=True)} and not asked.number:
            print(visible(f"taskmask: warning: --missing-label {mark}: no label is {mark!r}"), file=sys.stderr)


def print_guesses(guesses: list[Guess]) -> None:
    """Prints what was guessed of the files, each with the option that says otherwise."""
    if guesses:
        print("guessed from the files, and the option that says otherwise:")
        widths = [max(len(guess[at]) for guess in guesses) for at in range(2)]
        for guess in guesses:
            row = (guess.what.ljust(widths[0]), guess.found.ljust(widths[1]), guess.option)
            print(visible("  " + "  ".join(row).rstrip()))


def print_summary(out: str, vocabulary: Vocabulary, summaries: dict[str, SplitSummary]) -> None:
    """Prints a table of the splits, the labels and numbers of each, and what was left out."""
    print(visible(f"{out}: vocabulary of {vocabulary.size} pieces, fingerprint {vocabulary.fingerprint[:12]}"))
    table = [("split", "rows", "documents", "tokens", "tokens/row", "bytes/token")]
    for split, part in summaries.items():
        per_row, per_token = part.tokens / part.rows, part.text_bytes / part.tokens
        table.append(
            (split, f"{part.rows:,}", f"{part.documents:,}", f"{part.tokens:,}", f"{per_row:.1f}", f"{per_token:.2f}")
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *numbers in table:
        cells = [name.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True))]
        print(visible("  ".join(cells)))
    for split, part in summaries.items():
        for column in dict.fromkeys([*part.labels, *part.numbers, *part.unlabelled]):
            print(visible(f"{column} of {split}: {_shown(part, column)}"))
    empty = {split: part.empty for split, part in summaries.items() if part.empty}
    if empty:
        print(visible(f"rows without text: {sum(empty.values()):,} ({_by_split(empty)})"))
    left_out = {split: part.left_out for split, part in summaries.items() if part.left_out}
    if left_out:
        first = next(part.first_left_out for part in summaries.values() if part.left_out)
        print(visible(f"rows left out for their answers: {sum(left_out.values()):,} ({_by_split(left_out)})"))
        print(visible(f"  the first: {first}"))
    for kind in dict.fromkeys(kind for part in summaries.values() for kind in part.skipped):
        skipped = {split: part.skipped[kind] for split, part in summaries.items() if part.skipped[kind]}
        if skipped:
            print(visible(f"lines left out, {kind}: {sum(skipped.values()):,} ({_by_split(skipped)})"))


def print_scheme(layout: Layout, summaries: dict[str, SplitSummary]) -> None:
    """Prints which tags are tags of entities, if the first file has tags."""
    if names := next((part.labels[layout.tags] for part in summaries.values() if layout.tags in part.labels), None):
        print(visible(scheme_of(list(names)).note))


def _shown(part: SplitSummary, column: str) -> str:
    """The most frequent labels of a column, or the range of its numbers, and how many have none."""
    counts, shown = part.labels.get(column, {}), []
    if any(counts.values()):
        is_long = len(counts) > MOST_SHOWN
        most = sorted(counts.items(), key=lambda item: -item[1])[:MOST_SHOWN] if is_long else counts.items()
        more = f", and {len(counts) - MOST_SHOWN} more" if is_long else ""
        shown.append(", ".join(f"{label} {rows:,}" for label, rows in most) + more)
    if column in part.numbers:
        smallest, largest = part.numbers[column]
        shown.append(f"{smallest:g} to {largest:g}")
    if marks := part.unlabelled.get(column):
        missing = sum(marks.values())
        total = missing + sum(counts.values()) if column in part.labels else part.rows
        shown.append(f"{missing:,} of {total:,} have none ({', '.join(mark or 'empty' for mark in marks)})")
    return "; ".join(shown)


def _by_split(counts: dict[str, int]) -> str:
    return ", ".join(f"{split} {number:,}" for split, number in counts.items())


def print_bad_lines(sources: list[Source]) -> None:
    """Prints how many lines of these sources were not UTF-8."""
    if sources:
        done = {"replace": "mended with U+FFFD", "skip": "left out"}[sources[0].on_bad_utf8]
        number = sum(source.bad_lines for source in sources)
        print(visible(f"lines that are not UTF-8, {done}: {number:,}, the first at {sources[0].first_bad}"))


def run_of(vocab: str | None) -> str:
    """Options for the next run: its folder and, if the vocabulary is that of a run, the weights of that run."""
    if vocab and Path(vocab, "settings.json").is_file() and Path(vocab, "checkpoints").is_dir():
        return f" --run runs/next --train.init_from {shlex.quote(vocab)}"
    return " --run runs/first"


def task_of(layout: Layout) -> str:
    """The option that learns what stands beside the texts; with texts alone, and no labels, there is none."""
    if layout.form == "tags":
        return f" --task tagging{'' if layout.tags in ('', 'tags') else f' --task.label {layout.tags}'}"
    if layout.form == "answers":
        return " --task span" if layout.has_answers else ""
    pair = f" --task.pair {layout.text[1]}" if len(layout.text) > 1 else ""
    if layout.lists and ("answers" in layout.lists or not layout.label):  # else the label says which choice is right
        written, *others = sorted(layout.lists, key=lambda name: name != "answers")
        target = "" if written == "answers" else f" --task.target {written}"
        choices = f" --task.choices {others[0]}" if others else ""
        return f" --task seq2seq{target}{choices}{pair}"
    if not layout.label + layout.number or layout.name.startswith("python-docs:"):  # which is first of all a text
        return ""
    task, column = ("classification", layout.label) if layout.label else ("regression", layout.number)
    return f" --task {task}{'' if column[0] == 'label' else f' --task.label {column[0]}'}{pair}"
