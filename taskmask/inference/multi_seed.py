"""The same training with several seeds, and what came of it: means, deviations and intervals over runs and examples."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskmask.config import Assignment
from taskmask.config.settings import Settings
from taskmask.data.dataset import Dataset
from taskmask.errors import ConfigError, DataError
from taskmask.inference import loaded_model
from taskmask.inference.evaluate import Evaluation, examine
from taskmask.stats.bootstrap import OverRuns, seed_intervals
from taskmask.system.console import say
from taskmask.system.folders import refuse_links
from taskmask.system.json_input import read_json
from taskmask.system.json_output import json_types
from taskmask.training.auto_precision import begun_with, with_precision
from taskmask.training.run_folder import write_json
from taskmask.training.train import Summary, train

ENOUGH_SEEDS = 5  # below, Student's t makes intervals much wider than the normal distribution would


def unfinished(runs: Sequence[str]) -> list[str]:
    """Returns those run folders that are still at work, were killed, or ended with an error."""
    found = []
    for run in runs:
        file = Path(run) / "exit.json"
        begun = (Path(run) / "settings.json").exists() and (Path(run) / "log.jsonl").exists()
        if begun and not _is_done(file):
            found.append(run)
    return found


def _is_done(file: Path) -> bool:
    """Whether exit.json says that a run has ended well."""
    try:
        return bool(read_json(file)["exit_code"] == 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def train_seeds(settings: Settings, seeds: Sequence[int], *, restart: bool = False) -> list[Summary]:
    """Trains once with each seed, in the folders seed-1, seed-2, ... of the run folder; those that are done stay.

    Args:
        settings: all settings; `train.seed` is replaced.
        seeds: the seeds, no two alike.
        restart: begin each anew.

    Raises:
        ConfigError: a seed is given twice, or there is no run folder.
    """
    folder = settings.run.folder
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"names a seed twice: {' '.join(map(str, seeds))}", where="train.seed")
    if not folder:
        raise ConfigError("no run folder is named", where="--run", fix="add --run DIR")
    if (Path(folder) / "settings.json").exists():
        raise ConfigError("holds a run of one seed", where=f"--run {folder}", fix="name another folder")
    refuse_links(Path(folder), [f"seed-{seed}" for seed in seeds], "--run")
    if settings.train.precision == "auto" and not restart:  # all seeds in the same
        kept = begun_with(Path(folder) / f"seed-{seed}" for seed in seeds)
        settings = with_precision(settings, kept or "auto")
    summaries = []
    for seed in seeds:
        run = dataclasses.replace(settings.run, folder=str(Path(folder) / f"seed-{seed}"))
        one = dataclasses.replace(settings, run=run, train=dataclasses.replace(settings.train, seed=seed))
        summaries.append(train(one, restart=restart))
    return summaries


@dataclasses.dataclass(frozen=True)
class Reached:
    """What runs reached on a split.

    Args:
        split: its name.
        rows: its rows.
        metrics: {metric: mean, deviation and interval}.
        results: what `evaluate` says of each run, without intervals.
        notes: what people should know of the rows and the metrics.
        notes_on_metrics: those of them that are about the metrics.
        examples: how many the intervals are over; 0 if there are no intervals.
    """

    split: str
    rows: int
    metrics: dict[str, OverRuns]
    results: list[dict[str, Any]]
    notes: tuple[str, ...] = ()
    notes_on_metrics: tuple[str, ...] = ()
    examples: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON types; what is not finite is None."""
        metrics = {name: dataclasses.asdict(found) for name, found in self.metrics.items()}
        return {"split": self.split, "rows": self.rows, "metrics": json_types(metrics)}


