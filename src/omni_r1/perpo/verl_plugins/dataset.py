"""The data set: verl's, for prompts of token ids. `data.custom_cls.path=pkg://omni_r1.perpo.verl_plugins.dataset`,
`.name=TokenDataset`."""

from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from omni_r1.errors import InputError


class TokenDataset(RLHFDataset):
    """Rows of the parquet that `rows` writes.

    verl measures a prompt by its chat messages; here `extra_info.prompt_ids` counts. Raises InputError for a row
    without it, and, unless `data.filter_overlong_prompts`, for a prompt above `data.max_prompt_length`.
    """

    def maybe_filter_out_long_prompts(self, dataframe: Any = None) -> Any:
        if "extra_info" not in dataframe.column_names:
            raise InputError("no column 'extra_info'", file=self.data_files[0])
        short = []
        for number, extra in enumerate(dataframe["extra_info"]):
            if not (extra or {}).get("prompt_ids"):
                raise InputError("no token ids", file=self.data_files[0], row=number + 1, field="extra_info.prompt_ids")
            if len(extra["prompt_ids"]) <= self.max_prompt_length:
                short.append(number)
            elif not self.filter_overlong_prompts:
                wrong = f"{len(extra['prompt_ids'])} tokens, more than data.max_prompt_length={self.max_prompt_length}"
                raise InputError(wrong, file=self.data_files[0], row=number + 1, field="extra_info.prompt_ids")
        print(f"{len(short)} of {len(dataframe)} prompts have at most {self.max_prompt_length} tokens")
        return dataframe if len(short) == len(dataframe) else dataframe.select(short)
