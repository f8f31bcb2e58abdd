"""The pairs, folds and trials that figures are taken on, the same for the seeds and for us."""

import zipfile

import cv2
import numpy as np

UNSEEN = {
    "omniglot_small1.zip": ("Balinese", "Early_Aramaic", "Korean"),
    "omniglot_small2.zip": ("Japanese_(katakana)", "Sanskrit", "Tagalog"),
}  # the alphabets of each background set that the other has not


def read(data, name):
    """x_train, y_train, x_test, y_test of an .npz in Keras' layout."""
    with np.load(data / f"{name}.npz", allow_pickle=False) as arrays:
        return tuple(arrays[key] for key in ("x_train", "y_train", "x_test", "y_test"))


def garments(data):
    return read(data, "fashion_mnist")


def partner(labels, i, same, members, rng):
    """Another sample of the same identity as i, or one of another."""
    while True:
        j = int(rng.choice(members[labels[i]])) if same else int(rng.integers(len(labels)))
        if j != i and (labels[j] == labels[i]) == same:
            return j


def one_each(labels, rng):
    """Two pairs per picture, one genuine, one impostor (the second seed's): first, second, genuine."""
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    first = np.repeat(np.arange(len(labels)), 2)
    genuine = np.arange(len(first)) % 2 == 0
    second = np.array([partner(labels, i, g, members, rng) for i, g in zip(first, genuine, strict=True)])
    return first, second, genuine


def impostors_and_genuine(labels, count, rng):
    """`count` pairs, half of them genuine: first, second, genuine."""
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    first = rng.integers(0, len(labels), count)
    genuine = np.arange(count) % 2 == 0
    second = np.array([partner(labels, i, g, members, rng) for i, g in zip(first, genuine, strict=True)])
    return first, second, genuine


def orl_files(data):
    """The bytes of the ORL pictures: 40 lists of 10."""
    with zipfile.ZipFile(data / "orl_faces.zip") as archive:
        return [[archive.read(f"orl_faces/s{p}/{n}.pgm") for n in range(1, 11)] for p in range(1, 41)]


def orl_pairs(data):
    """The faces' seed protocol: pixels (400, 112, 92); first, second, genuine (20,000,); which 75 % are learned."""
    pixels = np.stack(
        [cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_GRAYSCALE) for p in orl_files(data) for f in p]
    )
    rng = np.random.default_rng(0)
    first, second, genuine = impostors_and_genuine(np.repeat(np.arange(40), 10), 20_000, rng)
    return pixels, first, second, genuine, rng.permutation(20_000) < 15_000


def twenty_way(vectors, rng, trials=400):
    """The share of errors of each trial: 20 characters (of n), enrolled by one drawer, shown by another.

    `vectors` is (characters, drawers, d).
    """
    wrong = []
    for _ in range(trials):
        chosen = rng.permutation(len(vectors))[:20]
        enrolled, probe = rng.permutation(vectors.shape[1])[:2]
        found = (vectors[chosen, probe] @ vectors[chosen, enrolled].T).argmax(axis=1)
        wrong.append(np.mean(found != np.arange(len(chosen))))
    return np.array(wrong)
