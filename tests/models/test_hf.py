"""Hugging Face folders: the same numbers as transformers in both directions, and everything else refused by name."""

import json
import os
import subprocess
import sys

import pytest
import torch

from taskmask.errors import CheckpointError
from taskmask.hf.families import heads_of
from taskmask.hf.model_folder import fit_vocabulary, read_folder, write_folder
from taskmask.models import EncoderConfig
from taskmask.models.encoder import Encoder

safetensors = pytest.importorskip("safetensors.torch")
transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

VOCAB, PAD, LENGTH = 97, 1, 40
BERT = {
    **{"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    **{"intermediate_size": 48, "max_position_embeddings": LENGTH, "pad_token_id": PAD},
}
MODERN = {**BERT, "num_hidden_layers": 5, "local_attention": 6, "bos_token_id": 2, "eos_token_id": 3}
MODERN |= {"cls_token_id": 2, "sep_token_id": 3}
DISTILBERT = {"vocab_size": VOCAB, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "pad_token_id": PAD}
DISTILBERT |= {"max_position_embeddings": LENGTH}
FAMILIES = {
    "bert": ("Bert", BERT),
    "bert-one-segment": ("Bert", {**BERT, "type_vocab_size": 1, "hidden_act": "gelu_python"}),
    "roberta": ("Roberta", {**BERT, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "xlm-roberta": ("XLMRoberta", {**BERT, "type_vocab_size": 1}),
    "camembert": ("Camembert", {**BERT, "type_vocab_size": 2}),
    "distilbert": ("DistilBert", DISTILBERT),
    "electra": ("Electra", {**BERT, "embedding_size": 20}),
    "electra-wide": ("Electra", {**BERT, "embedding_size": 32}),
    "modernbert": ("ModernBert", MODERN),
    "modernbert-mean": ("ModernBert", {**MODERN, "classifier_pooling": "mean", "global_attn_every_n_layers": 2}),
    "modernbert-global": ("ModernBert", {**MODERN, "global_attn_every_n_layers": 1}),
    "modernbert-biased": (
        "ModernBert",
        {**MODERN, **dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True)},
    ),
}
PAIRS = ("bert", "camembert", "electra", "electra-wide")
WRITTEN = {"bert-one-segment": "bert", "roberta": "bert", "xlm-roberta": "bert", "camembert": "bert"}
HEADS = {
    "masked_lm": ("ForMaskedLM", {}),
    "classification": ("ForSequenceClassification", {"id2label": {0: "no", 1: "perhaps", 2: "yes"}}),
    "regression": ("ForSequenceClassification", {"num_labels": 1}),
    "tagging": ("ForTokenClassification", {"num_labels": 5}),
}


def make(name, kind="masked_lm", **changes):
    """A small model of transformers, all of whose parameters are drawn."""
    prefix, settings = FAMILIES[name]
    head, more = HEADS.get(kind, (kind, {}))
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(**{**settings, **more, **changes})
    model = getattr(transformers, prefix + head)._from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def build(hf):
    """Our model of what was read."""
    heads = heads_of(hf.kind, len(hf.labels) or 1)
    model = Encoder(EncoderConfig(**hf.settings), vocab_size=hf.vocab_size, max_length=hf.max_length, heads=heads)
    model.load_state_dict(hf.weights)
    return model.eval()


@pytest.fixture(scope="module")
def batch():
    """Three rows, two of them padded, with two segments."""
    torch.manual_seed(1)
    keep = torch.arange(24)[None] < torch.tensor([24, 15, 3])[:, None]
    tokens = torch.where(keep, torch.randint(4, VOCAB, keep.shape), PAD)
    segments = (torch.arange(24) >= 2).long().expand(3, 24).contiguous()
    return tokens, keep, segments


@torch.no_grad()
def compare(theirs, ours, batch, pairs, kind):
    """Hidden states and logits at real tokens, with and without segments."""
    tokens, keep, segments = batch
    for given in (None, segments) if pairs else (None,):
        inputs = {"input_ids": tokens, "attention_mask": keep.long()}
        inputs |= {} if given is None else {"token_type_ids": given}
        hidden = theirs.base_model(**inputs).last_hidden_state
        torch.testing.assert_close(ours.encode(tokens, keep, given)[keep], hidden[keep], atol=1e-5, rtol=1e-5)
        logits, wanted = ours(tokens, keep, segments=given), theirs(**inputs).logits
        logits = logits["mlm" if kind == "masked_lm" else "label"]
        if wanted.dim() == 3:
            logits, wanted = logits.view(wanted.shape)[keep], wanted[keep]
        torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_numbers_in_both_directions(name, kind, batch, tmp_path):
    theirs = make(name, kind)
    theirs.save_pretrained(tmp_path / "in")
    hf = read_folder(tmp_path / "in")
    ours = build(hf)
    labels = {"classification": ["no", "perhaps", "yes"], "tagging": [f"LABEL_{i}" for i in range(5)]}.get(kind, [])
    assert (hf.kind, hf.labels, hf.vocab_size) == (kind, labels, VOCAB)
    assert hf.left_out == []
    compare(theirs, ours, batch, name in PAIRS, kind)

    special = {"pad": PAD, "bos": 2, "eos": 3}
    sizes = {"vocab_size": VOCAB, "max_length": hf.max_length}
    config = EncoderConfig(**hf.settings)
    written = write_folder(tmp_path / "out", config, ours.state_dict(), kind=kind, labels=labels, **sizes, **special)
    assert written.model_types[0] == WRITTEN.get(name, name.partition("-")[0])
    auto = getattr(transformers, f"AutoModel{HEADS[kind][0]}")
    again, info = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    compare(again.eval(), ours, batch, name in PAIRS, kind)
    if labels:
        assert [again.config.id2label[number] for number in range(len(labels))] == labels

    back = read_folder(tmp_path / "out")
    assert back.weights.keys() == hf.weights.keys()
    assert all(torch.equal(back.weights[key], hf.weights[key]) for key in hf.weights)
    assert (back.settings, back.max_length, back.labels) == (hf.settings, hf.max_length, hf.labels)


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra", "modernbert"])
def test_weights_of_transformers_come_back_as_they_were(name, tmp_path):
    theirs = make(name)
    theirs.save_pretrained(tmp_path / "in")
    hf = read_folder(tmp_path / "in")
    write(tmp_path / "out", hf)
    before = safetensors.load_file(tmp_path / "in/model.safetensors")
    after = safetensors.load_file(tmp_path / "out/model.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def write(folder, hf, **changes):
    """Writes what was read."""
    given = {"kind": hf.kind, "vocab_size": hf.vocab_size, "max_length": hf.max_length, "labels": hf.labels}
    config = EncoderConfig(**{**hf.settings, **changes.pop("settings", {})})
    return write_folder(folder, config, hf.weights, **{**given, "pad": 0, "bos": 2, "eos": 3, **changes})


def test_rows_as_long_as_the_model_takes(tmp_path):
    for name in ("roberta", "modernbert"):
        theirs = make(name)
        theirs.save_pretrained(tmp_path / name)
        hf = read_folder(tmp_path / name)
        assert hf.max_length == (LENGTH - PAD - 1 if name == "roberta" else LENGTH)
        tokens = torch.randint(4, VOCAB, (2, hf.max_length))
        with torch.no_grad():
            wanted = theirs(input_ids=tokens).logits
            torch.testing.assert_close(build(hf)(tokens)["mlm"].view(wanted.shape), wanted, atol=1e-5, rtol=1e-5)


def test_presets_are_written_too(tmp_path):
    """Those of our own that have a family, with random weights; and one that has none."""
    small = {"layers": 2, "width": 32, "heads": 4, "feed_forward": 48}
    tanh = {"labels": ["a", "b"], "kind": "classification"}
    modern = {"norm": "pre", "positions": "rotary", "activation": "geglu", "bias": False, "first_norm": False}
    for settings, family in (
        ({}, "bert"),
        ({"head": "relu", "norm_epsilon": 1e-12}, "distilbert"),
        ({"head": "gelu", "embedding_width": 32}, "electra"),
        ({"head": "gelu_norm", **modern}, "modernbert"),
    ):
        config = EncoderConfig(**small, **settings)
        model = Encoder(config, vocab_size=50, max_length=16, heads=heads_of("classification", 2)).eval()
        found = write_folder(
            tmp_path, config, model.state_dict(), **tanh, vocab_size=50, max_length=16, pad=0, bos=2, eos=3
        )
        assert found.model_types[0] == family
        theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
        tokens = torch.randint(4, 50, (2, 9))
        with torch.no_grad():
            torch.testing.assert_close(model(tokens)["label"], theirs(tokens).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ForPreTraining", "Model", "ForQuestionAnswering", "ForMultipleChoice"])
@pytest.mark.parametrize("name", ["bert", "electra"])
def test_other_classes_give_what_of_them_is_known(name, kind, tmp_path):
    theirs = make(name, kind)
    theirs.save_pretrained(tmp_path)
    hf = read_folder(tmp_path)
    assert hf.kind == ("masked_lm" if (name, kind) == ("bert", "ForPreTraining") else "none")
    tokens = torch.randint(4, VOCAB, (2, 9))
    with torch.no_grad():
        wanted = theirs.base_model(tokens).last_hidden_state
        torch.testing.assert_close(build(hf).encode(tokens), wanted, atol=1e-5, rtol=1e-5)
    known = {"bert.pooler.dense.weight", "cls.seq_relationship.bias", "qa_outputs.bias", "classifier.bias"}
    known |= {"pooler.dense.weight", "discriminator_predictions.dense.bias"}
    assert (name, kind) == ("electra", "Model") or known & set(hf.left_out)


def test_sharded_old_names_half_precision_and_no_prefix(tmp_path):
    theirs = make("bert")
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    theirs.save_pretrained(tmp_path / "whole")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    whole, shards = read_folder(tmp_path / "whole"), read_folder(tmp_path / "shards")
    assert all(torch.equal(whole.weights[key], shards.weights[key]) for key in whole.weights)

    file = tmp_path / "whole/model.safetensors"
    tensors = safetensors.load_file(file)
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in tensors.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    old["cls.predictions.decoder.bias"] = old.pop("cls.predictions.bias")
    old["cls.predictions.decoder.weight"] = old["bert.embeddings.word_embeddings.weight"].clone()
    safetensors.save_file(old, file)
    again = read_folder(tmp_path / "whole")
    assert all(torch.equal(whole.weights[key], again.weights[key]) for key in whole.weights) and not again.left_out

    for dtype in (torch.float16, torch.bfloat16):
        safetensors.save_file({key: value.to(dtype) for key, value in tensors.items()}, file)
        half = read_folder(tmp_path / "whole").weights
        assert all(torch.equal(half[key], whole.weights[key].to(dtype).float()) for key in half)

    bare = {key.removeprefix("bert."): value for key, value in tensors.items() if key.startswith("bert.")}
    safetensors.save_file(bare, file)
    edit(tmp_path / "whole", architectures=...)
    encoder = read_folder(tmp_path / "whole")
    assert encoder.kind == "none"
    assert all(torch.equal(encoder.weights[key], whole.weights[key]) for key in encoder.weights)


def test_a_folder_that_names_no_class(tmp_path):
    make("distilbert").save_pretrained(tmp_path)
    edit(tmp_path, architectures=...)
    assert read_folder(tmp_path).kind == "masked_lm"


def test_the_modern_config_of_old_versions(tmp_path):
    theirs = make("modernbert-mean")
    theirs.save_pretrained(tmp_path)
    new = read_folder(tmp_path)
    assert (new.settings["global_every"], new.settings["local_window"]) == (2, 6)
    assert (new.settings["rotary_base"], new.settings["local_rotary_base"]) == (160000.0, 10000.0)
    old = {"global_attn_every_n_layers": 2, "global_rope_theta": 500.0, "local_rope_theta": None}
    edit(tmp_path, layer_types=..., rope_parameters=..., **old)
    settings = read_folder(tmp_path).settings
    assert settings == {**new.settings, "rotary_base": 500.0, "local_rotary_base": 500.0}


def test_fit_vocabulary(tmp_path):
    make("bert").save_pretrained(tmp_path)
    weights = read_folder(tmp_path).weights
    fitted = fit_vocabulary(weights, 90)
    assert fitted["embeddings.tokens.weight"].shape == (90, 32) and fitted["heads.mlm.output_bias"].shape == (90,)
    assert torch.equal(fitted["embeddings.tokens.weight"], weights["embeddings.tokens.weight"][:90])
    assert fitted.keys() == weights.keys() and len(weights["heads.mlm.output_bias"]) == VOCAB
    with pytest.raises(CheckpointError, match=r"has 97 rows for a vocabulary of 98; expected at least 98"):
        fit_vocabulary(weights, 98)


def edit(folder, **changes):
    """Changes config.json; ... takes a key away."""
    file = folder / "config.json"
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """{(family, kind): folder}, made when asked for."""
    folders = {}

    def get(name, kind):
        if (name, kind) not in folders:
            folders[name, kind] = tmp_path_factory.mktemp("saved")
            make(name, kind).save_pretrained(folders[name, kind])
        return folders[name, kind]

    return get


def copy_of(folder, place):
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


@pytest.mark.parametrize(
    ("name", "kind", "changes", "message"),
    [
        (
            "bert",
            "masked_lm",
            {"model_type": "deberta-v2"},
            r"model_type is 'deberta-v2'; expected one of bert, roberta",
        ),
        ("bert", "masked_lm", {"model_type": ["bert"]}, r"model_type is \['bert'\]"),
        (
            "bert",
            "masked_lm",
            {"position_embedding_type": "relative_key"},
            r"position_embedding_type is 'relative_key'",
        ),
        ("bert", "masked_lm", {"hidden_act": "gelu_new"}, r"hidden_act is 'gelu_new'; expected \"gelu\" or"),
        ("electra", "masked_lm", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("distilbert", "masked_lm", {"activation": "gelu_pytorch_tanh"}, "activation is 'gelu_pytorch_tanh'"),
        ("modernbert", "masked_lm", {"hidden_activation": "silu"}, "hidden_activation is 'silu'"),
        ("bert", "masked_lm", {"is_decoder": True}, "is_decoder is True; expected false"),
        ("bert", "masked_lm", {"add_cross_attention": True}, "add_cross_attention is True"),
        ("bert", "masked_lm", {"quantization_config": {"bits": 4}}, "quantization_config is {'bits': 4}"),
        ("bert", "masked_lm", {"pruned_heads": {"0": [1]}}, "pruned_heads is"),
        ("bert", "masked_lm", {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ("bert", "classification", {"problem_type": "multi_label_classification"}, "is 'multi_label_classification'"),
        ("bert", "classification", {"problem_type": "regression"}, "one number to predict, not 3"),
        ("bert", "classification", {"id2label": {"0": "a", "1": "a", "2": "b"}}, "expected different names by number"),
        ("bert", "classification", {"id2label": {"0": "a", "2": "b"}}, "id2label is"),
        ("bert", "classification", {"id2label": {"0": "a", "1": "b"}}, r"classifier.weight has shape \(3, 32\)"),
        ("bert", "masked_lm", {"hidden_size": 64}, r"has shape \(97, 32\); expected \(97, 64\) by config.json"),
        ("bert", "masked_lm", {"vocab_size": 98}, r"expected \(98, 32\)"),
        ("bert", "masked_lm", {"vocab_size": 1 << 60}, "an integer from 1 to 16,777,216"),
        ("bert", "masked_lm", {"num_hidden_layers": 10_000_000}, "no more than the 58 weights in the folder"),
        (
            "bert",
            "masked_lm",
            {"num_hidden_layers": 4},
            "weight bert.encoder.layer.3.attention.self.query.weight is miss",
        ),
        ("bert", "masked_lm", {"num_hidden_layers": True}, "num_hidden_layers is True"),
        ("bert", "masked_lm", {"hidden_dropout_prob": 1.0}, "model.dropout: is 1.0"),
        ("bert", "masked_lm", {"layer_norm_eps": "small"}, "layer_norm_eps is 'small'"),
        ("bert", "masked_lm", {"num_attention_heads": 5}, "which does not divide"),
        ("roberta", "masked_lm", {"pad_token_id": 39}, "more than the offset 40"),
        ("modernbert", "masked_lm", {"layer_types": ["full_attention"] * 2}, "layer_types is"),
        ("modernbert", "masked_lm", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "of rope_type def"),
        ("modernbert", "masked_lm", {"mlp_bias": True}, "all true or all false"),
        ("modernbert", "masked_lm", {"classifier_pooling": "max"}, "classifier_pooling is 'max'; expected cls or mean"),
        ("modernbert", "masked_lm", {"decoder_bias": False}, "decoder_bias is False"),
        ("modernbert", "masked_lm", {"local_attention": -1}, "local_attention is -1"),
    ],
)
def test_what_cannot_be_expressed_is_refused(saved, name, kind, changes, message, tmp_path):
    edit(copy_of(saved(name, kind), tmp_path), **changes)
    with pytest.raises(CheckpointError, match=message):
        read_folder(tmp_path)


def test_weights_that_are_not_right(saved, tmp_path):
    copy_of(saved("bert", "masked_lm"), tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = safetensors.load_file(file)
    query, words = "bert.encoder.layer.1.attention.self.query.weight", "bert.embeddings.word_embeddings.weight"
    for change, message in (
        ({query: None}, f"weight {query} is missing"),
        ({query: torch.full((32, 32), float("nan"))}, f"weight {query} has numbers that are not finite"),
        ({query: torch.zeros(32, 32, dtype=torch.int8)}, f"weight {query} is I8; expected F32, F16 or BF16"),
        ({query: torch.zeros(32, 16)}, r"has shape \(32, 16\); expected \(32, 32\)"),
        (
            {"cls.predictions.decoder.weight": tensors[words] + 1},
            "decoder.weight differs .* tied to the token embedding",
        ),
    ):
        changed = {key: value for key, value in {**tensors, **change}.items() if value is not None}
        safetensors.save_file(changed, file)
        with pytest.raises(CheckpointError, match=message):
            read_folder(tmp_path)
    file.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    file.unlink()
    with pytest.raises(CheckpointError, match=r"holds pytorch_model.bin.*; open it with transformers"):
        read_folder(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights; expected model\.safetensors or"):
        read_folder(tmp_path)


@pytest.mark.fault(46)
def test_a_path_that_is_not_utf_8(saved, tmp_path):
    """safetensors takes no such path itself."""
    (folder := tmp_path / "m\udcff").mkdir()
    copy_of(saved("bert", "masked_lm"), folder)
    assert read_folder(folder).weights.keys() == read_folder(saved("bert", "masked_lm")).weights.keys()


def test_files_that_are_not_right(saved, tmp_path):
    copy_of(saved("bert", "masked_lm"), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    (tmp_path.parent / "stolen.safetensors").write_bytes((tmp_path / "other.safetensors").read_bytes())
    index = tmp_path / "model.safetensors.index.json"
    for entry in ("../stolen.safetensors", str(tmp_path.parent / "stolen.safetensors"), "model.bin", "..", ""):
        index.write_text(json.dumps({"weight_map": {"a": entry}}))
        with pytest.raises(CheckpointError, match=r"names the file .* beside it"):
            read_folder(tmp_path)
    for content in ({"weight_map": {"a": 7}}, {"weight_map": {}}, {"weight_map": ["a"]}, {}):
        index.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="names no files"):
            read_folder(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "missing.safetensors"}}))
    with pytest.raises(CheckpointError, match="which is not there"):
        read_folder(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "other.safetensors"}}))
    assert read_folder(tmp_path).kind == "masked_lm"
    for text, message in (
        ("[" * 100_000, "is not valid JSON"),
        ("[1]", "is \\[1\\]; expected an object"),
        ("{", "JSON"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=message):
            read_folder(tmp_path)
    with open(tmp_path / "config.json", "wb") as file:
        os.truncate(file.fileno(), 100 << 20)
    with pytest.raises(CheckpointError, match="larger than 64 MiB, as no such file is"):
        read_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config.json: is not there"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"norm": "pre"}}, "no family .* has model.norm pre .*; expected model.norm post, as in bert"),
        ({"kind": "classification", "labels": ["a"], "settings": {"pool": "mean"}}, "has model.pool mean"),
        ({"kind": "tagging", "labels": ["a"], "settings": {"head": "gelu_norm"}}, "has model.head gelu_norm"),
        ({"kind": "none"}, "kind is 'none'; expected one of masked_lm"),
        ({"kind": "classification"}, r"the labels of a classification are \[\]"),
        ({"kind": "regression"}, "weight heads.label.dense.weight is missing"),
        ({"vocab_size": 98}, r"embeddings.tokens.weight has shape \(97, 32\); expected \(98, 32\)"),
        ({"max_length": 41}, r"expected \(41, 32\) in a masked_lm"),
    ],
)
def test_what_cannot_be_written_is_refused(saved, changes, message, tmp_path):
    hf = read_folder(saved("bert", "masked_lm"))
    with pytest.raises(CheckpointError, match=message):
        write(tmp_path / "out", hf, **changes)
    assert not (tmp_path / "out").exists()


def test_without_the_package(saved):
    code = "import sys; sys.modules['safetensors'] = None\nfrom taskmask.hf.model_folder import read_folder\n"
    code += "from taskmask.errors import CheckpointError\n"
    code += f"try: read_folder({str(saved('bert', 'masked_lm'))!r})\n"
    code += "except CheckpointError as error: sys.exit(7 if 'pip install taskmask[hf]' in str(error) else 1)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
