"""taskmask-preprocess: text files to a binarized dataset."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmask.errors import ConfigError, visible
from taskmask.system.address_space import check_room_to_train
from taskmask.system.hardware import num_cores
from taskmask_cli.options import Parser, whole

if TYPE_CHECKING:
    from taskmask.preprocess.readers import Source
    from taskmask.preprocess.schema import Fields
    from taskmask.tokenizer.tokenizer import Vocabulary

DESCRIPTION = "Trains a vocabulary (or takes one) and turns text files into a binarized dataset."

EPILOG = """\
inputs:
  .txt (a text a line), .tsv (a header line, then columns split by tabs), .csv (a header, then columns split by commas;
  fields may stand in quotation marks, see --quoted for .tsv) and .jsonl (an object a line);
  .conll, .iob, .iob2, .bio, .conllu, .conllup (a word and its tag per line, blank lines between sentences; columns are
  split at tabs if most lines have one, else at blanks; comments, and ranges and empty nodes of CoNLL-U, are left
  out and counted) and .json (SQuAD's nested file); each also .gz;
  - is standard input; python-docs:train, python-docs:valid and python-docs:test are the documentation of Python itself.
  UTF-8 only (see --on-bad-utf8). Control characters become spaces.

what a row is (columns of the dataset):
  a text, or several, with labels, numbers or lists of texts: fields text and label, or those named (tokens, label)
  words with a tag each: a .conll file, or jsonl {"words": ["the", "dog"], "tags": ["O", "O"]} (tokens, word, tags)
  a question and its context: SQuAD's .json, or jsonl {"question": "Who?", "context": "The dog", "answers": ["dog"],
    "answer_start": [4]} (tokens of the context, question, starts, ends, text, answers, answer)

examples:
  taskmask-preprocess --train python-docs:train --valid python-docs:valid --out data-bin/python
  taskmask-preprocess --train wiki.txt.gz --valid valid.txt --out data-bin/wiki --vocab-size 16000
  taskmask-preprocess --train train.tsv --valid dev.tsv --test test.tsv --out data-bin/sst2 --vocab data-bin/wiki
  taskmask-preprocess --train reviews.csv --text review --label stars --out data-bin/reviews --vocab data-bin/wiki
  taskmask-preprocess --train qa.jsonl --text question context --label answer_index --out data-bin/qa --vocab-size 8000
  taskmask-preprocess --train nq.jsonl --text question --list answers --out data-bin/nq --vocab data-bin/wiki
  taskmask-preprocess --train arc.jsonl --text question --list answers choices --out data-bin/arc --vocab data-bin/wiki
  taskmask-preprocess --train sts.tsv --text first second --number score --out data-bin/sts --vocab data-bin/wiki
  taskmask-preprocess --train eng.train.conll --valid eng.testa.conll --out data-bin/ner --vocab data-bin/wiki
  taskmask-preprocess --train en-ud-train.conllu --tag-column XPOS --out data-bin/pos --vocab data-bin/wiki
  taskmask-preprocess --train ner.jsonl --words tokens --tags ner_tags --out data-bin/ner --vocab data-bin/wiki
    --label-names O B-PER I-PER B-LOC I-LOC    (if ner_tags are the numbers 0 to 4)
  taskmask-preprocess --train train-v1.1.json --valid dev-v1.1.json --out data-bin/squad --vocab data-bin/wiki
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
    _add_format_options(parser)
    _add_form_options(parser)
    _add_vocabulary_options(parser)
    run = parser.add_argument_group("run")
    run.add_argument(
        "--workers",
        type=whole(0),
        metavar="N",
        help="processes that encode; the result does not depend on it (default: one per core)",
    )
    return parser


def _add_text_options(parser: Parser) -> None:
    text = parser.add_argument_group("fields")
    text.add_argument(
        "--text",
        nargs="+",
        metavar="FIELD",
        help="fields of tsv, csv and jsonl that hold text; the first becomes the tokens, further ones columns "
        "of their own names (default: text)",
    )
    _add_label_options(text)
    text.add_argument(
        "--list",
        nargs="+",
        default=[],
        metavar="FIELD",
        help="fields of jsonl that hold lists of texts, such as accepted answers or choices",
    )


