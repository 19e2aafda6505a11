"""A training run that is killed at seeded moments and goes on each time, for pesft and perpo alike."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faulty import MOMENTS
from omni_r1.pesft.checkpoints import STAGE, step_of
from training_files import differences, whole_checkpoints
from training_server import TrainingServer

LAST = 1.15  # share of the kills that come before the last step
BEFORE_A_STEP = 40  # operations, about


def killed_run(
    base: Path,
    server: TrainingServer,
    words: list[str],
    kind: Callable[[str, Path], str],
    seed: object,
    *,
    steps: int,
    kills: int,
    updates: int = 1,
    saved: list[str],
    ending: list[str],
) -> dict[str, Any]:
    """Figures of a run in `base` that was killed and ended as one that nobody touched.

    A kill comes after some time, at any operation on a file, or at one on a certain file: of a checkpoint, with a name
    in `saved`, or of the end, in `ending`. No attempt gets further than its share of operations, so that the kills come
    all along the run on any machine; those left after the last step hit the end. A step of the run is `updates` of the
    trainer. `words` are the command's but for its output, and `kind(operation, path)` is where a kill hit, in words.
    """
    words = [*words, "--output-path"]
    said, rng = base / "said", random.Random(str(seed))
    untouched, output = base / "untouched", base / "killed"
    begun = time.monotonic()
    before, after = (server.attempt([*words, str(untouched)], said, folder=untouched) for _ in range(2))
    assert before.code == after.code == 0, said.read_text()  # the second found all but the end there
    assert differences(untouched, untouched) == []
    hit: Counter[str] = Counter()
    resumed: Counter[int] = Counter()
    done, code = 0, -9
    reach = 0.4  # seconds until the latest kill by time; the machine decides how far
    while (struck := hit.total()) < kills or code == -9:
        share = max(0.0, LAST * steps * (struck + 1) / kills - done)  # steps that the attempt may make
        most = after.operations if done == steps else BEFORE_A_STEP + round(share * before.operations / steps)
        order: dict[str, Any] = {}
        dice = rng.random()
        if struck < kills:
            order["kill"] = (most, rng.choice(MOMENTS))
        if struck < len(saved):  # each is hit
            order["aim"] = saved[struck]
            order["kill"] = (before.operations, order["kill"][1])
        elif struck < kills and dice < 0.35:
            reach = min(1.5, max(0.1, reach * (0.8 if share <= 0 and done < steps else 1.2)))
            order["delay"] = rng.uniform(0, reach)
        elif struck < kills and dice < 0.65:
            order["aim"] = rng.choice(["old-checkpoint", *saved] if done < steps else ending)
        elif struck < kills:
            order["kill"] = (rng.randint(1, most), order["kill"][1])
        ended = server.attempt([*words, str(output)], said, folder=output, **order)
        code = ended.code
        assert code in (-9, 0), said.read_text()
        resumed[done] += 1
        if code == -9:
            by_time = "delay" in order and ended.operations < most
            place = kind(ended.doing[0], Path(ended.doing[1]).relative_to(output)) if ended.doing else "computing"
            hit["by time: " * by_time + place] += 1
        found = whole_checkpoints(output)
        assert found or not done, "no checkpoint is left"
        now = step_of(found[-1]) // updates if found else 0
        assert now >= done
        done = now
    assert done == steps and not [path for path in output.rglob(".*") if path.name != STAGE or any(path.iterdir())]
    assert differences(untouched, output) == []
    return {
        "kills": hit.total(),
        "resumed from step": dict(sorted(resumed.items())),
        "hit": dict(hit.most_common()),
        "seconds": round(time.monotonic() - begun),
    }
