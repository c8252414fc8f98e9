"""All settings of a run, in sections: data, train, optim, run, and the chosen task, model, criterion and masker.

What changes the result stands in `data`, `train`, `optim` and the components. What must not (the folder, workers,
intervals of logs; device, threads and compilation up to rounding) stands in `run`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from taskmask import config
from taskmask.config.fields import Assignment, Problems, opt
from taskmask.config.run_paths import from_their_homes
from taskmask.errors import ConfigError, did_you_mean
from taskmask.registry import REGISTRIES, Entry
from taskmask.system.hardware import MOST_THREADS


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """The binarized dataset, and how its stream of tokens is cut into rows."""

    path: str = opt("", "folder made by taskmask-preprocess; a relative one of a saved run leads from where it began")
    length: int = opt(128, "tokens in the longest row, <s> and </s> included")
    blocks: Literal["complete", "document", "sentence"] = opt(
        "complete",
        "complete: full blocks across document borders; document: blocks within a document, the last one shorter; "
        "sentence: a stored line, cut where it is longer than a block",
    )

    def __post_init__(self) -> None:
        problems = Problems()
        problems.check(self.length >= 3, f"is {self.length}", where="data.length", expected="at least 3 tokens")
        problems.raise_any()


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How long and on what the model is trained. All of it changes the result."""

    steps: int = opt(10_000, "optimizer updates in the whole run")
    epochs: float = opt(0.0, "passes over the training rows, which then give train.steps; 0 = train.steps counts")
    seed: int = opt(1, "seed of the weights, the order of rows, the masks and dropout; several: a run with each")
    max_tokens: int = opt(4096, "tokens in a micro-batch, padding and all views of a row included")
    micro_batches_per_step: int = opt(1, "micro-batches in one update, counted over all processes")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = opt(
        "fp32",
        "number format of the forward and backward pass; auto = bf16 where that is faster here, else fp32",
    )
    init_from: str = opt("", "run folder or checkpoint to take the weights, and model settings not given, from")
    valid_every: int | None = opt(
        None, "steps between validations; none = 500, with train.epochs once an epoch; 0 = only at the end"
    )
    metric: str = opt("", "metric that picks the best checkpoint and stops early; none = the task's own")
    patience: int = opt(0, "stop after this many validations without a better train.metric; 0 = never")
    ema: float = opt(
        0.0, "decay of the average of the weights after each update, which is validated and saved; 0 = none"
    )
    max_bad_steps: int = opt(
        20,
        "steps in a row that end the run when skipped: not finite, spikes, no memory; or first ones without a target",
    )
    skip_spikes: float = opt(0.0, "skip steps whose gradient is this many deviations above the last 128; 0 = none")

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("steps", "max_tokens", "micro_batches_per_step", "max_bad_steps"):
            value = getattr(self, name)
            problems.check(value >= 1, f"is {value}", where=f"train.{name}", expected="at least 1")
        for name in ("seed", "epochs", "valid_every", "patience", "skip_spikes"):
            value = getattr(self, name)
            problems.check(value is None or value >= 0, f"is {value}", where=f"train.{name}", expected="0 or more")
        problems.check(0 <= self.ema < 1, f"is {self.ema}", where="train.ema", expected="at least 0 and below 1")
        problems.check(
            not self.patience or self.valid_every != 0,
            f"is {self.patience}, but there are no validations before the end",
            where="train.patience",
            fix="set train.valid_every",
        )
        problems.raise_any()


