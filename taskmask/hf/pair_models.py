"""Whether a folder of Hugging Face holds a model of pairs of texts: what we write into it, and what others leave there.

Their format has no place for it: a classifier of pairs and one of single texts have the same config.json.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from taskmask.data.dataset import check_name
from taskmask.errors import DataError
from taskmask.hf.families import Unsupported

PAIR_KEY = "taskmask_pair"
"""Key of config.json with the name of the second text; transformers ignores it, and writes it again."""
LABELS_OF_PAIRS = ("entailment", "contradiction", "duplicate", "equivalent", "paraphrase")
"""Parts of the names of classes that relate two texts: of MNLI, RTE, QNLI, WNLI, QQP, MRPC, PAWS and their kin."""
TASKS_OF_PAIRS = ("mnli", "qnli", "rte", "wnli", "snli", "xnli", "qqp", "mrpc", "stsb", "sts-b", "paws")
"""What `finetuning_task` may be; the scripts of transformers for GLUE write it."""
CROSS_ENCODER = ("sbert_ce_default_activation_function", "sbert_ce_default_num_labels")
"""Keys that the class CrossEncoder of sentence-transformers writes; later ones write `sentence_transformers`."""


def second_text(config: dict[str, Any]) -> str:
    """Returns the name of the second text that the folder was written with; "" if it says nothing.

    Raises:
        Unsupported: it cannot be the name of a column.
    """
    name = config.get(PAIR_KEY, "")
    try:
        if name:
            check_name(name, "column")
    except (DataError, TypeError):
        raise Unsupported(PAIR_KEY, name, "the name of a column: a letter, then letters, digits, _ or -") from None
    return str(name or "")


def signs_of_pairs(config: dict[str, Any], labels: Iterable[str]) -> str:
    """Returns what tells that a classifier of others may be one of pairs; "" if nothing does."""
    found = [name for name in labels if any(part in name.casefold() for part in LABELS_OF_PAIRS)]
    if found:
        return f"it has the label {found[0]!r}"
    task = config.get("finetuning_task")
    if isinstance(task, str) and task.casefold() in TASKS_OF_PAIRS:
        return f"its finetuning_task is {task!r}"
    later = config.get("sentence_transformers")
    if any(key in config for key in CROSS_ENCODER) or (isinstance(later, dict) and "activation_fn" in later):
        return "it is a CrossEncoder of sentence-transformers"
    return ""
