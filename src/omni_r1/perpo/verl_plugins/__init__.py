"""PeRPO on many GPUs: what verl 0.9.1 loads of this project by name. See docs/verl.md.

`engine` (model.external_lib) registers model, trainer and agent loop; `reward`, `reward_manager`, `dataset` are named
in the recipe; `launch` composes and checks the recipe and hands it to verl; `rows` writes the parquet verl reads.
"""
