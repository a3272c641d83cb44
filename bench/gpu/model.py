# SPDX-License-Identifier: Apache-2.0
"""A Llama-shaped model with random weights whose KV pages can be taken out and put back.

Two makes of the same shape: transformers' LlamaForCausalLM, and plain torch where transformers cannot be imported or
does not take what it is given here. Both have two calls: prefill(tokens, past) and, on what that returns, the past.
A past is one tensor [2 * layers, kv_heads, tokens, head_dim]: keys of layer 0, values of layer 0, keys of layer 1, ...
"""

from typing import NamedTuple

import torch
import torch.nn.functional as functional


class Shape(NamedTuple):
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int

    @property
    def token_bytes(self):
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


LLAMA_8B = Shape(32, 4096, 32, 8, 128, 14336, 128256)
TINY = Shape(2, 64, 4, 2, 16, 128, 512)
ROPE_BASE = 500000.0
MASKED_QUERIES = 1024  # without flash attention a mask of queries x keys is needed: keep it small


def repeat_heads(key, value, heads):
    times = heads // key.shape[1]
    return key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)


def masked_attention(query, key, value, scale):
    """The queries are the last of the keys' tokens; in slices, each with its own mask."""
    key, value = repeat_heads(key, value, query.shape[1])
    before, out = key.shape[2] - query.shape[2], []
    for start in range(0, query.shape[2], MASKED_QUERIES):
        part = query[:, :, start : start + MASKED_QUERIES]
        end = before + start + part.shape[2]
        rows = torch.arange(end - part.shape[2], end, device=query.device)
        mask = torch.arange(end, device=query.device)[None, :] <= rows[:, None]
        out.append(
            functional.scaled_dot_product_attention(
                part, key[:, :, :end], value[:, :, :end], attn_mask=mask, scale=scale
            )
        )
    return torch.cat(out, 2)


def flash_attention(query, key, value, scale):
    """As masked_attention(), by the kernel behind torch's causal_lower_right: its causal mask ends at the last key."""
    return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, True, scale=scale)[0]


def flash_attention_repeated(query, key, value, scale):
    return flash_attention(query, *repeat_heads(key, value, query.shape[1]), scale)


def choose_attention(device, shape):
    """The fastest of the three that computes the right thing on this device, and its name."""
    if device.type == "cuda":
        draw = [
            torch.randn(1, heads, tokens, shape.head_dim, device=device, dtype=torch.bfloat16)
            for heads, tokens in ((shape.heads, 100), (shape.kv_heads, 356), (shape.kv_heads, 356))
        ]
        scale = shape.head_dim**-0.5
        right = masked_attention(*[tensor.float() for tensor in draw], scale)
        for candidate in (flash_attention, flash_attention_repeated):
            try:
                error = (candidate(*draw, scale).float() - right).norm() / right.norm()
            except (RuntimeError, TypeError, AttributeError):
                continue
            if error < 1e-2:  # NaN is not
                return candidate
    return masked_attention


def rotate(states, cosine, sine):
    half = states.shape[-1] // 2
    return states * cosine + torch.cat((-states[..., half:], states[..., :half]), -1) * sine


class PlainLlama:
    """The arithmetic of Llama in plain torch."""

    make = "plain torch"

    def __init__(self, shape, device, attention):
        def weight(rows, columns):
            return torch.randn(rows, columns, device=device, dtype=torch.bfloat16) * 0.02

        self.shape, self.device, self.attention = shape, device, attention
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.embedding = weight(shape.vocabulary, shape.hidden)
        self.head = weight(shape.vocabulary, shape.hidden)
        self.blocks = [
            {
                "qkv": weight(queries + 2 * keys, shape.hidden),
                "out": weight(shape.hidden, queries),
                "up": weight(2 * shape.intermediate, shape.hidden),
                "down": weight(shape.hidden, shape.intermediate),
            }
            for _ in range(shape.layers)
        ]
        steps = torch.arange(0, shape.head_dim, 2, device=device, dtype=torch.float32) / shape.head_dim
        self.frequencies = 1.0 / ROPE_BASE**steps

    def attend(self, block, states, angles, past, index):
        shape = self.shape
        split = functional.linear(states, block["qkv"]).view(1, states.shape[1], -1, shape.head_dim).transpose(1, 2)
        query, key, value = split.split((shape.heads, shape.kv_heads, shape.kv_heads), 1)
        query, key = rotate(query, *angles), rotate(key, *angles)
        if past is not None:
            key = torch.cat((past[2 * index][None], key), 2)
            value = torch.cat((past[2 * index + 1][None], value), 2)
        out = self.attention(query, key, value, shape.head_dim**-0.5)
        return functional.linear(out.transpose(1, 2).reshape(1, states.shape[1], -1), block["out"]), (key, value)

    @torch.inference_mode()
    def prefill(self, tokens, past=None):
        shape, before, made = self.shape, 0 if past is None else past.shape[2], []
        positions = torch.arange(before, before + tokens.shape[1], device=self.device, dtype=torch.float32)
        angles = torch.cat([positions[:, None] * self.frequencies] * 2, -1)
        angles = (angles.cos().to(torch.bfloat16), angles.sin().to(torch.bfloat16))
        states = functional.embedding(tokens, self.embedding)
        for index, block in enumerate(self.blocks):
            attended, pair = self.attend(
                block, functional.rms_norm(states, (shape.hidden,), eps=1e-5), angles, past, index
            )
            states = states + attended
            made.append(pair)
            gate, up = functional.linear(functional.rms_norm(states, (shape.hidden,), eps=1e-5), block["up"]).chunk(
                2, -1
            )
            states = states + functional.linear(functional.silu(gate) * up, block["down"])
        last = functional.rms_norm(states[:, -1], (shape.hidden,), eps=1e-5)
        return functional.linear(last, self.head), made

    def past_of(self, made):
        return torch.cat([half for pair in made for half in pair])


