"""Pretended GPUs: tensors lie on the CPU, wear the name of a device, and may not be mixed.

A model spread over several devices so runs on a machine without any and computes what it does on the CPU, and an
operation whose operands would lie on different devices fails as it would there.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CPU = torch.device("cpu")
INDEXING = {torch.Tensor.__setitem__, torch.Tensor.__getitem__}  # which take indices from the CPU


def device_of(tensor: torch.Tensor) -> torch.device:
    return getattr(tensor, "card", CPU)


class Cards(TorchFunctionMode):
    """Inside it `cuda:0`, `cuda:1`, ... can be had. `seen` are the devices that results have been on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.device] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == torch.Tensor.device.__get__:
            return device_of(args[0])
        if func is torch.Tensor.to:
            return self.move(*args, **kwargs)
        place = common(func, tree_leaves((args, kwargs)))
        if kwargs.get("device") is not None:
            place, kwargs["device"] = torch.device(kwargs["device"]), CPU
        return tree_map_only(torch.Tensor, lambda out: self.put(out, place), func(*args, **kwargs))

    def move(self, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """`Tensor.to`, with a device or without."""
        names = [kwargs.pop("device", None), *(arg for arg in args if isinstance(arg, str | torch.device))]
        to = next((torch.device(name) for name in names if name is not None), device_of(tensor))
        moved = tensor.to(*(arg for arg in args if not isinstance(arg, str | torch.device)), **kwargs)
        if to == device_of(tensor):
            return self.put(moved, to)
        moved = moved.detach().clone()
        # A Parameter made of a moved tensor has lost the name of its device: accelerate makes one and moves it again.
        return self.put(torch.nn.Parameter(moved, False) if isinstance(tensor, torch.nn.Parameter) else moved, to)

    def put(self, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        tensor.card = device
        self.seen.add(device)
        return tensor


def common(func: Any, values: list[Any]) -> torch.device:
    """The one device of all operands; numbers, and indices on the CPU, go with any."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    places = {device_of(tensor) for tensor in tensors if tensor.ndim} or {device_of(tensor) for tensor in tensors}
    if func in INDEXING:
        places = {device_of(tensors[0]), *places - {CPU}}
    assert len(places) <= 1, f"{func} of tensors on {places}"
    return places.pop() if places else CPU
