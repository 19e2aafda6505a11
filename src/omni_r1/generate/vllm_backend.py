"""The backend on vLLM: continuous batching, paged and shared prefixes, several GPUs. An optional extra of this project.

vLLM runs in this process, on its own copy of the language model; the checkpoint's VQ module stays with the `Omni`.
"""

import dataclasses
import math
import os
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from omni_r1.errors import InputError
from omni_r1.generate.backend import (
    Backend,
    Completion,
    Progress,
    Request,
    Row,
    SamplingOptions,
    WorkerError,
    admit,
    how_it_ended,
)
from omni_r1.generate.vllm_plugin import NAME, register
from omni_r1.grammar import Grammar, GrammarError
from omni_r1.model import checkpoint
from omni_r1.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.outputs import RequestOutput

# Where the user has not decided: in one process, so that errors are raised here and weights can be reloaded; on CPUs
# without binding threads to cores, which fails in containers; with the runner there is on every device.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmBackend(Backend):
    """Completes prompts with the language model of a checkpoint folder, up to `batch_size` rows at a time.

    `max_length`: most tokens of prompt and response, for which vLLM keeps room. `processor_path`: where another
    tokenizer is. Other keywords go to `vllm.LLM`. Raises InputError where vLLM is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        batch_size: int = 64,
        max_length: int = 4096,
        dtype: str = "float32",
        tensor_parallel_size: int = 1,
        processor_path: str | Path | None = None,
        **engine: Any,
    ) -> None:
        folder = checkpoint.locate(path)
        words = folder if processor_path is None else checkpoint.locate(processor_path)
        self.vocabulary = Vocabulary.from_checkpoint(folder, words)
        self.batch_size, self.max_length = batch_size, max_length
        self.llm = _start(
            folder,
            engine,
            max_num_seqs=batch_size,
            max_model_len=max_length,
            dtype=str(checkpoint.DTYPES[dtype]).removeprefix("torch."),
            tensor_parallel_size=tensor_parallel_size,
            additional_config={NAME: [str(folder), str(words)]},
        )
        self.watch = Watch(self.llm)

    def stream(
        self, requests: Iterable[Request], options: SamplingOptions, progress: Progress | None = None
    ) -> Iterator[tuple[int, int, Completion]]:
        """See `Backend.stream`. `progress` is called as rows finish. Raises WorkerError for a worker that has died."""
        if options.guidance_scale != 1:
            raise InputError("vLLM samples each request from its own logits alone", field="guidance_scale")
        most = min(options.max_length or self.max_length, self.max_length)
        options = dataclasses.replace(options, max_length=most)
        grammar = Grammar(self.vocabulary, options.mode, options.max_images, options.max_text_tokens)
        engine, rows = self.llm.llm_engine, dict[str, Row]()
        waiting, exhausted = iter(requests), False
        rows_done = tokens = number = 0
        try:
            while True:
                while not exhausted and len(rows) < self.batch_size:
                    request = next(waiting, None)
                    if request is None:
                        exhausted = True
                        break
                    for row in admit(request, self.vocabulary, grammar, options):
                        if row.done:
                            rows_done += 1
                            yield row.key, row.place, row.completion(self.vocabulary)
                            continue
                        number += 1
                        rows[str(number)] = row
                        params = self._params(row, options)
                        engine.add_request(str(number), {"prompt_token_ids": row.ids}, params)
                if not rows:
                    return
                for output in self._step():
                    row = rows.pop(output.request_id)
                    _take(row, output, grammar)
                    rows_done, tokens = rows_done + 1, tokens + len(row.logprobs)
                    if progress is not None:
                        progress(rows_done, tokens)
                    yield row.key, row.place, row.completion(self.vocabulary)
        finally:
            engine.abort_request(list(rows))

    def _step(self) -> "list[RequestOutput]":
        try:
            return self.llm.llm_engine.step()
        except Exception as error:  # which one depends on where vLLM was when it took its queues down
            death = self.watch.death()
            if death is None:
                raise
            raise WorkerError(death) from error

    def reload(self, path: str | Path) -> None:
        """Go on with the weights of another checkpoint of the same shape, as a trainer writes them."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(checkpoint.locate(path))})
        self.llm.reset_prefix_cache()

    def _params(self, row: Row, options: SamplingOptions) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        settings = {
            "mode": options.mode,
            "max_images": options.max_images,
            "max_text_tokens": options.max_text_tokens,
            "budget": row.budget,
        }
        return SamplingParams(
            temperature=options.temperature if options.do_sample else 0.0,
            top_p=options.top_p if options.do_sample else 1.0,
            top_k=options.top_k if options.do_sample else 0,
            seed=row.seed if options.do_sample else None,
            max_tokens=row.budget,
            stop_token_ids=[self.vocabulary.eos],
            ignore_eos=True,  # what generation_config.json holds for EOS may be another token
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args={NAME: settings},
        )


