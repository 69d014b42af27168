"""Whole networks: the paper's, and their float twins."""

from onebit.models.classifier import ConvClassifier, conv_classifier
from onebit.models.decoder import LanguageDecoder, decoder_sizes, language_decoder

__all__ = ["ConvClassifier", "LanguageDecoder", "conv_classifier", "decoder_sizes", "language_decoder"]
