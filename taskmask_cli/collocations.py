"""taskmask collocations: the words of a dataset that stand together more often than by chance."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from taskmask.errors import ConfigError, visible
from taskmask_cli.options import Parser, whole

DESCRIPTION = """Finds collocations of 2 to 5 words, the units of PMI-Masking: n-grams whose words stand together more
often than any division of them would let expect (the measure of Levine et al. 2021, section 3). Writes a list to read
and to edit, best first: collocation, count and PMI, separated by tabs. taskmask spans --collocations marks them in a
dataset, and the masker whole_unit masks them as one.

Counts are exact. Memory does not grow with the text: of more than 16 million n-grams of a length the most frequent are
kept, and it is told how often these occur."""

EPILOG = """examples:
  taskmask collocations --data data-bin --out collocations.tsv
  taskmask collocations --data data-bin --out collocations.tsv --size 800000 --min-count 10"""


def main(argv: Sequence[str] | None = None) -> int:
    """Counts, ranks, writes the list and prints the best."""
    parser = Parser("taskmask collocations", DESCRIPTION, EPILOG)
    parser.add_argument("--data", required=True, metavar="DIR", help="dataset to count in")
    parser.add_argument("--out", required=True, metavar="FILE", help="list to write")
    parser.add_argument("--split", default="train", help="split to count in [train]")
    parser.add_argument(
        "--size", type=whole(), default=None, metavar="N",
        help="collocations at most: 50 %% of 2 words, 25 %% of 3, 12.5 %% of 4 and of 5 [a tenth of the frequent "
        "n-grams of each length]",
    )  # fmt: skip
    parser.add_argument("--min-count", type=whole(), default=10, metavar="N", help="how often one occurs at least [10]")
    options = parser.parse_all(argv)
    for name, value in (("--size", options.size), ("--min-count", options.min_count)):
        if value is not None and value < 1:
            raise ConfigError(f"is {value}", where=name, expected="at least 1")

    from tqdm import tqdm

    from taskmask.data.dataset import Dataset
    from taskmask.span_columns.collocations import collocations, write_collocations
    from taskmask.system.files import resolve_output

    out = resolve_output(options.out, "--out")
    dataset = Dataset.open_to_read(options.data)
    split = dataset.split(options.split)
    with tqdm(total=split.num_tokens, unit="token", unit_scale=True, disable=None, leave=False) as bar:

        def advance(what: str, tokens: int) -> None:
            if bar.n >= split.num_tokens:
                bar.reset()
            bar.set_description_str(what, refresh=False)
            bar.update(tokens)

        found, counts, least = collocations(split, dataset.vocabulary(), options.size, options.min_count, advance)
    write_collocations(out, found)
    lines = [f"{options.out}: {len(found):,} collocations of {split.num_tokens:,} tokens"]
    for n in range(2, len(counts) + 1):
        own = [one.text for one in found if one.text.count(" ") == n - 1]
        best = f", such as {', '.join(own[:4])}" if own else ""
        lines.append(f"{n} words: {len(own):,} of {counts[n]:,} that occur {least[n]} times or more{best}")
    if not found:
        lines.append("note: none is frequent enough; give a smaller --min-count, or more text")
    data, file = shlex.quote(options.data), shlex.quote(options.out)
    mark = f"taskmask spans --data {data} --column collocation --collocations {file}"
    print(visible("\n".join([*lines, f"next: {mark}"])), file=sys.stdout)
    return 0
