"""Complete prompts with text and images: the `Backend` protocol and the backends behind it."""

from omni_r1.generate.backend import Backend, Completion, Prompt, SamplingOptions
from omni_r1.generate.transformers_backend import TransformersBackend

__all__ = ["Backend", "Completion", "Prompt", "SamplingOptions", "TransformersBackend"]
