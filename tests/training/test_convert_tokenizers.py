"""Tokenizers of Hugging Face by the roles of their tokens: the same predictions, and the same tokenizer back."""

import json

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("safetensors")

import transformers
from hf_help import FAMILIES, LABELS, PAIRS, TEXTS, check_same, shake, theirs, write_run
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from taskmask.config import Assignment
from taskmask.errors import CheckpointError, DataError
from taskmask.hf.convert import from_hf, to_hf
from taskmask.inference import loaded_model
from taskmask.tokenizer.tokenizer import Vocabulary

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
MASKED = ["The quick <mask> fox.", "It's <mask> that the dogs were <mask> over the lazy dog!", " a  dog  <mask>"]
ODD = ["", " ", "a\u2581b \u2581", "日本 dog\u0301", "the  dog ", "<mask>dog <s> <cls> </s>", "un\u00adable", "\u3000a"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NAMES = ("unk_token", "bos_token", "eos_token", "pad_token", "cls_token", "sep_token", "mask_token")


def trained(kind, names, ends=("cls_token", "sep_token"), between="", mask_takes_space=True):
    """A tokenizer with specials of these names, and a template of the two named ends."""
    specials = list(dict.fromkeys(name for key, name in names.items() if key != "mask_token"))
    specials = [*specials, AddedToken(names["mask_token"], lstrip=mask_takes_space)]
    if kind == "unigram":
        made = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=150, special_tokens=specials, unk_token=names["unk_token"], show_progress=False
        )
    else:
        made = Tokenizer(models.BPE(unk_token=names["unk_token"], byte_fallback=True, fuse_unk=True))
        trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=[*specials, *BYTES], show_progress=False)
    if kind == "gemma":
        made.normalizer = normalizers.Replace(" ", "\u2581")
        made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    else:
        scheme, split = {"never": ("never", True), "first": ("first", True)}.get(kind, ("always", kind != "whole"))
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
        made.decoder = decoders.Metaspace(prepend_scheme=scheme, split=split)
    made.train_from_iterator(TEXTS * 5, trainer)
    content = json.loads(made.to_str())
    content["added_tokens"] = [entry for entry in content["added_tokens"] if entry["content"] not in BYTES]
    made = Tokenizer.from_str(json.dumps(content))
    start, end = (names[key] for key in ends)
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        pair=" ".join(f"{start} $A {end} {between} $B:1 {end}:1".split()),
        special_tokens=[(name, made.token_to_id(name)) for name in dict.fromkeys((start, end))],
    )
    return made


def named(*names):
    return dict(zip(NAMES, names, strict=True))


BOTH = named("<unk>", "<s>", "</s>", "<pad>", "<cls>", "<sep>", "<mask>")
ENDS = named("<unk>", "<bos>", "<eos>", "<pad>", "<bos>", "<eos>", "<mask>")
OWN = named("[u]", "[b]", "[e]", "[p]", "[c]", "[s]", "[m]")
TOKENIZERS = {
    "cls-beside-s": (BOTH, {"kind": "unigram"}),
    "bos-eos": (ENDS, {"kind": "unigram"}),
    "gemma": (ENDS, {"kind": "gemma"}),
    "gemma-plain-mask": (ENDS, {"kind": "gemma", "mask_takes_space": False}),
    "names-of-its-own": (OWN, {"kind": "first"}),
    "metaspace-never": (BOTH, {"kind": "never"}),
    "metaspace-whole": (BOTH, {"kind": "whole"}),
    "metaspace-plain-mask": (BOTH, {"kind": "always", "mask_takes_space": False}),
    "two-separators": (BOTH, {"kind": "unigram", "between": "<sep>"}),
    "s-beside-cls": (BOTH, {"kind": "first", "ends": ("bos_token", "eos_token")}),
}


def write(folder, name, kind="masked_lm", named_in="tokenizer_config.json"):
    """A folder of transformers with this tokenizer; returns its model."""
    names, options = TOKENIZERS[name]
    own = trained(names=names, **options)
    names = {
        key: token for key, token in names.items() if name != "s-beside-cls" or key not in ("cls_token", "sep_token")
    }
    ids = {
        f"{key}_id": own.token_to_id(token) for key, token in names.items() if key not in ("unk_token", "mask_token")
    }
    sizes = {**FAMILIES["modernbert"][1], "max_position_embeddings": 98, "id2label": dict(enumerate(LABELS))}
    torch.manual_seed(0)
    config = transformers.ModernBertConfig(vocab_size=own.get_vocab_size(), **sizes, **ids)
    classes = {"masked_lm": "ModernBertForMaskedLM", "classification": "ModernBertForSequenceClassification"}
    model = getattr(transformers, classes[kind])(config).eval()
    shake(model)
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=own, **names).save_pretrained(folder)
    if named_in == "special_tokens_map.json":  # as transformers 4 writes it
        about = json.loads((folder / "tokenizer_config.json").read_text())
        old = {key: {"content": about.pop(key), "lstrip": False, "special": True} for key in names}
        (folder / "tokenizer_config.json").write_text(json.dumps(about))
        (folder / named_in).write_text(json.dumps(old))
    return model


def check_same_tokenizer(one, other, texts):
    first, second = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (one, other))
    assert first(texts)["input_ids"] == second(texts)["input_ids"]
    assert first(texts[1:], texts[:-1])["input_ids"] == second(texts[1:], texts[:-1])["input_ids"]
    for role in ("pad", "unk", "mask"):
        assert getattr(first, f"{role}_token_id") == getattr(second, f"{role}_token_id")