class TransformersLlama:
    """LlamaForCausalLM with the attention chosen here: its own needs a mask of queries x keys after a past."""

    make = "transformers"

    def __init__(self, shape, device, attention):
        import transformers
        from transformers import AttentionInterface, DynamicCache, LlamaConfig, LlamaForCausalLM

        def attend(module, query, key, value, _mask, scaling=None, **_):
            scale = shape.head_dim**-0.5 if scaling is None else scaling
            return attention(query, key, value, scale).transpose(1, 2).contiguous(), None

        self.make = f"transformers {transformers.__version__}"
        self.device, self.new_cache = device, DynamicCache
        AttentionInterface.register("varve_bench", attend)
        config = LlamaConfig(
            num_hidden_layers=shape.layers,
            hidden_size=shape.hidden,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            intermediate_size=shape.intermediate,
            vocab_size=shape.vocabulary,
            max_position_embeddings=1 << 17,
            rope_theta=ROPE_BASE,
            tie_word_embeddings=False,
            attn_implementation="varve_bench",
        )
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device(device):
                self.model = LlamaForCausalLM(config).eval()
        finally:
            torch.set_default_dtype(usual)

    def cache_of(self, past):
        cache = self.new_cache()
        for index in range(0 if past is None else past.shape[0] // 2):
            cache.update(past[2 * index][None], past[2 * index + 1][None], index)
        return cache

    @torch.inference_mode()
    def prefill(self, tokens, past=None):
        cache = self.cache_of(past)
        before = 0 if past is None else past.shape[2]
        positions = torch.arange(before, before + tokens.shape[1], device=self.device)[None]
        made = self.model.model(input_ids=tokens, position_ids=positions, past_key_values=cache, use_cache=True)
        return self.model.lm_head(made.last_hidden_state[:, -1]), made.past_key_values

    def past_of(self, cache):
        """Newer transformers have layers in the cache, older ones two lists, the oldest a tuple of pairs."""
        if hasattr(cache, "layers"):
            pairs = [(layer.keys, layer.values) for layer in cache.layers]
        elif hasattr(cache, "key_cache"):
            pairs = list(zip(cache.key_cache, cache.value_cache))
        else:
            pairs = list(cache)
        return torch.cat([half for pair in pairs for half in pair])


def same_alone_and_after_a_past(model, shape):
    """Whether a prompt gives the same logits, but for rounding, in one piece and in two."""
    tokens = torch.randint(0, shape.vocabulary, (1, 256), device=model.device)
    whole = model.prefill(tokens)[0].float()
    past = model.past_of(model.prefill(tokens[:, :192])[1])
    if past.dtype != torch.bfloat16 or past.shape != (2 * shape.layers, shape.kv_heads, 192, shape.head_dim):
        raise TypeError(f"KV of {past.dtype} and shape {tuple(past.shape)}")
    error = (model.prefill(tokens[:, 192:], past)[0].float() - whole).norm() / whole.norm()
    return float(error)


def build(shape, device, make, say):
    """The first make that works: "auto" prefers transformers."""
    attention = choose_attention(device, shape)
    say({"kind": "attention", "attention": attention.__name__})
    for kind in (TransformersLlama, PlainLlama):
        if make not in ("auto", kind.__name__.replace("Llama", "").lower()):
            continue
        try:
            model = kind(shape, device, attention)
            error = same_alone_and_after_a_past(model, shape)
        except Exception as problem:  # whatever a version of transformers objects to: the other make is left
            say({"kind": "note", "text": f"{kind.__name__}: {type(problem).__name__}: {problem}"[:400]})
            continue
        if error < 0.3:  # other logits altogether give 1.4
            say({"kind": "model", "make": model.make, "split_prompt_error": error, "shape": shape._asdict()})
            return model
        say({"kind": "note", "text": f"{kind.__name__}: a prompt in two pieces differs by {error}"})
    raise SystemExit("ttft: no make of the model works on this machine; the notes above say why")
