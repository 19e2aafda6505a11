"""The model card, and the way of a checkpoint to the Hub; no network."""

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, ModelCard, constants
from huggingface_hub.errors import LocalTokenNotFoundError
from huggingface_hub.utils import filter_repo_objects

import omni_r1
from omni_r1.errors import InputError, OmniError
from omni_r1.options import PerpoOptions, PesftOptions
from omni_r1.perpo.run import perpo
from omni_r1.pesft import push as pushing
from omni_r1.pesft.card import CARD, licences, write_card
from omni_r1.pesft.run import pesft
from omni_r1.run_record import describe_run
from perpo_rows import SETTINGS, write_questions
from pesft_rows import write_rows
from tiny import write_checkpoint

NAME = "someone/draws"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("card") / "base")


def options(checkpoint: Path, output: Path, **changed) -> PesftOptions:
    data = output.parent / "rows.jsonl"
    if not data.exists():
        write_rows(data)
    return PesftOptions(
        str(checkpoint), str(output), train_data=str(data), **({"max_steps": 2, "logging_steps": 1} | changed)
    )


class Hub(HfApi):
    """Answers in the Hub's place: `refusing` are the methods that fail."""

    def __init__(self, *refusing: str, public: bool = False) -> None:
        super().__init__()
        self.refusing, self.public, self.calls, self.files = refusing, public, [], []

    def _asked(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refusing:
            raise LocalTokenNotFoundError("no token, log in first\nand more")

    def whoami(self, **_):
        self._asked("whoami")

    def create_repo(self, name, *, private, exist_ok):
        assert name == NAME and exist_ok
        self.private = private
        self._asked("create_repo")

    def auth_check(self, name, *, write):
        assert name == NAME and write
        self._asked("auth_check")

    def repo_info(self, name):
        return SimpleNamespace(private=bool(self.private) and not self.public)

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, ignore_patterns, **_):
        assert repo_id == NAME
        self._asked("upload_folder")
        paths = (str(file.relative_to(folder_path)) for file in sorted(folder_path.rglob("*")) if file.is_file())
        kept = filter_repo_objects(paths, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        self.files = list(kept)


@pytest.fixture
def hub(monkeypatch):
    def put(*refusing: str, **how) -> Hub:
        made = Hub(*refusing, **how)
        monkeypatch.setattr(pushing, "HfApi", lambda: made)
        return made

    return put


def test_every_run_leaves_a_card(checkpoint, tmp_path):
    pesft(options(checkpoint, tmp_path / "out", lora_rank=3))
    card = ModelCard.load(tmp_path / "out" / CARD)
    head = card.data.to_dict()
    assert head["library_name"] == "omni-r1" and head["pipeline_tag"] == "any-to-any" and "lora" in head["tags"]
    assert head["license"] == "other" and "base_model" not in head and "datasets" not in head
    for words in ("- file: `rows.jsonl`\n- rows: 24", "| max_steps | `2` |", "| seed | `42` |", "| steps | 2 |"):
        assert words in card.text
    assert "| lora_rank | `3` |" in card.text and "learning_rate" not in card.text  # at its default
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[1])
    assert f"| ce_code | {last['ce_code']:.4g} |" in card.text and "transformers 5" in card.text
    assert 'omni_r1.load("out")' in card.text and "`adapter/` has the low-rank adapter" in card.text
    assert str(tmp_path) not in str(card) and "PEFT" not in card.text.splitlines()[0]
    assert not (tmp_path / "out" / "adapter" / CARD).exists()
    pesft(options(checkpoint, tmp_path / "whole"))
    assert "adapter" not in (tmp_path / "whole" / CARD).read_text()


