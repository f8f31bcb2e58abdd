"""The child process of `siamese_index.training.child`."""

from .child import serve

serve()
