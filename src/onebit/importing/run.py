"""Import a model: read it, build its program, write the file, and report what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from onebit.errors import ForeignModelError, shown
from onebit.importing.architecture import Architecture
from onebit.importing.folder import Folder, read_folder
from onebit.importing.folder_architecture import folder_architecture
from onebit.importing.gguf import GGUF, read_gguf
from onebit.importing.gguf_architecture import gguf_architecture
from onebit.importing.hub import fetch, is_hub_id
from onebit.importing.network import build
from onebit.importing.parts import Parts, folder_parts, gguf_parts
from onebit.importing.report import ImportReport
from onebit.importing.tokenizers import folder_task, gguf_task
from onebit.importing.writing import look, write
from onebit.paths import expand
from onebit.subwords import SubwordTask

Wide = Literal["int8", "float32"]


def import_model(
    source: str | Path,
    out: str | Path | None = None,
    *,
    wide: Wide = "int8",
    context: int | None = None,
    trust: bool = False,
    write_file: bool = True,
) -> ImportReport:
    """Import a language model of another program as a `.onebit` file.

    Matrices of one and two bits stay what they are. Those of four bits and more become bytes with a float16 scale for each 32 inputs, or floats.

    Args:
        source: a GGUF file (of a split one any part), a folder of safetensors, or the name of a model on the Hugging Face Hub: OWNER/NAME or
            OWNER/NAME/FILE.gguf.
        out: the file to write. By default it has the source's name, in the current folder.
        wide: ``"int8"`` or ``"float32"``, for matrices of four bits and more.
        context: the most tokens of a text; by default as many as the model was made for, as far as the format holds them.
        trust: whether to import matrices whose figures look wrong.
        write_file: whether to write the file; otherwise everything is only read and checked.

    Returns:
        What was found: the architecture, the tokenizer, and figures of each kind of matrix.

    Raises:
        ForeignModelError: the source is missing, damaged, or of a kind that onebit does not run; a matrix looks wrong.
        OSError: the file cannot be written.

    Example:
        >>> report = onebit.importing.import_model("Bonsai-1.7B-Q1_0.gguf", "bonsai.onebit")  # doctest: +SKIP
    """
    if wide not in ("int8", "float32"):
        raise ForeignModelError(f"[import] wide={shown(wide)}: use 'int8' or 'float32'")
    opened = open_source(source)
    try:
        return _import(opened, target(opened.path, out) if write_file else None, wide, context, trust)
    finally:
        opened.close()


def open_source(source: str | Path) -> GGUF | Folder:
    """Open a GGUF file, a folder of safetensors, or a model on the Hub. Raises ForeignModelError like `import_model`."""
    path = locate(source)
    return read_folder(path) if path.is_dir() else read_gguf(path)


def locate(source: str | Path) -> Path:
    """The file or folder of a source; one on the Hub is fetched. Raises ForeignModelError if there is none."""
    path = expand(source)
    if path.exists():
        return path
    if not is_hub_id(str(source)):
        raise ForeignModelError(
            f"[{path}] no such file or folder: give a GGUF file, a folder of safetensors, or OWNER/NAME on the Hub"
        )
    return fetch(str(source))


def target(path: Path, out: str | Path | None) -> Path:
    """The file to write: as given, or the name of the source in the current folder. Raises ForeignModelError for the source itself."""
    if out is not None:
        given = expand(out)
        if given.suffix in (".gguf", ".safetensors") or (given.exists() and given.samefile(path)):
            raise ForeignModelError(f"[{given}] is not a name for a new model: give one that ends in .onebit")
        return given
    name = path.resolve().name
    return Path(f"{name.removesuffix('.gguf')}.onebit")


def _import(opened: GGUF | Folder, out: Path | None, wide: str, context: int | None, trust: bool) -> ImportReport:
    sizes, parts, task, notes = described(opened)
    used = usable_context(sizes, context, str(opened.path))
    program, net = build(parts, wide, used, tied=is_tied(opened, parts))
    if out is None:
        size, kinds = 0, look(program, net, task.to_json(), trust)
    else:
        size, kinds = write(out, program, net, task.to_json(), trust)
    opened.check_unchanged()
    return ImportReport(
        source=opened.path,
        out=out,
        name=_name(opened),
        architecture=str(sizes),
        context=(used, sizes.context),
        rotary=str(sizes.rotary),
        tokenizer=task.description,
        template=task.chat_template is not None,
        notes=notes,
        kinds=tuple(kinds),
        bytes=size,
    )


def described(opened: GGUF | Folder) -> tuple[Architecture, Parts, SubwordTask, tuple[str, ...]]:
    """The sizes of a model, its tensors, its task, and what was assumed."""
    if isinstance(opened, GGUF):
        sizes = gguf_architecture(opened)
        task, notes = gguf_task(opened, sizes.vocabulary)
        return sizes, gguf_parts(opened, sizes), task, notes
    sizes = folder_architecture(opened)
    return sizes, folder_parts(opened, sizes), folder_task(opened), ()


def is_tied(opened: GGUF | Folder, parts: Parts) -> bool:
    """Whether the head is the embedding's table."""
    said = isinstance(opened, Folder) and opened.config.get("tie_word_embeddings") is True
    return said or not parts.has("head")


def _name(opened: GGUF | Folder) -> str:
    name = opened.metadata.get("general.name") if isinstance(opened, GGUF) else opened.path.resolve().name
    return name if isinstance(name, str) else ""


def usable_context(sizes: Architecture, given: int | None, where: str) -> int:
    """The program's context: the model's, unless fewer tokens are asked for."""
    most = sizes.context
    if given is None:
        return most
    if type(given) is not int or not 1 <= given <= most:
        raise ForeignModelError(f"[{where}] context={shown(given)}: the model allows 1 to {most} tokens")
    return given
