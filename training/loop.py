"""The loop: learning rate, averaged weights, looks at the held-out identities, checkpoints, and reasons to stop."""

from __future__ import annotations

import json
import math
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from siamese_index import BadInput, Missing
from siamese_index.files import replacing

from .progress import OnProgress
from .recipe import Fit

if TYPE_CHECKING:
    import keras

Weights = list[NDArray[Any]]
Figures = dict[str, float]
CHECKPOINT = "checkpoint.npz"
AVERAGED_EVERY = 10  # steps
TOLD_EVERY = 0.5  # seconds
SAVED_EVERY = 60.0  # seconds, and after each round
TIMED = (10, 30)  # the steps of a phase between which its speed is measured
UNFROZEN = 0.1  # the learning rate of a whole network beside that of its new layers alone
COLLAPSED = 0.02  # mean distance between pictures of different identities


@dataclass
class TrainingState:
    """Everything that a training goes on from, apart from the model's and the optimiser's variables."""

    steps: int
    step: int = 0
    phase: int = 0  # 0: a pretrained backbone is frozen, 1: everything learns
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    average: Weights = field(default_factory=list)
    best: Weights = field(default_factory=list)
    best_at: int = 0
    best_figures: Figures = field(default_factory=dict)
    stale: int = 0  # rounds since the best
    ended: str = "all steps"  # why it stopped


class Checkpoint:
    """A training on disk: one file, replaced whole. It fits only the same data, recipe and settings (`key`)."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key

    def save(self, state: TrainingState, variables: Weights) -> None:
        """Write everything durably. Raises Missing when that cannot be done."""
        plain = {k: v for k, v in vars(state).items() if k not in ("average", "best")}
        arrays: dict[str, Any] = {"meta": np.frombuffer(json.dumps({"key": self.key, **plain}).encode(), np.uint8)}
        for name, weights in (("variable", variables), ("average", state.average), ("best", state.best)):
            arrays |= {f"{name}{i}": value for i, value in enumerate(weights)}
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)

    def load(self) -> tuple[TrainingState, Weights]:
        """Return what was saved. Raises Missing when there is none, BadInput when it is of another training."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                meta = json.loads(arrays["meta"].tobytes())
                variables, average, best = (
                    [arrays[f"{name}{i}"] for i in range(sum(key.rstrip("0123456789") == name for key in arrays))]
                    for name in ("variable", "average", "best")
                )
        except FileNotFoundError:
            raise Missing(f"{self.path}: there is no training to go on with.", remedy="Leave out --resume.") from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(f"{self.path}: not a checkpoint.", str(error), "Leave out --resume.") from None
        if meta.pop("key") != self.key:
            raise BadInput(
                f"{self.path}: this is another training.",
                "The data, the recipe or the options are not those it was started with.",
                "Start it as before, or leave out --resume.",
            )
        return TrainingState(**meta, average=average, best=best), variables


@dataclass(frozen=True)
class LoopSettings:
    """What the loop is told."""

    fit: Fit
    look: Callable[[Weights, float], Figures]  # of averaged weights, share of steps done: on held-out identities
    on_progress: OnProgress
    checkpoint: Checkpoint | None
    deadline: float | None  # time.monotonic() at which the steps must be over
    interrupted: Callable[[], bool]


