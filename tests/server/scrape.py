"""What /metrics says at one moment."""


class Scrape:
    def __init__(self, text: str) -> None:
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        self._values = {series: float(value) for series, _, value in lines}

    def value(self, name: str, label: str = "") -> float:
        """A series' value: that with `label` among its labels, where it has several."""
        [value] = self.values(name, label).values()
        return value

    def values(self, name: str, label: str = "") -> dict[str, float]:
        """Of all series of that name, by what is written between their braces."""
        return {
            series.removeprefix(name).strip("{}"): value
            for series, value in self._values.items()
            if series.partition("{")[0] == name and label in series
        }

    def blocks(self) -> dict[str, int]:
        """KV blocks by state."""
        return {state: int(self.value("octavo:kv_blocks", f'"{state}"')) for state in ("free", "cached", "held")}
