"""Which lines of a long list a screen shows, and the bar that says so. Pure: numbers in, numbers out."""


def revealed(top: int, cursor: int, height: int, count: int) -> int:
    """The first of `height` lines that are shown of `count`, so that the cursor is among them.

    Moved by a line where that is enough; what comes before and after is seen where it is not.
    """
    if cursor == top - 1:
        top = cursor
    elif cursor == top + height:
        top += 1
    elif not top <= cursor < top + height:
        top = cursor - height // 2
    return settled(top, height, count)


def settled(top: int, height: int, count: int) -> int:
    """As near to `top` as there are lines."""
    return max(min(top, count - height), 0)


def thumb(top: int, height: int, count: int) -> range:
    """The part of a bar of `height` that stands for what is shown; nothing where that is all."""
    if height <= 0 or count <= height:
        return range(0)
    size = max(height * height // count, 1)
    start = -(-top * (height - size) // (count - height))
    return range(start, start + size)


def top_of(line: int, height: int, count: int) -> int:
    """What is to be shown first for a bar whose thumb has its middle at `line`."""
    size = max(height * height // max(count, 1), 1)
    return settled((line - size // 2) * (count - height) // max(height - size, 1), height, count)