def _add_format_options(parser: Parser) -> None:
    form = parser.add_argument_group("format of the files")
    form.add_argument(
        "--documents",
        choices=("auto", "line", "blank"),
        default="auto",
        help="documents of a txt file: each line, or separated by blank lines; auto: blank if the first "
        "megabyte of the first txt file has a blank line in a hundred (default: auto)",
    )
    form.add_argument(
        "--input-format",
        choices=("txt", "tsv", "csv", "jsonl", "conll", "squad"),
        help="format of all files (default: by their names; txt for standard input)",
    )
    form.add_argument(
        "--quoted",
        action="store_true",
        help="fields of tsv files may stand in quotation marks, with line breaks and doubled marks in them, as pandas "
        "and spreadsheets write them (default: marks in tsv are text; csv files are always read so)",
    )
    form.add_argument(
        "--delimiter",
        type=_delimiter,
        metavar="MARK",
        help="mark between the fields of csv files, or tab (default: a comma)",
    )
    form.add_argument(
        "--on-bad-utf8",
        choices=("stop", "replace", "skip"),
        default="stop",
        help="what to do with a line that is not UTF-8: stop and name its place, replace the bad bytes by U+FFFD, "
        "or skip the line; those mended or skipped are counted (default: stop)",
    )


def _add_label_options(text: argparse._ArgumentGroup) -> None:
    text.add_argument(
        "--label",
        nargs="+",
        metavar="FIELD",
        help="fields that hold labels (default: label, if the first file of a split has it); files of valid and test "
        "may have none of them, for prediction",
    )
    text.add_argument(
        "--label-names",
        nargs="+",
        metavar="NAME",
        help="names of labels or tags that the files hold as numbers from 0, as Hugging Face exports them; or one "
        "file: .txt (one name per line) or .json (a list, {FIELD: list}, dataset_info.json, config.json of a model)",
    )
    text.add_argument(
        "--missing-label",
        nargs="*",
        metavar="MARK",
        help="labels, tags and numbers that mean that there is none, besides empty fields, null and NaN; without a "
        "MARK: none else does (default: -100, and -1, -, _ and ? unless the other labels show that they are labels, "
        "as 0 and 1 beside -1 do; of numbers -1, if a split but train has no other; what was found is printed)",
    )
    text.add_argument(
        "--number",
        nargs="+",
        default=[],
        metavar="FIELD",
        help="fields that hold numbers to be predicted, as for regression",
    )


def _add_form_options(parser: Parser) -> None:
    form = parser.add_argument_group("tagged words, and questions with answers in a context")
    form.add_argument(
        "--words",
        metavar="FIELD",
        help="field of jsonl that holds a list of words (default: words, if the first file has it and no text)",
    )
    form.add_argument(
        "--tags", metavar="FIELD", help="field that holds a tag for each word, and name of the column (default: tags)"
    )
    form.add_argument(
        "--word-column",
        type=_column,
        metavar="N",
        help="column of CoNLL files that holds the word: its number, or its name in CoNLL-U (default: 1; 2 if column 1 "
        "counts the words of each sentence)",
    )
    form.add_argument(
        "--tag-column",
        type=_column,
        metavar="N",
        help="column of CoNLL files that holds the tag: its number, or its name in CoNLL-U (default: the last; UPOS in "
        "CoNLL-U)",
    )
    form.add_argument(
        "--answers",
        action="store_true",
        help="rows are questions: fields question, context, answers and answer_start, the character at which each "
        "answer begins, or none: it is looked for (default: if the first file has these fields and no text); without "
        "answers, for prediction only",
    )
    form.add_argument(
        "--on-bad-answer",
        choices=("stop", "skip"),
        default="stop",
        help="what to do with a question without an answer, or an answer that is not at its place in the context: stop "
        "and name it, or leave the row out and count it (default: stop)",
    )


