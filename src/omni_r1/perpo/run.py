"""`omni-r1 perpo`: reinforce a checkpoint on its own answers, save a checkpoint in the same layout."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.integrations import is_deepspeed_zero3_enabled

from omni_r1.errors import InputError
from omni_r1.files import write_atomic, writing
from omni_r1.generate.backend import Backend, room_for_an_image
from omni_r1.generate.transformers_backend import TransformersBackend
from omni_r1.generate.vllm_backend import VllmBackend
from omni_r1.model import Chameleon, Omni, checkpoint, load
from omni_r1.options import PerpoOptions
from omni_r1.perpo.judge import load_judge
from omni_r1.perpo.reward import PROFILES, Profile
from omni_r1.perpo.rollouts import Rollouts, processes, sampling_options
from omni_r1.perpo.trainer import PerpoTrainer
from omni_r1.perpo.upstream import GRPOConfig
from omni_r1.pesft import continuing
from omni_r1.pesft.activations import checkpoint_layers
from omni_r1.pesft.band import BAND
from omni_r1.pesft.card import write_card
from omni_r1.pesft.data import rows_of
from omni_r1.pesft.dataset import Rows
from omni_r1.pesft.packing import PACKED, attention
from omni_r1.pesft.push import push
from omni_r1.pesft.resumable import LogFile
from omni_r1.pesft.run import LOG, check_gpus, check_tracker, leave, prepare, shared_arguments, start_of, world_size
from omni_r1.pesft.saving import PERCEPTION, Saver
from omni_r1.run_record import RUN


def training_arguments(options: PerpoOptions, steps: Path) -> GRPOConfig:
    """TRL's arguments of a run; making them joins the processes of a distributed run.

    Raises InputError where the rows of a mini-batch cannot be dealt evenly to processes and micro-batches.
    """
    rows, share = options.mini_batch_size * options.group_size, options.per_device_train_batch_size * world_size()
    if rows % share:
        batch = f"{options.per_device_train_batch_size} x {world_size()} processes"
        words = f"{batch} does not divide the {rows} responses of a mini-batch"
        raise InputError(words, field="per_device_train_batch_size")
    updates = options.train_batch_size // options.mini_batch_size
    arguments = GRPOConfig(
        **shared_arguments(options, steps),
        max_steps=options.max_steps * updates,
        lr_scheduler_type=options.lr_scheduler_type,
        gradient_accumulation_steps=rows // share,
        steps_per_generation=updates * rows // share,
        num_generations=options.group_size,
        warmup_steps=options.warmup_steps,
        beta=0.0,  # the reference and its weight are ours
        gradient_checkpointing=False,  # `checkpoint_layers` does it
        logging_steps=updates,
        save_steps=(options.save_steps or 500) * updates,
    )
    check_gpus(arguments, "perpo")
    return arguments


def reward_profile(options: PerpoOptions) -> Profile:
    """The profile with what the options put in its place."""
    names = {"accuracy_weight": "accuracy", "format_weight": "format", "perception_weight": "perception"}
    names |= {"missing_images": "missing"} | {name: name for name in ("look", "tau", "aggregate", "only_right")}
    asked = {of: getattr(options, name) for name, of in names.items()}
    given = {of: value for of, value in asked.items() if value is not None}
    try:
        return dataclasses.replace(PROFILES[options.profile], **given)
    except InputError as error:
        name = next((name for name, of in names.items() if of == error.field), error.field)
        raise InputError(error.message, field=name) from error


def backend_of(options: PerpoOptions, omni: Omni, rows: Rows) -> Backend:
    if options.backend == "transformers":
        return TransformersBackend(omni, options.batch_size)
    longest = max(map(rows.length, range(len(rows)))) + options.max_new_tokens  # a row is longer than its prompt
    engine: dict[str, Any] = {"gpu_memory_utilization": options.vllm_gpu_memory_utilization}
    if processes() > 1:  # by itself every process's engine would take the first GPU
        engine["distributed_executor_backend"] = "external_launcher"
    return VllmBackend(
        options.model_path, batch_size=options.batch_size, max_length=longest, dtype=computing(options), **engine
    )


def computing(options: PerpoOptions) -> str:
    """The precision that is computed in, which nothing needs more than that is not trained."""
    return "bfloat16" if options.bf16 else options.dtype


def reference_of(options: PerpoOptions, device: torch.device) -> Chameleon | None:
    """The model as the run began with it; with an adapter it is there already."""
    if not options.kl_coef or options.lora_rank:
        return None
    model = load(options.model_path, device=str(device), dtype=computing(options)).model
    model.set_attn_implementation({"": PACKED})
    return model.requires_grad_(False)


def perpo(options: PerpoOptions) -> int:
    """The verb: reinforce `options.model_path` on the questions of `options.train_data`, save to `options.output_path`.

    A run that was interrupted and goes on (`resume_from_checkpoint`) samples and learns what an untouched one does.
    """
    check_tracker(options)
    profile, sampling = reward_profile(options), sampling_options(options)
    output = Path(options.output_path)
    steps = output / "steps"
    omni = load(options.model_path, dtype=options.dtype)
    room_for_an_image(omni.vocabulary, sampling)
    arguments = training_arguments(options, steps)
    start = start_of(options, verify=arguments.should_save)
    rows, data = rows_of(Path(options.train_data), options.max_length, omni)
    folder = checkpoint.locate(options.model_path)
    judge = load_judge(omni, options.model_path)
    try:
        judge.check(profile)
    except InputError as error:
        raise InputError(error.message, file=folder, field="profile") from error
    record = continuing.describe(options, data, arguments.world_size)
    if start is not None:
        continuing.check(start.parent.parent / RUN, record)
    if is_deepspeed_zero3_enabled():
        raise InputError("no process has the whole model to sample from under ZeRO 3", field="deepspeed_config_json")
    transformers.set_seed(options.seed)
    log = LogFile(output / LOG)
    if arguments.should_save:
        prepare(options, record, log, start)
    torch.nn.Module.to(omni.model, arguments.device)  # upstream's own hides its signature
    saver = Saver(omni, options)
    checkpoint_layers(omni.model, options.gradient_checkpointing)
    rollouts = Rollouts(omni, backend_of(options, omni, rows), rows, judge, profile, options)
    with omni.model.vq_apart(), attention(omni.model, PACKED):
        trainer = PerpoTrainer(
            rollouts=rollouts,
            saver=saver,
            options=options,
            reference=reference_of(options, arguments.device),
            args=arguments,
            callbacks=[log],
            start=start,
        )
        trainer.train(resume_from_checkpoint=str(start) if start else None)
        finish(trainer, output, options, folder, data)
        if arguments.should_save:
            print(f"see {output}")
    leave()
    return 0


def finish(trainer: PerpoTrainer, output: Path, options: PerpoOptions, origin: Path, data: Path) -> None:
    """Save what was trained, beside it what PeSFT left in its folder (the projection and the band of real images), and
    its card. Then push it, where that is asked for.
    """
    place = output / "adapter" if options.lora_rank else output
    with writing(place):
        trainer.save_model(str(place))
        if trainer.args.should_save:
            if options.lora_rank:
                trainer.saver.merge(place, output)
            for name in (PERCEPTION, BAND):
                if (origin / name).is_file():
                    write_atomic(output / name, (origin / name).read_bytes())
            write_card(output, options, data, len(trainer.rollouts.rows), output / LOG)
    if options.push_to_hub and trainer.args.should_save:
        push(output, options.push_to_hub, "perpo", LOG, adapter=options.lora_rank > 0)
