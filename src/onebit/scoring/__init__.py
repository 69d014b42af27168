"""Scoring of many records with a packed model, through Ray Data, into Parquet files; needs the extra `scale`, and no PyTorch."""

from onebit.scoring.run import Summary, score

__all__ = ["Summary", "score"]
