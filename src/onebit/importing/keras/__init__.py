"""Networks of larq and Keras, read from their files by h5py and JSON, without TensorFlow."""

from onebit.importing.keras.run import KerasReport as KerasReport
from onebit.importing.keras.run import import_keras as import_keras
