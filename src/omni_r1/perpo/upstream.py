"""TRL, imported without its warnings about a vLLM that is not used through it."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="TRL currently supports vLLM")
    from trl import GRPOConfig, GRPOTrainer

__all__ = ["GRPOConfig", "GRPOTrainer"]