def _add_vocabulary_options(parser: Parser) -> None:
    vocab = parser.add_argument_group("vocabulary")
    which = vocab.add_mutually_exclusive_group()
    which.add_argument(
        "--vocab-size",
        type=whole(1),
        metavar="N",
        help=f"pieces of a new vocabulary, trained on the split train (default: {DEFAULT_VOCAB_SIZE})",
    )
    which.add_argument(
        "--vocab",
        metavar="PATH",
        help="take this .model or tokenizer.json, or that of a dataset, a Hugging Face folder, or a run made of one",
    )
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
        "--vocab-sentinels",
        type=whole(1),
        metavar="N",
        help="pieces of a new vocabulary that mark spans, <extra_id_0> and so on, for --task.sentinels (T5: 100; "
        "default: 0)",
    )
    vocab.add_argument(
        "--vocab-sample",
        type=whole(1),
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
    of_a_new_one |= {"--vocab-sentinels": args.vocab_sentinels, "--vocab-sample": args.vocab_sample}
    useless = [flag for flag, value in of_a_new_one.items() if value is not None]
    if args.vocab and useless:
        raise ConfigError(f"goes with a new vocabulary, not with --vocab {args.vocab}", where=useless[0])
    from taskmask.data.writer import check_out
    from taskmask.preprocess.guesses import guesses_of, guesses_of_marks
    from taskmask.preprocess.pipeline import encode_files
    from taskmask.preprocess.readers import find_sources
    from taskmask_cli import preprocess_summary as summary

    _stop_on_terminate()
    check_out(Path(args.out), args.overwrite)
    paths = {split: getattr(args, split) for split in ("train", "valid", "test") if getattr(args, split)}
    asked = _fields(args)
    sources = find_sources(
        paths,
        asked,
        input_format=args.input_format,
        documents=args.documents,
        on_bad_utf8=args.on_bad_utf8,
    )
    every = [source for files in sources.values() for source in files]
    summary.warn_of_doubts(every)
    summary.warn_of_files_given_twice(paths)
    label_names = _label_names(args.label_names, every)
    vocabulary = _vocabulary(args, sources["train"])
    workers = num_cores() if args.workers is None else args.workers
    summaries = encode_files(sources, vocabulary, args.out, workers, args.overwrite, label_names)
    layout = sources["train"][0].layout
    guesses = guesses_of(sources, asked, args.input_format, args.documents)
    summary.print_guesses([*guesses, *guesses_of_marks(summaries, asked)])
    summary.print_summary(args.out, vocabulary, summaries)
    summary.warn_of_unused_marks(asked, summaries)
    summary.print_scheme(layout, summaries)
    summary.print_bad_lines([source for source in every if source.bad_lines])
    start = summary.run_of(args.vocab)
    print(visible(f"next: taskmask-train --data {shlex.quote(args.out)}{start}{summary.task_of(layout)}"))
    return 0


def _fields(args: argparse.Namespace) -> Fields:
    """The fields asked for; what is asked for must be of one form."""
    from taskmask.preprocess.schema import Fields

    forms = [("--text", args.text), ("--answers", args.answers)]
    forms += [("--words", args.words), ("--tags", args.tags)]
    forms += [("--word-column", args.word_column), ("--tag-column", args.tag_column)]
    given = [flag for flag, value in forms if value]
    if given and given[0] in ("--text", "--answers") and len(given) > 1:
        raise ConfigError(
            f"does not go with {' and '.join(given[1:])}",
            where=given[0],
            expected="texts (--text), tagged words (--words, --tags, --tag-column) or questions (--answers)",
        )
    return Fields(
        text=args.text and tuple(args.text),
        label=None if args.label is None else tuple(args.label),
        number=tuple(args.number),
        lists=tuple(args.list),
        words=args.words,
        tags=args.tags,
        word_column=args.word_column or 0,
        tag_column=args.tag_column or 0,
        form="answers" if args.answers else "",
        on_bad_answer=args.on_bad_answer,
        missing=None if args.missing_label is None else tuple(args.missing_label),
        quoted=args.quoted,
        delimiter=args.delimiter,
    )


def _label_names(given: list[str] | None, sources: Sequence[Source]) -> dict[str, list[str]]:
    """Label column -> names; empty if none are given."""
    from taskmask.preprocess.label_names import read_label_names

    if not given:
        return {}
    columns = dict.fromkeys(name for source in sources for name in source.layout.label_columns)
    return read_label_names(given, list(columns))


def _vocabulary(args: argparse.Namespace, train: list[Any]) -> Vocabulary:
    """The vocabulary given, or a new one trained on a sample of the split train."""
    from taskmask.data.dataset import HEADER_FILE, Dataset
    from taskmask.preprocess.pipeline import sample_texts
    from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary

    if args.vocab and (Path(args.vocab) / HEADER_FILE).exists():
        return Dataset.open(args.vocab).vocabulary()  # which is the one that the dataset was made with
    if args.vocab:
        return Vocabulary.load(args.vocab)
    sample = sample_texts(train, (args.vocab_sample or 10) * 10**6)
    size = args.vocab_size or DEFAULT_VOCAB_SIZE
    if sys.stderr.isatty():
        megabytes = sum(map(len, sample)) / 1e6
        print(visible(f"training a vocabulary of {size} pieces on {megabytes:.1f} MB of text"), file=sys.stderr)
    check_room_to_train(sum(map(len, sample)))
    coverage = 0.9995 if args.character_coverage is None else args.character_coverage
    kind, sentinels = args.vocab_kind or "unigram", args.vocab_sentinels or 0
    return Vocabulary(train_vocabulary(sample, size, kind, coverage, sentinels))


def _stop_on_terminate() -> None:
    """Lets SIGTERM end the program as Ctrl-C does, so that the partial output is removed."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, stop)


def _column(value: str) -> int | str:
    """A number from 1, or a name."""
    return whole(1)(value) if value.removeprefix("-").isdigit() else value


def _delimiter(value: str) -> str:
    mark = "\t" if value == "tab" else value
    if len(mark) != 1 or not mark.isascii() or mark.isalnum() or mark in '"\n\r ':
        raise argparse.ArgumentTypeError(f"{value!r} is no mark between fields, such as ';' or tab")
    return mark
