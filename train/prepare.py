"""Makes the training data: restores the text, splits it into stories, trains the tokenizer, writes token ids.

    python prepare.py --text tinystories_lowercased_4MB.txt

Writes work/stories.txt (to read), work/tokenizer.json and work/{train,val}.npy (uint16 ids, every story between two BOS tokens).
"""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from restore import load_names, mend, restore_case

HERE = Path(__file__).parent
BOS = "<|story|>"  # stands between stories, so it begins one and ends one
BOS_ID = 0  # the trainer numbers special tokens first

# The text has one line break between stories and two between paragraphs, but some stories also break a paragraph with one.
_OPENING = re.compile(r"(once upon|once there|once,|there once|long ago|one (\w+ )?(day|morning|night|afternoon|evening)[, ])")
_CLOSING = re.compile(r"[.!?][\"']?$")
_MIN_CHARS, _MAX_CHARS = 350, 4000


def split_stories(text: str) -> list[str]:
    """Splits mended text into whole stories; pieces that are none (too short, unfinished, not English) are left out."""
    stories: list[str] = []
    for piece in re.split(r"(?<!\n)\n(?!\n)", text):
        piece = piece.strip()
        if not piece:
            continue
        # Joined to what went before unless both sides stand on their own.
        whole = stories and len(stories[-1]) >= _MIN_CHARS and _CLOSING.search(stories[-1])
        opens = piece.startswith(("once upon", "once there", "there once")) or (
            whole and (bool(_OPENING.match(piece)) or (len(piece) >= _MIN_CHARS and not piece.startswith('"'))))
        if stories and not opens:
            stories[-1] += "\n" + piece
        else:
            stories.append(piece)
    stories = [re.sub(r"\n+", "\n", s) for s in stories]
    return [s for s in stories if _MIN_CHARS <= len(s) <= _MAX_CHARS and s.isascii() and _CLOSING.search(s)]


def train_tokenizer(stories: list[str], n_vocab: int) -> Tokenizer:
    """Byte-level BPE, split before merging as GPT-2 splits; BOS is token 0 and never comes out of text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=n_vocab, special_tokens=[BOS], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(stories, trainer)
    assert tokenizer.token_to_id(BOS) == BOS_ID
    return tokenizer


def encode(tokenizer: Tokenizer, stories: list[str]) -> np.ndarray:
    """All stories as one row of ids: BOS story BOS story ... BOS."""
    ids: list[int] = [BOS_ID]
    for encoding in tokenizer.encode_batch(stories):
        ids.extend(encoding.ids)
        ids.append(BOS_ID)
    return np.array(ids, dtype=np.uint16)


def main() -> None:
    """Runs the steps in order and prints what each one made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="the lower-cased TinyStories excerpt")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--n-vocab", type=int, default=2048)
    parser.add_argument("--val-fraction", type=float, default=0.02)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    always, sometimes = load_names(HERE / "names.txt")
    stories = split_stories(mend(args.text.read_text(encoding="utf-8")))
    stories = [restore_case(story, always, sometimes) for story in stories]
    stories = list(dict.fromkeys(stories))
    random.Random(1).shuffle(stories)
    (args.work / "stories.txt").write_text("\n\n".join(stories) + "\n")

    n_val = round(len(stories) * args.val_fraction)
    val, train = stories[:n_val], stories[n_val:]
    tokenizer = train_tokenizer(train, args.n_vocab)
    tokenizer.save(str(args.work / "tokenizer.json"))
    for name, part in (("train", train), ("val", val)):
        ids = encode(tokenizer, part)
        np.save(args.work / f"{name}.npy", ids)
        chars = sum(map(len, part))
        print(f"{name}: {len(part)} stories, {chars} characters, {len(ids)} tokens, {chars / len(ids):.2f} characters a token")


if __name__ == "__main__":
    main()
