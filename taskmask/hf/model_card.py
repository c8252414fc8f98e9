"""A model card: what a converted model is, how it was made, how good it was found to be, and where that ends."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from taskmask import __version__
from taskmask.data.dataset import Dataset
from taskmask.errors import TaskmaskError, one_line, visible
from taskmask.inference.loaded_model import Pretrained
from taskmask.system.json_input import read_json
from taskmask.training.monitor.run_log import read_log

PIPELINES = {
    "masked_lm": "fill-mask",
    "classification": "text-classification",
    "regression": "text-classification",
    "tagging": "token-classification",
    "seq2seq": "text2text-generation",
}
AUTO_CLASSES = {
    "masked_lm": "AutoModelForMaskedLM",
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "tagging": "AutoModelForTokenClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
WHAT = {
    "masked_lm": "says which tokens stood at masked places",
    "classification": "says the class of a text{pair}",
    "regression": "says a number of a text{pair}",
    "tagging": "says a label for each word of a text",
    "seq2seq": "says a text for a text",
}
SAYS_NOTHING = ("kind", "step", "tokens", "best", "seconds")
"""Fields of a line of the log that are no metrics."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """Metrics of a model.

    Args:
        splits: [{"split", "rows", "metrics": {name: {"mean", "low", "high"}}}, ...]; rows and interval may be lacking.
        origin: how they were got.
    """

    splits: list[dict[str, Any]]
    origin: str


def known_figures(run: str, loaded: Pretrained) -> Figures:
    """Returns what the run folder says of the checkpoint: summary.json, else the validation at its step."""
    folder = Path(run) if Path(run).is_dir() else loaded.file.parent.parent
    if folder == Path(run):  # a single checkpoint may be another than the one that was summed up
        try:
            content = read_json(folder / "summary.json")
            found = [_split(one["split"], one["rows"], one["metrics"]) for one in content["splits"]]
            if content["checkpoints"] == [loaded.file.name] and found:
                return Figures(found, "of the best checkpoint; 95 % intervals over the examples")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
    try:
        lines = [line for line in read_log(folder / "log.jsonl", "valid") if line["step"] == loaded.step]
    except (OSError, ValueError, KeyError, TypeError):
        lines = []
    if not lines:
        return Figures([], "no figures are known")
    metrics = {name: {"mean": value} for name, value in lines[-1].items() if name not in SAYS_NOTHING}
    return Figures([_split("valid", None, metrics)], "of the validation in training; no intervals were computed")


def _split(name: str, rows: int | None, metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of a split; raises a TypeError where they are none."""
    kept = {key: {end: found.get(end) for end in ("mean", "low", "high")} for key, found in metrics.items()}
    if not all(value is None or math.isfinite(value) for found in kept.values() for value in found.values()):
        raise TypeError("not finite")
    return {"split": name, "rows": rows, "metrics": kept}


def model_card(name: str, loaded: Pretrained, kind: str, family: str, parameters: int, figures: Figures) -> str:
    """Returns the README.md of a Hugging Face folder.

    Args:
        name: what the model is called.
        loaded: the checkpoint.
        kind: what it computes.
        family: model_type of its Hugging Face family.
        parameters: numbers in its weights.
        figures: its metrics.
    """
    settings = loaded.settings
    pair = " or of a pair of texts" if getattr(settings.task.options, "pair", "") else ""
    config = settings.model.options
    noun, layers = "encoder", f"{config.layers} layers"
    if kind == "seq2seq":
        noun, layers = "encoder and decoder", f"{config.layers} + {config.decoder_layers} layers"
    tags = [f"- {tag}" for tag in (settings.task.name.replace("_", "-"), family, "taskmask")]
    parts = [
        "\n".join(["---", "library_name: transformers", f"pipeline_tag: {PIPELINES[kind]}", "tags:", *tags, "---"]),
        f"# {_plain(name)}",
        f"A Transformer {noun} that {WHAT[kind].format(pair=pair)}: {layers}, {config.width} wide, "
        f"{parameters:,} parameters, a vocabulary of {loaded.vocab.size:,} tokens, rows of up to "
        f"{settings.data.length} tokens. It was made with taskmask and is in the format of the family {family}.",
        _use(name, kind, getattr(settings.task.options, "pair", "")),
        _training(loaded),
        _results(figures, loaded),
        _limits(loaded, figures),
        "## Settings\n\nAll of them, without those that do not change the result; of paths the last part.\n\n"
        f"```json\n{_settings(loaded)}\n```",
    ]
    return visible("\n\n".join(parts) + "\n")


