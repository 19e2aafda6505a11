"""verl's DAPO reward manager with the token ids: text alone does not tell what was drawn.

`reward.reward_manager.source=importlib`, `.name=TokenRewardManager`,
`.module.path=pkg://omni_r1.perpo.verl_plugins.reward_manager`.
"""

from typing import Any

import numpy as np
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import DAPORewardManager


class TokenRewardManager(DAPORewardManager):
    """As DAPO's, soft overlong penalty included; `extra_info` has `prompt_ids` and `response_ids` besides."""

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        data = data[-1:]  # of several turns, the last, as there
        item = data[0]
        width = item.batch["prompts"].shape[-1]
        given = item.batch["attention_mask"].bool()
        extra = dict(item.non_tensor_batch.get("extra_info") or {})
        extra["prompt_ids"] = item.batch["prompts"][given[:width]].tolist()
        extra["response_ids"] = item.batch["responses"][given[width:]].tolist()
        data.non_tensor_batch["extra_info"] = np.array([extra], dtype=object)
        return await super().run_single(data)
