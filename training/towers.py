"""Towers: Keras models from pixels or numbers to unit vectors, of built-in layers only.

Pixels are float32 (n, height, width, channels) of 0..255, other samples float32 (n, d); what comes
out is (n, dimension), of unit length.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Missing

if TYPE_CHECKING:
    import keras

Tensor = Any  # of whichever backend Keras runs on


Whitening = tuple[NDArray[np.float32], NDArray[np.float32]]  # matrix (d, d) and mean (d,)


def build(
    shape: tuple[int, ...], dimension: int, tower: dict[str, Any], known: NDArray[Any], start: Whitening | None = None
) -> keras.Model:
    """Return the tower that the table `tower` describes: its name and options.

    name is a function of BUILDERS, `application:NAME` of keras.applications, or `module:function`:
    a function of the input's shape that returns a Keras model. `known` are samples (n, *shape), for
    a normalisation by their mean; "head" begins as the whitening `start`. Raises BadInput or Missing.
    """
    import keras

    options = {key: value for key, value in tower.items() if key not in OF_ANY}
    name = tower["name"]
    inputs = keras.Input(shape, name="pixels" if len(shape) == 3 else "numbers")
    try:
        if name == "head":
            return head(inputs, dimension, start, **options)
        if name in BUILDERS:
            features = BUILDERS[name](_normalised(inputs, known, options.pop("normalise", None)), **options)
        elif name.startswith("application:"):
            features = application(inputs, name.removeprefix("application:"), **options)
        elif ":" in name:
            features = custom(inputs, name, **options)
        else:
            raise BadInput(
                f"There is no tower {name!r}.",
                f"There are {', '.join(BUILDERS)}, head, application:NAME of keras.applications, or module:function.",
            )
    except TypeError as error:
        raise BadInput(f"The tower {name!r} does not take these options.", str(error)) from None
    return keras.Model(inputs, _template(features, dimension), name="tower")


VIEWS = 21


def mirrored(tower: keras.Model) -> keras.Model:
    """Return a model that gives the mean of a picture's vector and its mirror image's, of unit length again.

    Its weights are those of `tower`, in their order.
    """
    import keras
    from keras import layers

    inputs = keras.Input(tower.input_shape[1:], name="pixels")
    vectors = _summed(tower, [inputs, inputs[:, :, ::-1]])
    return keras.Model(inputs, layers.UnitNormalization(name="template")(vectors), name="mirrored")


def with_views(tower: keras.Model) -> keras.Model:
    """Return a model that gives the mean vector of 21 views of a picture (test-time augmentation), of unit length.

    As it is, moved by 4 % each way, 15 % nearer and farther; all that upright and turned by 8 degrees each
    way. What lies beyond its edge is mirrored or repeated. Its weights are those of `tower`, in their order.
    """
    import keras
    from keras import layers, ops

    height, width, channels = tower.input_shape[1:]
    inputs = keras.Input((height, width, channels), name="pixels")
    y, x = (max(1, round(0.04 * side)) for side in (height, width))
    far_y, far_x = (max(1, round(0.075 * side)) for side in (height, width))

    def window(picture: Tensor, top: int, left: int, down: int, right: int) -> Tensor:
        """Cut a window out of the picture, or beyond it where the numbers are negative."""
        for axis, side, first, last in ((1, height, top, down), (2, width, left, right)):
            if first or last:
                mirrored = np.pad(np.arange(side), (max(0, -first), max(0, -last)), mode="symmetric")
                at = mirrored[max(0, first) :][: side - first - last]
                picture = ops.take(picture, at.astype(np.int32), axis=axis)
        return picture

    views = []
    for picture in (inputs, _turned(inputs, -8.0), _turned(inputs, 8.0)):
        edges = ((y, 0, -y, 0), (-y, 0, y, 0), (0, x, 0, -x), (0, -x, 0, x))
        nearer, farther = (window(picture, *edge) for edge in ((far_y, far_x) * 2, (-far_y, -far_x) * 2))
        # Not layers.Resizing, which takes itself for a part of training and would wake the tower's dropout.
        scaled = [ops.image.resize(view, (height, width), interpolation="bilinear") for view in (nearer, farther)]
        views += [picture, *(window(picture, *edge) for edge in edges), *scaled]
    vectors = _summed(tower, views)
    return keras.Model(inputs, layers.UnitNormalization(name="template")(vectors), name="with_views")


def _summed(tower: keras.Model, views: Sequence[Tensor]) -> Tensor:
    """Return the sum of the tower's vectors of each view, taken as one batch: a graph as small as of one view."""
    from keras import ops

    vectors = tower(ops.concatenate(views, axis=0))
    return ops.sum(ops.reshape(vectors, (len(views), -1, tower.output_shape[-1])), axis=0)


