"""taskmask convert: models of Hugging Face become runs, runs become models of Hugging Face."""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskmask.errors import ConfigError, visible
from taskmask_cli.options import Parser, add_user_dir

if TYPE_CHECKING:
    from taskmask.hf.convert import Converted

DESCRIPTION = """Makes a run folder of a Hugging Face folder (BERT, RoBERTa, DistilBERT, ELECTRA, ModernBERT, BART),
which can then be trained on, evaluated, and asked; or writes the best checkpoint of a run as a Hugging Face folder with
tokenizer and model card. Predictions stay the same, and so do generated texts: beams, lengths and the like come in and
go out. Nothing is downloaded. A model that cannot be expressed is refused; a setting of generation is named.

With --from-hf, any setting can be given with --section.field VALUE. A folder of others does not say whether its model
reads pairs of texts: if it does, name the second text, --task.pair hypothesis. A folder that --to-hf wrote says it."""

EPILOG = """examples:
  taskmask convert --from-hf bert-folder --run runs/bert
  taskmask convert --from-hf mnli-folder --run runs/mnli --task.pair hypothesis --data.length 128
  taskmask convert --run runs/first --to-hf first-model
  taskmask convert --run runs/sst2 --to-hf sst2-model --evaluate"""


def main(argv: Sequence[str] | None = None) -> int:
    """Converts and prints what was done, and what to do next."""
    parser = Parser("taskmask convert", DESCRIPTION, EPILOG)
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--from-hf", metavar="FOLDER", help="folder with config.json, model.safetensors and tokenizer")
    way.add_argument("--to-hf", metavar="FOLDER", help="folder to write; must be new or empty")
    help_of_run = "run folder: with --from-hf to write, new or empty; with --to-hf to read, or one checkpoint"
    parser.add_argument("--run", required=True, metavar="RUN", help=help_of_run)
    parser.add_argument(
        "--evaluate", action="store_true", help="with --to-hf: measure it for the card, on valid and test of the data"
    )
    add_user_dir(parser)
    options, overrides = parser.parse_settings(argv)
    if not (options.from_hf or options.to_hf):
        raise ConfigError("says not what to do", where=parser.prog, expected="--from-hf FOLDER or --to-hf FOLDER")
    if options.from_hf and options.evaluate:
        raise ConfigError("goes with --to-hf", where="--evaluate", fix="leave it out")
    if options.to_hf and overrides:
        raise ConfigError("the run has its settings already", where=overrides[0].source, fix="leave it out")
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that half a folder is removed, as after Ctrl-C

    from taskmask.hf.convert import from_hf, to_hf

    if options.from_hf:
        lines = report_run(from_hf(options.from_hf, options.run, overrides), options.run)
    else:
        lines = report_folder(to_hf(options.run, options.to_hf, evaluate=options.evaluate), options.to_hf)
    print(visible("\n".join(lines)))
    return 0


def sizes(done: Converted) -> str:
    """Returns what the model is, in a line."""
    config = done.settings.model.options
    what = "encoder without a head" if done.kind == "none" else done.kind
    classes = f" ({len(done.labels)} labels)" if done.labels else ""
    return (
        f"{done.family}, {what}{classes}: {config.layers} layers, {config.width} wide, {done.parameters:,} parameters, "
        f"vocabulary of {done.vocab_size:,}, rows of up to {done.settings.data.length} tokens"
    )


def report_run(done: Converted, run: str) -> list[str]:
    """Returns what became of a Hugging Face folder, as lines for people."""
    lines = [f"{run}: {sizes(done)}"]
    if done.pair:
        lines.append(f"reads: pairs of texts, the second one from {done.pair!r}")
    elif done.kind in ("classification", "regression"):
        why = f"; {done.sign}, so it may have learned pairs" if done.sign else ""
        lines.append(f"reads: one text{why}; for pairs, name the second text: --task.pair hypothesis")
    if done.surplus:
        lines.append(f"cut: {done.surplus:,} rows of the token embedding that no token uses")
    if done.left_out:
        more = f" and {len(done.left_out) - 6} more" if len(done.left_out) > 6 else ""
        lines.append(f"left out: {', '.join(done.left_out[:6])}{more}")
    lines += [f"warning: {note}; texts may be others than those of transformers" for note in done.notes]
    place = shlex.quote(run)
    lines.append(f"next: taskmask-preprocess --train train.txt --valid valid.txt --vocab {place} --out data-bin")
    shorter = " --data.length 512" if done.settings.data.length > 512 else ""
    lines.append(f"      taskmask-train --data data-bin --run runs/next --train.init_from {place}{shorter}")
    return lines


def report_folder(done: Converted, folder: str) -> list[str]:
    """Returns what became of a run, as lines for people."""
    from taskmask.hf.model_card import AUTO_CLASSES

    load = f"{AUTO_CLASSES[done.kind]}.from_pretrained({folder!r})"
    pair = [f"reads: pairs of texts; config.json keeps the name of the second one, {done.pair!r}"] if done.pair else []
    return [f"{folder}: {sizes(done)}", *pair, f"next: read {folder}/README.md; in Python, transformers.{load}"]
