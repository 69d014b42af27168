"""Train the tables of arXiv 2509.07025 at any scale, and print the results next to the paper's figures."""

from onebit.reproduction.report import Report
from onebit.reproduction.run import Settings, reproduce
from onebit.reproduction.tables import TABLES, PaperTable, Row

__all__ = ["TABLES", "PaperTable", "Report", "Row", "Settings", "reproduce"]
