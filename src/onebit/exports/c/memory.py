"""Where everything lies in one static block of RAM: values that are never needed at the same time share bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

ALIGNMENT = 8  # of doubles


@dataclass
class Item:
    """What takes memory at one place. Its size may change as time goes.

    Args:
        name: its name.
        spans: its first step, its last step and its bytes in between, one after the other.
        offset: its place in the block.
    """

    name: str
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    offset: int = -1

    @property
    def most(self) -> int:
        """Its largest size."""
        return max(size for _, _, size in self.spans)

    def meets(self, other: Item, offset: int) -> bool:
        """Whether it would share bytes with a placed one at the same time."""
        for first, last, size in self.spans:
            for other_first, other_last, other_size in other.spans:
                lives = first <= other_last and other_first <= last
                if lives and offset < other.offset + other_size and other.offset < offset + size:
                    return True
        return False


def place(items: list[Item]) -> int:
    """Give each item its offset, the largest first at the lowest free place. Returns the bytes of the block."""
    placed: list[Item] = []
    for item in sorted(items, key=lambda one: (-one.most, one.name)):
        ends = {_up(other.offset + size) for other in placed for _, _, size in other.spans}
        for offset in sorted({0} | ends):
            if not any(item.meets(other, offset) for other in placed):
                item.offset = offset
                break
        placed.append(item)
    return max((item.offset + item.most for item in items), default=0)


def _up(n: int) -> int:
    return (n + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
