"""What is sent along from other files: computed in advance, within a budget, most stable first.

A service keeps the beginning of a prompt that it has computed. So signatures of imported names come first, then
similar windows of other open files, then recent edits, and the completer asks for them again only between two bursts
of typing.
"""
