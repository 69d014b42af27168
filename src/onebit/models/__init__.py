"""Whole networks: those of the paper, other published ones, and their float twins."""

from onebit.models.adaptive import ExitClassifier
from onebit.models.classifier import ConvClassifier, conv_classifier
from onebit.models.decoder import LanguageDecoder, decoder_sizes, language_decoder
from onebit.models.detector import CenterDetector, center_detector
from onebit.models.keywords import ds_cnn
from onebit.models.parts import Network
from onebit.models.plain import alexnet, mlp, mobile_net, vgg
from onebit.models.recurrent import RecurrentLanguageModel, SequenceClassifier, language_lstm, sequence_classifier
from onebit.models.resnet import ResidualBlock, resnet
from onebit.models.series import SeriesNetwork, series_network
from onebit.models.text_classifier import text_classifier
from onebit.models.unet import UNet, unet

__all__ = [
    "CenterDetector",
    "ConvClassifier",
    "ExitClassifier",
    "LanguageDecoder",
    "Network",
    "RecurrentLanguageModel",
    "ResidualBlock",
    "SequenceClassifier",
    "SeriesNetwork",
    "UNet",
    "alexnet",
    "center_detector",
    "conv_classifier",
    "decoder_sizes",
    "ds_cnn",
    "language_decoder",
    "language_lstm",
    "mlp",
    "mobile_net",
    "resnet",
    "sequence_classifier",
    "series_network",
    "text_classifier",
    "unet",
    "vgg",
]
