"""Choose a few of many, the same ones every time."""


def evenly_spaced(total: int, count: int) -> list[int]:
    """`count` indices evenly spaced over `range(total)`, first and last included; all where there are no more."""
    if total <= count:
        return list(range(total))
    return [round(index * (total - 1) / max(count - 1, 1)) for index in range(count)]