@dataclasses.dataclass(frozen=True)
class OptimSettings:
    """AdamW and the course of its learning rate."""

    lr: float = opt(5e-4, "highest learning rate")
    schedule: Literal["linear", "cosine", "inverse_sqrt", "polynomial", "constant"] = opt(
        "linear", "course of the learning rate after the warm-up"
    )
    warmup_steps: int | None = opt(None, "steps of linear warm-up; none = 6 % of train.steps")
    lr_end: float = opt(0.0, "rate that linear, cosine and polynomial fall to, reached one step after the last")
    power: float = opt(2.0, "exponent of the polynomial schedule")
    weight_decay: float = opt(0.01, "decoupled weight decay of the matrices; norms and biases have none")
    beta1: float = opt(0.9, "decay of the first moment")
    beta2: float = opt(0.98, "decay of the second moment")
    epsilon: float = opt(1e-6, "term added to the denominator")
    clip: float = opt(1.0, "largest norm of the gradient; 0 = no clipping")
    layer_decay: float = opt(
        1.0, "factor of the learning rate from each layer to the one below it, twice from the heads down; 1 = none"
    )
    freeze: int | None = opt(None, "lowest layers that are not trained, with the embeddings; 0 = embeddings alone")

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("lr", "epsilon", "power"):
            value = getattr(self, name)
            problems.check(value > 0, f"is {value}", where=f"optim.{name}", expected="more than 0")
        for name in ("lr_end", "weight_decay", "clip"):
            value = getattr(self, name)
            problems.check(value >= 0, f"is {value}", where=f"optim.{name}", expected="0 or more")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            problems.check(0 <= value < 1, f"is {value}", where=f"optim.{name}", expected="at least 0 and below 1")
        decay = self.layer_decay
        problems.check(0 < decay <= 1, f"is {decay}", where="optim.layer_decay", expected="above 0, at most 1")
        for name in ("warmup_steps", "freeze"):
            value = getattr(self, name)
            problems.check(value is None or value >= 0, f"is {value}", where=f"optim.{name}", expected="0 or more")
        fits = self.lr_end <= self.lr or self.lr <= 0
        problems.check(fits, f"is {self.lr_end}", where="optim.lr_end", expected=f"at most optim.lr {self.lr}")
        ends = self.schedule in ("linear", "cosine", "polynomial") or not self.lr_end
        problems.check(ends, f"is {self.lr_end}", where="optim.lr_end", expected=f"none with {self.schedule}")
        problems.raise_any()


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Where the run lives and how it is computed; device, threads and compile change the result by rounding at most."""

    folder: str = opt("", "folder of the run: checkpoints, logs, settings; the same command again resumes")
    device: str = opt("auto", "auto, cpu, cuda or cuda:N")
    threads: int = opt(
        0, "CPU threads of each process; 0 = OMP_NUM_THREADS, else cores divided by the processes of this machine"
    )
    workers: int = opt(0, "processes that prepare batches; 0 = in the training process, right on a CPU")
    compile: bool = opt(False, "compile the model with torch.compile: slower start, faster steps")
    log_every: int = opt(50, "steps between lines of the log")
    save_every: int = opt(1000, "steps between checkpoints; the last step is always saved")
    keep_last: int = opt(2, "newest checkpoints to keep")
    keep_every: int = opt(0, "checkpoints of the steps that this divides are kept, too; 0 = none")
    keep_best: int = opt(1, "best checkpoints, by train.metric, to keep")
    tensorboard: bool = opt(True, "write TensorBoard files into the run folder")
    timeout_minutes: float = opt(30.0, "how long a process waits for another, or for a batch, before it gives up")
    stop_after_minutes: float = opt(0.0, "time after which the run saves and stops, to be gone on with; 0 = never")

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("log_every", "save_every", "keep_last"):
            value = getattr(self, name)
            problems.check(value >= 1, f"is {value}", where=f"run.{name}", expected="at least 1")
        for name in ("threads", "workers"):
            value = getattr(self, name)
            expected = f"0 to {MOST_THREADS:,}"
            problems.check(0 <= value <= MOST_THREADS, f"is {value}", where=f"run.{name}", expected=expected)
        for name in ("keep_every", "keep_best", "stop_after_minutes"):
            value = getattr(self, name)
            problems.check(value >= 0, f"is {value}", where=f"run.{name}", expected="0 or more")
        problems.check(
            self.timeout_minutes > 0, f"is {self.timeout_minutes}", where="run.timeout_minutes", expected="more than 0"
        )
        problems.raise_any()


@dataclasses.dataclass(frozen=True)
class Component:
    """A chosen component: its registered name and its options."""

    name: str
    options: Any


FIXED = {"data": DataSettings, "train": TrainSettings, "optim": OptimSettings, "run": RunSettings}
MAIN_FIELD = {"data": "path", "run": "folder"}
SECTIONS = ("data", "run", "task", "model", "masker", "criterion", "train", "optim")
DEFAULT_TASK = "masked_lm"


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run, frozen. `masker` is None where the task masks nothing."""

    data: DataSettings
    run: RunSettings
    task: Component
    model: Component
    masker: Component | None
    criterion: Component
    train: TrainSettings
    optim: OptimSettings

    @staticmethod
    def of(tables: Mapping[str, Any] | None = None, **sections: Any) -> Settings:
        """Makes settings in Python: `Settings.of(data="bin", run="runs/a", masker="span", train={"steps": 100})`.

        `sections` win over `tables`: `Settings.of(settings.to_dict(), optim={"lr": 1e-4})` changes one setting.

        Raises:
            ConfigError: says all that is wrong with them.
        """
        given = [*config.from_tables(tables or {}, "Settings.of, tables"), *config.from_tables(sections, "Settings.of")]
        return parse(inherit(given))

    def to_dict(self) -> dict[str, Any]:
        """Returns the complete settings as JSON types, which `--config` and `Settings.of` take back unchanged."""
        tables = {}
        for section in SECTIONS:
            value = getattr(self, section)
            if isinstance(value, Component):
                tables[section] = {"name": value.name, **config.to_dict(value.options)}
            elif value is not None:
                tables[section] = config.to_dict(value)
        return tables

    def choices(self) -> dict[str, Any]:
        """Returns {"section.field": value} of what tells runs apart: names of components, and what is no default."""
        chosen = {}
        for section in SECTIONS:
            value = getattr(self, section)
            if value is None or section == "run":
                continue
            options, defaults = value, None
            if isinstance(value, Component):
                entry = REGISTRIES[section].get(value.name)
                options, defaults = value.options, entry.config(**entry.preset)
                chosen[section] = value.name
            defaults = defaults or FIXED[section]()
            fields = [f for f in config.fields_of(type(options)) if getattr(options, f) != getattr(defaults, f)]
            chosen |= {f"{section}.{field}": getattr(options, field) for field in fields}
        return chosen


