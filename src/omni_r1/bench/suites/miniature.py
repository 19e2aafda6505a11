"""The miniature's held-out bench, in Omni-Bench's schema, with a judge of its drawings."""

import numpy as np
from PIL import Image as Picture

from omni_r1 import shipped
from omni_r1.bench.suites import omni_bench
from omni_r1.bench.suites.files import Files
from omni_r1.bench.suites.suite import Item

FILES = Files(shipped.BENCH.name, shipped.BENCH.parent, [shipped.BENCH])


def questions() -> list[Item]:
    return omni_bench.questions(FILES)


def judge(drawn: Picture.Image, gold: Picture.Image) -> tuple[bool, str]:
    """Whether a drawing shows the gold step, and if not what differs."""
    from omni_r1.data.miniature.world import judge

    verdict = judge(np.asarray(drawn.resize(gold.size)), np.asarray(gold))  # a model of another size draws larger
    return verdict.correct, verdict.reason
