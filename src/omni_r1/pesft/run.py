"""`omni-r1 pesft`: train a checkpoint on trajectories, save a checkpoint in the same layout."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers.integrations import is_deepspeed_zero3_enabled

from omni_r1.errors import InputError
from omni_r1.files import check_unused, write_atomic, writing
from omni_r1.model import checkpoint, load
from omni_r1.options import PerpoOptions, PesftOptions
from omni_r1.pesft import checkpoints, continuing
from omni_r1.pesft.activations import checkpoint_layers
from omni_r1.pesft.band import target_images, write_band
from omni_r1.pesft.card import write_card
from omni_r1.pesft.data import training_rows
from omni_r1.pesft.module import PesftModule
from omni_r1.pesft.packing import PACKED, Pack, PadRight
from omni_r1.pesft.push import claim, push
from omni_r1.pesft.resumable import LogFile
from omni_r1.pesft.samples import SampleDrawings
from omni_r1.pesft.saving import PERCEPTION, Saver
from omni_r1.pesft.trainer import PesftTrainer
from omni_r1.run_record import RUN

LOG = "log.jsonl"


def on_cpu(options: PesftOptions | PerpoOptions) -> bool:
    """Also where the accelerator has no float64, as Apple's."""
    found = torch.accelerator.current_accelerator()
    return options.use_cpu or found is None or found.type == "mps"


def own_device(options: PesftOptions) -> str:
    """That of this process, among several."""
    accelerator = None if on_cpu(options) else torch.accelerator.current_accelerator()
    return "cpu" if accelerator is None else f"{accelerator.type}:{os.environ.get('LOCAL_RANK', 0)}"


def leave() -> None:
    """End a distributed run. gloo's threads let go of what was exchanged last a moment after it is there, and where the
    interpreter ends in that moment, they abort it (pytorch/pytorch#179291): a barrier, which holds nothing of Python's,
    comes last."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def shared_arguments(options: PesftOptions | PerpoOptions, steps: Path) -> dict[str, Any]:
    """HF's arguments that both stages give alike. Raises InputError for DeepSpeed without a launcher."""
    cpu = on_cpu(options)
    if options.deepspeed_config_json is not None and "RANK" not in os.environ:
        raise InputError("needs a launcher: deepspeed, or torchrun", field="deepspeed_config_json")
    return {
        "output_dir": str(steps),
        "learning_rate": options.learning_rate,
        "per_device_train_batch_size": options.per_device_train_batch_size,
        "weight_decay": options.weight_decay,
        "adam_beta2": options.adam_beta2,
        "max_grad_norm": options.max_grad_norm,
        "bf16": options.bf16,
        "logging_nan_inf_filter": False,  # a loss that is not finite stops the run
        "save_strategy": "steps" if options.save_steps else "no",
        "report_to": options.report_to,
        "seed": options.seed,
        "remove_unused_columns": False,
        "dataloader_pin_memory": not cpu,
        "use_cpu": cpu,
        "ddp_backend": "gloo" if cpu and world_size() > 1 else None,
        "ddp_find_unused_parameters": False,
        "deepspeed": options.deepspeed_config_json,
    }


def world_size() -> int:
    """Processes that the launcher started, before they have joined."""
    return int(os.environ.get("WORLD_SIZE", 1))


def check_gpus(arguments: transformers.TrainingArguments, verb: str) -> None:
    """Raises InputError where one process sees several GPUs."""
    if arguments.n_gpu > 1:
        start = f"torchrun --nproc_per_node {arguments.n_gpu} -m omni_r1.cli {verb} ..."
        raise InputError(f"{arguments.n_gpu} GPUs in one process; {start} has one each, CUDA_VISIBLE_DEVICES chooses")


def check_tracker(options: PesftOptions | PerpoOptions) -> None:
    """Raises InputError for a tracker that is not installed."""
    if options.report_to != "none" and find_spec(options.report_to) is None:
        raise InputError(f"{options.report_to} is not installed", field="report_to")


def training_arguments(options: PesftOptions, steps: Path) -> transformers.TrainingArguments:
    """HF's arguments of a run; making them joins the processes of a distributed run."""
    if options.fsdp_config is not None and world_size() == 1:
        raise InputError("is for several processes: start them with torchrun --nproc_per_node N", field="fsdp_config")
    arguments = transformers.TrainingArguments(
        **shared_arguments(options, steps),
        num_train_epochs=options.num_train_epochs,
        max_steps=options.max_steps,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        warmup_steps=options.warmup_ratio,  # a fraction below 1 is a ratio
        lr_scheduler_type=options.lr_scheduler_type,
        logging_steps=options.logging_steps,
        logging_first_step=True,
        save_steps=options.save_steps or 500,
        fsdp=options.fsdp_config is not None,  # type: ignore[arg-type]  # what it is says the configuration
        fsdp_config=options.fsdp_config,
    )
    check_gpus(arguments, "pesft")
    return arguments


