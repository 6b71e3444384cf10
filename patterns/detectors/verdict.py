"""Conditions of many candidates at once: which are met, and the confidence that follows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from marketdata.bars.window import Floats
from patterns.detectors.matches import Condition
from patterns.detectors.paths import Flags

_RELATIONS = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal}


@dataclass(frozen=True, eq=False, slots=True)
class Measure:
    """
    A condition over candidates, `values` of shape (m,), NaN where nothing could be measured.

    `weight` is its part in the confidence; one that is not `needed` counts there only. `scale` is, for ">=", how far above its threshold a
    value scores one half, as a share of the threshold; a "<=" scores 1 at zero and falls to 0 at the threshold. Weight 0 is never scored.
    """

    name: str
    values: Floats
    relation: str
    threshold: float
    weight: float = 1.0
    needed: bool = True
    scale: float = 1.0

    def take(self, rows: Flags) -> "Measure":
        """Return the same of some of the candidates."""
        return replace(self, values=self.values[rows])

    @property
    def passed(self) -> Flags:
        """Return where the value is known and stands in the relation."""
        return np.asarray(_RELATIONS[self.relation](self.values, self.threshold))

    @property
    def score(self) -> Floats:
        """Return how well the condition is met, in [0, 1]; NaN where it could not be measured."""
        if self.relation == ">=":
            above = np.maximum(self.values / self.threshold - 1, 0)
            return np.asarray(above / (above + self.scale))
        return np.asarray(np.clip(1 - self.values / self.threshold, 0, 1))


def met(measures: Sequence[Measure]) -> Flags:
    """Return which candidates meet every needed condition."""
    return np.asarray(np.logical_and.reduce([measure.passed for measure in measures if measure.needed]))


def confidence(measures: Sequence[Measure]) -> Floats:
    """Return the mean of the scores by weight, of those that could be measured, in [0, 1]; shape (m,)."""
    total, weight = np.zeros(len(measures[0].values)), np.zeros(len(measures[0].values))
    for measure in (one for one in measures if one.weight > 0):
        score = measure.score
        known = ~np.isnan(score)
        total += np.where(known, measure.weight * score, 0)
        weight += np.where(known, measure.weight, 0)
    return np.clip(total / np.maximum(weight, 1e-12), 0, 1)


def conditions(measures: Sequence[Measure], row: int) -> tuple[Condition, ...]:
    """Return what is kept of one candidate: values to four figures."""
    return tuple(
        Condition(
            name=measure.name,
            measured=float(f"{measure.values[row]:.4g}") if np.isfinite(measure.values[row]) else None,
            relation=measure.relation,
            threshold=measure.threshold,
            passed=bool(measure.passed[row]),
        )
        for measure in measures
    )
