"""What the documents name exists: links, files, verbs and their options."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from omni_r1.cli import VERBS

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FOLDERS = ("src", "tests", "configs", "runs", "docs", "benchmarks", ".ci")

document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def code_of(text: str) -> list[str]:
    """Lines of fenced blocks, with continued lines joined, and inline code."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [line for block in fenced for line in block.replace("\\\n", " ").splitlines()] + inline


def commands(text: str) -> list[list[str]]:
    """The words after `omni-r1` of every command shown."""
    found = []
    for line in code_of(text):
        match = re.match(r"\s*(?:\$ )?(?:\S*/)?omni-r1 (.*)", line)
        if match:
            found.append(shlex.split(match.group(1), comments=True))
    return found


@document
def test_links_exist(path):
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", path.read_text()):
        link = "".join(target).partition("#")[0]
        if link and not re.match(r"[a-z]+:", link):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"


@document
def test_named_files_exist(path):
    folders = "|".join(map(re.escape, FOLDERS))
    for code in code_of(path.read_text()):
        for name in re.findall(rf"(?<![\w./-])(?:{folders})/[\w./-]*[\w/]", code):
            assert (ROOT / name).exists(), f"{path.name} names {name}"


@document
def test_commands_exist(path):
    for verb, *words in commands(path.read_text()):
        if words and f"{verb} {words[0]}" in VERBS:
            verb, *words = f"{verb} {words[0]}", *words[1:]
        if verb.startswith("-") or verb == "VERB":
            continue
        assert verb in VERBS, f"{path.name} shows omni-r1 {verb}"
        known = {"help", "config"}
        for item in fields(VERBS[verb].options):
            known |= {item.name, f"no_{item.name}", item.metadata["alias"]}
        for word in words:
            if word.startswith("--"):
                name = word[2:].partition("=")[0].replace("-", "_")
                assert name in known, f"{path.name} shows omni-r1 {verb} {word}"
