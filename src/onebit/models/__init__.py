"""Whole networks: the paper's, and their float twins."""

from onebit.models.classifier import ConvClassifier, conv_classifier

__all__ = ["ConvClassifier", "conv_classifier"]
