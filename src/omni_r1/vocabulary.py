"""The one owner of token ids: everything is read from the checkpoint, so 64 codes or 8192 make no difference.

An image is BOI, exactly S codes in row-major order, EOI (checkpoint contract). `render` turns a trajectory into
ids, `parse` turns ids back, and `parse(render(t)) == t`.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor
from transformers import AutoTokenizer, ChameleonConfig

from omni_r1.errors import OmniError
from omni_r1.trajectory import TAGS, Image, Segment, Text, Trajectory, split_tags

MAX_SIZE = 1_000_000  # logits: tables of this size are built before any weight is seen
MAX_RESOLUTION, MAX_LENGTH = 1024, 4096  # of an image, in pixels and codes: no tensor's shape bounds them
GROWTH = 16  # tokens of a byte: one at most by the merges, a few more where the text is normalised first
CODE_NAME = re.compile(r"IMGIMG([A-J]+)Z")


class VocabularyError(OmniError):
    """A checkpoint whose tokens do not fit the contract; the message names the file."""


class ParseError(OmniError):
    """Token ids that are no trajectory."""


class BrokenImage(ParseError):
    """An image that is not exactly S codes between BOI and EOI. `position` is that of its BOI."""

    def __init__(self, position: int, found: int, expected: int) -> None:
        count = f"{found} codes and no end" if found == expected else f"{found} codes, expected {expected}"
        super().__init__(f"the image that begins at position {position} has {count}")
        self.position, self.found, self.expected = position, found, expected


class Misplaced(ParseError):
    """A token where it cannot stand."""

    def __init__(self, position: int, token: int) -> None:
        super().__init__(f"token {token} cannot stand at position {position}")
        self.position, self.token = position, token


IGNORED = -100  # label of a position that is no target, as torch has it


@dataclass(frozen=True)
class Rendered:
    """Token ids of a trajectory; the first `prompt_length` of them are BOS and the prompt."""

    ids: list[int]
    prompt_length: int

    @property
    def first_target(self) -> int:
        """Where the response begins. Behind an empty prompt the first token is no target: nothing stands before it."""
        return max(self.prompt_length, 1)


@dataclass
class Vocabulary:
    """Token ids of one checkpoint.

    codes (K,): the token id of image code c. size: width of the logits. image_length: S. image: the id of the
    placeholder `<image>`. tags: id by tag name, for those of the four the tokenizer has.
    """

    codes: Tensor
    boi: int
    eoi: int
    bos: int
    eos: int
    pad: int
    image: int
    size: int
    image_length: int
    tags: dict[str, int]
    tokenizer: Any = field(repr=False)

    def __post_init__(self) -> None:
        self._code_of = {token: code for code, token in enumerate(self.codes.tolist())}
        self._names = {number: name for name, number in self.tags.items()}
        # Text typed by a user must never turn into a control token, whatever it spells.
        self._plain = self.tokenizer.backend_tokenizer
        self._plain.encode_special_tokens = True
        self._plain.no_truncation()
        self._plain.no_padding()
        control = {self.bos, self.eos, self.pad, self.image, self.boi, self.eoi, *self._code_of}
        self._text = frozenset(range(self.size)) - control
        self._table = torch.full((self.size,), -1)  # code of a token id, -1 for other tokens
        self._table[self.codes] = torch.arange(len(self.codes))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._plain.encode_special_tokens = True  # lost in pickling, and with it the guard on typed control tokens

    @property
    def digest(self) -> str:
        """sha256 of all that fixes what an id means: rows of ids made with one vocabulary are noise to another."""
        signs = {name: getattr(self, name) for name in ("boi", "eoi", "bos", "eos", "pad", "size", "image_length")}
        words = json.loads(self._plain.to_str())
        whole = {**signs, "codes": self.codes.tolist(), "tags": self.tags, "tokenizer": words}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_checkpoint(cls, path: str | Path, tokenizer_path: str | Path | None = None) -> "Vocabulary":
        """Read config.json and tokenizer of a checkpoint folder, or the tokenizer of another.

        Raises VocabularyError naming the file.
        """
        words = tokenizer_path or path
        file = Path(path) / "config.json"
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            names, vq, size = config["vocabulary_map"], config["vq_config"], config["vocab_size"]
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise VocabularyError(f"{file}: {' '.join(str(error).split())}") from error
        except KeyError as error:
            raise VocabularyError(f"{file}: no {error}") from error
        if not isinstance(names, dict) or not isinstance(vq, dict) or not isinstance(size, int):
            raise VocabularyError(f"{file}: vocabulary_map, vq_config or vocab_size is of the wrong type")
        if not 1 <= size <= MAX_SIZE:
            raise VocabularyError(f"{file}: vocab_size is {size}, not 1 to {MAX_SIZE}")
        vq = DEFAULT_VQ | vq
        for name, default in DEFAULT_VQ.items():
            if not isinstance(vq[name], type(default)):
                raise VocabularyError(f"{file}: vq_config has {vq[name]!r} as {name}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(words), config=ChameleonConfig(), local_files_only=True, trust_remote_code=False
            )  # not its own config, whose other fields upstream would obey
        except Exception as error:  # a damaged tokenizer file raises whatever its reader stumbles on
            raise VocabularyError(f"{words}: no tokenizer: {' '.join(str(error).split())}") from error

        def token(name: str, default: str) -> int:
            number = config.get(name)
            number = names.get(default) if number is None else number
            if not _token(number, size):
                raise VocabularyError(f"{file}: {name} is {number}, no token id of this checkpoint")
            return number

        roles = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        missing = [name for name, number in roles.items() if number is None]
        if missing:
            raise VocabularyError(f"{words}: the tokenizer names no {missing[0]} token")
        known = tokenizer.get_vocab()
        if max(known.values(), default=0) >= size:
            raise VocabularyError(f"{words}: the tokenizer has tokens beyond the {size} of {file}")
        elsewhere = [
            name for name, number in names.items() if CODE_NAME.fullmatch(name) and known.get(name, number) != number
        ]
        if elsewhere:
            raise VocabularyError(f"{words}: the tokenizer has {elsewhere[0]} at another place than {file}")
        codes = _codes(names, vq["num_embeddings"], size, file)
        signs = {
            "boi": token("boi_token_id", "<racm3:break>"),
            "eoi": token("eoi_token_id", "<eoss>"),
            "image": token("image_token_id", "<image>"),
        }
        mixed = {**roles, **signs}
        if set(codes.tolist()) & set(mixed.values()) or len({mixed[name] for name in ("boi", "eoi", "bos", "eos")}) < 4:
            raise VocabularyError(f"{file}: one token id for two things, of {mixed} and the image codes")
        return cls(
            codes=codes,
            **signs,
            **roles,
            size=size,
            image_length=_image_length(vq, file),
            tags={tag: known[tag] for tag in TAGS if tag in known},
            tokenizer=tokenizer,
        )

    def encode_text(self, text: str) -> list[int]:
        """Ids of text, without BOS. The tags become their tokens; all other special names stay plain text."""
        ids: list[int] = []
        for piece in split_tags(text):
            tag = self.tags.get(piece)
            ids += [tag] if tag is not None else self._encode(piece)
        return ids

    def _encode(self, piece: str) -> list[int]:
        try:
            ids: list[int] = self._plain.encode(piece, add_special_tokens=False).ids
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a bad pattern makes the library panic, and its panic is no Exception
            raise VocabularyError(f"the tokenizer cannot read this text: {' '.join(str(error).split())}") from error
        if len(ids) > 64 + GROWTH * len(piece.encode()):
            raise VocabularyError(f"the tokenizer makes {len(ids)} tokens of {len(piece)} characters")
        return ids

    def decode_text(self, ids: Sequence[int]) -> str:
        """Text of ids, tags by name. Ids of code tokens are spelled out as their names."""
        parts: list[str] = []
        run: list[int] = []
        for token in ids:
            if token in self._names:
                parts += [self._plain.decode(run, skip_special_tokens=False), self._names[token]]
                run = []
            else:
                run.append(token)
        return "".join([*parts, self._plain.decode(run, skip_special_tokens=False)])

    def tokens_to_codes(self, ids: Tensor) -> Tensor:
        """Token ids (n, S) to codes (n, S), same device. Raises ParseError for an id that is no code."""
        known = (ids >= 0) & (ids < self.size)
        codes = self._table.to(ids.device)[ids.long() * known].masked_fill(~known, -1)
        if (codes < 0).any():
            raise ParseError(f"token {int(ids[codes < 0][0])} is no image code")
        return codes

    def codes_to_tokens(self, codes: Tensor) -> Tensor:
        """Codes (n, S) to token ids (n, S), same device. Raises VocabularyError for a code outside 0..K-1."""
        if ((codes < 0) | (codes >= len(self.codes))).any():
            raise VocabularyError(f"an image code is outside 0..{len(self.codes) - 1}")
        return self.codes.to(codes.device)[codes.long()]

    def render(self, trajectory: Trajectory) -> Rendered:
        """BOS, prompt, response, EOS if ended. Raises VocabularyError for an image that is not of this VQ."""
        ids = [self.bos, *self._side(trajectory.prompt)]
        length = len(ids)
        ids += self._side(trajectory.response)
        return Rendered(ids + [self.eos] * trajectory.ended, length)

    def _side(self, segments: Sequence[Segment]) -> list[int]:
        ids: list[int] = []
        for segment in segments:
            if isinstance(segment, Text):
                ids += self.encode_text(segment.text)
                continue
            if len(segment.codes) != self.image_length:
                raise VocabularyError(f"an image has {len(segment.codes)} codes, not {self.image_length}")
            if max(segment.codes) >= len(self.codes):
                raise VocabularyError(f"an image code is outside 0..{len(self.codes) - 1}")
            ids += [self.boi, *self.codes_to_tokens(torch.tensor(segment.codes)).tolist(), self.eoi]
        return ids

    def parse(self, ids: Sequence[int], prompt_length: int = 0) -> Trajectory:
        """The trajectory of ids: BOS in front is dropped, EOS at the end makes it `ended`.

        Raises BrokenImage or Misplaced, both ParseErrors, for anything that `render` cannot have made.
        """
        if not 0 <= prompt_length <= len(ids):
            raise ParseError(f"a prompt of {prompt_length} tokens in a sequence of {len(ids)}")
        start = 1 if prompt_length > 0 and ids[0] == self.bos else 0
        ended = len(ids) > prompt_length and ids[-1] == self.eos
        if start == 0 and prompt_length == 0 and ids and ids[0] == self.bos:
            start = 1  # no prompt given: the whole is a response, BOS in front of it
        prompt = self._segments(ids, start, max(prompt_length, start))
        response = self._segments(ids, max(prompt_length, start), len(ids) - ended)
        return Trajectory(tuple(prompt), tuple(response), ended)

    def pieces(self, ids: Sequence[int]) -> Iterator[str | tuple[int, ...]]:
        """Text, and the codes of each image, of any ids: an image begins at a BOI and may have any number of codes."""
        text: list[int] = []
        position = 0
        while position < len(ids):
            if ids[position] != self.boi:
                text.append(ids[position])
                position += 1
                continue
            if text:
                yield self.decode_text(text)
            codes = self._codes_from(ids, position + 1, len(ids))
            yield codes
            stop = position + 1 + len(codes)
            text, position = [], stop + (stop < len(ids) and ids[stop] == self.eoi)
        if text:
            yield self.decode_text(text)

    def _codes_from(self, ids: Sequence[int], start: int, end: int) -> tuple[int, ...]:
        """The codes that stand side by side from `start` on, before `end`."""
        stop = start
        while stop < end and ids[stop] in self._code_of:
            stop += 1
        return tuple(self._code_of[each] for each in ids[start:stop])

    def _segments(self, ids: Sequence[int], start: int, end: int) -> list[Segment]:
        out: list[Segment] = []
        text: list[int] = []
        position = start
        while position < end:
            token = ids[position]
            if token == self.boi:
                codes = self._codes_from(ids, position + 1, end)
                stop = position + 1 + len(codes)
                if len(codes) != self.image_length or stop == end or ids[stop] != self.eoi:
                    raise BrokenImage(position, len(codes), self.image_length)
                out += [Text(self.decode_text(text)), Image(codes)]
                text, position = [], stop + 1
                continue
            if token not in self._text:
                raise Misplaced(position, token)
            text.append(token)
            position += 1
        return [*out, Text(self.decode_text(text))]


DEFAULT_VQ: dict[str, Any] = {"num_embeddings": 8192, "resolution": 512, "channel_multiplier": [1, 1, 2, 2, 4]}


def _token(number: object, size: int) -> TypeGuard[int]:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < size


def _image_length(vq: dict[str, Any], file: Path) -> int:
    """S. Raises VocabularyError where no image has that many codes."""
    levels = len(vq["channel_multiplier"])
    side = vq["resolution"] >> max(0, levels - 1) if 0 < vq["resolution"] <= MAX_RESOLUTION else 0
    if not levels or not 1 <= side * side <= MAX_LENGTH:
        raise VocabularyError(f"{file}: vq_config has a resolution of {vq['resolution']} and {levels} levels")
    return side * side


def _codes(names: dict[str, int], count: int, size: int, file: Path) -> Tensor:
    """(K,) token id of each code, from the names IMGIMG..Z of `vocabulary_map`; each code exactly once."""
    found: dict[int, int] = {}
    for name, token in names.items():
        match = CODE_NAME.fullmatch(name)
        if match:
            code = int("".join(str(ord(letter) - ord("A")) for letter in match[1]))
            if code in found or not _token(token, size):
                raise VocabularyError(f"{file}: vocabulary_map gives image code {code} the token {token}")
            found[code] = token
    if len(found) != count or max(found, default=0) >= count:
        raise VocabularyError(f"{file}: vocabulary_map has {len(found)} image codes, the VQ has {count}")
    if len(set(found.values())) < count:
        raise VocabularyError(f"{file}: vocabulary_map gives two image codes one token")
    return torch.tensor([found[code] for code in range(count)])
