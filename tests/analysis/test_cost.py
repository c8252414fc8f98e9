"""The estimate of operations, against a count by hand and against what torch counts; the bill of a run."""

import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from taskmask.analysis.compare.cost import Shape, bill, flops, seen_by_a_token, shape_of
from taskmask.analysis.compare.results import Cost
from taskmask.models import EncoderConfig, EncoderDecoderConfig
from taskmask.models.encoder import Encoder
from taskmask.models.encoder_decoder import EncoderDecoder
from taskmask.modules.heads_spec import HeadSpec

V, T = 500, 24


def encoder(heads, **changes):
    config = EncoderConfig(
        **{"layers": 3, "width": 48, "heads": 4, "dropout": 0.0, "attention_dropout": 0.0, **changes}
    )
    return Encoder(config, vocab_size=V, max_length=T, heads=heads)


def test_weights_against_a_count_by_hand():
    found = shape_of(encoder({"mlm": HeadSpec("lm")}), {"mlm": HeadSpec("lm")}, V, 48)
    # 12 layers width^2: q, k, v, output and two matrices of 4 x width; the head's own matrix, and the vocabulary
    assert found == Shape(12 * 3 * 48**2, 48**2 + V * 48, 3 * 48)
    classifier = {"label": HeadSpec("row", 5)}
    assert shape_of(encoder(classifier), classifier, V, 48).per_target == 48**2 + 5 * 48
    narrow = shape_of(encoder({"mlm": HeadSpec("lm")}, embedding_width=16), {"mlm": HeadSpec("lm")}, V, 48)
    assert narrow == Shape(12 * 3 * 48**2 + 16 * 48, 48 * 16 + V * 16, 3 * 48)


def test_operations_against_a_count_by_hand():
    # 2 tokens by 10 weights, that see 4 tokens in 3 layers x width (2 products); 1 target by 7; forward + 2 x backward
    assert flops(Shape(10, 7, 3), 2, 1, 4) == 6 * (2 * 10 + 2 * 2 * 3 * 4 + 7)


@pytest.mark.parametrize("changes", [{}, {"norm": "pre", "activation": "geglu"}, {"embedding_width": 16}], ids=str)
def test_operations_against_what_torch_counts(changes):
    heads = {"mlm": HeadSpec("lm")}
    model = encoder(heads, attention_dropout=0.1, **changes)  # with dropout attention is products that torch counts
    tokens = torch.randint(0, V, (6, T))
    positions = torch.arange(0, 6 * T, 7)
    with FlopCounterMode(display=False) as counter:
        model(tokens, positions={"mlm": positions})["mlm"].sum().backward()
    estimate = flops(shape_of(model, heads, V, 48), tokens.numel(), len(positions), T)
    assert estimate == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_a_decoder_costs_what_it_writes_as_torch_counts():
    heads = {"seq2seq": HeadSpec("lm")}
    config = EncoderDecoderConfig(layers=2, decoder_layers=3, width=48, heads=4, attention_dropout=0.1)
    model = EncoderDecoder(config, vocab_size=V, max_length=T, heads=heads)
    shape = shape_of(model, heads, V, 48)
    for length in (T, T // 3):
        tokens, target = torch.randint(0, V, (6, T)), torch.randint(0, V, (6, length))
        with FlopCounterMode(display=False) as counter:
            positions = torch.arange(target.numel())
            model(tokens, target=target, positions={"seq2seq": positions})["seq2seq"].sum().backward()
        assert flops(shape, 6 * T, target.numel(), T) == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_a_token_sees_the_row_that_it_stands_in():
    assert seen_by_a_token(np.array([8, 8, 8])) == 8
    assert seen_by_a_token(np.array([2, 6])) == (2 * 2 + 6 * 6) / 8


def test_the_bill_adds_up_times_over_a_resume(tmp_path):
    lines = [
        {"kind": "train", "step": 2, "tokens": 100, "targets": 10, "tokens_per_second": 50.0, "skipped_steps": 0},
        {"kind": "valid", "step": 2, "tokens": 100, "seconds": 0.5},
        {"kind": "train", "step": 4, "tokens": 300, "targets": 28, "tokens_per_second": 100.0, "skipped_steps": 1},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shape = Shape(10, 7, 3)
    assert bill(tmp_path, shape, 4) == Cost(3, 300, 28, flops(shape, 300, 28, 4), 2.0 + 0.5 + 2.0)
    assert bill(tmp_path / "nothing", shape, 4) == Cost()


def test_costs_add_up():
    assert Cost(1, 2, 3, 4, 5) + Cost(1, 1, 1, 1, 1) == Cost(2, 3, 4, 5, 6)
