"""Which offered models have no price, and when a price has become another. An unpriced model is told of once."""

from typing import TYPE_CHECKING, Final

import structlog

from pointsman.accounting.prices import PriceService

if TYPE_CHECKING:
    from pointsman.routing.catalogue import Catalogue
    from pointsman.upstream.endpoints import Endpoints

MAX_TOLD: Final = 10_000
log = structlog.get_logger("pointsman.prices")


class PriceWatch:
    """The models of the present configuration."""

    def __init__(self, prices: PriceService) -> None:
        self._prices = prices
        self._asked: set[tuple[str | None, str | None, str]] = set()
        self._told: set[str] = set()
        self.count = 0  # offered models without a price

    def look(self, catalogue: "Catalogue", endpoints: "Endpoints") -> None:
        """Have the price of every offered model looked up, and tell of those that have none."""
        self._asked.clear()
        self.count = 0
        for target in catalogue.targets:
            endpoint = endpoints[target.endpoint]
            price = endpoint.known_price(target.model)
            self._asked.add((endpoint.provider, getattr(endpoint, "base_url", None), target.model))
            if price is None:
                self.count += 1
                self._tell(target.id)

    def _tell(self, target_id: str) -> None:
        if target_id not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(target_id)
            log.warning("unpriced: what calls of this model cost is not known", model=target_id)

    def has_changed(self) -> bool:
        """Whether what is known of an offered model's price is something else than when it was asked last."""
        changed = self._prices.changed
        if not changed:
            return False
        found = any((one.provider, one.base_url, one.model) in self._asked for one in changed)
        changed.clear()
        return found
