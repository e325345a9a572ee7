"""Identities, other keys, erasure and retention, in whole homes."""
