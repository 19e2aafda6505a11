"""The tasks that lmms-eval loads from this folder."""