def evaluate_runs(
    runs: Sequence[str],
    data: str | Mapping[str, Any] = "",
    split: str = "valid",
    overrides: Iterable[Assignment] = (),
    advance: Callable[[int], Any] = lambda rows: None,
    **sections: Any,
) -> Reached:
    """Evaluates the best checkpoints of runs on the same split; the arguments are those of `evaluate`.

    The interval is over runs and examples at once, with one run over examples. It is undefined if the task gives no
    answers of single examples, and for a loss that the criterion does not give of single targets.
    """
    given = list(overrides)
    found: list[Evaluation] = [examine(run, data, split, given, advance, **sections) for run in runs]
    results = [one.result for one in found]
    measures = [one.measure for one in found if one.measure]
    notes = tuple(dict.fromkeys(note for one in found for note in one.notes))  # most are those of every run
    of_metrics = tuple(dict.fromkeys(note for one in found for note in one.notes_on_metrics))
    metrics = seed_intervals(measures) if measures else {}
    for name in found[0].metrics:
        if name not in metrics or math.isnan(metrics[name].mean):
            values = tuple(one.metrics[name] for one in found)
            deviation = statistics.stdev(values) if len(values) > 1 else math.nan
            metrics[name] = OverRuns(statistics.fmean(values), deviation, math.nan, math.nan, values)
    examples = measures[0].size if measures else 0
    return Reached(split, results[0]["rows"], metrics, results, notes, of_metrics, examples)


def report(runs: Sequence[str], data: str, folder: str, splits: Sequence[str] = ("valid", "test")) -> list[Reached]:
    """Evaluates runs on the splits that the dataset has, and writes the figures into summary.json of the folder."""
    reached: list[Reached] = []
    if not loaded_model.load(runs[0]).has_its_data():
        say(f"warning: nothing is measured: {data} is not what was trained on any more; see taskmask evaluate --data")
        splits = ()
    known = Dataset.open(data).splits if splits else {}
    for split in splits:
        try:
            reached += [evaluate_runs(runs, split=split)] if split in known else []
        except DataError as error:  # such as a test split without labels: no reason to lose the others
            say(f"note: split {split} is not measured: {error}")
    for note in (note for one in reached for note in one.notes_on_metrics):  # those on the rows came before training
        say(note)
    checkpoints = [Path(result["checkpoint"]).name for result in reached[0].results] if reached else []
    content = {
        "runs": [Path(run).name for run in runs],
        "checkpoints": checkpoints,
        "splits": [one.to_dict() for one in reached],
    }
    write_json(Path(folder) / "summary.json", content)
    return reached


def table(reached: Sequence[Reached]) -> list[str]:
    """Returns the figures as lines of a table for people, and below it how the intervals were made."""
    rows: list[tuple[str, ...]] = [("split", "metric", "mean", "deviation", "95 % interval", "runs")]
    for one in reached:
        for name, found in one.metrics.items():
            runs = " ".join(f"{value:.4f}" for value in found.runs) if len(found.runs) > 1 else "1"
            deviation = "" if math.isnan(found.deviation) else f"{found.deviation:.4f}"
            interval = f"{found.low:.4f} to {found.high:.4f}" if math.isfinite(found.low) else "undefined"
            mean = f"{found.mean:.4f}" if math.isfinite(found.mean) else "undefined"
            rows.append((one.split, name, mean, deviation, interval, runs))
    if all(not row[3] for row in rows[1:]):  # one run
        rows = [(row[0], row[1], row[2].replace("mean", "value"), row[4]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, *how_made(reached)]


def how_made(reached: Sequence[Reached]) -> list[str]:
    """Returns the rule of the intervals, and a warning if there are few seeds."""
    examples = ", ".join(f"{one.examples:,} examples of {one.split}" for one in reached if one.examples)
    if not examples:
        return []
    seeds = len(reached[0].results)
    over = f"{seeds} seeds and " if seeds > 1 else ""
    lines = [
        f"95 % intervals over {over}{examples}: Clopper-Pearson for the effective number",
        "of examples (Korn and Graubard 1998), from 1,000 bootstrap samples; of losses, on a logarithmic scale",
    ]
    if 1 < seeds < ENOUGH_SEEDS:
        degrees = f"Student's t with {seeds - 1} degree{'s' * (seeds > 2)} of freedom"
        lines.append(f"note: {seeds} seeds are few: the intervals rest on {degrees}; train five or more")
    return lines
