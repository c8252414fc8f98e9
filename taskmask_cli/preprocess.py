"""taskmask-preprocess: text files to a binarized dataset."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmask.errors import ConfigError, visible
from taskmask.machine import num_cores
from taskmask_cli.options import Parser

if TYPE_CHECKING:
    from taskmask.data.ingest import SplitSummary
    from taskmask.data.readers import Source
    from taskmask.data.vocab import Vocabulary

DESCRIPTION = "Trains a vocabulary (or takes one) and turns text files into a binarized dataset."

EPILOG = """\
inputs:
  .txt (a text a line), .tsv (a header line, then columns split by tabs) and .jsonl (an object a line), each also .gz;
  - is standard input; python-docs:train, python-docs:valid and python-docs:test are the documentation of Python itself.
  UTF-8 only (see --on-bad-utf8). Control characters become spaces.

examples:
  taskmask-preprocess --train python-docs:train --valid python-docs:valid --out data-bin/python
  taskmask-preprocess --train wiki.txt.gz --valid valid.txt --out data-bin/wiki --vocab-size 16000
  taskmask-preprocess --train train.tsv --valid dev.tsv --test test.tsv --out data-bin/sst2 --vocab data-bin/wiki
  taskmask-preprocess --train qa.jsonl --text question context --label answer_index --out data-bin/qa --vocab-size 8000
"""
DEFAULT_VOCAB_SIZE = 8000


def make_parser() -> Parser:
    """The options of taskmask-preprocess."""
    parser = Parser("taskmask-preprocess", DESCRIPTION, EPILOG)
    data = parser.add_argument_group("data")
    data.add_argument("--train", nargs="+", required=True, metavar="FILE", help="files of the split train")
    data.add_argument("--valid", nargs="+", default=[], metavar="FILE", help="files of the split valid")
    data.add_argument("--test", nargs="+", default=[], metavar="FILE", help="files of the split test")
    data.add_argument("--out", required=True, metavar="DIR", help="folder of the dataset; appears when it is whole")
    data.add_argument("--overwrite", action="store_true", help="replace the dataset at --out")
    _add_text_options(parser)
    _add_vocabulary_options(parser)
    run = parser.add_argument_group("run")
    run.add_argument(
        "--workers",
        type=_natural,
        metavar="N",
        help="processes that encode; the result does not depend on it (default: one per core)",
    )
    return parser


def _add_text_options(parser: Parser) -> None:
    text = parser.add_argument_group("text")
    text.add_argument(
        "--text",
        nargs="+",
        default=["text"],
        metavar="FIELD",
        help="fields of tsv and jsonl that hold text; the first becomes the tokens, further ones columns "
        "of their own names (default: text)",
    )
    text.add_argument(
        "--label",
        nargs="+",
        metavar="FIELD",
        help="fields that hold labels (default: label, if the first file of a split has it)",
    )
    text.add_argument(
        "--documents",
        choices=("auto", "line", "blank"),
        default="auto",
        help="documents of a txt file: each line, or separated by blank lines; auto: blank if the first "
        "megabyte of the first txt file has a blank line in a hundred (default: auto)",
    )
    text.add_argument(
        "--input-format",
        choices=("txt", "tsv", "jsonl"),
        help="format of all files (default: by their names; txt for standard input)",
    )
    text.add_argument(
        "--on-bad-utf8",
        choices=("stop", "replace", "skip"),
        default="stop",
        help="what to do with a line that is not UTF-8: stop and name its place, replace the bad bytes by U+FFFD, "
        "or skip the line; those mended or skipped are counted (default: stop)",
    )


def _add_vocabulary_options(parser: Parser) -> None:
    vocab = parser.add_argument_group("vocabulary")
    which = vocab.add_mutually_exclusive_group()
    which.add_argument(
        "--vocab-size",
        type=_positive,
        metavar="N",
        help=f"pieces of a new vocabulary, trained on the split train (default: {DEFAULT_VOCAB_SIZE})",
    )
    which.add_argument("--vocab", metavar="PATH", help="take this SentencePiece .model, or that of a dataset")
    vocab.add_argument(
        "--vocab-kind",
        choices=("unigram", "bpe"),
        help="kind of a new vocabulary (default: unigram)",
    )
    vocab.add_argument(
        "--character-coverage",
        type=float,
        metavar="X",
        help="share of the characters that get pieces of their own, the others become UTF-8 bytes; "
        "1 for small alphabets (default: 0.9995)",
    )
    vocab.add_argument(
        "--vocab-sample",
        type=_positive,
        metavar="MB",
        help="megabytes of text that a new vocabulary is trained on, sampled from all (default: 10)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the dataset and prints a summary.

    Args:
        argv: command-line arguments; None: those of the process.

    Raises:
        TaskmaskError: something the user can mend.
    """
    args = make_parser().parse_all(argv)
    of_a_new_one = {"--vocab-kind": args.vocab_kind, "--character-coverage": args.character_coverage}
    of_a_new_one["--vocab-sample"] = args.vocab_sample
    useless = [flag for flag, value in of_a_new_one.items() if value is not None]
    if args.vocab and useless:
        raise ConfigError(f"goes with a new vocabulary, not with --vocab {args.vocab}", where=useless[0])
    from taskmask.data.ingest import encode_files
    from taskmask.data.readers import find_sources
    from taskmask.data.writer import check_out

    _stop_on_terminate()
    check_out(Path(args.out), args.overwrite)
    paths = {split: getattr(args, split) for split in ("train", "valid", "test") if getattr(args, split)}
    sources = find_sources(
        paths,
        input_format=args.input_format,
        text=args.text,
        label=args.label,
        documents=args.documents,
        on_bad_utf8=args.on_bad_utf8,
    )
    vocabulary = _vocabulary(args, sources["train"])
    workers = num_cores() if args.workers is None else args.workers
    summaries = encode_files(sources, vocabulary, args.out, workers=workers, overwrite=args.overwrite)
    _print_summary(args.out, vocabulary, summaries)
    _print_bad_lines([source for files in sources.values() for source in files if source.bad_lines])
    print(visible(f"next: taskmask-train --data {args.out} --run runs/first"))
    return 0


