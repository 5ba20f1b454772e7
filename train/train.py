"""Trains the story model on the CPU. Stopped at any moment, the same command goes on from the last checkpoint.

    python train.py

Reads work/{train,val}.npy. Writes work/last.pt (to go on from), work/best.pt (lowest held-out loss), log.csv and loss.svg.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import os
import random
import time
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model import Config, Model
from plot import draw

HERE = Path(__file__).parent
IGNORED = -100  # the target of padding, as cross_entropy expects it
LOG_FIELDS = ["step", "tokens", "train_loss", "val_loss", "seconds"]


def load_rows(path: Path, n_ctx: int) -> list[np.ndarray]:
    """The stories in an id file, each BOS ... BOS; what is longer than the context goes on in a row of its own."""
    ids = np.load(path).astype(np.int64)
    bos = np.flatnonzero(ids == ids[0])
    stories = [ids[a:b + 1] for a, b in itertools.pairwise(bos)]
    return [s[i:i + n_ctx + 1] for s in stories for i in range(0, len(s) - 1, n_ctx)]


def batches(rows: list[np.ndarray], batch_tokens: int, rng: random.Random | None) -> list[list[np.ndarray]]:
    """Rows of like length together, so that little is padding; in a new order for every state of `rng`."""
    order = list(rows)
    if rng:
        rng.shuffle(order)
    out: list[list[np.ndarray]] = []
    for i in range(0, len(order), 512):  # sorting a part at a time keeps batches from being the same in each epoch
        batch: list[np.ndarray] = []
        for row in sorted(order[i:i + 512], key=len):
            if batch and (len(batch) + 1) * len(row) > batch_tokens:
                out.append(batch)
                batch = []
            batch.append(row)
        out.append(batch)
    if rng:
        rng.shuffle(out)
    return out


def collate(batch: list[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Inputs and targets [n_row, n_tok]; on the right of each row is padding, which causal attention never sees."""
    n_tok = max(map(len, batch)) - 1
    x = torch.zeros(len(batch), n_tok, dtype=torch.long)
    y = torch.full((len(batch), n_tok), IGNORED)
    for i, row in enumerate(batch):
        x[i, :len(row) - 1] = torch.from_numpy(row[:-1])
        y[i, :len(row) - 1] = torch.from_numpy(row[1:])
    return x, y


def loss_sum(model: Model, batch: list[np.ndarray]) -> tuple[Tensor, int]:
    """Cross entropy summed over the targets of a batch, and how many they are."""
    x, y = collate(batch)
    logits = model(x).float()
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=IGNORED, reduction="sum"), int((y != IGNORED).sum())


@torch.inference_mode()
def evaluate(model: Model, rows: list[np.ndarray], batch_tokens: int = 4096) -> float:
    """Mean loss in nats per token over whole stories, without dropout."""
    model.eval()
    parts = [loss_sum(model, batch) for batch in batches(rows, batch_tokens, None)]
    model.train()
    return sum(loss.item() for loss, _ in parts) / sum(n for _, n in parts)


def optimizers(model: Model, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices (fewer steps to the same loss than AdamW), AdamW for the embedding and the norms."""
    matrices = [p for p in model.blk.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() == 1]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([{"params": [model.token_embd.weight], "weight_decay": weight_decay},
                               {"params": norms, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.95))
    return [muon, adamw]


def rate(step: int, n_step: int, warmup: int = 60) -> float:
    """The part of the learning rate at `step`: a short rise, then a cosine down to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, n_step - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def save(path: Path, state: dict) -> None:
    """Writes a checkpoint whole or not at all."""
    partial = path.with_suffix(".tmp")
    torch.save(state, partial)
    os.replace(partial, path)


class Log:
    """log.csv; going on from a checkpoint drops the rows written after it."""

    def __init__(self, path: Path, step: int) -> None:
        rows = list(csv.DictReader(path.open())) if path.exists() and step else []
        self.file = path.open("w", newline="")
        self.writer = csv.DictWriter(self.file, LOG_FIELDS, lineterminator="\n")
        self.writer.writeheader()
        self.writer.writerows(r for r in rows if int(r["step"]) <= step)

    def write(self, *values: object) -> None:
        """Adds a row, on the disk at once and on the terminal."""
        self.writer.writerow(dict(zip(LOG_FIELDS, values)))
        self.file.flush()
        print(*values, flush=True)


def main() -> None:
    """Trains for a number of epochs; only time spent in steps counts as seconds, not time stopped between runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--log", type=Path, default=HERE / "log.csv")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--n-layer", type=int, default=Config.n_layer)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eval-every", type=int, default=100, help="steps between evaluations and checkpoints")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(1)

    config = Config(dropout=args.dropout, n_layer=args.n_layer)
    train, val = (load_rows(args.work / f"{name}.npy", config.n_ctx) for name in ("train", "val"))
    plan = [b for epoch in range(args.epochs) for b in batches(train, args.batch_tokens, random.Random(epoch))]
    model = Model(config)
    # The running mean of the weights is what is evaluated and kept: it is ahead of the weights while the rate is high.
    mean = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    opts = optimizers(model, args.lr, args.weight_decay)
    step, tokens, seconds, best = 0, 0, 0.0, math.inf
    last = args.work / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        model.load_state_dict(state["model"])
        mean.load_state_dict(state["mean"])
        for opt, saved in zip(opts, state["opts"]):
            opt.load_state_dict(saved)
        torch.set_rng_state(state["rng"])
        step, tokens, seconds, best = state["step"], state["tokens"], state["seconds"], state["best"]
    log = Log(args.log, step)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(plan)} steps, from step {step}", flush=True)

    model.train()
    running: list[float] = []
    while step < len(plan):
        begin = time.process_time()
        for opt, group in ((o, g) for o in opts for g in o.param_groups):
            group["lr"] = args.lr * rate(step, len(plan))
        with torch.autocast("cpu", torch.bfloat16):
            total, n = loss_sum(model, plan[step])
        (total / n).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        mean.update_parameters(model)
        step, tokens = step + 1, tokens + n
        running.append(total.item() / n)
        seconds += time.process_time() - begin
        if step % args.eval_every and step < len(plan):
            continue
        with torch.autocast("cpu", torch.bfloat16):
            val_loss = evaluate(cast(Model, mean.module), val)
        log.write(step, tokens, f"{sum(running) / len(running):.4f}", f"{val_loss:.4f}", f"{seconds:.0f}")
        running = []
        kept = {"config": asdict(config), "model": mean.module.state_dict(), "step": step, "tokens": tokens, "val_loss": val_loss}
        if val_loss < best:
            best = val_loss
            save(args.work / "best.pt", kept)
        save(last, {"model": model.state_dict(), "mean": mean.state_dict(), "opts": [o.state_dict() for o in opts],
                    "rng": torch.get_rng_state(), "step": step, "tokens": tokens, "seconds": seconds, "best": best})
        draw(args.log, args.log.with_name("loss.svg"))


if __name__ == "__main__":
    main()
