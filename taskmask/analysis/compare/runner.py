"""An experiment from its file to its report: what is missing is trained and asked, what is done is taken as it is."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from taskmask.analysis.compare import predictions
from taskmask.analysis.compare.experiment_file import Experiment, read
from taskmask.analysis.compare.export import html, write_reports
from taskmask.analysis.compare.gathering import gather
from taskmask.analysis.compare.planner import Planner, Stage
from taskmask.analysis.compare.predictions import Answered, Question
from taskmask.analysis.compare.results import Results
from taskmask.analysis.compare.stage import Done, look, run_stage
from taskmask.analysis.reporting.html import frame
from taskmask.config.settings import RunSettings
from taskmask.errors import ConfigError, DivergedError, StorageError
from taskmask.stats.bootstrap import Measure
from taskmask.system.console import say
from taskmask.system.folders import refuse_links
from taskmask.system.json_input import read_json
from taskmask.training import distributed
from taskmask.training.auto_precision import begun_with
from taskmask.training.monitor.run_log import duration
from taskmask.training.run_folder import lock, write_json
from taskmask.training.train import notes

T = TypeVar("T")
OWN = ("experiment.json", "stages", "by-name", "report.html", "report.md", "report.csv")  # in its folder
TOLERANCE = 0.02  # of a budget, within which policies have the same


class Comparison(Results):
    """What an experiment found; shows itself as a page in a notebook."""

    def _repr_html_(self) -> str:
        return frame(html(self), self.name)


def compare(file: str | Path, folder: str | Path = "") -> Comparison:
    """Runs what is missing of an experiment, and writes its report; the same call again goes on where it stopped.

    Args:
        file: the experiment file.
        folder: where stages and report go; "": runs/NAME, after the stem of the file.

    Raises:
        TaskmaskError: something is wrong with the file, the data or a stage; a stage that diverges is a result.
    """
    planner, stages = plan(file, folder)
    experiment = planner.experiment
    is_first = os.environ.get("RANK", "0") == "0"
    with claimed(planner.folder, experiment) if is_first else contextlib.nullcontext():
        if is_first:
            for line in headlines(planner):
                say(line)
            name_folders(planner.folder / "by-name", stages)
        done = walk(stages, agreed(experiment.run, states(stages)), experiment, is_first)
        usable = [stage for stage in stages if (found := done.get(stage.digest)) and not found.failure]
        asked = [*predictions.of_tasks(planner, usable), *predictions.of_language_models(planner, usable)]
        measures = ask_all(asked, experiment.run, is_first)
        results = gather(planner, stages, done, list(zip(asked, measures, strict=True)))
        if is_first:
            write_reports(results, planner.folder)
    return Comparison(**{field.name: getattr(results, field.name) for field in dataclasses.fields(results)})


def plan(file: str | Path, folder: str | Path = "") -> tuple[Planner, list[Stage]]:
    """Reads an experiment and lists its stages; the arguments are those of `compare`."""
    experiment = read(file)
    planner = Planner(experiment, folder_of(file, folder))
    return planner, planner.stages()


def folder_of(file: str | Path, folder: str | Path = "") -> Path:
    """Returns where stages and report go; the arguments are those of `compare`."""
    return Path(folder or Path("runs") / Path(file).stem)


def states(stages: Sequence[Stage]) -> dict[str, Done]:
    """Returns {digest: what came of the stage} of those that are done."""
    found = {stage.digest: look(stage) for stage in stages}
    return {digest: done for digest, done in found.items() if done}


@contextlib.contextmanager
def claimed(folder: Path, experiment: Experiment) -> Iterator[None]:
    """Makes a folder this experiment's own for the time of a `with`.

    Raises:
        ConfigError: it is that of another experiment or of a run, or is at work.
    """
    if (folder / "settings.json").exists():
        raise ConfigError("holds a run, no experiment", where=f"--run {folder}", fix="name another folder")
    with lock(folder):
        refuse_links(folder, [*OWN, *(str(Path("stages", path.name)) for path in folder.glob("stages/*"))], "--run")
        record = folder / "experiment.json"
        file, before = str(Path(experiment.file).resolve()), {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            before = dict(read_json(record))
        if before.get("name", experiment.name) != experiment.name:
            what = f"holds experiment {before['name']!r}, and {experiment.file} is {experiment.name!r}"
            raise ConfigError(what, where=f"--run {folder}", fix="name another folder")
        if before.get("file", file) != file:
            say(f"warning: {folder} holds the report of {before['file']}, which this one replaces; else name --run DIR")
        write_json(record, {"name": experiment.name, "file": file, "experiment": experiment.tables})
        yield


def agreed(run: RunSettings, value: T) -> T:
    """Returns what the first process says, in all of them: they must walk the same way."""
    with distributed.joined(run) as (world, _), distributed.peers_watched(world):
        return world.collect(value)[0]  # type: ignore[no-any-return]


def headlines(planner: Planner) -> list[str]:
    """Returns what people should know before they wait."""
    experiment = planner.experiment
    lines = []
    if experiment.budget != "steps":
        of_baseline = planner.measured(planner.policies[experiment.baseline])
        total = of_baseline.cost(of_baseline.steps)
        spent = getattr(total, experiment.budget)
        amount = f"{total.flops:.3g} FLOPs" if experiment.budget == "flops" else f"{total.targets:,.0f} masked tokens"
        steps = ", ".join(f"{name} {one.train.steps:,}" for name, one in planner.policies.items())
        lines.append(f"each policy has {amount}, which are so many steps: {steps}")
        for name, one in planner.policies.items():
            share = getattr(planner.measured(one).cost(one.train.steps), experiment.budget) / spent
            if abs(share - 1) > TOLERANCE:
                why = f"since its steps are a multiple of points, {experiment.points}"
                lines.append(f"warning: {name} gets {100 * share:.0f} % of that, {why}")
    tasks = [experiment.finetuning(task, experiment.first) for task in experiment.tasks]
    settings = [*([] if experiment.start else [experiment.first]), *planner.policies.values(), *tasks]
    found = [note for one in settings for note in notes(planner.measured(one).parts)]
    return [*lines, *dict.fromkeys(found)]


def name_folders(folder: Path, stages: Sequence[Stage]) -> None:
    """Makes links to the folders of the stages, by what they are, for people and for TensorBoard."""
    with contextlib.suppress(OSError):  # a file system without links
        for parent, folders, files in os.walk(folder, topdown=False):
            for path in (Path(parent, name) for name in (*folders, *files)):
                if path.is_symlink():
                    path.unlink()
            with contextlib.suppress(OSError):  # something of people's own lies there
                os.rmdir(parent)
        for stage in stages:
            owner = f"policies/{stage.policy}" if stage.policy else "start"
            share = f"-{stage.share:g}" if stage.policy and stage.share < 1 else ""
            name = f"finetuning-{stage.task}{share}" if stage.task else "intermediate"
            link = folder / ("pretraining" if stage.kind == "pretraining" else f"{owner}/seed-{stage.seed}/{name}")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(stage.folder, link.parent))


def walk(stages: Sequence[Stage], done: dict[str, Done], experiment: Experiment, is_first: bool) -> dict[str, Done]:
    """Trains the stages that are not done, and returns what came of all but those whose predecessor has failed.

    Raises:
        DivergedError: the pre-training has diverged, on which all depends.
    """
    done, said = dict(done), set[str]()
    kept = begun_with(stage.folder for stage in stages if stage.settings.train.precision == "auto")
    unlike = list({stage.digest: stage for stage in stages}.values())
    left = [stage for stage in unlike if stage.digest not in done]
    if is_first:
        say(f"{len(unlike)} stages, {len(unlike) - len(left)} of them done before")
    began, spent, ahead = time.monotonic(), 0.0, sum(stage.planned.flops for stage in left)
    start = str(experiment.start.file) if experiment.start else ""
    for number, stage in enumerate(unlike, 1):
        is_cut_off = stage.before and _failed(stage.before, done)
        if stage.digest not in done and not is_cut_off:
            if is_first:
                _announce(f"[{number}/{len(unlike)}] {stage.title}", stage, time.monotonic() - began, spent, ahead)
            done[stage.digest] = run_stage(stage, start, kept, said, is_first)
            spent += stage.planned.flops
            if is_first and done[stage.digest].failure:
                say(f"warning: {stage.title} has failed: {done[stage.digest].failure}")
        if stage in left:
            ahead -= stage.planned.flops
        if stage.kind == "pretraining" and _failed(stage, done):
            raise DivergedError(done[stage.digest].failure, where="[pretrain]", fix="all the rest depends on it")
    return done


def _failed(stage: Stage, done: dict[str, Done]) -> bool:
    return stage.digest not in done or bool(done[stage.digest].failure)


def _announce(title: str, stage: Stage, passed: float, spent: float, ahead: float) -> None:
    """Says which stage begins, and how long it all may take yet, by the operations that were done until now."""
    told = spent > ahead / 200  # before, it was mostly the start of the program
    left = f"; {duration(passed)} passed, about {duration(passed * ahead / spent)} left" if told else ""
    say(f"{title}: {stage.planned.updates:,.0f} steps{left}")


def ask_all(questions: Sequence[Question], run: RunSettings, is_first: bool) -> list[Measure]:
    """Returns the measure of each question; asks the models whose answers are not kept."""
    answered = Answered()
    kept = {number: answered.kept(question) for number, question in enumerate(questions)}
    there = set(agreed(run, [number for number, measure in kept.items() if measure]))
    found = []
    is_shown = is_first and len(there) < len(questions)
    if is_shown:
        say(f"asking {len(questions) - len(there)} times what a model answers")
    with tqdm(total=len(questions), unit="model", disable=not (is_shown and sys.stderr.isatty()), leave=False) as bar:
        for number, question in enumerate(questions):
            measure = kept[number] if number in there else answered.ask(question, is_first)
            if measure is None:
                where = str(answered.file_of(question))
                raise StorageError("is not there in all processes", where=where, fix="use a disk that all share")
            found.append(measure)
            bar.update()
    return found
