"""PeRPO: group-relative reinforcement learning of trajectories that draw."""
