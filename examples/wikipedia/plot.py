"""Draws the curve of a run: python plot.py RUN OUT.png (needs the extra "report")."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from taskmask.training.monitor.run_log import read_log


def rng(run: Path, out: Path) -> None:
    """Draws loss and accuracy over the steps, in training and in validation."""
    train, valid = (read_log(run / "log.jsonl", kind) for kind in ("train", "valid"))
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, name, label in zip(axes, ("loss", "accuracy"), ("loss, nats per masked token", "accuracy"), strict=True):
        for records, style, text in (
            (train, {"color": "#9ab8d8", "linewidth": 1}, "training"),
            (valid, {"color": "#1f4e82", "linewidth": 1.5, "marker": "o", "markersize": 3}, "validation, frozen masks"),
        ):
            axis.plot([r["step"] for r in records], [r[name] for r in records], label=text, **style)
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    rng(Path(sys.argv[1]), Path(sys.argv[2]))
