"""Masked language modelling: say which tokens stood at the chosen positions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from taskmask.config import Problems, opt
from taskmask.data.batch import Batch, TokenBatch
from taskmask.data.padding import gather
from taskmask.data.rng import RowRng
from taskmask.errors import DataError
from taskmask.masking.replace import replace_tokens
from taskmask.masking.targets import labels_in_place
from taskmask.modules.heads_spec import HeadSpec
from taskmask.registry import register_task
from taskmask.tasks.token_targets import TokenTask

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class MaskedLMConfig:
    """How the chosen tokens are replaced; what is left over of the shares stays as it was."""

    mask_share: float = opt(0.8, "share of the chosen units that becomes <mask>")
    random_share: float = opt(0.1, "share of the chosen units that becomes random pieces")
    replace_per: Literal["token", "word", "span"] = opt("token", "the unit that is replaced in one way")

    def __post_init__(self) -> None:
        problems = Problems()
        for name in ("mask_share", "random_share"):
            value = getattr(self, name)
            problems.check(0 <= value <= 1, f"is {value}", where=f"task.{name}", expected="a share from 0 to 1")
        problems.check(
            self.mask_share + self.random_share <= 1 + 1e-9,
            f"and task.random_share add up to {self.mask_share + self.random_share:g}",
            where="task.mask_share",
            expected="at most 1",
        )
        problems.raise_any()


@register_task("masked_lm", config=MaskedLMConfig)
class MaskedLM(TokenTask):
    """Predicts the tokens at the positions that the masker chose.

    **Source:** Devlin et al. 2019 (BERT), section 3.1, task 1.
    """

    kind = "mlm"
    default_criterion = "masked_lm"
    default_masker = "uniform"

    @classmethod
    def sample(cls, options: Any) -> dict[str, str]:
        """A text with a gap."""
        return {"text": "Here a <mask> is missing."}

    def heads(self) -> dict[str, HeadSpec]:
        """One language-model head, "mlm"."""
        return {"mlm": HeadSpec("lm")}

    def make_batch(self, rows: TokenBatch, rng: RowRng) -> Batch:
        """Selects, corrupts and builds targets: K*B rows for a masker of K views."""
        assert self.masker is not None
        mask = self.masker(rows, rng)
        tokens = replace_tokens(
            rows,
            mask,
            rng,
            mask_share=self.config.mask_share,
            random_share=self.config.random_share,
            per=self.config.replace_per,
        )
        positions, labels = labels_in_place(rows.tokens, mask)
        inputs: dict[str, Any] = {"tokens": tokens, "positions": {"mlm": positions}}
        if not rows.is_full:
            inputs["keep"] = np.tile(rows.keep, (len(mask), 1))
        return Batch(inputs, {"mlm": labels}, rows.ids, int(rows.lengths.sum()) * len(mask))

    def show(self, batch: Batch, outputs: dict[str, torch.Tensor] | None = None) -> list[str]:
        """Returns a line a row: [what stood there] or, with outputs, [what stood there > the model's guess]."""
        tokens, positions = np.asarray(batch.inputs["tokens"]), np.asarray(batch.inputs["positions"]["mlm"])
        answers = [self.vocab.piece(int(i)) for i in np.asarray(batch.targets["mlm"])]
        if outputs is not None:
            guesses = outputs["mlm"].argmax(-1).tolist()
            answers = [f"{a} > {self.vocab.piece(g)}" for a, g in zip(answers, guesses, strict=True)]
        pieces = [["" if i == self.vocab.pad else self.vocab.piece(int(i)) for i in row] for row in tokens]
        for position, answer in zip(positions, answers, strict=True):
            row, column = divmod(int(position), tokens.shape[1])
            space = "\u2581" if answer.startswith("\u2581") else ""
            pieces[row][column] = f"{space}[{answer.replace(chr(0x2581), '')}]"
        return ["".join(row).replace("\u2581", " ").strip() for row in pieces]

    def predict(self, model: Any, records: list[dict[str, Any]], top: int, max_length: int) -> list[dict[str, Any]]:
        """Fills every `<mask>` of each text: {"text", "masks": [{"fills": [{"token", "probability"}]}], "filled"}.

        Raises:
            DataError: a text without `<mask>`, or longer than the model can take.
        """
        import torch

        texts = [record["text"] for record in records]
        encoded = [np.asarray(self.vocab.encode_with_masks(text), dtype=np.int64) for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            if not (ids == self.vocab.mask).any():
                raise DataError(f"no <mask> in {text!r}", where="text", fix="write <mask> where a word is to stand")
            if len(ids) + 2 > max_length:
                raise DataError(
                    f"{len(ids) + 2} tokens in {text[:60]!r}...", where="text", expected=f"at most {max_length}"
                )
        stops = np.cumsum([len(ids) for ids in encoded])
        starts = np.concatenate([[0], stops[:-1]])
        vocab = self.vocab
        tokens, lengths = gather(np.concatenate(encoded), starts, stops, vocab.bos, vocab.eos, vocab.pad)
        positions = np.flatnonzero(tokens == self.vocab.mask)
        keep = np.arange(tokens.shape[1])[None, :] < lengths[:, None]
        outputs = model(
            tokens=torch.from_numpy(tokens),
            keep=None if keep.all() else torch.from_numpy(keep),
            positions={"mlm": torch.from_numpy(positions)},
        )
        logits = outputs["mlm"].float()
        logits[:, torch.from_numpy(self.vocab.special_ids)] = -torch.inf
        best, ids = logits.topk(min(top, self.vocab.size - len(self.vocab.special_ids)))
        chances = (best - logits.logsumexp(-1, keepdim=True)).exp()
        answers: list[dict[str, Any]] = [{"text": text, "masks": []} for text in texts]
        filled = tokens.copy()
        for position, p, i in zip(positions, chances.tolist(), ids.tolist(), strict=True):
            pieces = self.vocab.pieces(i)
            fills = [
                {"token": piece.replace("\u2581", " ").strip(), "piece": piece, "probability": chance}
                for piece, chance in zip(pieces, p, strict=True)
            ]
            answers[position // tokens.shape[1]]["masks"].append({"fills": fills})
            filled.reshape(-1)[position] = i[0]
        for answer, row in zip(answers, filled, strict=True):
            answer["filled"] = self.vocab.decode(row)
        return answers

    def say(self, record: dict[str, Any], answer: dict[str, Any]) -> list[str]:
        """The fills of each mask as a small table."""
        lines = [record["text"]]
        for number, mask in enumerate(answer["masks"], 1):
            lines += [f"  <mask> {number}"] if len(answer["masks"]) > 1 else []
            lines += [f"  {fill['probability']:7.2%}  {fill['token']}" for fill in mask["fills"]]
        return [*lines, f"  = {answer['filled']}", ""]
