"""taskmask check: does a masker keep the laws?"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from taskmask.errors import visible
from taskmask.registry import MASKERS
from taskmask.system.json_output import to_json
from taskmask_cli.options import Parser, add_user_dir, load_user_dirs

DESCRIPTION = """Puts maskers to the test, in some seconds each: over vocabularies (SentencePiece unigram and bpe;
WordPiece and byte-level BPE where the package tokenizers is installed), scripts (English, German, Chinese, Japanese,
Thai, Arabic, code, emoji) and rows of 0, 1, 2 and 96 tokens. Prints a line a law; where one is broken, the smallest
counterexample.

Laws for every masker: it runs on every row and returns bool [views, rows, tokens]; it chooses no special piece, no
padding and no piece that masker.never names, leaves the rows as they are, prints nothing, and comes to an end; it masks
no more than the ratio, give or take a word, and leaves no row empty without need; masks are drawn anew in every epoch
and for each row, and are the same in any batch, order, process and world size, after a resume, and whatever the global
random state.

Laws for those that promise it: exact_budget, budget_within_a_word, mean_budget, whole_words, same_every_epoch. What a
masker does not promise is measured and shown, and is no fault. One that decides itself how much it masks, whatever the
ratio (every seventh token, three in a row), promises own_budget. Promises stand in the attribute `promises` of a class,
or in @register_masker(NAME, promises=(...))."""

EPILOG = """examples:
  taskmask check
  taskmask check span whole_word
  taskmask check "span p=0.3 longest=5" --json
  taskmask check long_words power=2 --user-dir examples/custom_masker/my_masker.py

exit code: 0 all laws are kept, 1 a law is broken, 2 no such masker or a wrong option

In a test suite of your own:
  from taskmask import check_masker

  def test_my_masker():
      check_masker("long_words power=2", user_dir="my_masker.py").assert_passed()"""


def main(argv: Sequence[str] | None = None) -> int:
    """Checks and prints a table for each masker, or one JSON object."""
    parser = Parser("taskmask check", DESCRIPTION, EPILOG)
    parser.add_argument(
        "policies",
        nargs="*",
        metavar="POLICY",
        help="maskers, each with the options that differ from its defaults: span p=0.3 [all maskers]",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_user_dir(parser)
    options = parser.parse_all(argv)
    load_user_dirs(options)
    policies = joined(options.policies) or MASKERS.names()

    from tqdm import tqdm

    from taskmask.analysis.check.harness import check_masker
    from taskmask.maskers.policy import read_policy

    for policy in policies:
        read_policy(policy)
    reports = []
    shown = {"total": len(policies), "delay": 2, "leave": False, "bar_format": "{desc} {percentage:3.0f}%|{bar}|"}
    with tqdm(disable=options.json or not sys.stderr.isatty(), **shown) as bar:
        for number, policy in enumerate(policies, 1):
            bar.set_description_str(f"checking {policy}")
            with contextlib.redirect_stdout(sys.stderr):  # what a plug-in prints is none of our output
                reports.append(check_masker(policy, advance=bar.update))
            bar.update(number - bar.n)
            if not options.json:
                bar.clear()
                print(visible("\n".join(["", *reports[-1].lines()][number == 1 :])), flush=True)
    passed = all(report.passed for report in reports)
    if options.json:
        found = {"passed": passed, "maskers": [report.to_dict() for report in reports]}
        print(to_json(found))
    return 0 if passed else 1


def joined(words: Sequence[str]) -> list[str]:
    """Returns the policies that the words of a command line name: an option belongs to the name before it."""
    policies: list[str] = []
    for word in words:
        if policies and "=" in word.split(" ")[0]:
            policies[-1] += f" {word}"
        else:
            policies.append(word)
    return policies
