"""What vLLM finds of this project by its entry point `vllm.general_plugins`, in every one of its processes."""

NAME = "omni_r1"  # of the grammar's settings in `extra_args`, and of where the vocabulary is in `additional_config`
ARCHITECTURE = "ChameleonForConditionalGeneration"


def register() -> None:
    """Tell vLLM, which dropped Chameleon after 0.28, where its decoder is; imported once such a model is asked for."""
    from vllm import ModelRegistry

    ModelRegistry.register_model(ARCHITECTURE, "omni_r1.generate.vllm_model:ChameleonForVllm")
