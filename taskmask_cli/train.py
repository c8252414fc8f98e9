"""taskmask-train: from a binarized dataset to a trained model."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskmask import config, settings
from taskmask.errors import visible
from taskmask_cli.options import Parser, add_user_dir, is_first

if TYPE_CHECKING:
    from taskmask.training.run import Summary

DESCRIPTION = """Trains a model on a dataset made by taskmask-preprocess.

The same command again goes on where it stopped, to the same bits. Settings are --section.field VALUE, or tables of a
TOML file given with --config; later ones win. Below are all settings, with those of the components chosen on this
command line: add --masker span, say, to see its options."""

EPILOG = """examples:
  taskmask-train --data data-bin --run runs/first
  taskmask-train --data data-bin --run runs/spans --masker span --masker.ratio 0.2 --model base --train.precision bf16
  taskmask-train --config runs/first/settings.json --run runs/second --optim.lr 1e-4
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
        print_help(parser, assignments)
        return 0
    chosen = settings.parse(assignments)
    if options.dry_run:
        from taskmask.training.dryrun import dry_run

        lines = dry_run(chosen)
        if is_first():
            print(visible("\n".join(lines)))
        return 0

    from taskmask.training.run import train

    summary = train(chosen, restart=options.restart)
    print_summary(summary, chosen, "".join(f" --user-dir {shlex.quote(path)}" for path in options.user_dir))
    return 0


def print_help(parser: Parser, assignments: list[config.Assignment]) -> None:
    """Prints the settings between argparse's options and the examples."""
    parser.usage = "%(prog)s --data DIR --run DIR [--SECTION NAME] [--SECTION.FIELD VALUE] [--config FILE] [OPTION]"
    parser.epilog = None
    print(parser.format_help().rstrip())
    print("  --config FILE    settings from a TOML or JSON file, such as the settings.json of a run; may be repeated")
    print(settings.help_text(assignments))
    print("\n" + EPILOG)


def print_summary(summary: Summary, chosen: settings.Settings, plug_ins: str) -> None:
    """Prints what was reached, where it lies, and what to do next; in the first process only."""
    if not is_first():
        return
    from taskmask.training.log import duration

    figures = "  ".join(f"{name} {value:.4g}" for name, value in summary.metrics.items()) or "no validation split"
    lines = [
        "",
        f"trained       {summary.step:,} steps, {summary.tokens:,} tokens, {summary.parameters:,} parameters"
        + (f", {summary.skipped_steps} steps skipped" if summary.skipped_steps else ""),
        f"took          {duration(summary.seconds)}",
        f"validation    {figures}",
        f"best          {summary.best_checkpoint}",
        f"log           {summary.folder}/log.jsonl",
        "",
        "next:",
        f"  tensorboard --logdir {summary.folder}",
        f"  taskmask evaluate --from {summary.folder}{plug_ins} --split valid --masker whole_word",
    ]
    if chosen.task.name == "masked_lm":
        lines.append(f'  taskmask predict --from {summary.folder}{plug_ins} "Here a <mask> is missing."')
    print("\n".join(lines), file=sys.stderr)
