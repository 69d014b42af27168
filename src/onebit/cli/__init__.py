"""The command `onebit`: one file for each of its commands."""
