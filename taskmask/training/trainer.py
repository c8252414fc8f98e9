"""The loop: take the micro-batches of a step, sum losses and gradients, update, log, validate, save.

It knows no research idea: an objective gives sums, a task names metrics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import Settings
from taskmask.data.batch import Batch
from taskmask.errors import CheckpointError, DistributedError, DivergedError, Interrupted, StorageError
from taskmask.system.console import say
from taskmask.system.failpoints import reach
from taskmask.system.stop_request import StopRequest
from taskmask.training.build import DataParts
from taskmask.training.data_loader import BatchMaker, Ticket, batches, training_tickets, workers_watched
from taskmask.training.distributed import World, check_replicas
from taskmask.training.eval_loop import check_metric, find_over, guesses, metrics_of, undefined, value_of
from taskmask.training.monitor.run_log import RunLog
from taskmask.training.nan_debug import first_bad_place
from taskmask.training.objective import Objective
from taskmask.training.optim import SPIKE_WINDOW
from taskmask.training.precision import LossScaleAtFloor, autocast
from taskmask.training.state import Progress, check_targets, snapshot
from taskmask.training.train_step import Outcome, Updater


class Trainer:
    """Trains an objective on the rows of a dataset.

    Args:
        settings: the settings of the run.
        parts: dataset, vocabulary, task and rows.
        objective: model and criterion, on the device.
        world: this process among those of the run.
        device: where the objective lives.
    """

    def __init__(self, settings: Settings, parts: DataParts, objective: Objective, world: World, device: torch.device):
        self.settings, self.parts, self.world, self.device = settings, parts, world, device
        self.folder = Path(settings.run.folder)
        self.objective = objective
        if settings.run.compile:
            objective.model.compile()
        self.updater = Updater(settings, objective, world, device)
        self.progress = Progress()
        self.log: RunLog | None = None
        self.stop = StopRequest(settings.run.stop_after_minutes)
        self.log_began, self.log_tokens = time.monotonic(), 0
        self.alike_at = 0

    def fit(self) -> Progress:
        """Trains to the last step, from the last checkpoint if there is one.

        Raises:
            Interrupted: a signal came, or time is over; everything is saved.
            DivergedError: too many steps in a row were skipped.
        """
        self.resume()
        self.check_metric()
        is_there = (self.folder / "settings.json").exists()  # the first process has written it
        steps = self.world.gather(self.progress.position.step if is_there else -1)
        if len(set(steps)) > 1:
            raise DistributedError(
                f"the processes do not find the same run there, but those of steps {steps} (-1: none)",
                where=f"--run {self.folder}",
                fix="the run folder must be on a disk that all machines share",
            )
        if self.finished and not self._validation_is_due:
            self._say(f"already finished at step {self.progress.position.step}")
            return self.progress
        run, train = self.settings.run, self.settings.train
        start = self.progress.position.step
        if self.world.is_first:
            self.log = RunLog(self.folder, train.steps, start, self.progress.validated_step, run.tensorboard)
            if not start:
                tables = self.settings.to_dict()
                self.log.text("settings", [f"{s}.{f} = {v}" for s in tables for f, v in tables[s].items()], 0)
        try:
            with self.stop.watched(announce=self.world.is_first), workers_watched(self.settings.data.path):
                if self._validation_is_due:  # stopped just before it
                    self._conclude(start)
                self._loop()
            if self.log:
                self.log.hparams(self.settings.choices(), self.progress.validated)
        finally:
            if self.log:
                self.log.close()
        return self.progress

    def check_metric(self) -> None:
        """Tries, before anything is trained, whether there is the metric that is asked for."""
        if not self.progress.position.step:
            check_metric(self.parts, self.settings, self.objective, self.world, self.device)

    @property
    def finished(self) -> bool:
        """True after the last step, or where validation has not improved for too long."""
        return self.progress.position.step >= self.settings.train.steps or self._out_of_patience

    @property
    def metric(self) -> str:
        """The metric that picks the best checkpoint."""
        return self.settings.train.metric or self.parts.task.best

    @property
    def _out_of_patience(self) -> bool:
        patience = self.settings.train.patience
        return bool(patience) and self.progress.validations_without_best >= patience

    @property
    def _validation_is_due(self) -> bool:
        step, train = self.progress.position.step, self.settings.train
        on_time = step == train.steps or (train.valid_every and step % train.valid_every == 0)
        return bool(step and on_time and "valid" in self.parts.sources and self.progress.validated_step != step)

    def _loop(self) -> None:
        for micro_batches in self.steps():
            self.step(micro_batches)
            step = self.progress.position.step
            if step % self.settings.run.log_every == 0 or step == self.settings.train.steps:
                self._log_training(step)
            self._conclude(step)
            if self.log:
                self.log.advance()
            if self._out_of_patience:
                self._say(f"stopping early: {self.settings.train.patience} validations without a better one")
                return

    def _conclude(self, step: int) -> None:
        """Validates and saves where it is time to."""
        run = self.settings.run
        improved = self._validation_is_due and self._validate_safely(step)
        if self.finished or step % run.save_every == 0 or (improved and run.keep_best):
            self._save()

    def steps(self) -> Iterator[list[tuple[Ticket, Batch]]]:
        """Yields the micro-batches of this process, step by step."""
        train, task, source = self.settings.train, self.parts.task, self.parts.sources["train"]
        world, position = self.world, self.progress.position
        tickets = training_tickets(
            source.lengths, self.settings, task.views, position, world.rank, world.size, task.turns
        )
        stream = batches(tickets, BatchMaker(self.parts, "train", self.settings), self.device)
        share = train.micro_batches_per_step // self.world.size
        group: list[tuple[Ticket, Batch]] = []
        for item in stream:
            group.append(item)
            if len(group) == share:
                yield group
                group = []

    def step(self, micro_batches: list[tuple[Ticket, Batch]]) -> None:
        """Does one update, or skips it where it would do harm; the same in every process."""
        progress = self.progress
        step = progress.position.step + 1
        reach("step.begin")
        counts, tokens = self._agree(micro_batches, step)
        try:
            outcome = self.updater(micro_batches, counts, step, progress.norms)
        except LossScaleAtFloor as error:
            self._give_up(micro_batches, str(error))
        progress.position = micro_batches[-1][0].after
        progress.tokens += tokens
        progress.targets += sum(counts.values())
        check_targets(progress.targets, step, self.settings)
        self._account(outcome, counts)
        if progress.bad_steps >= self.settings.train.max_bad_steps:
            why = "for want of memory" if outcome.lack_of_memory else "as a loss or gradient was not finite, or a spike"
            what = f"{progress.bad_steps} steps in a row were skipped, to step {step}, the last one {why}"
            self._give_up(micro_batches, what, outcome.lack_of_memory)

    def _agree(self, micro_batches: list[tuple[Ticket, Batch]], step: int) -> tuple[dict[str, float], int]:
        """Returns the targets of each loss and the tokens of the step, over all processes; acts on their signals."""
        criterion = self.objective.criterion
        counts = dict.fromkeys(criterion.weights, 0.0)
        for _, batch in micro_batches:
            for name, count in criterion.count(batch).items():
                counts[name] += count
        tokens = sum(batch.num_tokens for _, batch in micro_batches)
        stop = float(bool(self.stop.reason))
        *totals, tokens_sum, steps_sum, stop = self.world.sum([*counts.values(), tokens, step, stop])
        if steps_sum != step * self.world.size:
            raise DistributedError(
                f"the processes are not at one step: this one is at {step}, the mean is {steps_sum / self.world.size}",
                fix="the same command resumes from the last checkpoint",
            )
        if stop:
            self._interrupt()
        return dict(zip(counts, totals, strict=True)), int(tokens_sum)

    def _account(self, outcome: Outcome, counts: dict[str, float]) -> None:
        """Adds a step to the figures that wait to be logged; counts the steps that were skipped."""
        progress = self.progress
        if self.settings.train.skip_spikes and math.isfinite(outcome.norm):
            progress.norms = [*progress.norms, outcome.norm][-SPIKE_WINDOW:]
        if not outcome.updated:
            progress.skipped_steps += 1
            progress.bad_steps += 1
            return
        progress.bad_steps = 0
        common = {**{f"{name}_count": count for name, count in counts.items()}, "steps": 1.0, "grad_norm": outcome.norm}
        if not self.world.is_first:  # what all processes know is counted in the first alone
            common = dict.fromkeys(common, 0.0)
        for name, value in {**outcome.sums, **common}.items():
            progress.pending[name] = progress.pending.get(name, 0.0) + value

    def _give_up(self, micro_batches: list[tuple[Ticket, Batch]], what: str, lack_of_memory: bool = False) -> NoReturn:
        """Ends a run that cannot go on: with a checkpoint to look into, and the place of the first bad number.

        Raises:
            DivergedError: always.
        """
        file = self.folder / "crash.pt"
        if self.world.is_first:
            self._write(file)
        fix = f"{file} holds the weights and may serve as the --train.init_from of a new run, with "
        if lack_of_memory:
            raise DivergedError(what, where="train.max_bad_steps", fix=fix + "a lower train.max_tokens")
        context = autocast(self.device, self.settings.train.precision)
        places = (first_bad_place(self.objective, batch, context) for _, batch in micro_batches)
        found = self.world.told(next((place for place in places if place), ""))
        text = "; ".join(f"{place} (process {rank})" for rank, place in enumerate(found) if place)
        raise DivergedError(
            f"{what}; run again, the last batch has "
            + (f"its first number that is not finite {text}" if text else "only finite numbers"),
            where="train.max_bad_steps",
            fix=f"{fix}a lower optim.lr or longer optim.warmup_steps",
        )

    def _log_training(self, step: int) -> None:
        """Logs the means since the last time, over all processes."""
        progress = self.progress
        self._check_replicas()
        self._gather_pending()
        totals, progress.pending = progress.pending, {}
        now = time.monotonic()
        rate = (progress.tokens - self.log_tokens) / max(now - self.log_began, 1e-9)
        self.log_began, self.log_tokens = now, progress.tokens
        if not self.log:
            return
        metrics = self.parts.task.metrics(totals) if totals else {"loss": math.nan}
        record = {
            **metrics,
            "lr": self.updater.rate,
            "grad_norm": totals["grad_norm"] / totals["steps"] if totals else math.nan,
            "loss_scale": self.updater.scale.value,
            "skipped_steps": progress.skipped_steps,
            "epoch": progress.position.epoch,
            "tokens": progress.tokens,
            "targets": progress.targets,
            "tokens_per_second": rate,
        }
        self.log.train(step, record)

    def _gather_pending(self) -> None:
        """Brings the figures of all processes together in the first; the others keep the names, with zeros."""
        names = sorted(self.progress.pending)
        totals = self.world.sum([self.progress.pending[name] for name in names])
        if not self.world.is_first:
            totals = [0.0] * len(names)
        self.progress.pending = dict(zip(names, totals, strict=True))

    def _validate_safely(self, step: int) -> bool:
        """Validates; if that fails, saves the steps since the last checkpoint before the error goes on."""
        self._gather_pending()
        try:
            return self._validate(step)
        except Exception as error:
            if self.log and not isinstance(error, Interrupted):  # which has saved
                with contextlib.suppress(StorageError):
                    self.log.flush()
                    self._write(self.folder / "checkpoints" / checkpoint.name_of(step, "", None))
                    self._say(f"the validation failed; step {step} is saved")
            raise

    def _validate(self, step: int) -> bool:
        """Validates with frozen masks; returns whether this is the best so far."""
        began, task, average = time.monotonic(), self.parts.task, self.updater.average
        maker = BatchMaker(self.parts, "valid", self.settings)
        with average.in_place() if average else contextlib.nullcontext():
            found = find_over(
                self.objective,
                maker,
                self.world,
                self.device,
                with_answers=task.measured_in_training,
                asked_to_stop=self._all_asked_to_stop,
            )
            if found and self.log and self.log.board and self.log.board.works:
                self.log.text("guesses", guesses(self.objective, maker, self.device), step)
        if found is None:
            self._interrupt()  # now, since a validation may outlast the patience of a scheduler
        assert found is not None
        metrics = metrics_of(task, found, maker.source)
        name = self.metric
        sign = 1 if task.direction(name) == "min" else -1
        before = math.inf if self.progress.best is None else sign * self.progress.best
        best = sign * value_of(metrics, name) < before  # never true of NaN
        if math.isnan(metrics[name]):
            targets = sum(found.totals[f"{loss}_count"] for loss in self.objective.criterion.weights)
            self._say(undefined({name: metrics[name]}, targets, "valid") + ", so this checkpoint cannot be the best")
        self.progress.validated, self.progress.validated_step = metrics, step
        self.progress.best = metrics[name] if best else self.progress.best
        # without a best one there is nothing that a validation fails to improve
        compared = self.progress.best is not None and not best
        self.progress.validations_without_best = self.progress.validations_without_best + 1 if compared else 0
        seconds = time.monotonic() - began
        self.log_began += seconds  # the rate of training leaves validation out
        if self.log:
            self.log.valid(step, metrics, self.progress.tokens, best, seconds)
        return best

    def _all_asked_to_stop(self) -> bool:
        """Whether any process is to stop; called by all together."""
        return bool(self.world.sum([float(bool(self.stop.reason))])[0])

    def _check_replicas(self) -> None:
        """Checks that the weights are the same in all processes."""
        check_replicas(self.objective, self.world, self.alike_at)
        self.alike_at = self.progress.position.step

    def _save(self) -> None:
        """Writes a checkpoint; the other processes wait for it."""
        step, task = self.progress.position.step, self.parts.task
        self._check_replicas()
        self._gather_pending()
        if self.log:
            self.log.flush()
        if self.world.is_first:
            name, run = self.metric, self.settings.run
            score = self.progress.validated[name] if self.progress.validated_step == step else None
            self._write(self.folder / "checkpoints" / checkpoint.name_of(step, name, score))
            checkpoint.prune(self.folder, run.keep_last, run.keep_best, task.direction(name), run.keep_every)
        self.world.wait()

    def _write(self, file: Path) -> None:
        if not (self.folder / "settings.json").exists():
            raise StorageError("the run folder is gone", where=str(self.folder), fix="start the run again")
        checkpoint.save(file, self.state())

    def state(self) -> dict[str, Any]:
        """Returns all that a resume needs, and all that a stranger needs to use the weights."""
        parts, weights = self.parts, self.objective.state_dict()
        return {
            **snapshot(self.settings, parts.vocab, parts.task.labels, weights, self.progress),
            "average": self.updater.average.weights if self.updater.average else None,
            "optimizer": self.updater.optimizer.state_dict(),
            "loss_scale": self.updater.scale.state_dict(),
            "data_fingerprint": self.parts.fingerprint,
        }

    def resume(self) -> None:
        """Takes back the last whole checkpoint of the run folder, if there is one."""
        if self.world.is_first:
            checkpoint.clean(self.folder)
        state = checkpoint.load_last(self.folder, self._say)
        if state is None:
            return
        reach("resume.load")
        if self.world.is_first:
            checkpoint.set_aside(self.folder, state["step"])
        if state["data_fingerprint"] != self.parts.fingerprint:
            raise CheckpointError(
                f"was trained on data {state['data_fingerprint'][:12]}",
                where=str(self.folder),
                expected=f"the data of {self.settings.data.path}, {self.parts.fingerprint[:12]}",
                fix="give another --run folder, or continue from it with --train.init_from",
            )
        checkpoint.put_weights(self.objective, state["model"], str(self.folder))
        with checkpoint.contents_of(str(self.folder)):
            checkpoint.check_like(state["progress"], dataclasses.asdict(Progress()))
            self.updater.load(state)
            self.progress = Progress.of(state["progress"])
        if not self.world.is_first:  # which holds the figures of all
            self.progress.pending = dict.fromkeys(self.progress.pending, 0.0)
        self.log_tokens = self.progress.tokens
        self._say(f"resuming {self.folder} at step {self.progress.position.step}")

    def _interrupt(self) -> None:
        self._save()
        reason = self.stop.reason or "another process was asked to"
        what = f"at step {self.progress.position.step}, saved: {reason}"
        raise Interrupted(what, where=str(self.folder), fix="the same command goes on")

    def _say(self, text: str) -> None:
        if self.log:
            self.log.say(f"taskmask: {text}")
        elif self.world.is_first:
            say(text)
