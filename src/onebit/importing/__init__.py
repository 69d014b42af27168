"""Language models of other programs: GGUF files and folders of safetensors, imported as `.onebit` files."""

from onebit.importing.report import ImportReport as ImportReport
from onebit.importing.run import import_model as import_model
