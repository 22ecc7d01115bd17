"""Accounting of the paged KV cache: which block holds which tokens, and who uses it. No torch.

Full blocks are found again by the chain of blocks before them (vLLM's automatic prefix caching), keyed by the
tokens themselves instead of a hash, so a hit is never a collision. A chain begins at a root that belongs to one
tenant and one model. Where the chain of full blocks ends, the beginning of a further block is copied, so that a
cached prefix is reused to the token: what a person types differs from the last request in a few tokens.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple


class Copy(NamedTuple):
    """Copy the first `tokens` entries of block `source` to block `target` before the next step computes."""

    source: int
    target: int
    tokens: int


@dataclass(slots=True)
class Lease:
    """The blocks of one sequence in order. The first `shared` are in the index, `node` names the last of them."""

    blocks: list[int]
    node: int
    shared: int


@dataclass(slots=True)
class _Block:
    users: int = 0
    node: int = 0  # name in the index, 0 for none
    parent: int = 0
    tokens: tuple[int, ...] = ()


class BlockManager:
    """`num_blocks` blocks of `block_size` tokens, numbered from 0."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self._blocks = [_Block() for _ in range(num_blocks)]
        self._blank = list(range(num_blocks - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()  # indexed blocks without users, evicted from the front
        self._names = count(1)
        self._roots: dict[Hashable, int] = {}
        self._full: dict[tuple[int, tuple[int, ...]], int] = {}
        self._beginning: dict[tuple[int, int], list[int]] = {}  # (parent, first token) -> indexed blocks

    @property
    def num_free(self) -> int:
        """Blocks that could be given out now; cached ones without users are among them."""
        return len(self._blank) + len(self._idle)

    @property
    def usage(self) -> float:
        """Share of the blocks that running sequences hold."""
        return 1 - self.num_free / self.num_blocks

    def begin(self, tokens: Sequence[int], root: Hashable) -> tuple[Lease, int, Copy | None] | None:
        """A lease with blocks for all of `tokens`, how many of them are cached already, and the copy that this needs.

        At least one token is left to compute: its logits start the decoding. None when there are too few blocks.
        """
        limit = len(tokens) - 1
        name = self._roots.get(root) or self._roots.setdefault(root, next(self._names))
        found, node = self._chain(tokens, limit, name)
        for block in found:
            self._use(block)
        cached = len(found) * self.block_size
        lease = Lease(found, node, len(found))
        source, shared = self._longest_beginning(node, tokens[cached:limit])
        if source is not None:
            self._use(source)  # or it might be given out as the target
        enough = self.extend(lease, len(tokens))
        if source is not None:
            self._drop(source)
        if not enough:
            self.release(lease, [])
            return None
        copy = Copy(source, lease.blocks[lease.shared], shared) if source is not None else None
        return lease, cached + shared, copy

    def extend(self, lease: Lease, length: int) -> bool:
        """Give `lease` blocks for `length` tokens; False, and nothing changed, when there are too few."""
        missing = -(-length // self.block_size) - len(lease.blocks)
        if missing > self.num_free:
            return False
        lease.blocks.extend(self._take() for _ in range(missing))
        return True

    def commit(self, lease: Lease, tokens: Sequence[int]) -> None:
        """Index the blocks that `tokens`, all of which are computed, have filled."""
        size = self.block_size
        while (lease.shared + 1) * size <= len(tokens):
            content = tuple(tokens[lease.shared * size : (lease.shared + 1) * size])
            twin = self._full.get((lease.node, content))
            if twin is None:
                self._index(lease.blocks[lease.shared], lease.node, content)
                twin = lease.blocks[lease.shared]
            elif twin != lease.blocks[lease.shared]:
                # somebody else computed the same: go on with theirs, so that the chain stays one
                self._use(twin)
                self._drop(lease.blocks[lease.shared])
                lease.blocks[lease.shared] = twin
            lease.node = self._blocks[twin].node
            lease.shared += 1

    def release(self, lease: Lease, tokens: Sequence[int]) -> None:
        """Give the blocks back; what the first `tokens` computed stays findable until the blocks are needed."""
        self.commit(lease, tokens)
        tail = tuple(tokens[lease.shared * self.block_size :])
        if tail and self._longest_beginning(lease.node, tail)[1] < len(tail):
            self._index(lease.blocks[lease.shared], lease.node, tail)
        for block in reversed(lease.blocks):  # the end of a text is the first to be forgotten
            self._drop(block)
        lease.blocks = []

    def forget(self) -> None:
        """Empty the index: no later sequence reuses what is computed so far."""
        for number, block in enumerate(self._blocks):
            if block.node:
                self._unindex(number)
        self._blank.extend(self._idle)
        self._idle.clear()

    def _chain(self, tokens: Sequence[int], limit: int, node: int) -> tuple[list[int], int]:
        found = []
        for start in range(0, limit - self.block_size + 1, self.block_size):
            block = self._full.get((node, tuple(tokens[start : start + self.block_size])))
            if block is None:
                break
            found.append(block)
            node = self._blocks[block].node
        return found, node

    def _longest_beginning(self, node: int, tokens: Sequence[int]) -> tuple[int | None, int]:
        best, longest = None, 0
        for block in self._beginning.get((node, tokens[0]), ()) if tokens else ():
            shared = common_prefix(self._blocks[block].tokens, tokens)
            if shared > longest:
                best, longest = block, shared
        return best, longest

    def _index(self, number: int, parent: int, tokens: tuple[int, ...]) -> None:
        block = self._blocks[number]
        block.node, block.parent, block.tokens = next(self._names), parent, tokens
        if len(tokens) == self.block_size:
            self._full[parent, tokens] = number
        beginning = self._beginning.setdefault((parent, tokens[0]), [])
        for other in list(beginning):  # what this block begins with needs no block of its own any more
            if other in self._idle and self._blocks[other].tokens == tokens[: len(self._blocks[other].tokens)]:
                del self._idle[other]
                self._unindex(other)
                self._blank.append(other)
        self._beginning.setdefault((parent, tokens[0]), []).append(number)

    def _unindex(self, number: int) -> None:
        block = self._blocks[number]
        if len(block.tokens) == self.block_size:
            del self._full[block.parent, block.tokens]
        beginning = self._beginning[block.parent, block.tokens[0]]
        beginning.remove(number)
        if not beginning:
            del self._beginning[block.parent, block.tokens[0]]
        block.node, block.tokens = 0, ()

    def _take(self) -> int:
        if self._blank:
            number = self._blank.pop()
        else:
            number, _ = self._idle.popitem(last=False)
            self._unindex(number)
        self._blocks[number].users = 1
        return number

    def _use(self, number: int) -> None:
        self._blocks[number].users += 1
        self._idle.pop(number, None)

    def _drop(self, number: int) -> None:
        block = self._blocks[number]
        block.users -= 1
        assert block.users >= 0, "a block was given back twice"
        if block.users == 0:
            if block.node:
                self._idle[number] = None
            else:
                self._blank.append(number)


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading items are equal."""
    n = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        n += 1
    return n
