"""Turn language models of floats into models of bits and ternary weights, by distillation from themselves."""

from onebit.distilling.run import SCHEMES as SCHEMES
from onebit.distilling.run import DistillReport as DistillReport
from onebit.distilling.run import distill as distill
from onebit.distilling.training import Training as Training
