"""Records what Hugging Face's tokenizers and chat templates say: `record.py OUT`, by default worker/data/tests/golden.

Trains tiny tokenizers of every kind that is loaded elsewhere, encodes texts that tell them apart, and renders conversations with masks.
The unigram tokenizer comes out a little different each time: its trainer's sums depend on its threads.
"""

import json
import pathlib
import sys

import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace("{1,3}", "")

LEARNT = [
    "fn main() {\n    let value = 42; // it's a comment\n    println!(\"{value}\");\n}\n",
    "The quick brown fox jumps over the lazy dog. It's what we've said, and they'll say; I'd say so 1234567 times.\r\n",
    "Die schöne Größe, naïve café, Ελληνικά κείμενα, русский текст, 日本語の文章, हिन्दी, ١٢٣ and Ⅷ ½.\n\n\n\tTabs\tand  spaces   ",
] * 4

TEXTS = LEARNT[:3] + [
    "",
    " ",
    "\n",
    "a\u00a0b\u2003c\u2028d\u0085e",
    "e\u0301\u0301 \u0301x n\u0303o A\u030a",
    "'S'T're'VE 'ſ don'T we'LL '",
    "}\n\n  ]\r\n\t;;\n \n x()\n",
    "<|im_start|>user <|end|> </s> <s>",
    "👩‍👩‍👧 🇩🇪 \u200b\ufeff \u0000 \x07",
    "12345 1 22 333 4444 ٣٤٥ Ⅷ½ x1y2",
    "   leading and trailing   \n\n\n   ",
    "a" * 300 + " " * 40 + "b" * 70,
]

CHATS = [
    [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It's 4."}],
    [
        {"role": "system", "content": "Be brief, naïve café."},
        {"role": "user", "content": "Say\nit."},
        {"role": "assistant", "content": "It."},
        {"role": "user", "content": "Again?"},
        {"role": "assistant", "content": "It, again: {x}\n"},
    ],
    [{"role": "user", "content": "No answer."}],
]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)
LLAMA3_CHAT = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] | trim + '<|eot_id|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
)
CHAT_TOKENS = ["<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


def byte_level(pattern=None, normalizer=None, vocabulary=420):
    """BPE over bytes, with GPT-2's expression or another."""
    made = Tokenizer(models.BPE())
    if pattern is None:
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated", False), level])
    if normalizer is not None:
        made.normalizer = normalizer
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|endoftext|>"] + CHAT_TOKENS
    made.train_from_iterator(LEARNT, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))
    return made


def sentence_piece():
    """Llama 2's kind: a mark for spaces, and bytes for what has no token."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    specials = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    made.train_from_iterator(LEARNT, trainers.BpeTrainer(vocab_size=450, special_tokens=specials, show_progress=False))
    # In the real files bytes are plain tokens of the model.
    content = json.loads(made.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(content))


def unigram():
    """T5's kind."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=220, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    made.train_from_iterator(LEARNT, trainer)
    return made


def added_tokens():
    """GPT-2's kind with tokens that were added later, not all of them special."""
    made = byte_level()
    made.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("two words", normalized=False)])
    return made


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "worker/data/tests/golden")
    out.mkdir(parents=True, exist_ok=True)
    made = {
        "gpt2": byte_level(),
        "llama3": byte_level(LLAMA_3),
        "qwen2": byte_level(QWEN_2, normalizers.NFC()),
        "sentence-piece": sentence_piece(),
        "unigram": unigram(),
        "added": added_tokens(),
    }
    for name, tokenizer in made.items():
        tokenizer.save(str(out / f"{name}.json"), pretty=False)
        # What was read is what others read: a unigram model that was just trained breaks ties in another order.
        tokenizer = Tokenizer.from_file(str(out / f"{name}.json"))
        tokenizer.encode_special_tokens = True
        texts = TEXTS + ["<tool_call>two words <tool_call>"]
        cases = {"texts": [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids} for text in texts], "chats": []}
        tokenizer.encode_special_tokens = False
        if name in ("gpt2", "llama3", "qwen2"):
            fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
            # GPT-2's expression would take the header's empty line apart, depending on what follows it: no such model speaks Llama 3's form.
            templates = [("chatml", CHATML)] if name == "gpt2" else [("chatml", CHATML), ("llama3", LLAMA3_CHAT)]
            for template, content in templates:
                for chat in CHATS:
                    said = fast.apply_chat_template(
                        chat, chat_template=content, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
                    )
                    case = {"template": template, "turns": chat, "ids": said["input_ids"], "learnt": said["assistant_masks"]}
                    cases["chats"].append(case)
        (out / f"{name}.cases.json").write_text(json.dumps(cases, ensure_ascii=True))
    versions = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__}
    (out / "versions.json").write_text(json.dumps(versions) + "\n")
    print(json.dumps({name: tokenizer.get_vocab_size() for name, tokenizer in made.items()}))


if __name__ == "__main__":
    main()