def _turned(inputs: Tensor, degrees: float) -> Tensor:
    """Return pictures turned about their centre: each pixel is a fixed mixture of four.

    Written as gathers, since ONNX has no operator for a warp that both runtimes agree on.
    """
    from keras import layers, ops

    height, width, channels = inputs.shape[1:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    from_y = np.clip(sin * x + cos * y + (height - 1) / 2, 0, height - 1)
    from_x = np.clip(cos * x - sin * y + (width - 1) / 2, 0, width - 1)
    top, left = np.minimum(from_y.astype(int), height - 2), np.minimum(from_x.astype(int), width - 2)
    down, right = from_y - top, from_x - left
    flat = layers.Reshape((height * width, channels))(inputs)
    parts = []
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = (down if dy else 1 - down) * (right if dx else 1 - right)
        taken = ops.take(flat, ((top + dy) * width + left + dx).ravel().astype(np.int32), axis=1)
        parts.append(taken * share.reshape(1, -1, 1).astype(np.float32))
    return layers.Reshape((height, width, channels))(layers.Add()(parts))


def _normalised(inputs: Tensor, known: NDArray[Any], by: str | None) -> Tensor:
    """Return pixels as -1..1, each picture by its own mean and spread, or numbers by those of `known`."""
    from keras import layers

    if len(inputs.shape) == 2:
        numbers = known.astype(np.float64)  # squares of large ones are beyond float32
        if np.abs(numbers).max() > LARGEST:
            raise BadInput(
                f"The vectors have numbers up to {np.abs(numbers).max():.3g}.",
                f"Beyond {LARGEST:g} too little is left of them in float32.",
                "Divide them all by the same number first.",
            )
        spread = _spread(numbers)
        return layers.Rescaling((1 / spread).tolist(), (-numbers.mean(axis=0) / spread).tolist())(inputs)
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    if by == "picture":
        return layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False, epsilon=1e-3)(x)
    if by is not None:
        raise BadInput(f"Pictures cannot be normalised by {by!r}.", 'There is normalise = "picture".')
    return x


