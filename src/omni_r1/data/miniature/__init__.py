"""The miniature: a drawn world of the four Uni-Tasks, and what trains a model on it from nothing."""
