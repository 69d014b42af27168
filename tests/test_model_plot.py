"""The picture of a packed file: its texts, and that they do not overlap."""

import itertools

import pytest
import torch

import onebit
from onebit.figures import save
from onebit.layer_costs import LayerCost, LayerCosts
from onebit.model_plot import draw_model, model_figure
from onebit.models import conv_classifier

pytest.importorskip("matplotlib")


def costs(layers):
    return LayerCosts("some/file.onebit", 12345, "images", "avx2", "int8", 1, (8, 8, 3), None, tuple(layers))


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts if text.get_text()]


def blocks(count):
    layers = [LayerCost("input", ("scale_shift",), (8, 8, 3), 0, 24, 0.5, (-1,))]
    for i in range(count):
        at = len(layers)
        layers += [
            LayerCost(f"blocks.{i}.a", ("bit_conv2d", "normalize"), (8, 8, 16), 1, 4096, 20.0, (at - 1,)),
            LayerCost(f"blocks.{i}.b", ("conv2d",), (8, 8, 16), 32, 2_000_000, 1500.0, (at,)),
            LayerCost("", ("add",), (8, 8, 16), 0, 0, 1.0, (at - 1, at + 1)),
        ]
    return costs(layers)


def test_a_block_is_drawn_once():
    found = texts(model_figure(blocks(6)))
    assert "x 6" in found and "blocks.0-5.a" in found
    assert sum(text.startswith("blocks.") for text in found) == 2
    assert "2 MB x 6, 100 %" in found and "1.5 ms x 6, 99 %" in found and "24 bytes, < 1 %" in found


def test_no_text_lies_over_another():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    long = LayerCost(
        "a_very.long_name." * 5, ("bit_conv2d", "normalize", "relu", "max_pool2d") * 2, (1, 2, 3), 8, 9, 9.0, (0,)
    )
    for shown in (blocks(6), blocks(1), costs([*blocks(1).layers, long])):
        figure = model_figure(shown)
        renderer = FigureCanvasAgg(figure).get_renderer()
        boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text()]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)


def test_names_are_not_mathematics_nor_commands(tmp_path):
    layer = LayerCost("a$b$\x1b[2J\n", ("relu",), (4,), 0, 0, 1.0, (-1,))
    figure = model_figure(costs([layer]))
    assert r"a$b$\x1b[2J\n" in texts(figure)
    save(figure, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().rstrip().endswith("</svg>")


def test_a_packed_file_is_drawn(tmp_path):
    torch.manual_seed(0)
    task = onebit.ImageTask(labels=("a", "b"), image_size=(8, 8))
    onebit.pack(conv_classifier(3, 2, (8, 9)), tmp_path / "a.onebit", task)
    found = texts(draw_model(tmp_path / "a.onebit", seconds=1e-3))
    assert found[0] == "a.onebit" and "input: 8 x 8 x 3" in found and "features.0" in found
