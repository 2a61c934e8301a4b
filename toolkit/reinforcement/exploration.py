"""How often an agent tries an action blindly."""

from dataclasses import dataclass

from toolkit.errors import UserError


@dataclass(frozen=True)
class Exploration:
    """The share of random actions, epsilon: it falls along a line, and then stays.

    Args:
        start: At the run's beginning, in [0, 1].
        end: After the fall, in [0, 1].
        fraction: Of the run's environment steps, the fall's part, in (0, 1].

    Raises:
        UserError: A number is out of its range.
    """

    start: float = 1.0
    end: float = 0.05
    fraction: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1 and 0 < self.fraction <= 1):
            raise UserError(
                "model.init_args.exploration: need start and end in [0, 1] and fraction in (0, 1], got "
                f"{self.start}, {self.end} and {self.fraction}."
            )

    @property
    def is_constant(self) -> bool:
        """Whether it never falls."""
        return self.start == self.end

    def epsilon(self, progress: float) -> float:
        """At a share of the run, in [0, 1].

        >>> [round(Exploration(1.0, 0.1, fraction=0.5).epsilon(progress), 2) for progress in (0, 0.25, 0.5, 1)]
        [1.0, 0.55, 0.1, 0.1]
        """
        return self.start + (self.end - self.start) * min(1.0, progress / self.fraction)
