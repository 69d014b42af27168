"""Score many records with a packed model and Ray Data, into Parquet files. Needs the extra `scale`, but not PyTorch."""

from onebit.scoring.run import Summary, score

__all__ = ["Summary", "score"]
