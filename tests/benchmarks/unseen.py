"""A file that the bundled model has never seen: what the benchmarks, the tests and `make run` type into."""

import json
import logging
import time
from pathlib import Path

logger = logging.getLogger(__name__)


class LedgerError(Exception):
    """Raised when a ledger cannot be read."""


class Entry:
    def __init__(self, name, amount, created=None):
        self.name = name
        self.amount = amount
        self.created = created or time.time()

    def to_dict(self):
        return {"name": self.name, "amount": self.amount, "created": self.created}

    @classmethod
    def from_dict(cls, data):
        return cls(data["name"], data["amount"], data.get("created"))

    def __repr__(self):
        return f"Entry({self.name!r}, {self.amount!r})"


class Ledger:
    """A list of entries in a JSON file."""

    def __init__(self, path):
        self.path = Path(path)
        self.entries = []
        self.loaded = False

    def load(self):
        if not self.path.exists():
            logger.info("no ledger at %s", self.path)
            return
        with self.path.open() as file:
            data = json.load(file)
        for item in data:
            self.entries.append(Entry.from_dict(item))
        self.loaded = True

    def save(self):
        data = [entry.to_dict() for entry in self.entries]
        with self.path.open("w") as file:
            json.dump(data, file)

    def add(self, name, amount):
        entry = Entry(name, amount)
        self.entries.append(entry)
        return entry

    def total(self):
        return sum(entry.amount for entry in self.entries)

    def find(self, name):
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise LedgerError(f"no entry {name}")

    def __len__(self):
        return len(self.entries)

    def __iter__(self):
        return iter(self.entries)


def main():
    ledger = Ledger("ledger.json")
    ledger.load()
    for entry in ledger:
        print(entry.name, entry.amount)
    print("total", ledger.total())


if __name__ == "__main__":
    main()
