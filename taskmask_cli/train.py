"""taskmask-train: from a binarized dataset to a trained model."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from taskmask import config
from taskmask.config import settings
from taskmask.data.dataset import Dataset
from taskmask.errors import ConfigError, visible
from taskmask.registry import TASKS
from taskmask_cli.options import Parser, add_user_dir, is_first

if TYPE_CHECKING:
    from taskmask.tasks.base import Task
    from taskmask.training.train import Summary

DESCRIPTION = """Trains a model on a dataset made by taskmask-preprocess.

The same command again goes on where it stopped, to the same bits. Settings are --section.field VALUE, or tables of a
TOML file given with --config; later ones win. Below are all settings, with those of the components chosen on this
command line: add --masker span, say, to see its options."""

EPILOG = """examples:
  taskmask-train --data data-bin --run runs/first
  taskmask-train --data data-bin --run runs/spans --masker span --masker.ratio 0.2 --model base --train.precision auto
  taskmask-train --config runs/first/settings.json --run runs/second --optim.lr 1e-4
  taskmask-train --data sst2-bin --run runs/sst2 --task classification --train.init_from runs/first \\
    --train.epochs 3 --optim.lr 3e-4 --train.max_tokens 1024 --train.seed 1 2 3 4 5
  taskmask-train --data data-bin --run runs/mine --user-dir my_masker.py --masker mine --dry-run
  torchrun --nproc-per-node 8 -m -- taskmask_cli.main train --data data-bin --run runs/big \\
    --train.micro_batches_per_step 8

exit codes: 0 done, 2 wrong settings, 3 bad data, 4 bad checkpoint, 5 diverged, 6 lost a process, 7 no space or memory,
75 stopped by a signal or by the clock (the same command goes on), 130 interrupted before there was anything to save;
under torchrun, which itself ends with 0 or 1, the code stands in exit.json of the run folder"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the settings and trains, rehearses, or shows the options."""
    parser = Parser("taskmask-train", DESCRIPTION, EPILOG, add_help=False)
    parser.add_argument("-h", "--help", action="store_true", help="show all settings of the chosen components")
    parser.add_argument("--dry-run", action="store_true", help="try everything once, print sizes, time and masked rows")
    parser.add_argument(
        "--run.restart", dest="restart", action="store_true", help="begin anew; the old run is kept aside"
    )
    add_user_dir(parser)
    options, assignments = parser.parse_settings(argv)
    if options.help:
        print_help(parser, settings.inherit(assignments))
        return 0
    seeds, assignments = seeds_in(assignments)
    chosen = settings.parse(settings.inherit(assignments))
    if options.dry_run:
        from taskmask.training.dry_run import dry_run

        lines = dry_run(chosen)
        if is_first():
            print(visible("\n".join(lines)))
        return 0

    from taskmask.inference import multi_seed as several
    from taskmask.training.train import train

    plug_ins = "".join(f" --user-dir {shlex.quote(path)}" for path in options.user_dir)
    if len(seeds) > 1:
        summaries = several.train_seeds(chosen, seeds, restart=options.restart)
    else:
        summaries = [train(chosen, restart=options.restart)]
    reached = []
    if len(seeds) > 1 or TASKS.get(chosen.task.name).load().measured_in_training:
        reached = several.report([one.folder for one in summaries], chosen.data.path, chosen.run.folder)
    print_summary(summaries, chosen, several.table(reached) if reached else [], plug_ins)
    return 0


def seeds_in(assignments: list[config.Assignment]) -> tuple[list[int], list[config.Assignment]]:
    """Returns the seeds, where `--train.seed` has several values, and the assignments with the first of them."""
    given = next((a for a in reversed(assignments) if a.key == "train.seed"), None)
    if given is None or not isinstance(given.value, list):
        return [], assignments
    words = [str(word) for word in given.value]
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        raise ConfigError(f"is {' '.join(words)!r}", where=given.source, expected="one seed or several, whole numbers")
    if len(set(words)) < len(words):
        raise ConfigError(f"names a seed twice: {' '.join(words)}", where=given.source)
    single = config.Assignment(given.key, int(words[0]), given.source)
    return [int(word) for word in words], [single if a is given else a for a in assignments]


