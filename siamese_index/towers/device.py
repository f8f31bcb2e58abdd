"""Where a network runs: on the processor, or on an NVIDIA card where onnxruntime-gpu is installed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siamese_index.errors import BadInput, Damaged, NotInstalled

VARIABLE = "SIDX_DEVICE"
DEVICES = ("auto", "cpu", "cuda")
AGREEMENT = 1e-4  # by which numbers of a vector may differ between a card and the processor
_CPU = "CPUExecutionProvider"
_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})  # full float32: templates of both are compared with each other


most_threads = 4  # of a network; a service of several processes shares the cores


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def wanted() -> str:
    """Return what the environment asks for: auto, cpu or cuda. Raises BadInput for something else."""
    found = os.environ.get(VARIABLE) or "auto"
    if found not in DEVICES:
        raise BadInput(f"There is no device {found!r}.", f"There are {', '.join(DEVICES)}.", f"Set {VARIABLE}.")
    return found


def session(network: bytes, shape: tuple[int, ...]) -> Any:
    """Open a network for samples of a shape on the device that is wanted.

    Of auto the processor is used where there is no card, or where it gives others. Raises NotInstalled, or Damaged for
    a network that cannot be opened, or that gives other vectors on the card that was asked for.
    """
    import onnxruntime

    device = wanted()
    there = _CUDA[0] in onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and not there):
        return _opened(network, [_CPU])
    if not there:
        raise _no_card("This ONNX Runtime has no CUDA: it is onnxruntime, not onnxruntime-gpu.")
    getattr(onnxruntime, "preload_dlls", lambda: None)()  # CUDA's own libraries, where pip put them
    card = _opened(network, [_CUDA, _CPU])
    if card.get_providers()[0] != _CUDA[0]:  # it could not be begun; ONNX Runtime goes on without it
        if device == "cuda":
            raise _no_card("No card was found, or CUDA's libraries are not those that it was built for.")
        return card
    processor = _opened(network, [_CPU])
    example = np.random.default_rng(0).uniform(0, 255, (1, *shape)).astype(np.float32)
    if agree(card, processor, example):
        return card
    if device == "cuda":
        raise Damaged(
            f"The card gives vectors that differ by more than {AGREEMENT:g} from those of the processor.",
            "What was enrolled by the one would not be found by the other.",
            "Use --device cpu",
        )
    return processor


def agree(first: Any, second: Any, example: NDArray[np.float32]) -> bool:
    """Whether two open networks give the same vectors of a batch, but for AGREEMENT."""
    one, other = (each.run(None, {each.get_inputs()[0].name: example})[0] for each in (first, second))
    return one.shape == other.shape and bool(np.all(np.abs(one - other) <= AGREEMENT))


def _opened(network: bytes, providers: list[Any]) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = min(most_threads, cores())
    # Threads wait for work at full speed while it runs, a tenth faster; after it they burn no core.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(network, options, providers=providers)
    except Exception as error:  # noqa: BLE001  # onnxruntime's errors share no public base class
        raise Damaged("The tower's network cannot be opened.", str(error).splitlines()[0]) from None


def _no_card(why: str) -> NotInstalled:
    return NotInstalled(
        "Embedding on a card is not possible here.", why, "pip install onnxruntime-gpu, or --device cpu"
    )