def _vocabulary(args: argparse.Namespace, train: list[Any]) -> Vocabulary:
    """The vocabulary given, or a new one trained on a sample of the split train."""
    from taskmask.data.ingest import sample_texts
    from taskmask.data.vocab import Vocabulary, train_vocabulary

    if args.vocab:
        return Vocabulary.load(args.vocab)
    sample = sample_texts(train, (args.vocab_sample or 10) * 10**6)
    size = args.vocab_size or DEFAULT_VOCAB_SIZE
    if sys.stderr.isatty():
        megabytes = sum(map(len, sample)) / 1e6
        print(f"training a vocabulary of {size} pieces on {megabytes:.1f} MB of text", file=sys.stderr)
    coverage = 0.9995 if args.character_coverage is None else args.character_coverage
    return Vocabulary(train_vocabulary(sample, size, args.vocab_kind or "unigram", coverage))


def _print_summary(out: str, vocabulary: Vocabulary, summaries: dict[str, SplitSummary]) -> None:
    print(visible(f"{out}: vocabulary of {vocabulary.size} pieces, fingerprint {vocabulary.fingerprint[:12]}"))
    table = [("split", "rows", "documents", "tokens", "tokens/row", "bytes/token")]
    for split, part in summaries.items():
        per_row, per_token = part.tokens / part.rows, part.text_bytes / part.tokens
        table.append(
            (split, f"{part.rows:,}", f"{part.documents:,}", f"{part.tokens:,}", f"{per_row:.1f}", f"{per_token:.2f}")
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *numbers in table:
        print("  ".join([name.ljust(widths[0]), *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True))]))
    for split, part in summaries.items():
        for column, counts in part.labels.items():
            most = sorted(counts.items(), key=lambda item: -item[1])[:10] if len(counts) > 10 else counts.items()
            shown = [f"{label} {rows:,}" for label, rows in most]
            more = f", and {len(counts) - 10} smaller ones" if len(counts) > 10 else ""
            print(visible(f"{column} of {split}: {', '.join(shown)}{more}"))


def _print_bad_lines(sources: list[Source]) -> None:
    if sources:
        done = {"replace": "mended with U+FFFD", "skip": "left out"}[sources[0].on_bad_utf8]
        number = sum(source.bad_lines for source in sources)
        print(visible(f"lines that are not UTF-8, {done}: {number:,}, the first at {sources[0].first_bad}"))


def _stop_on_terminate() -> None:
    """Lets SIGTERM end the program as Ctrl-C does, so that the partial output is removed."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, stop)


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def _natural(value: str) -> int:
    number = int(value)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number
