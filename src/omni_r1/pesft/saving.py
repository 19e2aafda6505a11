"""What PeSFT leaves on disk: the model in the published layout or an adapter of it, and beside them the projection."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from omni_r1.files import write_atomic, writing
from omni_r1.model import CheckpointError, Omni, checkpoint, load
from omni_r1.options import PerpoOptions, PesftOptions
from omni_r1.pesft.module import PesftModule

PERCEPTION = "perception.safetensors"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"  # PEFT's own names
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PEFT_PREFIX = "base_model.model."


class Saver:
    """Writes and reads back what is trained: all weights, or with `lora_rank` the adapter that it puts on the model.

    With a `module` also the projection that it trains.
    """

    def __init__(self, omni: Omni, options: PesftOptions | PerpoOptions, module: PesftModule | None = None) -> None:
        self.omni, self.options, self.module = omni, options, module
        self.peft = add_adapter(omni, options) if options.lora_rank else None

    def save(self, folder: Path, state: dict[str, Tensor] | None) -> None:
        """`state` is all that is trained, where an engine has had to gather it."""
        folder.mkdir(parents=True, exist_ok=True)
        if state is None:
            state = (self.module or self.omni.model).state_dict()
        else:  # gathered weights may be views of one large buffer, which could not be stored apart
            state = {name: tensor.clone() for name, tensor in state.items()}
        weights = state
        if self.module is not None:
            assert isinstance(self.options, PesftOptions)  # no other stage trains one
            weight = self.options.perception_weight
            save_perception(folder / PERCEPTION, part(state, "projection."), self.module.alignment, weight)
            weights = part(state, "model.")
        if self.peft is None:
            whole = weights | self._vq()
            checkpoint.write(folder, self.omni.model, self.omni.config, self.omni.companions, state=whole)
        else:
            save_adapter(folder, self.peft, weights)

    def save_whole(self, folder: Path) -> None:
        """The weights as the model computes with them, an adapter added in, in the published layout."""
        state = self.omni.model.state_dict()
        for name, layer in self.omni.model.named_modules():
            if hasattr(layer, "get_delta_weight"):
                whole = layer.base_layer.weight.float() + layer.get_delta_weight("default").float()
                state[f"{name}.weight"] = whole.to(layer.base_layer.weight.dtype)
        weights = {name: tensor for name, tensor in state.items() if ".lora_" not in name and ".base_layer" not in name}
        checkpoint.write(folder, self.omni.model, self.omni.config, self.omni.companions, state=weights | self._vq())

    def _vq(self) -> dict[str, Tensor]:
        """The VQ module's tensors by their names in a checkpoint, wherever it is kept meanwhile."""
        state = self.omni.model.model.vqmodel.state_dict()
        return {f"{checkpoint.VQ}{name}": tensor for name, tensor in state.items()}

    def load(self, folder: Path) -> None:
        """Put a step's weights back. Raises CheckpointError where they do not fit."""
        if self.module is not None:
            self.module.projection.load_state_dict(load_file(folder / PERCEPTION))
        if self.peft is None:
            checkpoint.read_into(folder, self.omni.model)
        else:
            load_adapter(folder / ADAPTER, self.peft)

    def merge(self, adapter: Path, output: Path) -> None:
        """The model as it was loaded, but never quantized, with the adapter's products added to its weights."""
        omni = load(self.options.model_path, dtype=self.options.dtype)
        scale, parts = self.options.lora_alpha / self.options.lora_rank, load_file(adapter / ADAPTER)
        with torch.no_grad():
            for name in sorted(name for name in parts if name.endswith(".lora_A.weight")):
                layer = name.removeprefix(PEFT_PREFIX).removesuffix(".lora_A.weight")
                weight = omni.model.get_parameter(f"{layer}.weight")
                product = parts[name.replace("lora_A", "lora_B")].float() @ parts[name].float()
                weight.copy_(weight.float() + scale * product)
        omni.save(output)


def part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What of a state begins with a prefix, by the rest of its names."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def save_perception(file: Path, projection: dict[str, Tensor], alignment: str, weight: float) -> None:
    """The trained projection: weight (D, H), bias (D,), and in the metadata alignment and loss weight."""
    tensors = {name: tensor.detach().cpu().float().contiguous() for name, tensor in projection.items()}
    write_atomic(file, save(tensors, {"alignment": alignment, "loss_weight": str(weight)}))


def add_adapter(omni: Omni, options: PesftOptions | PerpoOptions) -> Any:
    """LoRA on all layers of attention and MLP, in place; PEFT's view of the model."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.lora_rank, lora_alpha=options.lora_alpha, target_modules=LAYERS, task_type="CAUSAL_LM"
    )
    peft = get_peft_model(omni.model, config)
    base = Path(options.model_path)  # PEFT has put there what the model does not know; a folder's place is no one's
    config.base_model_name_or_path = base.name if base.exists() else options.model_path
    return peft


def adapter_of(peft: Any, weights: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The adapter's tensors by PEFT's names; of `weights`, by the language model's names, where they are given."""
    from peft import get_peft_model_state_dict

    state = None if weights is None else {f"{PEFT_PREFIX}{name}": tensor for name, tensor in weights.items()}
    # Embeddings are not trained; asked whether they are, PEFT would look for the base model on the hub.
    return get_peft_model_state_dict(peft, state_dict=state, save_embedding_layers=False)


def save_adapter(folder: Path, peft: Any, weights: dict[str, Tensor]) -> None:
    parts = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter_of(peft, weights).items()}
    write_atomic(folder / ADAPTER, save(parts, {"format": "pt"}))
    with writing(folder / ADAPTER_CONFIG):
        peft.peft_config["default"].save_pretrained(str(folder))


def load_adapter(file: Path, peft: Any) -> None:
    """Raises CheckpointError for an adapter of other layers or another rank."""
    from peft import set_peft_model_state_dict

    parts = load_file(file)
    found, wanted = ({name: one.shape for name, one in state.items()} for state in (parts, adapter_of(peft)))
    if found != wanted:
        raise CheckpointError(f"{file}: is no adapter of this model and lora_rank")
    set_peft_model_state_dict(peft, parts)
