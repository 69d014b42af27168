"""The kinds of tasks beyond images and texts: a file for each, and the table of them all."""
