"""Vectors to the nearest identities: an index over what the store holds, and the fusion of templates."""