def pesft(options: PesftOptions) -> int:
    """The verb: train `options.model_path` on `options.train_data`, save to `options.output_path`.

    A run that was interrupted and goes on (`resume_from_checkpoint`) ends with the weights and the log rows of one
    that was not. Raises InputError for options with which it could not (`continuing`).
    """
    check_tracker(options)
    output = Path(options.output_path)
    steps = output / "steps"
    # Weights that are quantized stay where they are read; others before ZeRO 3, which would interfere, is told of.
    home = own_device(options) if options.quantize else "cpu"
    omni = load(options.model_path, device=home, dtype=options.dtype, quantize=options.quantize)
    arguments = training_arguments(options, steps)
    start = start_of(options, verify=arguments.should_save)
    rows, data = training_rows(options, omni, arguments)
    record = continuing.describe(options, data, arguments.world_size)
    if start is not None:
        continuing.check(start.parent.parent / RUN, record)
    transformers.set_seed(options.seed)
    log = LogFile(output / LOG)
    if arguments.should_save:
        prepare(options, record, log, start)
    module = PesftModule(omni, options.alignment, options.ce)
    module.vq[0].to(arguments.device)
    saver = Saver(omni, options, module)
    checkpoint_layers(omni.model, options.gradient_checkpointing)
    if options.packing:
        omni.model.set_attn_implementation(PACKED)
    callbacks: list[Any] = [log]
    if options.sample_steps:
        callbacks.append(SampleDrawings(omni, rows, output / "samples", options.sample_steps))
    with omni.model.vq_apart():
        trainer = PesftTrainer(
            module=module,
            args=arguments,
            rows=rows,
            saver=saver,
            data_collator=Pack() if options.packing else PadRight(omni.vocabulary.pad),
            callbacks=callbacks,
            perception_weight=options.perception_weight,
            start=start,
        )
        check_engine(trainer, options)
        trainer.train(resume_from_checkpoint=str(start) if start else None)
        finish(trainer, output, options, data)
        if arguments.should_save:
            print(f"see {output}")
    leave()
    return 0


def start_of(options: PesftOptions | PerpoOptions, verify: bool) -> Path | None:
    """The resumable checkpoint that a run goes on from. Raises InputError where it would write over a finished run."""
    output = Path(options.output_path)
    start = checkpoints.find(options.resume_from_checkpoint, output / "steps", verify=verify)
    if options.resume_from_checkpoint is None and (output / "config.json").exists():
        raise InputError("has a checkpoint already: take another folder", file=output, field="output_path")
    return start


def prepare(options: PesftOptions | PerpoOptions, record: dict[str, Any], log: LogFile, start: Path | None) -> None:
    """The output folder with its record, its log and checkpoints up to the `start`, and nothing half written; before it
    the repository of the hub, where the result goes to one."""
    if options.push_to_hub:
        claim(options.push_to_hub, options.hub_private)
    output, done = Path(options.output_path), checkpoints.step_of(start) if start else 0
    check_unused(log.path)  # before anything is taken away
    with writing(output):
        (output / "steps").mkdir(parents=True, exist_ok=True)
        checkpoints.clear_stage(output / "steps")
        checkpoint.remove_unfinished(output)
    checkpoints.tidy(output / "steps", done)
    log.open(done)
    continuing.write(output / RUN, record)


def check_engine(trainer: PesftTrainer, options: PesftOptions) -> None:
    """Raises InputError where what was asked for is not what would run."""
    if options.fsdp_config is not None and not trainer.is_fsdp_enabled:
        raise InputError("accelerate has FSDP for several processes with a GPU each", field="fsdp_config")
    if options.sample_steps and (trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled()):
        raise InputError(
            "no process has the whole model under FSDP and ZeRO 3: draw from checkpoints", field="sample_steps"
        )
    if options.lora_rank and is_deepspeed_zero3_enabled():
        raise InputError("an adapter is small: torchrun alone or ZeRO 2 will do", field="deepspeed_config_json")
    if trainer.is_fsdp_enabled and options.bf16:  # accelerate's own would also sum losses and gradients in bf16
        trainer.accelerator.state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, output_dtype=torch.float32
        )


def finish(trainer: PesftTrainer, output: Path, options: PesftOptions, data: Path) -> None:
    """Save what was trained: the whole checkpoint, or the adapter and the checkpoint it was merged into; the band of
    its step images, its card.

    Then push it, where that is asked for.
    """
    place = output / "adapter" if options.lora_rank else output
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")  # gathered on the first process
    with writing(place):
        if trainer.args.should_save:  # before the checkpoint, whose config.json says that all is there
            images = target_images(trainer.rows, trainer.saver.omni.vocabulary)
            write_band(output, images, trainer.module.codebook)
        trainer.save_model(str(place))
        if options.lora_rank and trainer.args.should_save:
            trainer.saver.merge(place, output)
            write_atomic(output / PERCEPTION, (place / PERCEPTION).read_bytes())
        if trainer.args.should_save:
            write_card(output, options, data, len(trainer.rows), output / LOG)
    if options.push_to_hub and trainer.args.should_save:
        push(output, options.push_to_hub, "pesft", LOG, adapter=options.lora_rank > 0)
