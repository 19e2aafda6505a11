"""`omni-r1 pesft`: train a checkpoint on trajectories, save a checkpoint in the same layout."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers

from omni_r1.errors import InputError
from omni_r1.files import write_atomic, writing
from omni_r1.model import checkpoint, load
from omni_r1.options import PesftOptions
from omni_r1.pesft import checkpoints, continuing
from omni_r1.pesft.activations import checkpoint_layers
from omni_r1.pesft.dataset import TrajectoryDataset
from omni_r1.pesft.module import PesftModule
from omni_r1.pesft.packing import PACKED, Pack, PadRight
from omni_r1.pesft.samples import SampleDrawings
from omni_r1.pesft.saving import Saver
from omni_r1.pesft.trainer import LogFile, PesftTrainer
from omni_r1.run_record import RUN

LOG = "log.jsonl"


def training_arguments(options: PesftOptions, steps: Path) -> transformers.TrainingArguments:
    """HF's arguments of a run; making them joins the processes of a distributed run."""
    cpu = options.use_cpu or not torch.accelerator.is_available()
    arguments = transformers.TrainingArguments(
        output_dir=str(steps),
        learning_rate=options.learning_rate,
        num_train_epochs=options.num_train_epochs,
        max_steps=options.max_steps,
        per_device_train_batch_size=options.per_device_train_batch_size,
        gradient_accumulation_steps=options.gradient_accumulation_steps,
        warmup_steps=options.warmup_ratio,  # a fraction below 1 is a ratio
        lr_scheduler_type=options.lr_scheduler_type,
        weight_decay=options.weight_decay,
        adam_beta2=options.adam_beta2,
        max_grad_norm=options.max_grad_norm,
        bf16=options.bf16,
        logging_steps=options.logging_steps,
        logging_nan_inf_filter=False,  # a loss that is not finite stops the run
        save_strategy="steps" if options.save_steps else "no",
        save_steps=options.save_steps or 500,
        report_to=options.report_to,
        seed=options.seed,
        remove_unused_columns=False,
        dataloader_pin_memory=not cpu,
        use_cpu=cpu,
        ddp_backend="gloo" if cpu and int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
        ddp_find_unused_parameters=False,
        deepspeed=options.deepspeed_config_json,
    )
    if arguments.n_gpu > 1:
        words = (
            f"{arguments.n_gpu} GPUs in one process; start one for each: torchrun --nproc_per_node {arguments.n_gpu}"
        )
        raise InputError(f"{words} -m omni_r1.cli pesft ..., or choose one by CUDA_VISIBLE_DEVICES")
    return arguments


def pesft(options: PesftOptions) -> int:
    """The verb: train `options.model_path` on `options.train_data`, save to `options.output_path`.

    A run that was interrupted and goes on (`resume_from_checkpoint`) ends with the weights and the log rows of one
    that was not. Raises InputError for options with which it could not (`continuing`).
    """
    if options.report_to != "none" and find_spec(options.report_to) is None:
        raise InputError(f"{options.report_to} is not installed", field="report_to")
    output = Path(options.output_path)
    steps = output / "steps"
    arguments = training_arguments(options, steps)
    start = checkpoints.find(options.resume_from_checkpoint, steps)
    record = continuing.describe(options, arguments.world_size)
    if start is not None:
        continuing.check(start.parent.parent / RUN, record)
    transformers.set_seed(options.seed)
    omni = load(options.model_path, dtype=options.dtype, quantize=options.quantize)
    rows = TrajectoryDataset(Path(options.train_data), omni.vocabulary, options.max_length)
    log = LogFile(output / LOG)
    if arguments.should_save:
        prepare(output, record, log, checkpoints.step_of(start) if start else 0)
    module = PesftModule(omni, options.alignment, options.ce)
    module.vq[0].to(arguments.device)
    saver = Saver(omni, module, options)
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
        trainer.train(resume_from_checkpoint=str(start) if start else None)
        finish(trainer, output, options)
    return 0


def prepare(output: Path, record: dict[str, Any], log: LogFile, done: int) -> None:
    """The output folder with its record, its log and checkpoints up to step `done`, and nothing half written."""
    with writing(output):
        (output / "steps").mkdir(parents=True, exist_ok=True)
        checkpoints.clear_stage(output / "steps")
        checkpoint.remove_unfinished(output)
    checkpoints.tidy(output / "steps", done)
    log.open(done)
    continuing.write(output / RUN, record)


def finish(trainer: PesftTrainer, output: Path, options: PesftOptions) -> None:
    """Save what was trained: the whole checkpoint, or the adapter and the checkpoint it was merged into."""
    place = output / "adapter" if options.lora_rank else output
    with writing(place):
        trainer.save_model(str(place))
        if options.lora_rank and trainer.args.should_save:
            trainer.saver.merge(place, output)
            write_atomic(output / "perception.safetensors", (place / "perception.safetensors").read_bytes())