class Watch:
    """Waits for the first of vLLM's workers to die, and ends the others: vLLM gives them up to nine seconds, which they
    spend waiting for the dead one."""

    def __init__(self, llm: "LLM") -> None:
        # One GPU has no workers, and an engine in a process of its own (which only the environment can ask for) has
        # them out of sight.
        self.executor: Any = getattr(llm.llm_engine, "model_executor", None)
        self.processes = [worker.proc for worker in getattr(self.executor, "workers", ())]
        self.found: str | None = None
        self.thread = Thread(target=self._wait, daemon=True)
        self.thread.start()

    def death(self) -> str | None:
        """Which worker has died, and of what. Errors of vLLM's can be a little earlier than the death they come of."""
        self.thread.join(1)
        return self.found

    def _wait(self) -> None:
        if not self.processes:
            return
        [first, *_] = wait([process.sentinel for process in self.processes])
        if getattr(self.executor, "shutting_down", False) and not self.executor.is_failed:
            return  # vLLM ends, and its workers with it
        number = [process.sentinel for process in self.processes].index(first)
        dead = self.processes[number]
        for process in self.processes:
            if process is not dead:
                process.kill()
        while dead.exitcode is None:  # not at once: vLLM's own watch asks for it too
            time.sleep(0.01)
        how = how_it_ended(dead.exitcode)
        self.found = f"vLLM's worker {number + 1} of {len(self.processes)} (process {dead.pid}) died: {how}"


def _start(folder: Path, engine: dict[str, Any], **settings: Any) -> "LLM":
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import LLM, envs
        from vllm.platforms import current_platform
    except ImportError as error:
        raise InputError(f"vLLM cannot be imported ({error}); see docs/vllm.md", field="backend") from error
    newer = envs.VLLM_USE_V2_MODEL_RUNNER
    register()  # the entry point does it too, but an installation from before it was there has none
    settings |= {
        "model": str(folder),
        "skip_tokenizer_init": True,
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
        "enforce_eager": current_platform.is_cpu(),  # compiling there takes longer than it saves
        "logits_processors": [f"omni_r1.generate.{'vllm_grammar_v2:GrammarV2' if newer else 'vllm_grammar:GrammarV1'}"],
        # The table of rotary angles is as long as this; published configs say 4096 and are used beyond.
        "hf_overrides": {"max_position_embeddings": settings["max_model_len"]},
    }
    return LLM(**settings | engine)


def _take(row: Row, output: "RequestOutput", grammar: Grammar) -> None:
    """Put what vLLM gave for a row into it, checked against the grammar."""
    [said] = output.outputs
    tokens = list(said.token_ids)
    logprobs = [entry[token].logprob for entry, token in zip(said.logprobs or (), tokens, strict=True)]
    legal = next((place for place, logprob in enumerate(logprobs) if not math.isfinite(logprob)), len(tokens))
    row.ids += tokens[:legal]
    row.logprobs = logprobs[:legal]
    if legal < len(tokens):
        row.error = f"the model's logits are not finite at position {len(row.ids)}"
        return
    try:
        grammar.indices(row.ids, row.prompt_length, row.budget)
    except GrammarError as error:
        row.error = f"vLLM broke the grammar: {error}"
        return
    row.stop = "end" if tokens and tokens[-1] == grammar.vocabulary.eos else "length"