def _use(name: str, kind: str, pair: str) -> str:
    call = f'\ninputs = tokenizer("a text", "its {pair}", return_tensors="pt")' if pair else ""
    auto, path = AUTO_CLASSES[kind], json.dumps(name, ensure_ascii=False)
    return f"""## Use

```python
from transformers import {auto}, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({path})
model = {auto}.from_pretrained({path}){call}
```"""


def _training(loaded: Pretrained) -> str:
    """The table of how it was trained."""
    settings, facts = loaded.settings, loaded.facts
    masker = settings.masker
    options = {name: value for name, value in dataclasses.asdict(masker.options).items() if value} if masker else {}
    tokens = (facts.get("progress") or {}).get("tokens", 0)
    rows = {
        "task": settings.task.name,
        "masker": f"{masker.name}: " + ", ".join(f"{k} {v}" for k, v in options.items()) if masker else "",
        "started from": Path(settings.train.init_from).name or "random weights" if loaded.step else "",
        "steps": f"{loaded.step:,}" if loaded.step else "none here: the weights were converted as they came",
        "tokens": f"{tokens:,}, padding not counted" if tokens else "",
        "seed": settings.train.seed if loaded.step else "",
        "number format": settings.train.precision if loaded.step else "",
        "labels": ", ".join(loaded.labels.get(getattr(settings.task.options, "label", ""), [])),
        "data": _data(loaded),
        "vocabulary": f"{loaded.vocab.size:,} tokens, sha256 {loaded.vocab.fingerprint}",
        "versions": ", ".join(f"{k} {v}" for k, v in (facts.get("versions") or {}).items()),
        "converted by": f"taskmask {__version__}",
    }
    return "## Training\n\n" + _table(("", ""), [row for row in rows.items() if row[1] != ""])


def _data(loaded: Pretrained) -> str:
    """The dataset: its name and fingerprint, and its sizes if it is still where the run found it."""
    fingerprint, path = loaded.facts.get("data_fingerprint"), loaded.settings.data.path
    if not fingerprint:
        return "none"
    text = f"{Path(path).name}, sha256 {fingerprint}"
    try:
        dataset = Dataset.open(path)
        if dataset.vocabulary().fingerprint != loaded.vocab.fingerprint:
            return text
        sizes = [f"{split.name} {split.rows:,} rows" for split in dataset.splits.values()]
    except (TaskmaskError, OSError):
        return text
    return f"{text}; {', '.join(sizes)}"


def _results(figures: Figures, loaded: Pretrained) -> str:
    if not figures.splits:
        return "## Results\n\nNone: nothing was measured when the model was converted."
    rows = []
    for one in figures.splits:
        for name, found in one["metrics"].items():
            mean, low, high = (found.get(end) for end in ("mean", "low", "high"))
            interval = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
            count = "" if one["rows"] is None else f"{one['rows']:,}"
            rows.append((one["split"], count, name, "undefined" if mean is None else f"{mean:.4f}", interval))
    heads = ("split", "rows", "metric", "value", "95 % interval")
    masks = ", with the masker above" if loaded.settings.masker else ""
    return f"## Results\n\n{_table(heads, rows)}\n\nThe figures are {figures.origin}{masks}."


def _limits(loaded: Pretrained, figures: Figures) -> str:
    measured = " and ".join(dict.fromkeys(str(one["split"]) for one in figures.splits))
    trained = "the data named above" if loaded.facts.get("data_fingerprint") else "those of the model it was made of"
    trained += ", and those of what it was started from" if loaded.settings.train.init_from else ""
    evaluated = f"on {measured} of its dataset" if measured else "on nothing here"
    return (
        f"## Intended use and limits\n\nThe model is for texts like those it was trained on: {trained}. It was "
        f"evaluated {evaluated}; how it does on other texts, in other languages or for other uses is not known. The "
        "errors and prejudices of its texts are in its answers. Check them where they matter."
    )


def _settings(loaded: Pretrained) -> str:
    """All settings but those of the section run; of paths, which tell of somebody's machine, the last part."""
    tables = loaded.settings.to_dict()
    del tables["run"]
    for section, field in (("data", "path"), ("train", "init_from")):
        tables[section][field] = Path(tables[section][field]).name
    return json.dumps(tables, indent=2, ensure_ascii=False)


def _table(heads: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(value: Any) -> str:
    """Returns a text that cannot end a cell of a table or a line, nor be taken for HTML."""
    return one_line(str(value)).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