def watcher(
    plan: LoopSettings, state: TrainingState, trainable: keras.Model, tower: keras.Model
) -> keras.callbacks.Callback:
    """Return the callback that carries `state` through one phase of `trainable.fit`."""
    import keras

    fit, began, first = plan.fit, time.monotonic() - state.seconds, state.step

    class Watcher(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
        told = 0.0
        saved = time.monotonic()
        timed = 0.0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            rate = rate_at(state.step, state.steps, fit)
            trainable.optimizer.learning_rate = rate * (UNFROZEN if state.phase and fit.frozen else 1)

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
            state.step += 1
            state.seconds = time.monotonic() - began
            loss = float((logs or {}).get("loss", math.nan))
            if not math.isfinite(loss):
                raise BadInput(
                    f"The training diverged: the loss was {loss} at step {state.step}.",
                    "Most often the learning rate is too high.",
                    f"Lower [fit] rate ({fit.rate:g}) in the recipe.",
                )
            self.buy_steps()
            looks = state.step % max(1, state.steps // fit.rounds) == 0 or state.step == state.steps
            if looks or state.step % AVERAGED_EVERY == 0:
                average(state, tower, fit.average)
            if looks:
                self.round(loss)
            elif time.monotonic() - self.told > TOLD_EVERY:
                self.told = time.monotonic()
                plan.on_progress(self.point(loss))
            self.end_if()
            if time.monotonic() - self.saved > SAVED_EVERY:
                self.save()

        def buy_steps(self) -> None:
            """Set the number of steps to what the time allows, so that the rate has come down when it is over."""
            done, now = state.step - first, time.monotonic()
            if plan.deadline is None:
                return
            if done == TIMED[0]:
                self.timed = now
            elif done == TIMED[1]:
                each = (now - self.timed) / (TIMED[1] - TIMED[0])
                looks = 0.05 * (plan.deadline - now)
                state.steps = state.step + max(1, int((plan.deadline - now - looks) / each))
                plan.on_progress({"stage": "budget", "steps": state.steps})

        def point(self, loss: float) -> dict[str, Any]:
            return {"step": state.step, "of": state.steps, "loss": round(loss, 4), "seconds": round(state.seconds, 1)}

        def round(self, loss: float) -> None:
            figures = plan.look(state.average, state.step / state.steps)
            if better(figures, state.best_figures, fit.tolerance):
                state.best, state.best_at, state.stale = state.average, state.step, 0
                state.best_figures = lowest(figures, state.best_figures)
            else:
                state.stale += 1
            point = self.point(loss) | {k: round(v, 4) for k, v in figures.items() if k != "error"}
            state.history.append(point)
            trainable.reset_metrics()  # the next loss is the next round's mean
            plan.on_progress(point)
            self.save()

        def end_if(self) -> None:
            if state.step >= state.steps:
                state.ended = "all steps"
            elif state.stale >= fit.patience:
                state.ended = f"no better for {state.stale} rounds"
            elif plan.deadline is not None and time.monotonic() > plan.deadline:
                state.ended = "time budget"
            elif plan.interrupted():
                state.ended = "interrupted"
                plan.on_progress({"stage": "interrupted"})
            elif state.phase == 0 and state.step >= fit.frozen * state.steps:
                state.ended = "frozen"
            else:
                return
            trainable.stop_training = True

        def save(self) -> None:
            self.saved = time.monotonic()
            if plan.checkpoint is None:
                return
            try:
                plan.checkpoint.save(state, [np.asarray(v) for v in variables(trainable)])
            except Missing as error:  # a full disk costs the checkpoint, not the training
                plan.on_progress({"stage": "checkpoint", "failed": str(error).replace("\n", " ")})

    return Watcher()


def variables(trainable: keras.Model) -> list[Any]:
    """Return all that changes in a step: weights, statistics, the state of random layers, and the optimiser's."""
    return [*trainable.variables, *trainable.optimizer.variables]


def rate_at(step: int, steps: int, fit: Fit) -> float:
    """Return the learning rate of a step: a linear rise, then half a cosine down to zero."""
    rise = max(1, round(fit.warm_up * steps))
    if step < rise:
        return fit.rate * (step + 1) / rise
    return fit.rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def average(state: TrainingState, tower: keras.Model, kept: float) -> None:
    """Move the average towards the present weights; a young one moves faster, or it would remember the beginning."""
    weights = tower.get_weights()
    updates = state.step // AVERAGED_EVERY
    keep = min(kept**AVERAGED_EVERY, (1 + updates) / (10 + updates))
    if not state.average or kept == 0:
        state.average = weights
    else:
        state.average = [keep * old + (1 - keep) * new for old, new in zip(state.average, weights, strict=True)]
        state.average = [a.astype(w.dtype) for a, w in zip(state.average, weights, strict=True)]


def better(figures: Figures, best: Figures, tolerance: float = 1.0) -> bool:
    """Whether later weights are as good as the best so far, within `tolerance` standard errors.

    The one-standard-error rule (Breiman et al., 1984): a few held-out identities cannot tell moments
    that are nearer than that, and then the later one, at a lower learning rate, is the better. With no
    tolerance only lower errors are better: the beginning is kept unless it is beaten. Without
    figures the later is. `error` is the FNIR, or 1 - rank correlation.
    """
    if not best or not figures:
        return True
    limit = best["error"] + tolerance * best.get("noise", 0.0)
    return figures["error"] <= limit if tolerance else figures["error"] < limit


def lowest(figures: Figures, best: Figures) -> Figures:
    """Return the figures with the lower error: what later weights must come near."""
    return best if best and figures and best["error"] < figures["error"] else figures


def refuse_collapsed(vectors: NDArray[np.float32]) -> None:
    """Raise BadInput when vectors (n, d) of different identities are all alike, or are none."""
    lengths = np.linalg.norm(vectors, axis=1)
    spread = np.sqrt(max(0.0, 2 - 2 * float(np.sum(vectors.mean(axis=0) ** 2))))
    if not np.all(np.abs(lengths - 1) < 1e-2) or spread < COLLAPSED:
        raise BadInput(
            "The tower collapsed: it gives all pictures the same vector.",
            f"The mean distance between {len(vectors)} of them is {spread:.3f}.",
            "Lower [fit] rate in the recipe, or choose another loss: cosface does not collapse.",
        )