def _spread(known: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what to divide each number by: one and the same for numbers of a kind, its own for mixed units.

    A number that hardly ever changes says little: divided by its own spread it would drown those that do.
    """
    each = known.std(axis=0)
    usual = float(np.sqrt(np.mean(each**2))) or 1.0
    moving = each[each > 1e-6 * usual]
    of_a_kind = len(moving) and moving.max() < OF_A_KIND * np.median(moving)
    return np.full(len(each), usual) if of_a_kind else np.where(each > 1e-12, each, 1.0)


LARGEST = 1e15  # of numbers to learn from
OF_A_KIND = 10.0  # largest spread beside the median one


def _template(features: Tensor, dimension: int) -> Tensor:
    """Return unit vectors: a linear layer, each of its outputs centred, on the sphere. In float32 always."""
    from keras import layers

    x = layers.Dense(dimension, use_bias=False)(features)
    x = layers.BatchNormalization(momentum=0.9, scale=False, center=False, dtype="float32")(x)
    return layers.UnitNormalization(name="template", dtype="float32")(x)


# -- builders: from a normalised input to features (n, f) ---------------------------------------


def resnet(x: Tensor, stages: Sequence[int] = (32, 64, 128), head: str = "flatten", dropout: float = 0.2) -> Tensor:
    """A stem, then per stage one residual block of two 3x3 convolutions (He et al., 2016) behind a pooling by two.

    head "flatten": where a stroke lies matters; "average": it does not.
    """
    from keras import layers

    x = layers.ReLU()(_convolved(x, stages[0], 3))
    for filters in stages:
        x = layers.MaxPooling2D(2)(x) if min(x.shape[1:3]) >= 2 else x
        shortcut = x if x.shape[-1] == filters else _convolved(x, filters, 1)
        y = layers.ReLU()(_convolved(x, filters, 3))
        x = layers.ReLU()(layers.Add()([shortcut, _convolved(y, filters, 3)]))
    return layers.Dropout(dropout)(_headed(x, head))


def cnn(
    x: Tensor,
    filters: Sequence[int] = (6, 12),
    kernel: int = 3,
    head: str = "flatten",
    dense: Sequence[int] = (128,),
    dropout: float = 0.0,
) -> Tensor:
    """Plain convolutions, each with a pooling by two, then dense layers: the classic small Siamese network."""
    from keras import layers

    for count in filters:
        x = layers.Conv2D(count, kernel, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D(2)(x) if min(x.shape[1:3]) >= 2 else x
        x = layers.Dropout(dropout)(x)
    return _dense(_headed(x, head), dense, dropout)


def mlp(x: Tensor, dense: Sequence[int] = (128, 128), dropout: float = 0.1, beside: bool = False) -> Tensor:
    """Dense layers only, for vectors and for small pictures.

    `beside`: what comes in goes on beside what they make of it, so that they need only add to it.
    """
    from keras import layers

    flat = layers.Flatten()(x) if len(x.shape) > 2 else x
    made = _dense(flat, dense, dropout)
    return layers.Concatenate()([flat, made]) if beside and dense else made


def head(
    inputs: Tensor, dimension: int, start: Whitening | None, dense: Sequence[int] = (), dropout: float = 0.0
) -> keras.Model:
    """Return a model from the vectors of a finished network to others: a whitening, then what is learned.

    Before anything is learned it is the whitening alone (of equal dimension; of fewer numbers a random projection of
    it), which few identities are enough for: learning has to be better than that.
    """
    import keras
    from keras import layers

    if len(inputs.shape) != 2:
        raise BadInput("A head takes vectors.", "It is for --from.")
    length = int(inputs.shape[-1])
    moved = layers.Dense(length, trainable=False, name="whitening")
    white = layers.UnitNormalization()(moved(inputs))
    matrix, mean = start or (np.eye(length, dtype=np.float32), np.zeros(length, np.float32))
    moved.set_weights([matrix, -mean @ matrix])
    first = "identity" if dimension == length else "orthogonal"
    linear = layers.Dense(dimension, use_bias=False, kernel_initializer=first)(white)
    if dense:
        added = layers.Dense(dimension, use_bias=False, kernel_initializer="zeros")(_dense(white, dense, dropout))
        linear = layers.Add()([linear, added])
    return keras.Model(inputs, layers.UnitNormalization(name="template", dtype="float32")(linear), name="tower")


OF_ANY = ("name", "dimension", "mirrored", "looks")  # keys of any tower
BUILDERS: dict[str, Callable[..., Any]] = {"resnet": resnet, "cnn": cnn, "mlp": mlp}


def _convolved(x: Tensor, filters: int, size: int) -> Tensor:
    from keras import layers

    x = layers.Conv2D(filters, size, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.BatchNormalization(momentum=0.9)(x)


def _headed(x: Tensor, head: str) -> Tensor:
    from keras import layers

    if head not in ("flatten", "average"):
        raise BadInput(f"There is no head {head!r}.", "There are flatten and average.")
    return layers.Flatten()(x) if head == "flatten" else layers.GlobalAveragePooling2D()(x)


def _dense(x: Tensor, dense: Sequence[int], dropout: float) -> Tensor:
    from keras import layers

    for units in dense:
        x = layers.Dense(units, activation="relu", kernel_initializer="he_normal")(x)
        x = layers.Dropout(dropout)(x)
    return x


# -- other people's networks ----------------------------------------------------------------------


def application(inputs: Tensor, name: str, weights: str = "none", dropout: float = 0.0, **options: Any) -> Tensor:
    """A backbone of keras.applications: its convolutions, averaged.

    weights: "none", "imagenet" (fetched by Keras unless its cache has them), or a local .weights.h5
    file. `options` go to the Keras function. The preprocessing that its weights expect is put into the
    graph; grey pictures are given three times where it wants colour.
    """
    import keras
    from keras import layers

    make = getattr(keras.applications, name, None)
    if not callable(make):
        known = [n for n in dir(keras.applications) if n[0].isupper()]
        raise BadInput(f"keras.applications has no {name!r}.", f"It has {', '.join(known)}.")
    if len(inputs.shape) != 4:
        raise BadInput(f"{name} takes pictures, not vectors.", remedy='Use name = "mlp"')
    if weights not in ("none", "imagenet") and not Path(weights).is_file():
        raise Missing(f"{weights}: no such weights.", 'Expected "none", "imagenet" or a local .weights.h5 file.')
    x = inputs if inputs.shape[-1] == 3 else layers.Concatenate()([inputs] * 3)
    x = _preprocessed(x, make)
    try:
        backbone = make(
            include_top=False, weights=None if weights == "none" else weights, input_shape=tuple(x.shape[1:]),
            pooling="avg", **options,
        )  # fmt: skip
    except TypeError:
        raise  # an option that it does not take
    except (ValueError, OSError) as error:
        raise BadInput(
            f"keras.applications.{name} cannot be built for {tuple(inputs.shape[1:])}.", str(error).splitlines()[0],
            "Try a larger --size, or other weights.",
        ) from None  # fmt: skip
    except Exception as error:  # Keras reports a failed download as a plain Exception
        if weights != "imagenet":
            raise
        raise Missing(
            f"The imagenet weights of {name} could not be fetched.", str(error).splitlines()[0],
            "Give a local file: weights = \"PATH.weights.h5\" in the recipe's [tower].",
        ) from None  # fmt: skip
    backbone.name = "backbone"  # `fit` freezes it by this name
    # Its normalisations keep the statistics that came with the weights.
    return layers.Dropout(dropout)(backbone(x, training=False) if weights != "none" else backbone(x))


def _preprocessed(x: Tensor, make: Callable[..., Any]) -> Tensor:
    """Return 0..255 pixels as the module of `make` prepares them, in layers that can be saved."""
    import keras
    from keras import layers

    module = importlib.import_module(make.__module__)
    # What it does to black, to white and to a single colour tells which of Keras' three ways is its.
    probe = np.zeros((1, 1, 3, 3), np.float32)
    probe[0, 0, 1], probe[0, 0, 2, 0] = 255, 255
    done = np.asarray(module.preprocess_input(probe.copy()), np.float32)[0, 0]
    if np.allclose(done, probe[0, 0]):
        return x  # its first layers do it
    black, white, red = done
    if red[0] == black[0] and red[2] != black[2]:  # caffe: blue first
        x = layers.Concatenate()([x[..., 2:3], x[..., 1:2], x[..., 0:1]])
    scale = (white - black) / 255
    return keras.layers.Rescaling(scale=scale.tolist(), offset=black.tolist())(x)


def custom(inputs: Tensor, name: str, **options: Any) -> Tensor:
    """The features of a user's own model: `module:function`, called with the shape of the input."""
    import keras
    from keras import layers

    module, _, function = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # last, so that nothing that lies there takes the place of an installed module
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise Missing(
            f"The tower {name!r} cannot be found.", f"{error}.", "It is looked for where the command is started."
        ) from None
    except Exception as error:  # it is the user's code
        raise BadInput(f"The file of the tower {name!r} cannot be run.", f"{type(error).__name__}: {error}.") from error
    inspect.signature(make).bind(inputs.shape[1:], **options)  # raises TypeError where it does not take them
    try:
        model = make(tuple(inputs.shape[1:]), **options)
    except Exception as error:  # it is the user's code
        raise BadInput(
            f"The tower {name!r} failed.", f"{type(error).__name__}: {error}.", "It is your function: look at it."
        ) from error
    if not isinstance(model, keras.Model):
        raise BadInput(f"{name} returned {type(model).__name__}.", "Expected a Keras model.")
    features = model(inputs)
    return features if len(features.shape) == 2 else layers.Flatten()(features)
