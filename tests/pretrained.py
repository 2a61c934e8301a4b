"""Small models with random weights in the layout of published ones: what tests call pretrained."""

from pathlib import Path

import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "good", "bad"]  # fmt: skip
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def tiny_bert(folder: Path, layers: int = 2) -> Path:
    """Uncased word pieces, two blocks, 16 wide."""
    import tokenizers
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    pieces = list(dict.fromkeys([*WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS), *"0123456789.,!?"]))
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    fast = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    fast.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    fast.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    fast.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    fast.decoder = tokenizers.decoders.WordPiece()
    fast.enable_truncation(8)  # as published files do, and a reader must not mind
    fast.enable_padding(length=8)
    fast.save(str(folder / "tokenizer.json"))
    config = transformers.BertConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=128,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def tiny_gpt2(folder: Path, dtype: str = "float32") -> Path:
    """Single bytes and the end of a text, two blocks, 16 wide, with weights of a type."""
    import tokenizers
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    fast = tokenizers.Tokenizer(tokenizers.models.BPE({byte: number for number, byte in enumerate(alphabet)}, []))
    fast.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = tokenizers.decoders.ByteLevel()
    fast.add_special_tokens(["<|endoftext|>"])
    fast.save(str(folder / "tokenizer.json"))
    config = transformers.GPT2Config(
        vocab_size=260, n_positions=256, n_embd=16, n_layer=2, n_head=2, bos_token_id=256, eos_token_id=256
    )
    transformers.GPT2LMHeadModel(config).to(getattr(torch, dtype)).save_pretrained(folder)
    return folder
