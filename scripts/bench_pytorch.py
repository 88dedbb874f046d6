#!/usr/bin/python3
"""The model that cllm-bench trains, in PyTorch, on the same sizes: tokens a second.

GPT-2: learned positions, layer norms before attention and MLP, GELU in its tanh form, the
output matrix tied to the embedding; AdamW with clipping of the gradient's norm. Tokens are
random. One line of JSON for each call:

    bench_pytorch.py --layers 6 --heads 8 --width 384 --vocab 8192 --context 128 \\
        --batch 32 --threads 2 --processes 1 --precision bf16 --steps 3
"""
import argparse
import contextlib
import json
import math
import multiprocessing
import os
import queue
import sys
import time

try:
    import torch
    import torch.distributed
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    sys.exit("bench_pytorch.py: no PyTorch for %s: apt-get install python3-torch, "
             "or name another interpreter with PYTHON=" % sys.executable)


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc, self.fc_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attend(self, x, mask):
        batch, time_, width = x.shape
        shape = (batch, time_, self.heads, width // self.heads)
        q, k, v = (part.view(shape).transpose(1, 2)
                   for part in self.qkv(x).split(width, dim=2))
        scores = q @ k.transpose(2, 3) * (1.0 / math.sqrt(width // self.heads))
        weights = F.softmax(scores + mask, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, time_, width))

    def forward(self, x, mask):
        x = x + self.attend(self.ln_1(x), mask)
        return x + self.fc_proj(F.gelu(self.fc(self.ln_2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.wte = nn.Embedding(sizes.vocab, sizes.width)
        self.wpe = nn.Embedding(sizes.context, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads)
                                    for _ in range(sizes.layers))
        self.ln_f = nn.LayerNorm(sizes.width)
        mask = torch.full((sizes.context, sizes.context), float("-inf")).triu(1)
        self.register_buffer("mask", mask, persistent=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens, targets):
        x = self.wte(tokens) + self.wpe.weight[:tokens.shape[1]]
        mask = self.mask.to(torch.bfloat16) if torch.is_autocast_cpu_enabled() else self.mask
        for block in self.blocks:
            x = block(x, mask)
        logits = F.linear(self.ln_f(x), self.wte.weight)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def pss_bytes():
    with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def train(rank, args, store, results):
    torch.set_num_threads(args.threads)
    torch.manual_seed(1 + rank)
    model = Model(args)
    if args.processes > 1:
        torch.distributed.init_process_group("gloo", init_method="file://" + store,
                                             rank=rank, world_size=args.processes)
        model = nn.parallel.DistributedDataParallel(model)
    decay = [p for p in model.parameters() if p.dim() == 2]
    other = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1},
                                   {"params": other, "weight_decay": 0.0}],
                                  lr=1e-3, betas=(0.9, 0.95))
    rows = args.batch // args.processes
    bf16 = args.precision == "bf16"
    spent = []
    for _ in range(args.warmup + args.steps):
        batch = torch.randint(args.vocab, (rows, args.context + 1))
        began = time.monotonic()
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = model(batch[:, :-1], batch[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        spent.append(time.monotonic() - began)
    results.put((sum(spent[args.warmup:]), pss_bytes()))
    if args.processes > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("layers", "heads", "width", "vocab", "context", "batch"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--processes", type=int, default=1, help="more than one: DDP, gloo")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--store", default="", help="a file that does not exist yet, for DDP")
    args = parser.parse_args()
    if args.batch % args.processes != 0:
        parser.error("--batch is not a multiple of --processes")
    if args.processes > 1 and not args.store:
        parser.error("--processes needs --store")
    # Of its own; a fixed core type would hold the library back.
    os.environ.pop("OPENBLAS_CORETYPE", None)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    children = [context.Process(target=train, args=(rank, args, args.store, results))
                for rank in range(args.processes)]
    for child in children:
        child.start()
    measured = []
    while len(measured) < args.processes:
        try:
            measured.append(results.get(timeout=1))
        except queue.Empty:  # has somebody died meanwhile?
            if any(child.exitcode not in (None, 0) for child in children):
                for child in children:
                    child.kill()
                sys.exit("bench_pytorch.py: a process has died")
    for child in children:
        child.join()
    tokens = args.batch * args.context * args.steps
    print(json.dumps({"torch": torch.__version__, "threads": args.threads,
                      "processes": args.processes, "precision": args.precision,
                      "tokens_per_s": tokens / max(spent for spent, _ in measured),
                      "pss_bytes": sum(pss for _, pss in measured)}))


if __name__ == "__main__":
    main()
