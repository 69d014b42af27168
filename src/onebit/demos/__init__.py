"""The demos of `onebit demo`: train, pack, verify and run a network on local data, and compare it with its float twin."""
