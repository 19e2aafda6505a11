"""The model in lmms-eval (extra `lmms-eval`), which finds it by the entry point `lmms_eval.models`: `--model omni_r1`.

The harness's budgets are for models that only write: its `max_new_tokens` bounds the words here, and drawings have a
budget of their own. Its stop strings are not heeded: reasoning has blank lines. Its tasks compare all that was said
with the gold answer, so the final answer alone is given to them.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

from omni_r1.bench.suites.rows import with_marks
from omni_r1.errors import InputError, OmniError
from omni_r1.generate.backend import Completion, Request, SamplingOptions
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.model import load
from omni_r1.pixels import opaque
from omni_r1.trajectory import TEMPLATES

MODEL = ModelManifest("omni_r1", simple_class_path="omni_r1.bench.lmms_eval_model.OmniR1")


class OmniR1(lmms):
    """Model arguments: `pretrained` (a folder, a hub id or `miniature`), and those below.

    `max_new_tokens` is the room for words and drawings together. `images_dir`: where drawings are kept, as
    `TASK-DOC-image_K.png`; without it only their places show, as `<image_K>`. `answer_only`: a response is the final
    answer in a line, empty where there is none; off, it is the whole trace.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        device: str | None = "cpu",
        dtype: str = "float32",
        batch_size: int | str = 16,
        template: str = "plain",
        mode: str = "interleaved",
        max_new_tokens: int = 4096,
        max_images: int | None = None,
        images_dir: str | None = None,
        answer_only: bool = True,
        seed: int = 0,
        max_batch_size: object = None,
    ) -> None:
        super().__init__()
        if template not in TEMPLATES:
            raise InputError(f"must be one of {', '.join(TEMPLATES)}, not {template!r}", field="template")
        self.omni = load(pretrained, device=device or "cpu", dtype=dtype)
        self.backend = TransformersBackend(self.omni, int(batch_size))
        self.template, self.mode, self.seed = template, mode, seed
        self.max_new_tokens, self.max_images = max_new_tokens, max_images
        self.images_dir = None if images_dir is None else Path(images_dir)
        self.answer_only = answer_only

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """The response to each request, in their order; empty where it failed, which is told on stderr."""
        said = [""] * len(requests)
        by_options: dict[SamplingOptions, list[int]] = {}
        for place, request in enumerate(requests):
            by_options.setdefault(self.sampling(request.args[1]), []).append(place)
        for options, places in by_options.items():
            for place, _, completion in self.backend.stream(self.prompts(requests, places), options):
                said[place] = self.text_of(completion, requests[place])
        return said

    def sampling(self, asked: dict[str, Any]) -> SamplingOptions:
        """The harness's generation arguments as ours. An argument of beam search and the like has no effect."""
        do_sample, words = bool(asked.get("do_sample", False)), asked.get("max_new_tokens")
        return SamplingOptions(
            mode=self.mode,
            max_new_tokens=self.max_new_tokens,
            max_text_tokens=None if words is None or self.mode == "unrestricted" else int(words),
            max_images=None if self.mode in ("text-only", "unrestricted") else self.max_images,
            do_sample=do_sample,
            temperature=float(asked.get("temperature") or 1) if do_sample else 1.0,
            top_p=float(asked.get("top_p") or 1) if do_sample else 1.0,
        )

    def prompts(self, requests: Sequence[Any], places: Sequence[int]) -> Iterator[Request]:
        """What can be asked; the key of each is its place."""
        for place in places:
            context, _, doc_to_visual, number, task, split = requests[place].args
            try:
                pictures = [opaque(picture) for picture in doc_to_visual(self.task_dict[task][split][number]) or []]
                if not context.strip() and not pictures:  # what a task makes of a row that cannot be read
                    raise InputError("asks nothing")
                trajectory = self.omni.prompt(with_marks(context, pictures), pictures, self.template)
                yield Request(place, self.omni.vocabulary.render(trajectory).ids, [self.seed + place])
            except OmniError as error:
                print(f"omni-r1: error: {task}:{number}: {error}", file=sys.stderr)

    def text_of(self, completion: Completion, request: Any) -> str:
        *_, number, task, _ = request.args
        if completion.error or completion.trajectory is None:
            print(f"omni-r1: error: {task}:{number}: {completion.error or 'no text'}", file=sys.stderr)
            return ""
        images = completion.trajectory.response_images
        if self.images_dir is not None and images:
            self.images_dir.mkdir(parents=True, exist_ok=True)
            codes = torch.tensor([image.codes for image in images])
            drawn = self.omni.decode(self.omni.vocabulary.codes_to_tokens(codes))
            for place, picture in enumerate(drawn, 1):
                picture.save(self.images_dir / f"{task}-{number}-image_{place}.png")
        if self.answer_only:
            return ", ".join(line.strip() for line in (completion.answer or "").splitlines() if line.strip())
        return completion.trajectory.response_text

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("omni_r1 answers; it does not score given answers")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("omni_r1 answers one question at a time")
