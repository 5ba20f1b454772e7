"""The model: Llama's architecture, small. Written to be read beside the runtime's own `llama` file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Shapes, named as GGUF names them. All row lengths (n_embd, n_ff) are multiples of 256."""

    n_vocab: int = 2048
    n_ctx: int = 512
    n_embd: int = 256
    n_ff: int = 768
    n_layer: int = 8
    n_head: int = 4
    n_head_kv: int = 2
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    dropout: float = 0.1

    @property
    def head_dim(self) -> int:
        """Elements of one head."""
        return self.n_embd // self.n_head


def rope_table(config: Config) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position and pair: two tensors [n_ctx, head_dim / 2]."""
    pair = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    angle = torch.arange(config.n_ctx, dtype=torch.float32)[:, None] * config.rope_base ** (-pair / config.head_dim)
    return angle.cos(), angle.sin()


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns pairs (2i, 2i + 1) of `x` [batch, head, n_tok, head_dim]; so q and k need no permutation in a `llama` GGUF."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)


class Block(nn.Module):
    """One layer: attention over shared key/value heads, then SwiGLU."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        n_kv = c.n_head_kv * c.head_dim
        self.attn_norm = nn.RMSNorm(c.n_embd, c.norm_eps)
        self.attn_q = nn.Linear(c.n_embd, c.n_embd, bias=False)
        self.attn_k = nn.Linear(c.n_embd, n_kv, bias=False)
        self.attn_v = nn.Linear(c.n_embd, n_kv, bias=False)
        self.attn_output = nn.Linear(c.n_embd, c.n_embd, bias=False)
        self.ffn_norm = nn.RMSNorm(c.n_embd, c.norm_eps)
        self.ffn_gate = nn.Linear(c.n_embd, c.n_ff, bias=False)
        self.ffn_up = nn.Linear(c.n_embd, c.n_ff, bias=False)
        self.ffn_down = nn.Linear(c.n_ff, c.n_embd, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """`x` [batch, n_tok, n_embd] to the same shape; `mask` [n_tok, n_tok] is added to the scores."""
        c = self.c
        h = self.attn_norm(x)
        q = self.attn_q(h).unflatten(-1, (c.n_head, c.head_dim)).transpose(1, 2)
        k = self.attn_k(h).unflatten(-1, (c.n_head_kv, c.head_dim)).transpose(1, 2)
        v = self.attn_v(h).unflatten(-1, (c.n_head_kv, c.head_dim)).transpose(1, 2)
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        group = c.n_head // c.n_head_kv
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        # Written out: on rows this short it takes half the time of torch's fused attention on a CPU.
        scores = q @ k.transpose(-2, -1) * c.head_dim ** -0.5 + mask
        h = (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)
        x = x + F.dropout(self.attn_output(h), c.dropout, self.training)
        h = self.ffn_norm(x)
        h = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + F.dropout(h, c.dropout, self.training)


class Model(nn.Module):
    """Token ids to logits. The output matrix is the embedding (tied)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.token_embd = nn.Embedding(c.n_vocab, c.n_embd)
        self.blk = nn.ModuleList(Block(c) for _ in range(c.n_layer))
        self.output_norm = nn.RMSNorm(c.n_embd, c.norm_eps)
        cos, sin = rope_table(c)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # What a residual branch adds starts small: the deeper the model, the smaller.
                ends_branch = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * c.n_layer) ** 0.5 if ends_branch else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """`ids` [batch, n_tok] to logits [batch, n_tok, n_vocab]."""
        n_tok = ids.shape[1]
        cos, sin = self.cos[:n_tok], self.sin[:n_tok]
        x = F.dropout(self.token_embd(ids), self.c.dropout, self.training)
        dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32
        mask = torch.full((n_tok, n_tok), -torch.inf, dtype=dtype).triu(1)  # nothing looks ahead
        for block in self.blk:
            x = block(x, cos, sin, mask)
        return F.linear(self.output_norm(x), self.token_embd.weight)


@torch.inference_mode()
def generate(model: Model, ids: list[int], n: int, eos: int, temperature: float = 0.0, top_k: int = 40, seed: int = 1) -> list[int]:
    """Continues `ids` by at most `n` tokens, up to and without `eos`; greedy at temperature 0. No cache: a check, not a runtime."""
    rng = torch.Generator().manual_seed(seed)
    out: list[int] = []
    for _ in range(n):
        logits = model(torch.tensor([(ids + out)[-model.c.n_ctx:]]))[0, -1].float()
        if temperature == 0.0:
            token = int(logits.argmax())
        else:
            values, indices = (logits / temperature).topk(top_k)
            token = int(indices[torch.multinomial(values.softmax(-1), 1, generator=rng)])
        if token == eos:
            break
        out.append(token)
    return out
