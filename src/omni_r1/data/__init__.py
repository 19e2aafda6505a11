"""Readers, shards and the miniature world."""