def test_terms_of_the_base_s_own_card_are_kept(checkpoint, tmp_path):
    """Of what this project trained before; another's card says nothing that it could read."""
    write_rows(tmp_path / "rows.jsonl")
    pesft(options(checkpoint, tmp_path / "one"))
    card = tmp_path / "one" / CARD
    terms = "- Base model, the miniature of Omni-R1: mit\n- Data, the rows it was trained on: its licence is not stated"
    head, told = card.read_text().split("## Licence")
    card.write_text(f"{head}## Licence\n\n{terms}\n\nWhoever{told.split('Whoever')[1]}")
    pesft(options(tmp_path / "one", tmp_path / "two"))
    assert f"## Licence\n\n{terms}\n\nWhoever" in (tmp_path / "two" / CARD).read_text()
    shutil.copytree(checkpoint, tmp_path / "else")
    (tmp_path / "else" / CARD).write_text("---\nlicense: mit\n---\n\n## Licence\n\nfree\n\nWhoever\n")
    pesft(options(tmp_path / "else", tmp_path / "three"))
    assert "- Base model: the terms of `else`" in (tmp_path / "three" / CARD).read_text()


MANIFEST = {
    "format_version": 2,
    "format": "zebra-cot",
    "source": {"name": "multimodal-reasoning-lab/Zebra-CoT", "licence": None, "split": "train", "revision": "abc123"}
    | {"configs": ["Chess", "Graph"], "files": []},
    "counts": {"read": 1234, "written": 1200, "rejected": {"too-long": 30, "broken-image": 4}, "tokens": 5_000_000}
    | {"target_tokens": 4_000_000, "images": 3600, "target_images": 2400},
    "shards": [],
}


def test_card_of_a_data_folder(tmp_path):
    data, output = tmp_path / "data", tmp_path / "out"
    for folder in (data, output):
        folder.mkdir()
    (data / "manifest.json").write_text(json.dumps(MANIFEST))
    told = PesftOptions(
        "facebook/chameleon-7b", str(output), train_data=str(data), learning_rate=1e-4, push_to_hub=NAME
    )
    (output / "run.json").write_text(json.dumps(describe_run(told, told.seed) | {"processes": 8}))
    (output / "log.jsonl").write_text('{"step": 9, "loss": 1.5, "ce_text": 0.25}\n{"step": 9, "train_runtime": 3.0}\n')
    write_card(output, told, data / "manifest.json", 1200, output / "log.jsonl")
    card = ModelCard.load(output / CARD)
    head = card.data.to_dict()
    assert head["base_model"] == "facebook/chameleon-7b"
    assert head["datasets"] == "multimodal-reasoning-lab/Zebra-CoT"
    assert (head["license"], head["license_name"]) == ("other", "chameleon-research-license")
    for words in (
        "- source: `multimodal-reasoning-lab/Zebra-CoT`\n- revision: abc123\n- configs: Chess, Graph",
        "- rows: 1,200 of 1,234\n- rejected: too-long 30, broken-image 4",
        "- images: 3,600, of them 2,400 drawn by the model",
        "| learning_rate | `0.0001` |",
        "| steps | 9 |\n| loss | 1.5 |\n| ce_text | 0.25 |",
        f"omni-r1 generate --model-path {NAME}",
        "Chameleon research licence of Meta",
        "- Data, multimodal-reasoning-lab/Zebra-CoT: cc-by-nc-4.0",
    ):
        assert words in card.text, words


def test_what_perpo_made_has_a_card_and_is_pushed(checkpoint, tmp_path, hub):
    api = hub()
    questions = write_questions(tmp_path / "questions.jsonl")
    told = SETTINGS | {"max_steps": 1, "sample_steps": 0, "push_to_hub": NAME}
    perpo(PerpoOptions(str(checkpoint), str(tmp_path / "out"), str(questions), **told))
    card = ModelCard.load(tmp_path / "out" / CARD).text
    last = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[0])
    for words in (
        "(PeRPO)",
        "defaults of `omni-r1 perpo`",
        "Only the questions",
        "| group_size | `4` |",
        "| steps | 1 |",
    ):
        assert words in card, words
    assert f"| reward | {last['reward']:.4g} |" in card and "ce_code" not in card and str(tmp_path) not in card
    assert api.calls == ["whoami", "create_repo", "auth_check", "upload_folder"]
    assert {"README.md", "log.jsonl", "model.safetensors"} <= set(api.files) and "run.json" not in api.files


