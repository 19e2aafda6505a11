"""Damage to the weights of a checkpoint, and the means to do any. `ok-`, `bad-` and `any-` as with pictures."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

Damage = Callable[[Path], Any]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE = b"\x80\x04cposix\nsystem\n(S'touch pickled'\ntR."


def edited(file: str, change: Callable[[Any], Any]) -> Damage:
    """A JSON file changed in place, or by what `change` returns."""

    def damage(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        changed = change(content)
        put(file, json.dumps(content if changed is None else changed))(folder)

    return damage


def put(file: str, content: bytes | str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)  # it is a link to the whole checkpoint's
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def config(**values: Any) -> Damage:
    return edited("config.json", lambda raw: raw.update(values))


def vq(**values: Any) -> Damage:
    return edited("config.json", lambda raw: raw["vq_config"].update(values))


def weights(change: Callable[[dict], Any]) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        (folder / WEIGHTS).unlink()
        save_file(state, folder / WEIGHTS)

    return damage


def header(change: Callable[[dict], Any]) -> Damage:
    """The header of the weights changed, the numbers behind it left as they are."""

    def damage(folder: Path) -> None:
        whole = (folder / WEIGHTS).read_bytes()
        length = struct.unpack("<Q", whole[:8])[0]
        content = json.loads(whole[8 : 8 + length])
        change(content)
        put(WEIGHTS, safetensors(json.dumps(content).encode(), whole[8 + length :]))(folder)

    return damage


def safetensors(head: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(head) if length is None else length) + head + body


def tensors() -> Iterator[tuple[str, Damage]]:
    head = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    many = [b'"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % number for number in range(200_000)]
    for name, content in {
        "empty": b"", "short": b"\x01", "length-2-63": safetensors(b"{}", length=1 << 63),
        "length-most": safetensors(b"{}", length=2**64 - 1), "length-above": safetensors(head, bytes(4), length=500),
        "length-gigabyte": safetensors(b"{}", length=1 << 30), "no-tensors": safetensors(b"{}"),
        "no-json": safetensors(b"\xff" * 16), "list": safetensors(b"[]"), "deep": safetensors(b"[" * 100_000),
        "zeros": bytes(4096), "pickle": PICKLE, "zip": b"PK\x03\x04" + bytes(999),
        "picture": b"\x89PNG\r\n\x1a\n" + bytes(99), "other": safetensors(head, bytes(4)),
        "short-body": safetensors(head, bytes(3)), "long-body": safetensors(head, bytes(400)),
        "twice": safetensors(head[:-1] + b"," + head[1:], bytes(4)), "many": safetensors(b"{" + b",".join(many) + b"}"),
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1344268\n",
    }.items():  # fmt: skip
        yield f"bad-file-{name}", put(WEIGHTS, content)
    first = "lm_head.weight"
    yield (
        "bad-overlap",
        header(
            lambda raw: raw[first].update(
                data_offsets=next(v for k, v in raw.items() if k not in (first, "__metadata__"))["data_offsets"]
            )
        ),
    )
    yield "bad-offsets-negative", header(lambda raw: raw[first].update(data_offsets=[-4, 0]))
    yield "bad-offsets-backward", header(lambda raw: raw[first].update(data_offsets=raw[first]["data_offsets"][::-1]))
    yield "bad-offsets-beyond", header(lambda raw: raw[first].update(data_offsets=[0, 1 << 62]))
    yield "bad-shape-overflow", header(lambda raw: raw[first].update(shape=[1 << 32, 1 << 32]))
    yield "bad-shape-turned", header(lambda raw: raw[first].update(shape=raw[first]["shape"][::-1]))
    yield (
        "bad-shape-flat",
        header(lambda raw: raw[first].update(shape=[raw[first]["shape"][0] * raw[first]["shape"][1]])),
    )
    yield "bad-dtype-unknown", header(lambda raw: raw[first].update(dtype="EVIL"))
    yield "bad-dtype-whole", header(lambda raw: raw[first].update(dtype="I32"))
    yield "bad-name", header(lambda raw: raw.update({"../evil": raw.pop(first)}))
    yield "any-metadata", header(lambda raw: raw.update(__metadata__={"format": "evil", "x": "y" * 1000}))
    yield "bad-missing", weights(lambda state: state.pop(first))
    yield "bad-no-decoder", weights(lambda state: [state.pop(name) for name in list(state) if ".decoder." in name])
    yield "bad-extra", weights(lambda state: state.update(evil=state[first].clone()))
    yield "bad-wrong-shape", weights(lambda state: state.update({first: state[first][:-1].clone()}))
    yield "any-doubles", weights(lambda state: state.update({first: state[first].double()}))
    yield "any-halves", weights(lambda state: state.update({first: state[first].half()}))
    yield "bad-bytes", weights(lambda state: state.update({first: state[first].byte()}))
    for name, value in {"nan": float("nan"), "infinite": float("inf"), "zero": 0.0, "large": 1e38}.items():
        yield f"any-{name}", weights(lambda state, value=value: [tensor.fill_(value) for tensor in state.values()])
    yield "bad-pickle-alone", lambda folder: ((folder / WEIGHTS).unlink(), put("pytorch_model.bin", PICKLE)(folder))
    yield "bad-nothing", lambda folder: (folder / WEIGHTS).unlink()
    yield "bad-fifo", lambda folder: ((folder / WEIGHTS).unlink(), os.mkfifo(folder / WEIGHTS))
    yield "bad-config-fifo", lambda folder: ((folder / "config.json").unlink(), os.mkfifo(folder / "config.json"))
    yield "bad-config-folder", lambda folder: ((folder / "config.json").unlink(), (folder / "config.json").mkdir())
    yield (
        "any-tokenizer-fifo",
        lambda folder: ((folder / "tokenizer_config.json").unlink(), os.mkfifo(folder / "tokenizer_config.json")),
    )
    yield (
        "bad-companion-sparse",
        lambda folder: os.truncate(put("merges.txt", "x")(folder) or folder / "merges.txt", 8 << 30),
    )
    yield (
        "bad-config-sparse",
        lambda folder: os.truncate(folder / "config.json", 8 << 30) if put("config.json", "{}")(folder) is None else 0,
    )


def shards() -> Iterator[tuple[str, Damage]]:
    def sharded(change: Callable[[dict, Path], Any] = lambda index, folder: None) -> Damage:
        def damage(folder: Path) -> None:
            state = load_file(folder / WEIGHTS)
            (folder / WEIGHTS).unlink()
            names = sorted(state)
            files = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
            for file, part in files.items():
                save_file({name: state[name] for name in part}, folder / file)
            index = {
                "metadata": {"total_size": 1},
                "weight_map": {name: f for f, part in files.items() for name in part},
            }
            changed = change(index, folder)
            put(INDEX, json.dumps(changed if isinstance(changed, list | dict | str) else index))(folder)

        return damage

    def named(name: Any) -> Damage:
        return sharded(lambda index, folder: index["weight_map"].update({"lm_head.weight": name}))

    yield "ok-shards", sharded()
    yield "ok-shards-without-metadata", sharded(lambda index, folder: index.pop("metadata") and None)
    yield "bad-shard-missing", sharded(lambda index, folder: (folder / "b.safetensors").unlink())
    yield "bad-shard-cut", sharded(lambda index, folder: os.truncate(folder / "b.safetensors", 2000))
    yield (
        "bad-shard-fifo",
        sharded(
            lambda index, folder: ((folder / "b.safetensors").unlink(), os.mkfifo(folder / "b.safetensors"), None)[2]
        ),
    )
    yield (
        "bad-shards-alike",
        sharded(
            lambda index, folder: (
                (folder / "b.safetensors").write_bytes((folder / "a.safetensors").read_bytes()),
                None,
            )[1]
        ),
    )
    for number, name in enumerate(
        (
            "../canary.safetensors",
            "/etc/passwd",
            "",
            ".",
            "..",
            "a\0.safetensors",
            5,
            None,
            [],
            {},
            "x" * 5000,
            "c.bin",
            "\ud800",
        )
    ):
        yield f"bad-shard-name-{number}", named(name)
    yield "bad-index-list", sharded(lambda index, folder: ["weight_map"])
    yield "bad-index-empty", sharded(lambda index, folder: {"weight_map": {}})
    yield "bad-index-text", sharded(lambda index, folder: {"weight_map": "a.safetensors"})
    yield "bad-index-deep", lambda folder: (sharded()(folder), put(INDEX, "[" * 99_999)(folder))
