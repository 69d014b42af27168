"""What `onebit plot` draws: each kind of picture made from a name, with the file that it is written to unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebit.errors import OnebitError
from onebit.paths import expand

if TYPE_CHECKING:
    from onebit.runtime.session import Precision

# A Matplotlib figure, and where it belongs.
Drawing = tuple[Any, Path]


def _scheme(name: str, **_: Any) -> Drawing:
    from onebit.plots import gallery_figure, scheme_figure
    from onebit.schemes import parse_scheme

    if name == "all":
        return gallery_figure(), Path("schemes.png")
    try:
        scheme = parse_scheme(name)
    except ValueError as error:
        raise OnebitError(f"[plot] {error}, or all") from None
    return scheme_figure(scheme), Path(f"{type(scheme).__name__}.png")


def _run(name: str, **_: Any) -> Drawing:
    from onebit.plots import run_figure

    return run_figure(name), expand(name) / "curves.png"


def _model(name: str, *, threads: int, precision: Precision, **_: Any) -> Drawing:
    from onebit.model_plot import draw_model
    from onebit.pretrained import find

    return draw_model(name, threads, precision), Path(find(name).with_suffix(".png").name)


def _reliability(name: str, *, data: str | None, threads: int, precision: Precision) -> Drawing:
    from onebit.evaluation import evaluate
    from onebit.kinds.measuring import TaskFigures
    from onebit.reliability_plot import reliability_figure

    figures = evaluate(name, data, precision=precision, threads=threads)
    if isinstance(figures, TaskFigures):
        raise OnebitError(f"[plot] {name} is of {figures.kind}: reliability is drawn of classifiers of images")
    return reliability_figure(figures), Path(f"{Path(name).stem}-reliability.png")


def _predictions(name: str, *, data: str | None, threads: int, precision: Precision) -> Drawing:
    from onebit.kinds.measuring import predictions_figure

    return predictions_figure(name, data, threads, precision), Path(f"{Path(name).stem}-predictions.png")


def _adaptive(name: str, *, data: str | None, threads: int, precision: Precision) -> Drawing:
    from onebit.adaptive_plot import adaptive_curve, adaptive_figure

    if data is None:
        raise OnebitError("[plot] adaptive needs images to measure on: give a folder or a data set after the file")
    return adaptive_figure(adaptive_curve(name, data, threads, precision)), Path(f"{Path(name).stem}-adaptive.png")


# Names what is given on the command line: a scheme, a run folder, a packed file, or either of the last two.
DRAWINGS: dict[str, Callable[..., Drawing]] = {
    "scheme": _scheme,
    "run": _run,
    "model": _model,
    "reliability": _reliability,
    "predictions": _predictions,
    "adaptive": _adaptive,
}
