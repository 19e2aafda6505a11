"""`omni-r1 pesft` with what the engines need to run on a machine without GPUs; words as on the command line."""

import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from omni_r1 import cli
from omni_r1.pesft import run


def main() -> int:
    if any(word.startswith("--deepspeed") for word in sys.argv):
        import deepspeed.ops

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled, for inference alone
    if any(word.startswith("--fsdp") for word in sys.argv):
        real = run.training_arguments

        def training_arguments(*given):
            arguments = real(*given)
            # accelerate 1.15 leaves processes on CPUs out of its list of those that may have FSDP.
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
            return arguments

        run.training_arguments = training_arguments
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