def test_licences_that_apply():
    def of(base: str, **manifest) -> tuple[str, str]:
        found = licences(base, manifest)
        return found["header"]["license"], found["text"]

    m3cot = {"format": "m3cot", "source": {"name": "LightChen2333/M3CoT", "revision": "abc"}}
    copy = {"format": "zebra-cot", "source": {"name": "/data/zebra-cot"}}
    assert of("miniature")[0] == "unknown" and "Chameleon" not in of("miniature")[1]
    assert of("miniature", **m3cot)[0] == "cc-by-sa-4.0" and "M3CoT: cc-by-sa-4.0" in of("miniature", **m3cot)[1]
    assert of("miniature", **copy)[0] == "unknown"
    assert "not stated; rows in this form are mostly of Zebra-CoT, cc-by-nc-4.0" in of("miniature", **copy)[1]
    assert of("GAIR/Anole-7b-v0.1")[0] == "other" and "research licence of Meta" in of("GAIR/Anole-7b-v0.1")[1]
    own = {"format": "jsonl", "source": {"name": "/data/mine", "licence": "cc0-1.0"}}
    assert "- Data, mine: cc0-1.0" in of("miniature", **own)[1] and "/data" not in of("miniature", **own)[1]


def test_push(checkpoint, tmp_path, hub):
    api = hub()
    told = {"push_to_hub": NAME, "hub_private": True, "save_steps": 1, "sample_steps": 1}
    (tmp_path / "out" / "adapter").mkdir(parents=True)
    (tmp_path / "out" / "adapter" / "adapter_config.json").write_text("{}")  # of an earlier run
    write_rows(tmp_path / "out" / "data.jsonl")
    pesft(options(checkpoint, tmp_path / "out", **told))
    assert api.calls == ["whoami", "create_repo", "auth_check", "upload_folder"] and api.private
    wanted = {"README.md", "config.json", "generation_config.json", "log.jsonl", "model.safetensors"}
    wanted |= {"perception.safetensors", "perception_band.json", "preprocessor_config.json", "processor_config.json"}
    assert set(api.files) == wanted | {"special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"}
    pesft(options(checkpoint, tmp_path / "lora", lora_rank=2, **told))
    adapter = {file for file in api.files if "/" in file}
    assert adapter == {f"adapter/{name}" for name in ("adapter_config.json", "adapter_model.safetensors")} | {
        "adapter/perception.safetensors"
    }


@pytest.mark.parametrize("refusing", ["whoami", "create_repo", "auth_check"])
def test_who_may_not_push_is_told_before_training(checkpoint, tmp_path, hub, refusing):
    hub(refusing)
    with pytest.raises(InputError, match=f"field 'push_to_hub': {NAME} cannot be written to: no token, log in first$"):
        pesft(options(checkpoint, tmp_path / "out", push_to_hub=NAME))
    assert not (tmp_path / "out").exists()


def test_private_is_not_made_public(checkpoint, tmp_path, hub):
    hub(public=True)
    with pytest.raises(InputError, match="field 'hub_private': someone/draws is there already, and public"):
        pesft(options(checkpoint, tmp_path / "out", push_to_hub=NAME, hub_private=True))


def test_a_push_that_fails_costs_nothing(checkpoint, tmp_path, hub):
    hub("upload_folder")
    output = tmp_path / "out"
    later = f"the checkpoint is whole in {output}, to push it later: hf upload {NAME} {output} . --exclude"
    with pytest.raises(OmniError, match="not pushed: no token, log in first; ") as caught:
        pesft(options(checkpoint, output, push_to_hub=NAME))
    assert later in str(caught.value)
    assert omni_r1.load(output) and (output / CARD).exists()


def test_unreachable(monkeypatch):
    monkeypatch.setattr(pushing, "HfApi", partial(HfApi, endpoint="http://127.0.0.1:9", token="hf_x"))
    with pytest.raises(InputError, match="field 'push_to_hub'.*refused"):
        pushing.claim(NAME, private=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="field 'push_to_hub'.*ffline"):
        pushing.claim(NAME, private=False)


def test_contradictions():
    for changed, field in (({"push_to_hub": "draws"}, "push_to_hub"), ({"hub_private": True}, "hub_private")):
        with pytest.raises(InputError, match=f"field '{field}'"):
            PesftOptions("a", "c", train_data="b", **changed)
        with pytest.raises(InputError, match=f"field '{field}'"):
            PerpoOptions("a", "c", "b", max_steps=1, **changed)
