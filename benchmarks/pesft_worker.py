"""One case of `pesft.py` in a process of its own: the last line of stdout has its figures, in seconds and bytes."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from common import resident
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from omni_r1.model import Omni, load
from omni_r1.option_parser import parse
from omni_r1.options import PesftOptions
from omni_r1.pesft.dataset import TrajectoryDataset
from omni_r1.pesft.losses import IGNORED
from omni_r1.pesft.run import pesft

LIMIT = 10_000  # tokens of a row


def original_loss(omni: Omni, projection: torch.nn.Linear, rows: list[dict[str, Any]]) -> torch.Tensor:
    """The original's: states of all layers are kept, every position has logits, and they are copied for the shift."""
    words, model = omni.vocabulary, omni.model
    ids = pad_sequence([row["input_ids"] for row in rows], batch_first=True, padding_value=words.pad)
    labels = pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=IGNORED)
    out = model(input_ids=ids, attention_mask=(ids != words.pad).long(), output_hidden_states=True)
    logits = out.logits.float()[:, :-1].contiguous()
    loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
    codebook, terms = model.model.vqmodel.quantize.embedding.weight.detach(), []
    for row, place in ((labels == words.boi).nonzero()).tolist():
        inside = slice(place + 1, place + 1 + words.image_length)
        codes = words.tokens_to_codes(ids[row, inside][None])[0]
        terms.append(F.mse_loss(projection(out.hidden_states[-1][row, inside]), codebook[codes]))
    return loss + torch.stack(terms).mean()


def original(folder: Path, data: TrajectoryDataset, steps: int) -> dict[str, Any]:
    omni = load(folder)
    model = omni.model.train()
    model.model.vqmodel.requires_grad_(True)
    projection = torch.nn.Linear(model.config.hidden_size, model.model.vqmodel.config.embed_dim).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    rows, seconds, losses = [data[index] for index in range(len(data))], [], []
    for _ in range(steps):
        start = time.perf_counter()
        loss = original_loss(omni, projection, rows)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        losses.append(loss.item())
    return {"seconds": seconds, "losses": losses}


def ours(folder: Path, rows: Path, output: str, case: dict[str, Any]) -> dict[str, Any]:
    words = ["--model-path", str(folder), "--train-data", str(rows), "--output-path", output]
    words += ["--max-steps", str(case["steps"]), "--per-device-train-batch-size", str(case["sequences"])]
    words += ["--max-length", str(LIMIT), "--logging-steps", "1", "--lr-scheduler-type", "constant", *case["options"]]
    pesft(parse(PesftOptions, words, "pesft"))
    log = [json.loads(line) for line in Path(output, "log.jsonl").read_text().splitlines()]
    steps = [row for row in log if "loss" in row]
    return {
        "rates": [row["tokens_per_second"] for row in steps],
        "losses": [row["loss"] for row in steps],
        "peak": max(row["peak_memory_bytes"] for row in steps),
    }


def main() -> None:
    folder, output, case = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    vocabulary = load(folder, language_model=False).vocabulary
    data = TrajectoryDataset(folder / "rows.jsonl", vocabulary, LIMIT)
    found: dict[str, Any] = {"tokens": sum(data.length(index) for index in range(len(data)))}
    found["targets"] = sum(int((data[index]["labels"] != IGNORED).sum()) for index in range(len(data)))
    if case["trainer"] == "original":
        found |= original(folder, data, case["steps"])
        found["peak"] = resident("VmHWM")
    else:
        found |= ours(folder, folder / "rows.jsonl", output, case)
        found["seconds"] = [found["tokens"] / rate for rate in found.pop("rates")]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
