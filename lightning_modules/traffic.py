"""What training sends between processes."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Traffic:
    """Counts of one process.

    floats_sent: numbers of weights, gradients and running statistics that the process gave to
        others, however the exchange is done; losses and scores are not counted.
    synchronisations: how often all processes waited for each other to exchange them.
    """

    floats_sent: int = 0
    synchronisations: int = 0

    def add(self, floats: int) -> None:
        """Count numbers that are sent."""
        self.floats_sent += floats

    def state_dict(self) -> dict[str, int]:
        """Return the counts."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on counting."""
        self.floats_sent = state["floats_sent"]
        self.synchronisations = state["synchronisations"]

    def metrics(self) -> dict[str, float]:
        """Return the counts as they are logged, none where nothing was sent."""
        if not self.synchronisations:
            return {}
        return {f"traffic/{name}": float(count) for name, count in asdict(self).items()}