def check_fills(answers, wanted, vocab):
    """Every chance of every mask, and which pieces the best are; a byte and a letter may have one name."""
    masks = [mask["fills"] for answer in answers for mask in answer["masks"]]
    chances, ids = wanted.sort(descending=True)
    found = torch.tensor([[fill["probability"] for fill in fills] for fills in masks])
    torch.testing.assert_close(found, chances[:, : found.shape[1]], atol=1e-5, rtol=1e-5)
    assert [[fill["piece"] for fill in fills[:3]] for fills in masks] == [vocab.pieces(row[:3]) for row in ids]


OLD = [(name, "special_tokens_map.json") for name in ("names-of-its-own", "s-beside-cls")]


@pytest.mark.parametrize(("name", "named_in"), [*((name, "tokenizer_config.json") for name in TOKENIZERS), *OLD])
def test_there_and_back(name, named_in, tmp_path):
    model = write(tmp_path / "hf", name, named_in=named_in)
    from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    loaded = loaded_model.load(str(tmp_path / "run"))
    answers = loaded.predict(MASKED, top=1000)
    check_fills(answers, theirs(tmp_path / "hf", "masked_lm", MASKED, loaded.vocab.special_ids, model), loaded.vocab)
    to_hf(str(tmp_path / "run"), str(tmp_path / "back"))
    check_same_tokenizer(tmp_path / "hf", tmp_path / "back", [*TEXTS, *MASKED, *ODD])
    check_fills(answers, theirs(tmp_path / "back", "masked_lm", MASKED, loaded.vocab.special_ids), loaded.vocab)
    from_hf(str(tmp_path / "back"), str(tmp_path / "again"))
    again = Vocabulary.load(tmp_path / "again")
    for role in ("pad", "bos", "eos", "unk", "mask"):
        assert getattr(again, role) == getattr(loaded.vocab, role)


@pytest.mark.parametrize("name", ["cls-beside-s", "two-separators", "gemma"])
def test_pairs(name, tmp_path):
    model = write(tmp_path / "hf", name, "classification")
    from_hf(str(tmp_path / "hf"), str(tmp_path / "run"), [Assignment("task.pair", "second", "test")])
    loaded = loaded_model.load(str(tmp_path / "run"))
    answers = loaded.predict(PAIRS, top=1000)
    check_same(answers, theirs(tmp_path / "hf", "classification", PAIRS, loaded.vocab.special_ids, model),
               "classification", loaded.vocab)  # fmt: skip
    to_hf(str(tmp_path / "run"), str(tmp_path / "back"))
    check_same_tokenizer(tmp_path / "hf", tmp_path / "back", TEXTS)


def template(folder, single, pair="<cls> $A <sep> $B:1 <sep>:1"):
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    specials = [(name, own.token_to_id(name)) for name in ("<cls>", "<sep>")]
    own.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=specials)
    own.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("single", ["$A", "$A <sep>", "<cls> $A", "<cls> <cls> $A <sep>"])
def test_a_template_without_two_ends_is_refused(single, tmp_path):
    write(tmp_path / "hf", "cls-beside-s")
    template(tmp_path / "hf", single)
    with pytest.raises(CheckpointError, match=r"does not put one special token before a text.*makes <cls> A <sep> of"):
        from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_pairs_that_are_joined_in_another_way_are_refused(tmp_path):
    write(tmp_path / "hf", "cls-beside-s", "classification")
    template(tmp_path / "hf", "<cls> $A <sep>", "<cls> $A <sep> <cls> $B <sep>")
    with pytest.raises(CheckpointError, match="does not join the texts of a pair as taskmask does"):
        from_hf(str(tmp_path / "hf"), str(tmp_path / "pairs"), [Assignment("task.pair", "second", "test")])
    from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))
    to_hf(str(tmp_path / "run"), str(tmp_path / "back"))
    check_same_tokenizer(tmp_path / "hf", tmp_path / "back", TEXTS)


def configured(folder, **changes):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_config_that_contradicts_the_template_is_refused(tmp_path):
    write(tmp_path / "hf", "cls-beside-s")
    configured(tmp_path / "hf", cls_token="<s>")
    with pytest.raises(
        DataError, match=r"cls_token is <s> in tokenizer_config.json, and tokenizer.json puts <cls> there"
    ):
        from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))


def test_a_mask_that_is_no_token_is_refused(tmp_path):
    write(tmp_path / "hf", "cls-beside-s")
    configured(tmp_path / "hf", mask_token="<M>")
    with pytest.raises(CheckpointError, match=r"its tokenizer has no <mask>; .* that tokenizer_config.json names"):
        from_hf(str(tmp_path / "hf"), str(tmp_path / "run"))


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece", "bytes"])
@pytest.mark.parametrize("task", ["masked_lm", "classification"])
def test_control_characters_are_spaces_on_both_sides(task, kind, tmp_path):
    texts = [
        "A\tdog\n<mask> the\r\nlazy\x00 fox\x7f.",
        "\nThe <mask>\n",
        "dog \u2581<mask> \u2581 x",
        "\u3000a\u00a0b <mask> ",
    ]
    records = texts if task == "masked_lm" else [text.replace("<mask>", "") for text in texts]
    run = write_run(tmp_path / "run", task, "modern", kind)
    to_hf(run, str(tmp_path / "hf"))
    loaded = loaded_model.load(run)
    wanted = theirs(tmp_path / "hf", task, records, loaded.vocab.special_ids)
    check_same(loaded.predict(records, top=1000), wanted, task, loaded.vocab)
    from_hf(str(tmp_path / "hf"), str(tmp_path / "back"))
    to_hf(str(tmp_path / "back"), str(tmp_path / "hf2"))
    first, second = ((tmp_path / name / "tokenizer.json").read_text() for name in ("hf", "hf2"))
    assert json.loads(first) == json.loads(second)
