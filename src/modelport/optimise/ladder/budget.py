"""What may be lost, in one sentence: `accuracy drop <= 0.01`, `f1 >= 0.9`, `mae <= 2.5`, `agreement >= 0.95`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from modelport.errors import UsageError, VerificationError
from modelport.evaluate.metrics import LESS_IS_BETTER, UNBOUNDED, known, score, worsening
from modelport.optimise.scoring import TINY, Judge

AGREEMENT = "agreement"
_RULE = re.compile(
    r"\s*(?P<metric>[a-z][a-z0-9_@ -]*?)(?P<drop>\s+drop)?\s*(?P<sign><=|>=|≤|≥)\s*"
    r"(?P<bound>[0-9]+\.?[0-9]*|\.[0-9]+)\s*(?P<percent>%?)\s*",
    re.IGNORECASE,
)
_EXAMPLES = 'for example "accuracy drop <= 0.01", "f1 >= 0.9", "mae <= 2.5" or "agreement >= 0.95"'


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit for one figure.

    Attributes:
        metric: A metric's name, or `agreement` with the original.
        drop: Whether the limit is for how much worse it becomes, not for the figure itself.
        comparison: `<=` or `>=`.
        bound: The limit.
    """

    metric: str
    drop: bool
    comparison: str
    bound: float

    def __str__(self) -> str:
        return f"{self.metric}{' drop' if self.drop else ''} {self.comparison} {self.bound:g}"

    def applied(self, judge: Judge) -> Judge:
        """The same judge with this limit: its figure decides, and comes first.

        Raises:
            UsageError: Nobody knows what is right for the samples, or the metric does not fit them.
            VerificationError: The original itself does not keep the limit.
        """
        if self.metric == AGREEMENT:
            return replace(judge, by_agreement=True, max_drop=self.bound if self.drop else 1 - self.bound)
        if judge.truth is None:
            raise UsageError(
                f"the budget {str(self)!r} cannot be applied",
                why=f"nobody says what is right for the samples, so there is no {self.metric}",
                fix='give labelled data with --evaluation FILE, or use a budget such as "agreement >= 0.95"',
            )
        before = score(self.metric, judge.original, judge.truth)
        allowed = self.bound if self.drop else worsening(self.metric, before, self.bound)
        if allowed < -TINY:
            raise VerificationError(
                f"the original does not keep the budget {str(self)!r} itself",
                why=f"its {self.metric} is {before:.4g} on {len(judge.truth)} samples",
                fix=f'use a budget that it keeps, such as "{self.metric} drop <= 0.01"',
            )
        others = tuple(name for name in judge.metrics if name != self.metric)
        return replace(judge, metrics=(self.metric, *others), max_drop=max(0.0, allowed))


def parse(text: str) -> Budget:
    """A budget as it is typed; `1%` is 0.01.

    Raises:
        UsageError: It is no such sentence, there is no such metric, or it cannot be a limit.
    """
    found = _RULE.fullmatch(text)
    if found is None:
        raise UsageError(
            f"the budget {text!r} cannot be understood",
            why="it is a metric, `drop` where the loss is meant, `<=` or `>=`, and a number that is not below 0",
            fix=_EXAMPLES,
        )
    word, drop = found["metric"].strip().lower(), bool(found["drop"])
    metric = AGREEMENT if word in (AGREEMENT, f"top-1 {AGREEMENT}") else known(word)
    comparison = {"≤": "<=", "≥": ">="}.get(found["sign"], found["sign"])
    bound = float(found["bound"]) / (100 if found["percent"] else 1)
    limits = "<=" if drop or metric in LESS_IS_BETTER else ">="
    wrong = ""
    if comparison != limits:
        wrong = f"{metric}{' drop' if drop else ''} is better when it is {'lower' if limits == '<=' else 'higher'}"
    elif bound > 1 and metric not in UNBOUNDED:
        wrong = f"{metric} is from 0 to 1, not {bound:g}; {bound:g} % is written {bound:g}%"
    elif found["percent"] and metric in UNBOUNDED:
        wrong = f"{metric} has no percent"
    if wrong:
        raise UsageError(f"{text!r} is no budget", why=wrong, fix=_EXAMPLES)
    return Budget(metric=metric, drop=drop, comparison=comparison, bound=bound)
