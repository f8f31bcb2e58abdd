"""Training: the only part that needs Keras and TensorFlow, and it keeps them in a process of its own.

`train` makes a tower from pictures or vectors, `retrain` makes a better one for a gallery, `look` says
what a training would be of, `due` whether it is time for one. Importing this package loads neither
TensorFlow nor FAISS.
"""

from .retrain import Retraining, due, retrain
from .train import look, train

__all__ = ["Retraining", "due", "look", "retrain", "train"]
