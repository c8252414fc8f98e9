"""taskmask spans: a column of spans, which maskers mask whole."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taskmask.errors import ConfigError, visible
from taskmask_cli.options import Parser

if TYPE_CHECKING:
    from taskmask.span_columns.tagger_file import SpanFile

DESCRIPTION = """Writes a column of spans into a dataset: for each token the number of the span that it stands in, or 0.
The masker listed masks the spans, whole_unit the spans and the words between them. They come from

  --jsonl FILE         a tagger of yours: a line for each stored row, in their order, with its text and its spans as
                       offsets in characters: {"text": "Ada met Al.", "spans": [[0, 3], {"start": 8, "end": 10}]}
                       (a span may also give its "text", which is then compared). Of one split, named with --split.
                       What an annotator rejected or skipped is left out and counted: lines and spans with
                       "answer": "reject" or "ignore", "status": "discarded", "was_cancelled": true and the like.
  --collocations FILE  a list, as taskmask collocations writes it; of two that overlap the longer one that holds the
                       other, else either at random.
  --heuristic          a rule of thumb for English, no tagger: words with a capital but for single ones at the start of
                       a sentence and words such as "The", numbers, and dates such as "12 March 1998"."""

EPILOG = """examples:
  taskmask spans --data data-bin --column salient --heuristic
  taskmask spans --data data-bin --column entities --jsonl train-entities.jsonl --split train
  taskmask spans --data data-bin --column collocation --collocations collocations.tsv
  taskmask inspect --data data-bin --masker "listed column=salient" --masker "whole_unit column=collocation"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the column and prints how much of the text it covers."""
    parser = Parser("taskmask spans", DESCRIPTION, EPILOG)
    parser.add_argument("--data", required=True, metavar="DIR", help="dataset to write into")
    parser.add_argument("--column", required=True, metavar="NAME", help="the new column")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--jsonl", default="", metavar="FILE", help="spans of a tagger of yours")
    source.add_argument("--collocations", default="", metavar="FILE", help="list of collocations")
    source.add_argument("--heuristic", action="store_true", help="names, numbers and dates, by a rule for English")
    parser.add_argument("--split", nargs="+", default=[], help="splits to write [all]")
    parser.add_argument("--overwrite", action="store_true", help="replace a column of that name")
    options = parser.parse_all(argv)

    from tqdm import tqdm

    from taskmask.data.add_column import ColumnsWriter, check_new
    from taskmask.data.dataset import Dataset
    from taskmask.span_columns.collocations import read_collocations
    from taskmask.span_columns.heuristic import Salient
    from taskmask.span_columns.segmenter import Segmenter
    from taskmask.span_columns.tagger_file import SpanFile
    from taskmask.span_columns.write import found_by, write_spans

    dataset = Dataset.open_to_read(options.data)
    splits, vocab = options.split or list(dataset.splits), dataset.vocabulary()
    for split in splits:
        check_new(dataset, split, options.column, options.overwrite)
    if options.jsonl and len(splits) != 1:
        what = f"there are splits {', '.join(splits)}, and one file"
        raise ConfigError(what, where="--jsonl", expected="one split", fix="name it with --split")
    notes, file = [], SpanFile(Path(options.jsonl), vocab)
    if options.jsonl:
        spans = file.spans
    else:
        find: Salient | Segmenter
        if options.collocations:
            find = Segmenter(read_collocations(Path(options.collocations)), vocab)
            if find.num_unfit:
                notes.append(f"{find.num_unfit:,} of the list are not 2 to 5 words of this vocabulary")
        else:
            find = Salient(vocab)

        def spans(split):  # type: ignore[no-untyped-def]
            return found_by(find, split)

    lines = []
    with ColumnsWriter(dataset, splits, [options.column], options.overwrite) as writer:
        for split in splits:
            total = dataset.split(split).num_tokens
            with tqdm(total=total, unit="token", unit_scale=True, desc=split, disable=None, leave=False) as bar:
                found = write_spans(writer, split, options.column, spans, bar.update)
            share, rows = found.inside / max(found.tokens, 1), found.rows_with / max(found.rows, 1)
            lines.append(f"{split}: {found.spans:,} spans, {share:.1%} of the tokens; {rows:.1%} of the rows have one")
            lines += [f"  such as {', '.join(found.examples)}"] if found.examples else []
    lines += [f"note: {note}" for note in [*notes, *left_out(file)]]
    see = f'taskmask inspect --data {shlex.quote(options.data)} --masker "listed column={options.column}"'
    print(visible("\n".join([f"{options.data}: column {options.column}", *lines, f"next: {see}"])))
    return 0


def left_out(file: SpanFile) -> list[str]:
    """Returns what was left out of a file of spans, as lines for people."""
    lines = []
    for noun, aside in (("lines", file.lines_aside), ("spans", file.spans_aside)):
        why = ", ".join(f"{mark} {number:,}" for mark, number in sorted(aside.items()))
        lines += [f"{aside.total():,} {noun} were rejected or skipped, and are left out ({why})"] if aside else []
    lines += [f"{file.overlaps:,} spans overlap a longer one, which counts"] if file.overlaps else []
    return lines + ([f"{file.lost:,} spans cover no token of their own"] if file.lost else [])
