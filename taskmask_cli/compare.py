"""taskmask compare: one experiment file, one report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskmask.errors import visible
from taskmask.system.json_output import to_json
from taskmask_cli.options import Parser, add_user_dir, is_first, load_user_dirs

if TYPE_CHECKING:
    from taskmask.analysis.compare.planner import Stage
    from taskmask.analysis.compare.results import Results, Scores

DESCRIPTION = """Compares masking policies as one experiment file says: pre-training (or a checkpoint), an intermediate
stage with each policy, fine-tuning on labelled datasets, all with several seeds and the same budget. Writes
report.html, report.csv and report.md. Each stage is a folder named by the hash of what it depends on: the same command
again goes on where it stopped, and after a change trains only what depends on it."""

EPILOG = """an experiment file:
  seeds = [1, 2, 3]
  baseline = "uniform"          # the policy that the others are compared with
  budget = "steps"              # equal for all policies: steps, targets (tokens masked) or flops
  points = 2                    # fine-tune after each half of the intermediate stage, for the learning curves

  [pretrain]                    # the settings of a training, or from = "runs/general"
  data = "data-bin"
  train = { steps = 300 }

  [intermediate]                # what the intermediate stages of all policies share; data and model are those before
  train = { steps = 200 }

  [policies.uniform]            # a policy and any other settings of its stage
  masker = "uniform"
  [policies.spans]
  masker = { name = "span", p = 0.3 }

  [tasks.topic]                 # fine-tuning, reported on test, or on split = "valid"; tasks share [finetune]
  task = { name = "classification", label = "topic" }
  data = "topics-bin"
  train = { epochs = 3 }

  [run]                         # section run of all stages
  threads = 2

examples:
  taskmask compare experiment.toml --dry-run
  taskmask compare experiment.toml
  torchrun --nproc-per-node 8 -m -- taskmask_cli.main compare experiment.toml --run runs/policies

with several processes, train.micro_batches_per_step of every stage must be a multiple of their number; a stage that
diverges is reported and the rest goes on; exit codes are those of taskmask train"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs an experiment, or tells what it would do."""
    parser = Parser("taskmask compare", DESCRIPTION, EPILOG)
    parser.add_argument("file", metavar="FILE", help="the experiment, a TOML or JSON file")
    parser.add_argument("--run", default="", metavar="DIR", help="folder of stages and report [runs/ and FILE's name]")
    parser.add_argument("--dry-run", action="store_true", help="check everything; print stages, steps and costs")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_user_dir(parser)
    options = parser.parse_all(argv)
    load_user_dirs(options)

    from taskmask.analysis.compare import runner as engine

    if options.dry_run:
        _, stages = engine.plan(options.file, options.run)
        done = engine.states(stages)
        listed = [_planned(stage, done) for stage in {stage.digest: stage for stage in stages}.values()]
        if is_first():
            print(to_json({"stages": listed})) if options.json else print(visible("\n".join(_table(listed))))
        return 0
    folder = engine.folder_of(options.file, options.run)
    results = engine.compare(options.file, folder)
    if not is_first():
        return 0
    if options.json:
        print(to_json(_record(results, folder)))
        return 0

    from taskmask.analysis.compare.export import summary_lines

    hints = [f"report        {folder}/report.html (also .md and .csv)", f"stages        {folder}/by-name"]
    hints.append(f"curves        tensorboard --logdir {shlex.quote(str(folder / 'by-name'))}")
    print(visible("\n".join([*summary_lines(results), "", *hints])))
    return 0


def _planned(stage: Stage, done: dict[str, Any]) -> dict[str, Any]:
    """Returns what a stage is, what came of it and what it costs, planned where it is still to be trained."""
    came = done.get(stage.digest)
    state = "to do" if came is None else "failed" if came.failure else "done"
    cost = came.cost if came else stage.planned
    figures = {name: round(getattr(cost, name)) for name in ("updates", "tokens", "targets", "flops", "seconds")}
    return {"stage": stage.title, "state": state, **figures, "folder": str(stage.folder)}


def _table(listed: list[dict[str, Any]]) -> list[str]:
    """Returns the stages as lines for people."""
    from taskmask.system.text_tables import aligned

    rows = [("stage", "state", "steps", "tokens", "targets", "FLOPs")]
    for one in listed:
        counts = (f"{one[name]:,}" for name in ("updates", "tokens", "targets"))
        rows.append((one["stage"], one["state"], *counts, f"{one['flops']:.2e}"))
    left = [one for one in listed if one["state"] == "to do"]
    return [
        *aligned(rows, range(2, 6)),
        "",
        f"{len(listed)} stages, {len(left)} to do: {sum(one['flops'] for one in left):.2e} FLOPs",
    ]


def _record(results: Results, folder: Path) -> dict[str, Any]:
    """Returns the values of an experiment and where its reports lie, as `to_json` takes them."""

    def values(one: Scores, metric: str) -> dict[str, Any]:
        found = {str(seed): measure.value()[metric] for seed, measure in one.measures.items()}
        return {"of": one.of, "policy": one.policy, "share": one.share, "metric": metric, "seeds": found}

    from taskmask.analysis.compare.verdicts import shown

    metrics = {asked.name: asked.metric for asked in results.tasks}
    return {
        "experiment": results.name,
        "baseline": results.baseline,
        "scores": [values(one, metrics[one.of]) for one in results.scores],
        "language_models": [values(one, "loss") for one in results.language_models],
        "failures": [f"{one.stage} {shown(one.policy)}, seed {one.seed}: {one.message}" for one in results.failures],
        "reports": [str(folder / f"report.{kind}") for kind in ("html", "csv", "md")],
    }
