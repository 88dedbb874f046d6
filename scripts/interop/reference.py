#!/usr/bin/python3
"""Logits of a model in files, by PyTorch and nothing of CLLM's.

    reference.py hf DIR LOGITS TOKEN...      a directory of Hugging Face
    reference.py llmc FILE LOGITS TOKEN...   a model file of llm.c

LOGITS is what CLLM says: a line of numbers for each token. Prints the greatest difference
and fails when it is above 1e-4.
"""
import json
import math
import os
import struct
import sys

import torch

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = bytearray(file.read())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            assert entry["format"] == "pt"
            continue
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(data[begin:end], dtype=DTYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"]).float()
    return tensors


def read_directory(path):
    with open(os.path.join(path, "config.json")) as file:
        config = json.load(file)
    index = os.path.join(path, "model.safetensors.index.json")
    names = ["model.safetensors"]
    if os.path.exists(index):
        with open(index) as file:
            names = sorted(set(json.load(file)["weight_map"].values()))
    tensors = {}
    for name in names:
        tensors.update(read_safetensors(os.path.join(path, name)))
    return config, tensors


def read_llmc(path):
    """GPT-2 as llm.c keeps it, under Hugging Face's names and layouts."""
    with open(path, "rb") as file:
        header = struct.unpack("<256i", file.read(1024))
        data = bytearray(file.read())
    magic, version, positions, vocab, layers, heads, width, padded = header[:8]
    assert magic == 20240326 and version in (3, 5), header[:2]
    flat = torch.frombuffer(data, dtype=torch.float32 if version == 3 else torch.bfloat16)
    flat = flat.float()
    at = 0

    def take(*shape):
        nonlocal at
        count = math.prod(shape)
        at += count
        return flat[at - count:at].reshape(shape)

    tensors = {"transformer.wte.weight": take(padded, width)[:vocab],
               "transformer.wpe.weight": take(positions, width)}
    kinds = [("ln_1.weight", (width,)), ("ln_1.bias", (width,)),
             ("attn.c_attn.weight", (3 * width, width)), ("attn.c_attn.bias", (3 * width,)),
             ("attn.c_proj.weight", (width, width)), ("attn.c_proj.bias", (width,)),
             ("ln_2.weight", (width,)), ("ln_2.bias", (width,)),
             ("mlp.c_fc.weight", (4 * width, width)), ("mlp.c_fc.bias", (4 * width,)),
             ("mlp.c_proj.weight", (width, 4 * width)), ("mlp.c_proj.bias", (width,))]
    for name, shape in kinds:
        for layer in range(layers):
            tensor = take(*shape)
            tensors[f"transformer.h.{layer}.{name}"] = tensor.T if len(shape) == 2 else tensor
    tensors["transformer.ln_f.weight"] = take(width)
    tensors["transformer.ln_f.bias"] = take(width)
    assert at == flat.numel(), (at, flat.numel())
    config = {"model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": width,
              "layer_norm_epsilon": 1e-5}
    return config, tensors


def attention(q, k, v):
    """Causal; (H,T,D) each."""
    length = q.shape[1]
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[2])
    mask = torch.full((length, length), float("-inf"), dtype=q.dtype).triu(1)
    return torch.softmax(scores + mask, dim=-1) @ v


def gpt2(config, w, tokens):
    heads, width = config["n_head"], config["n_embd"]
    norm = lambda x, name: torch.nn.functional.layer_norm(
        x, (width,), w[name + ".weight"], w[name + ".bias"], config["layer_norm_epsilon"])
    linear = lambda x, name: x @ w[name + ".weight"] + w[name + ".bias"]
    length = len(tokens)
    split = lambda x: x.reshape(length, heads, width // heads).transpose(0, 1)

    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:length]
    for layer in range(config["n_layer"]):
        block = f"transformer.h.{layer}."
        q, k, v = linear(norm(x, block + "ln_1"), block + "attn.c_attn").split(width, dim=1)
        y = attention(split(q), split(k), split(v)).transpose(0, 1).reshape(length, width)
        x = x + linear(y, block + "attn.c_proj")
        y = linear(norm(x, block + "ln_2"), block + "mlp.c_fc")
        y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y ** 3)))
        x = x + linear(y, block + "mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w.get("lm_head.weight", w["transformer.wte.weight"]).T


def llama(config, w, tokens):
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    length = len(tokens)
    assert config.get("rope_scaling") is None
    linear = lambda x, name: x @ w[name + ".weight"].T

    def norm(x, name):
        scale = torch.rsqrt((x * x).mean(-1, keepdim=True) + config["rms_norm_eps"])
        return x * scale * w[name + ".weight"]

    angle = torch.arange(length)[:, None] * config["rope_theta"] ** (
        -torch.arange(0, size, 2) / size)[None, :]
    cos = torch.cat([angle.cos(), angle.cos()], dim=1).to(torch.get_default_dtype())
    sin = torch.cat([angle.sin(), angle.sin()], dim=1).to(torch.get_default_dtype())

    def rotate(x):  # (H,T,D), halves
        turned = torch.cat([-x[..., size // 2:], x[..., :size // 2]], dim=-1)
        return x * cos + turned * sin

    split = lambda x, n: x.reshape(length, n, size).transpose(0, 1)
    x = w["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        y = norm(x, block + "input_layernorm")
        q = rotate(split(linear(y, block + "self_attn.q_proj"), heads))
        k = rotate(split(linear(y, block + "self_attn.k_proj"), keys))
        v = split(linear(y, block + "self_attn.v_proj"), keys)
        k = k.repeat_interleave(heads // keys, dim=0)
        v = v.repeat_interleave(heads // keys, dim=0)
        y = attention(q, k, v).transpose(0, 1).reshape(length, heads * size)
        x = x + linear(y, block + "self_attn.o_proj")
        y = norm(x, block + "post_attention_layernorm")
        y = torch.nn.functional.silu(linear(y, block + "mlp.gate_proj")) * linear(
            y, block + "mlp.up_proj")
        x = x + linear(y, block + "mlp.down_proj")
    head = w["model.embed_tokens.weight"] if config["tie_word_embeddings"] else w["lm_head.weight"]
    return norm(x, "model.norm") @ head.T


def main():
    kind, path, ours = sys.argv[1:4]
    tokens = [int(token) for token in sys.argv[4:]]
    config, tensors = read_directory(path) if kind == "hf" else read_llmc(path)
    torch.set_default_dtype(torch.float64)
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    model = llama if config["model_type"] == "llama" else gpt2
    expected = model(config, tensors, tokens)
    with open(ours) as file:
        found = torch.tensor([[float(number) for number in line.split()] for line in file])
    assert expected.shape == found.shape, (expected.shape, found.shape)
    difference = (expected - found).abs().max().item()
    print(f"{difference:.3g}")
    sys.exit(0 if difference <= 1e-4 else 1)


main()
