"""Paths and addresses in data that point where they must not, and a picture outside the root for them to find."""

import os
import socket
from pathlib import Path

from PIL import Image

from hostile.pictures import CANARY, noise, saved

# Below the root `data`, beside which lie `canary.png` and the folder `data-other`.
PATHS = [
    "", ".", "..", "../canary.png", "./../canary.png", "a/../../canary.png", "a/./.././../canary.png",
    "../data-other/c.png", "../" * 40 + "etc/passwd", "{outside}/canary.png", "//{outside}/canary.png",
    "/../{outside}/canary.png", "/etc/passwd", "/proc/self/environ", "/proc/self/cwd/canary.png", "/proc/self/fd/0",
    "/proc/self/root/etc/passwd", "/dev/zero", "/dev/stdin", "/dev/fd/0", "~/canary.png", "~root/canary.png",
    "$HOME/canary.png", "file://{outside}/canary.png", "file:{outside}/canary.png", "FILE:///{outside}/canary.png",
    "file://localhost/{outside}/canary.png", "ftp://localhost/canary.png", "smb://localhost/canary.png",
    "jar:file:{outside}/canary.png!/a", "\\\\localhost\\share\\c.png", "//localhost/share/canary.png",
    "..\\canary.png", "C:\\canary.png", "C:canary.png", "\\\\?\\C:\\canary.png", "good.png\0",
    "good.png\0/../../canary.png", "\0", "%2e%2e/canary.png", "%2e%2e%2fcanary.png", "..%2fcanary.png",
    "..%00/canary.png", "..%c0%afcanary.png", "‥/canary.png", "．．/canary.png", "..∕canary.png",
    "good.png/../../canary.png", "a", "a/", "link", "link-absolute", "link-folder/canary.png",
    "link-chain/canary.png", "a/link-up/../canary.png", "link-device", "link-process", "link-nowhere", "loop",
    "loop/x", "loop-a", "fifo", "link-fifo", "socket", "x" * 256, "x/" * 3000 + "x.png", "x" * 100_000, "\ud800.png",
    "\udcff", "*.png", "?ood.png", "-", "|cat", "good.png;id", "`id`.png", "$(id).png",
]  # fmt: skip
GOOD = ["good.png", "./good.png", "a/../good.png", "a//inside", "hard.png", "good.png/", "good.png/."]

PRIVATE = [
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1",
    "017700000001", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "2852039166",
    "100.64.0.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "[::]",
    "[::1]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]",
    "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fc00::1]",
    "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "127.0.0.1:80", "user:word@127.0.0.1", "127.0.0.1.",
    "127。0。0。1", "①27.0.0.1", "localhost", "LOCALHOST",
]  # fmt: skip
NO_ADDRESS = [
    "http://",
    "https:///a.png",
    "http://[",
    "http://a b/",
    "http://127.0.0.1:99999/",
    "http://:80/",
    "HTTP:/x",
]


def build(outside: Path) -> Path:
    """The root, with what the paths need around it."""
    root = outside / "data"
    (root / "a").mkdir(parents=True)
    (outside / "data-other").mkdir()
    canary = saved(Image.new("RGB", (16, 16), CANARY))
    (outside / "canary.png").write_bytes(canary)
    (outside / "data-other" / "c.png").write_bytes(canary)
    (root / "good.png").write_bytes(saved(noise()))
    (root / "a" / "inside").write_bytes(saved(noise(9, 9)))
    os.link(root / "good.png", root / "hard.png")
    for name, target in {
        "link": "../canary.png", "link-absolute": outside / "canary.png", "link-folder": outside,
        "link-chain": "link-folder", "a/link-up": "../..", "link-device": "/dev/zero",
        "link-process": "/proc/self/environ", "link-nowhere": "../nothing",
        "loop": "loop", "loop-a": "loop-b", "loop-b": "loop-a", "link-fifo": "fifo",
    }.items():  # fmt: skip
        os.symlink(target, root / name)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(root, os.O_RDONLY)  # the name of a socket is short, the root's may be long
        server.bind(f"/proc/self/fd/{folder}/socket")
        os.close(folder)
    return root
