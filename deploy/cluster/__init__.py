"""A whole cluster on this machine's loopback: `make cluster`, and what the drills in tests/deploy are made with."""
