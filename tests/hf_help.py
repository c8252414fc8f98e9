"""Small models and tokenizers of Hugging Face, and runs with random weights, for the tests of conversion."""

import functools

import torch

from taskmask.checkpoints import checkpoint
from taskmask.config.settings import Settings
from taskmask.tokenizer.tokenizer import Vocabulary, train_vocabulary
from taskmask.training.build import build_objective, build_task
from taskmask.training.state import Progress, snapshot

TEXTS = [
    "The quick brown fox jumps over the lazy dog, unreasonably often.",
    "A reasonable dog isn't able to jump over an unable fox (really)!",
    "It's unbelievable: the dogs were jumping, the foxes were sleeping.",
    "In 1984 the café cost 25 dollars; naïve people paid 30.",
]
PAIRS = [{"text": one, "second": other} for one, other in zip(TEXTS, ["A dog.", "It is old", *TEXTS[:2]], strict=True)]
MASKED = ["The quick <mask> fox.", "It's <mask> that the dogs were <mask> over the lazy dog!", "un<mask> dog"]
TAGGED = [{"words": text.split()} for text in TEXTS]
LABELS = ["no", "perhaps", "yes"]
BRACKETS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ANGLES = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
FAMILIES = {
    "bert": ("Bert", SIZES),
    "roberta": ("Roberta", {**SIZES, "type_vocab_size": 1, "max_position_embeddings": 99}),
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    "electra": ("Electra", {**SIZES, "embedding_size": 20}),
    "modernbert": ("ModernBert", {**SIZES, "num_hidden_layers": 3, "local_attention": 8}),
}
CLASSES = {
    "masked_lm": "ForMaskedLM",
    "classification": "ForSequenceClassification",
    "tagging": "ForTokenClassification",
    "none": "Model",
}
MODELS = {
    "bert": {"segments": 2},
    "modern": {"norm": "pre", "first_norm": False, "positions": "rotary", "activation": "geglu", "bias": False,
               "local_window": 6, "global_every": 2, "head": "gelu_norm", "pool": "mean", "norm_epsilon": 1e-5},
}  # fmt: skip


@functools.cache
def tokenizer(kind):
    """Of "wordpiece" as in BERT, or "bytes" as in RoBERTa."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    if kind == "wordpiece":
        made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=BRACKETS, show_progress=False)
    else:
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        specials = [*ANGLES[:4], AddedToken("<mask>", lstrip=True)]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=330, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
        )
    made.train_from_iterator(TEXTS * 5, trainer)
    start, end = (made.token_to_id(name) for name in (BRACKETS if kind == "wordpiece" else ANGLES)[2:4])
    if kind == "wordpiece":
        made.post_processor = processors.BertProcessing(("[SEP]", end), ("[CLS]", start))
    else:
        made.post_processor = processors.RobertaProcessing(("</s>", end), ("<s>", start), add_prefix_space=False)
    return made


@functools.cache
def vocabulary(kind):
    """Of a SentencePiece model or of one of these tokenizers."""
    if kind == "sentencepiece":
        return Vocabulary(train_vocabulary(TEXTS * 20, 330, "unigram"))
    return Vocabulary(tokenizer(kind).to_str().encode())


def write_hf(folder, family="bert", kind="masked_lm", surplus=7, **changes):
    """A folder as transformers saves it: a random model with its tokenizer; returns the model."""
    import transformers

    prefix, sizes = FAMILIES[family]
    own = tokenizer("bytes" if family == "roberta" else "wordpiece")
    names = dict(zip(ROLES, ANGLES if family == "roberta" else BRACKETS, strict=True))
    ids = {"pad_token_id": own.token_to_id(names["pad_token"])}
    ids |= {"bos_token_id": own.token_to_id(names["cls_token"]), "eos_token_id": own.token_to_id(names["sep_token"])}
    heads = {"id2label": dict(enumerate(LABELS))} if kind in ("classification", "tagging") else {}
    settings = {"max_position_embeddings": 98, **sizes, **ids, **heads, **changes}
    config = getattr(transformers, f"{prefix}Config")(vocab_size=own.get_vocab_size() + surplus, **settings)
    torch.manual_seed(0)
    model = getattr(transformers, prefix + CLASSES.get(kind, kind))(config).eval()
    shake(model)
    model.save_pretrained(folder)
    types = ["token_type_ids"] if family in ("bert", "electra") else []
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, model_input_names=["input_ids", *types, "attention_mask"], **names
    )
    wrapped.save_pretrained(folder)
    return model


def write_run(folder, task, model="bert", kind="sentencepiece", pair="", more=None, **changes):
    """A run folder of a model with random weights."""
    vocab = vocabulary(kind)
    sizes = {"layers": 3, "width": 32, "heads": 4, "feed_forward": 48}
    options = {"pair": pair} if pair else {}
    model = {"name": "encoder", **sizes, **MODELS[model], **(more or {})}
    settings = Settings.of(run=str(folder), task={"name": task, **options}, model=model, data={"length": 98}, **changes)
    label = getattr(settings.task.options, "label", "")
    labels = {label: LABELS} if task in ("classification", "tagging") else {}
    objective = build_objective(settings, build_task(settings, vocab, labels))
    shake(objective)
    folder.mkdir(parents=True)
    from taskmask.training.run_folder import prepare

    prepare(folder, settings)
    weights = dict(objective.state_dict())
    checkpoint.save(folder / "checkpoints/step-0.pt", snapshot(settings, vocab, labels, weights, Progress()))
    return str(folder)


@torch.no_grad()
def shake(model):
    """Moves every parameter, so that none is as it was made."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.15)


