"""The bidirectional LSTM: that of torch, blind to padding, and able to learn what needs both directions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from taskmask.errors import ConfigError
from taskmask.models import BiLSTMConfig
from taskmask.models.bilstm import BiLSTM
from taskmask.modules.heads_spec import HeadSpec

HEADS = {"mlm": HeadSpec("lm"), "label": HeadSpec("row", 3), "tags": HeadSpec("token", 2)}


def build(**options):
    torch.manual_seed(0)
    return BiLSTM(BiLSTMConfig(**{"width": 24, **options}), vocab_size=50, max_length=9, heads=HEADS)


@pytest.mark.parametrize("options", [{}, {"layers": 1}, {"layers": 3, "embedding_width": 10}])
def test_it_is_the_lstm_of_torch(options):
    model = build(**options).eval()
    config = model.config
    theirs = nn.LSTM(config.embedding_width or 24, 12, config.layers, batch_first=True, bidirectional=True)
    theirs.load_state_dict({
        name.replace("l0", f"l{number}", 1): tensor
        for number, layer in enumerate(model.layers)
        for name, tensor in layer.state_dict().items()
    })  # fmt: skip
    tokens = torch.randint(50, (4, 9))
    expected, _ = theirs(model.embeddings["tokens"](tokens))
    torch.testing.assert_close(model.encode(tokens), expected)
    torch.testing.assert_close(model.encode(tokens, torch.ones_like(tokens, dtype=torch.bool)), expected)


def test_padding_does_not_matter():
    model, tokens = build().eval(), torch.randint(50, (3, 9))
    lengths = torch.tensor([4, 9, 1])
    keep = torch.arange(9) < lengths[:, None]
    outputs = model(tokens, keep, {"tags": torch.tensor([0, 3, 17, 18])})
    others = model(torch.where(keep, tokens, 7), keep, {"tags": torch.tensor([0, 3, 17, 18])})
    for name, output in outputs.items():
        assert torch.equal(output, others[name])
    for row, length in enumerate(lengths):
        alone = model.encode(tokens[row : row + 1, :length])
        torch.testing.assert_close(model.encode(tokens, keep)[row : row + 1, :length], alone)
    assert outputs["mlm"].shape == (27, 50) and outputs["label"].shape == (3, 3) and outputs["tags"].shape == (4, 2)


def test_layers_are_told_apart():
    model = build(layers=2)
    depths = {name: model.depth(name) for name, _ in model.named_parameters()}
    assert depths["embeddings.tokens.weight"] == 0 and depths["layers.1.weight_hh_l0_reverse"] == 2
    assert depths["heads.tags.scores.weight"] == 3 and {*depths.values()} == {0, 1, 2, 3}
    assert 0.1 < model.layers[0].weight_hh_l0.std() < 0.3, "the LSTM has the first weights of torch"


def test_it_learns_what_both_sides_say():
    """The label of the token in the middle: whether the row begins or ends with a one."""
    model, steps = build(dropout=0.0), 60
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(steps):
        tokens = torch.randint(10, 40, (64, 7), generator=torch.Generator().manual_seed(step))
        tokens[:, 0] %= 2
        tokens[:, -1] %= 2
        labels = tokens[:, 0] | tokens[:, -1]
        scores = model(tokens)["tags"].view(64, 7, 2)[:, 3]
        loss = F.cross_entropy(scores, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_settings_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"model.layers: is 0(.|\n)*model.width: is 5(.|\n)*model.dropout: is 1"):
        BiLSTMConfig(layers=0, width=5, dropout=1.0)
