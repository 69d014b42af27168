"""The whole way on data that need no download: train, pack, verify, run, compare with the float twin. `onebit demo` shows them."""