def print_help(parser: Parser, assignments: list[config.Assignment]) -> None:
    """Prints the settings between argparse's options and the examples."""
    parser.usage = "%(prog)s --data DIR --run DIR [--SECTION NAME] [--SECTION.FIELD VALUE] [--config FILE] [OPTION]"
    parser.epilog = None
    print(visible(parser.format_help().rstrip()))
    print("  --config FILE    settings from a TOML or JSON file, such as the settings.json of a run; may be repeated")
    print(visible(settings.help_text(assignments)))
    print(f"\n{EPILOG}")


def print_summary(summaries: list[Summary], chosen: settings.Settings, table: list[str], plug_ins: str) -> None:
    """Prints what was reached, where it lies, and what to do next; in the first process only."""
    if not is_first():
        return
    from taskmask.checkpoints.checkpoint import score_of
    from taskmask.training.monitor.run_log import duration, figure

    split = next((name for name in ("valid", "test") if Path(chosen.data.path, name).is_dir()), "train")
    last, folder = summaries[-1], chosen.run.folder
    tokens, skipped = sum(one.tokens for one in summaries), sum(one.skipped_steps for one in summaries)
    several = f"{len(summaries)} x " if len(summaries) > 1 else ""
    figures = "  ".join(f"{name} {figure(value)}" for name, value in last.metrics.items()) or "no validation split"
    kept = "best" if score_of(Path(last.best_checkpoint)) is not None else "last"
    lines = [
        "",
        f"trained       {several}{last.step:,} steps, {tokens:,} tokens, {last.parameters:,} parameters"
        + (f", {skipped} steps skipped" if skipped else ""),
        f"took          {duration(sum(one.seconds for one in summaries))}",
        *([] if table else [f"validation    {figures}"]),
        f"{kept}          {last.best_checkpoint}" if not several else f"runs          {folder}/seed-*",
        f"log           {last.folder}/log.jsonl",
        *(["", "the best checkpoints:", *table] if table else []),
        "",
        "next:",
        *(f"  {command}" for command in advice(chosen, split, last.folder, plug_ins)),
    ]
    print(visible("\n".join(lines)), file=sys.stderr)


def advice(chosen: settings.Settings, split: str, run: str, plug_ins: str) -> list[str]:
    """Returns commands that work on what was trained.

    Args:
        chosen: the settings.
        split: a split to evaluate on.
        run: folder of a single run.
        plug_ins: the option --user-dir, with a blank before it, for each plug-in.
    """
    task: type[Task] = TASKS.get(chosen.task.name).load()
    folder, run = shlex.quote(chosen.run.folder), shlex.quote(run)
    masker = " --masker whole_word" if chosen.masker else ""
    commands = [
        *([f"tensorboard --logdir {folder}"] if chosen.run.tensorboard else []),
        f"taskmask evaluate --from {folder}{plug_ins} --split {split}{masker}",
    ]
    predict, record = f"taskmask predict --from {run}{plug_ins}", task.sample(chosen.task.options)
    if len(record) == 1:
        commands.append(f"{predict} {shlex.quote(*record.values())}")
    elif record:
        commands.append(f"echo {shlex.quote(json.dumps(record))} | {predict} --jsonl")
    elif task.default_masker:  # it masked nothing: it learned labels alone, with a head that is thrown away
        column = Dataset.open(chosen.data.path).split("train").column(chosen.task.options.label)
        tuned = "tagging" if column.kind == "aligned" else "classification"
        start = f"--task {tuned} --train.init_from {run}"
        commands.append(f"taskmask-train --data LABELLED --run runs/tuned {start}{plug_ins}")
    return commands
