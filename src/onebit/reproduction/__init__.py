"""Runs the tables of arXiv 2509.07025 at any scale, and sets what comes out beside what the paper reports."""

from onebit.reproduction.report import Report
from onebit.reproduction.run import Settings, reproduce
from onebit.reproduction.tables import TABLES, PaperTable, Row

__all__ = ["TABLES", "PaperTable", "Report", "Row", "Settings", "reproduce"]
