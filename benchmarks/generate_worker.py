"""Times one backend, for `generate.py`: `generate_worker.py BACKEND CHECKPOINT OPTIONS.json`, a line of JSON a case."""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import forget_peak, random_omni, resident
from generate import LONGEST, BenchmarkOptions, chosen_cases, prompts_of, sampling
from transformers import LogitsProcessor

from omni_r1.generate import SamplingOptions, TransformersBackend
from omni_r1.generate.backend import Backend, Request
from omni_r1.grammar import Grammar
from omni_r1.model import Omni, load


class Plain:
    """The loop the original answers with."""

    def __init__(self, omni: Any) -> None:
        self.model, self.vocabulary = omni.model, omni.vocabulary

    def answer(self, ids: list[int], options: Any, seed: int) -> list[int]:
        grammar = Grammar(self.vocabulary, options.mode)
        budget = min(options.max_new_tokens, (options.max_length or 2**31) - len(ids))
        state = grammar.start(ids, budget)

        class UnderGrammar(LogitsProcessor):
            def __call__(self, input_ids, scores):
                nonlocal state
                if input_ids.shape[1] > len(ids):
                    state = grammar.advance(state, int(input_ids[0, -1]))
                return grammar.mask(scores, [state])

        torch.manual_seed(seed)
        prompt = torch.tensor([ids], device=self.model.device)
        output = self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=budget,
            do_sample=options.do_sample,
            logits_processor=[UnderGrammar()],
            pad_token_id=self.vocabulary.pad,
            eos_token_id=self.vocabulary.eos,
        )
        return output[0].tolist()


def omni_of(folder: Path, options: BenchmarkOptions) -> Omni:
    """The checkpoint of `folder`; where it has no weights, random ones made on the device."""
    if list(folder.glob("*.safetensors")):
        return load(folder, device=options.device, dtype=options.dtype)
    return random_omni(folder, options.device, options.dtype)


def worker(backend: str, folder: Path, options: BenchmarkOptions) -> None:
    """Time one backend; a line of JSON for each case."""
    run, vocabulary, extra = open_backend(backend, folder, options)
    run([[vocabulary.bos, *vocabulary.encode_text("warm up")]] * 2, {"mode": "text-only", "max_new_tokens": 8}, 1)
    cases = chosen_cases(options)
    if backend == "compiled":  # a step of each shape is compiled when it is first met
        for case in {case.context: case for case in cases}.values():
            run(prompts_of(case, vocabulary), sampling(case, vocabulary), case.samples)
    for case in cases:
        prompts = prompts_of(case, vocabulary)[: case.plain if backend == "plain" else None]
        if not prompts:
            continue
        samples = 1 if backend == "plain" else case.samples
        forget_peak_of(options.device)
        extra.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = run(prompts, sampling(case, vocabulary), samples)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        figures = {
            "backend": backend,
            "case": case.name,
            "prompts": len(prompts),
            "prompt_tokens": sum(map(len, prompts)) // len(prompts),
            "new_tokens": tokens,
            "tokens_per_second": tokens / wall,
            "tokens_per_cpu_second": tokens / cpu,
            "peak_memory_bytes": peak(options.device),
        }
        if not (case.text or case.ragged):
            figures["seconds_per_image"] = wall / len(prompts) / samples
        if extra.get("fed"):
            figures["rows_fed_per_token"] = (extra["fed"] + len(prompts) * samples) / tokens
        if options.device != "cpu" and extra.get("steps"):
            figures["bandwidth_share"] = extra["bytes"] / wall / bandwidth(options.device)
        print(json.dumps(figures), flush=True)


def open_backend(backend: str, folder: Path, options: BenchmarkOptions) -> tuple[Callable, Any, dict[str, Any]]:
    """(prompts, sampling options, samples) -> number of new tokens; the vocabulary; counts taken on the way."""
    extra: dict[str, Any] = {}
    if backend == "plain":
        plain = Plain(omni_of(folder, options))

        def one_by_one(prompts: list[list[int]], sampled: dict[str, Any], samples: int) -> int:
            settings = SamplingOptions(**sampled)
            rows = [(ids, plain.answer(ids, settings, seed)) for ids in prompts for seed in range(samples)]
            return sum(len(row) - len(ids) for ids, row in rows)

        return one_by_one, plain.vocabulary, extra
    engine: Backend
    if backend in ("transformers", "compiled"):
        omni = omni_of(folder, options)
        engine = TransformersBackend(omni, 32, compiled=backend == "compiled")
        if backend == "transformers":  # a hook would not be compiled
            count_work(omni.model, extra)
    else:
        from omni_r1.generate.vllm_backend import VllmBackend

        weights = "auto" if list(folder.glob("*.safetensors")) else "dummy"
        engine = VllmBackend(folder, max_length=LONGEST, dtype=options.dtype, load_format=weights)

    def together(prompts: list[list[int]], sampled: dict[str, Any], samples: int) -> int:
        requests = [Request(key, ids, range(samples)) for key, ids in enumerate(prompts)]
        rows = [row for *_, row in engine.stream(requests, SamplingOptions(**sampled))]
        assert len(rows) == len(prompts) * samples and not any(row.error for row in rows)
        return sum(len(row.ids) - row.prompt_length for row in rows)

    return together, engine.vocabulary, extra


def count_work(model: Any, extra: dict[str, Any]) -> None:
    """Count decoding steps, the rows fed in them, and the bytes that they must read: weights and cache."""
    layers = sum(p.numel() * p.element_size() for p in model.model.layers.parameters())
    config = model.config
    columns = config.vq_config.num_embeddings * config.hidden_size * model.lm_head.weight.element_size()
    heads = config.num_key_value_heads / config.num_attention_heads
    column = 2 * config.num_hidden_layers * config.hidden_size * heads * model.lm_head.weight.element_size()

    def before(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        rows, new = kwargs["input_ids"].shape
        if new == 1:
            extra["steps"] = extra.get("steps", 0) + 1
            extra["fed"] = extra.get("fed", 0) + rows
            length = int(kwargs["position_ids"].max()) + 1
            extra["bytes"] = extra.get("bytes", 0) + layers + columns + column * rows * length

    model.model.register_forward_pre_hook(before, with_kwargs=True)


@functools.cache
def bandwidth(device: str) -> float:
    """Bytes a second that a copy on the device reads and writes."""
    source = torch.empty(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * source.numel() / min(seconds)


def forget_peak_of(device: str) -> None:
    if device == "cpu":
        forget_peak()
    else:
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> int:
    """Most bytes held since `forget_peak_of`: of the process, or on the device by torch."""
    if device == "cpu":
        return resident("VmHWM")
    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    worker(sys.argv[1], Path(sys.argv[2]), BenchmarkOptions(**json.loads(sys.argv[3])))
