"""Training: the only part that needs Keras and TensorFlow, and it keeps them in a process of its own.

`train` makes a tower from pictures, `retrain` makes a better one for a gallery. Importing this
package loads neither TensorFlow nor FAISS.
"""

from .child import train
from .retraining import Retraining, retrain

__all__ = ["Retraining", "retrain", "train"]
