"""taskmask list: the components there are and their options; what a dataset holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from taskmask import config
from taskmask.errors import ConfigError, RegistryError, did_you_mean, visible
from taskmask.registry import REGISTRIES
from taskmask_cli.options import Parser, add_user_dir, load_user_dirs

DESCRIPTION = "Lists tasks, models, criteria and maskers, built in and plugged in; or the options of one; or a dataset."

EPILOG = """examples:
  taskmask list
  taskmask list masker
  taskmask list masker span
  taskmask list --data data-bin --verify"""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the list."""
    parser = Parser("taskmask list", DESCRIPTION, EPILOG)
    parser.add_argument("kind", nargs="?", help=f"one of {', '.join(REGISTRIES)}")
    parser.add_argument("name", nargs="?", help="a component of that kind")
    parser.add_argument("--data", metavar="DIR", help="show a dataset instead")
    parser.add_argument("--verify", action="store_true", help="with --data: check every checksum")
    add_user_dir(parser)
    options = parser.parse_all(argv)
    load_user_dirs(options)
    if options.data and options.kind:
        raise ConfigError(f"{options.kind!r} does not go with --data", where="taskmask list", fix="leave one out")
    if options.data:
        return list_dataset(options.data, options.verify)
    if options.verify:
        raise ConfigError("goes with --data", where="--verify", fix="taskmask list --data DIR --verify")
    if options.kind and options.kind not in REGISTRIES:
        names = ", ".join(REGISTRIES)
        kinds = [kind for kind, registry in REGISTRIES.items() if options.kind in registry.names()]
        near = did_you_mean(options.kind, REGISTRIES)
        commands = " or ".join(f"'taskmask list {kind} {options.kind}'" for kind in kinds)
        fix = f"did you mean {commands}?" if kinds else near
        raise ConfigError(f"unknown kind {options.kind!r}", where="taskmask list", expected=f"one of {names}", fix=fix)
    if options.name:
        return list_options(options.kind, options.name)
    for kind in [options.kind] if options.kind else REGISTRIES:
        print(visible(f"{kind}:"))
        for name in REGISTRIES[kind].names():
            try:
                entry = REGISTRIES[kind].get(name)
            except RegistryError as error:  # an installed package that does not load must not hide the others
                print(visible(f"  {name:<16} broken: {error}"))
                continue
            print(visible(f"  {name:<16} {entry.doc.split(chr(10))[0]}\n  {'':<16} {entry.place}"))
    return 0


def list_options(kind: str, name: str) -> int:
    """Prints what one component is and its options."""
    entry = REGISTRIES[kind].get(name)
    print(visible(f"{kind} {name}, {entry.place}\n\n{entry.doc}\n"))
    lines = config.help_lines(entry.config, kind, **entry.preset)
    print(visible("\n".join(["options:", *lines] if lines else ["It has no options."])))
    return 0


def list_dataset(path: str, verify: bool) -> int:
    """Prints splits and columns of a dataset."""
    from taskmask.data.dataset import Dataset
    from taskmask.data.unfinished import unfinished

    dataset = Dataset.open(path)
    vocab = dataset.vocabulary()
    prints = f"({vocab.fingerprint[:12]}), data {dataset.fingerprint[:12]}"
    print(visible(f"{path}: vocabulary of {vocab.size:,} pieces {prints}"))
    for name in dataset.splits:
        split = dataset.split(name)
        columns = ", ".join(split.columns)
        print(visible(f"  {name:<8} {split.rows:>12,} rows {split.num_tokens:>14,} tokens   columns: {columns}"))
    for column, names in dataset.labels.items():
        more = " ..." if len(names) > 10 else ""
        print(visible(f"  {column}: {len(names)} labels: {', '.join(names[:10])}{more}"))
    for line in unfinished(dataset):
        print(visible(f"  note: {line}"))
    if verify:
        dataset.verify(show_progress=sys.stderr.isatty())
        print("  every checksum is right")
    return 0