RECORDS = {"masked_lm": MASKED, "classification": TEXTS, "regression": TEXTS, "tagging": TAGGED}


@torch.no_grad()
def theirs(folder, kind, records, special_ids, model=None):
    """What transformers predicts, through AutoTokenizer and in one padded batch; fp32 arrays, a row each."""
    import transformers
    from tokenizers import pre_tokenizers

    auto = "ForSequenceClassification" if kind == "regression" else CLASSES[kind]
    model = model or getattr(transformers, f"AutoModel{auto}").from_pretrained(folder).eval()
    own = transformers.AutoTokenizer.from_pretrained(folder)
    if kind == "tagging":
        if isinstance(own.backend_tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
            own.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        batch = own(
            [record["words"] for record in records], is_split_into_words=True, padding=True, return_tensors="pt"
        )
        chances = model(**batch).logits.softmax(-1)
        found = []
        for row in range(len(records)):
            words = batch.word_ids(row)
            found += [chances[row, at] for at, word in enumerate(words) if word is not None and word != words[at - 1]]
        return torch.stack(found)
    if isinstance(records[0], dict):
        batch = own([r["text"] for r in records], [r["second"] for r in records], padding=True, return_tensors="pt")
    else:
        texts = [text.replace("<mask>", own.mask_token) for text in records]
        batch = own(texts, padding=True, return_tensors="pt")
    logits = model(**batch).logits
    if kind != "masked_lm":
        return logits if kind == "regression" else logits.softmax(-1)
    found = logits[batch["input_ids"] == own.mask_token_id][:, : len(own)]
    found[:, special_ids] = -torch.inf
    return found.softmax(-1)


def ours(answers, kind, vocab):
    """The same of what `Pretrained.predict` says."""
    if kind == "masked_lm":
        rows = []
        for mask in (mask for answer in answers for mask in answer["masks"]):
            row = torch.zeros(vocab.size)
            chances = {fill["piece"]: fill["probability"] for fill in mask["fills"]}
            for id in set(range(vocab.size)) - set(vocab.special_ids.tolist()):
                row[id] = chances[vocab.piece(id)]
            rows.append(row)
        return torch.stack(rows)
    if kind == "regression":
        return torch.tensor([[answer["number"]] for answer in answers])
    if kind == "tagging":
        return [pair for answer in answers for pair in zip(answer["tags"], answer["probabilities"], strict=True)]
    by_label = [{found["label"]: found["probability"] for found in answer["classes"]} for answer in answers]
    return torch.tensor([[row[label] for label in LABELS] for row in by_label])


def check_same(answers, wanted, kind, vocab):
    """Asserts that our answers are what transformers gives."""
    found = ours(answers, kind, vocab)
    if kind == "tagging":
        best, label = wanted.max(-1)
        assert [tag for tag, _ in found] == [LABELS[number] for number in label.tolist()]
        found, wanted = torch.tensor([chance for _, chance in found]), best
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