def parse(assignments: Iterable[Assignment]) -> Settings:
    """Makes the settings from assignments, later ones winning.

    Raises:
        ConfigError: everything that is wrong, at once.
    """
    problems = Problems()
    unknown: list[Assignment] = []
    values = _by_section(assignments, unknown)
    chosen = choose(values, problems)
    for assignment in unknown:
        problems.add(
            f"unknown option {assignment.key}",
            where=assignment.source,
            expected=f"a section: {', '.join(SECTIONS)}",
            fix=_nearest(assignment.key, chosen),
        )
    sections: dict[str, Any] = {
        section: config.build(cls, values[section], section, problems) for section, cls in FIXED.items()
    }
    for section, entry in chosen.items():
        options = entry and config.build(entry.config, values[section], section, problems, **entry.preset)
        sections[section] = entry and Component(entry.name, options)
    contradictions(problems, sections["data"], sections["train"], sections["optim"])
    problems.raise_any()
    if not chosen["task"].load().masks(sections["task"].options):  # type: ignore[union-attr]
        sections["masker"] = None
    return Settings(**sections)


def inherit(assignments: list[Assignment]) -> list[Assignment]:
    """Puts the model settings and the row length of the run that `train.init_from` names before the assignments.

    Once a run has begun they are those that it began with, wherever its source may have gone. A source that cannot be
    read gives none: what is wrong with it is said where its weights are read.

    Paths in the settings.json of a run that began elsewhere lead from here: see `run_paths`.
    """
    assignments = from_their_homes(assignments)
    given = {a.key: str(a.value) for a in assignments}
    source, folder = given.get("train.init_from", ""), Path(given.get("run.folder", given.get("run", "")) or os.devnull)
    path = Path(source)
    home = path if path.is_dir() else path.parent.parent if path.parent.name == "checkpoints" else path.parent
    own = [folder, *sorted(folder.glob("seed-*"))]
    for file in [run / "settings.json" for run in (*own, home)] if source else []:
        try:
            found = config.read_file(file) if file.is_file() else []
        except ConfigError:
            continue
        if any(a.key == "train.init_from" and a.value == source for a in found) or (found and file.parent == home):
            return [*(a for a in found if a.key.startswith("model.") or a.key == "data.length"), *assignments]
    return assignments


def contradictions(
    problems: Problems, data: DataSettings | None, train: TrainSettings | None, optim: OptimSettings | None
) -> None:
    """Notes settings of different sections that do not go together; None is a section that is wrong in itself."""
    if data and train:
        problems.check(
            train.max_tokens >= data.length,
            f"is {train.max_tokens}",
            where="train.max_tokens",
            expected=f"at least data.length, {data.length}",
        )
    if train and optim and optim.warmup_steps and not train.epochs:
        problems.check(
            optim.warmup_steps < train.steps,
            f"is {optim.warmup_steps}",
            where="optim.warmup_steps",
            expected=f"fewer than train.steps, {train.steps}",
        )


def choose(values: dict[str, dict[str, Assignment]], problems: Problems) -> dict[str, Entry | None]:
    """Takes the names of the components out of `values`; the task gives the defaults of the others.

    Returns:
        {section: its component}; None where the name is wrong, and for the masker of a task that masks nothing.
    """

    def entry_of(section: str, default: str | None) -> Entry | None:
        given = values[section].pop("name", None)
        if given and not isinstance(given.value, str):
            names = ", ".join(REGISTRIES[section].names())
            problems.add(f"{section} {config.said(given)}", where=given.source, expected=f"one of {names}")
            return None
        name = given.value if given else default
        try:
            return REGISTRIES[section].get(name) if name is not None else None
        except ConfigError as error:
            problems.take(error)
            return None

    task = entry_of("task", DEFAULT_TASK)
    cls: Any = task and task.load()
    if task and cls.default_masker is None and values["masker"]:
        problems.add(f"task {task.name} masks nothing", where="--masker", fix="leave the masker out")
        values["masker"].clear()
    return {
        "task": task,
        "model": entry_of("model", cls and cls.default_model),
        "criterion": entry_of("criterion", cls and cls.default_criterion),
        "masker": entry_of("masker", cls and cls.default_masker),
    }


def _by_section(assignments: Iterable[Assignment], unknown: list[Assignment]) -> dict[str, dict[str, Assignment]]:
    """Returns {section: {field: assignment}}; what belongs to no section goes into `unknown`.

    "--section VALUE" is filed under the section's name or main field. Choosing another component drops the options that
    came with the earlier choice, another task also the criterion and masker of the file that named the earlier one;
    flags outlive a choice that was made in a file.
    """
    values: dict[str, dict[str, Assignment]] = {section: {} for section in SECTIONS}
    for assignment in assignments:
        section, _, field = assignment.key.partition(".")
        if section not in values:
            unknown.append(assignment)
            continue
        field = field or MAIN_FIELD.get(section, "name")
        known = values[section]
        earlier = known.get("name")
        if field == "name" and earlier and earlier.value != assignment.value:
            of_file = not earlier.source.startswith("--")
            values[section] = known = {f: a for f, a in known.items() if of_file and a.source.startswith("--")}
            if section == "task" and of_file:  # the criterion and masker of that file went with its task
                for other in ("criterion", "masker"):
                    values[other] = {f: a for f, a in values[other].items() if a.source != earlier.source}
        known[field] = assignment
    return values


def _nearest(key: str, chosen: Mapping[str, Entry | None]) -> str:
    """Returns the hint for an option that is in no section: the setting of that name, or the nearest key."""
    classes = {**FIXED, **{section: entry.config for section, entry in chosen.items() if entry}}
    keys = [f"{section}.{field}" for section, cls in classes.items() for field in config.fields_of(cls)]
    same = [full for full in keys if full.partition(".")[2] == key]
    return f"did you mean {same[0]!r}?" if same else did_you_mean(key, [*SECTIONS, *keys])


def help_text(assignments: Iterable[Assignment]) -> str:
    """Returns the options of every section, with those of the components chosen in `assignments`.

    Raises:
        ConfigError: a component is unknown.
    """
    problems = Problems()
    chosen = choose(_by_section(assignments, []), problems)
    problems.raise_any()
    parts = []
    for section in SECTIONS:
        if cls := FIXED.get(section):
            headline = f"{section}: " + (cls.__doc__ or "").split("\n")[0]
            lines = config.help_lines(cls, section, MAIN_FIELD.get(section, ""))
        elif entry := chosen[section]:
            names = f"one of {', '.join(REGISTRIES[section].names())} [{entry.name}]"
            headline = f"{section} {entry.name}: {entry.headline}"
            lines = config.two_columns(f"--{section} NAME", names)
            lines += config.help_lines(entry.config, section, **entry.preset)
        else:
            continue
        parts.append("\n".join(["\n" + headline, *lines]))
    return "\n".join(parts)
