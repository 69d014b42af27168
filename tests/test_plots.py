"""Pictures show the values of quantizers and of runs."""

import math

import pytest
import torch

from onebit.errors import OnebitError
from onebit.figures import save
from onebit.plots import POINTS, compare_figure, gallery_figure, response, run_figure, scheme_figure
from onebit.quantizers import AbsMax, Codes, KBitWeights, MeanThreshold, ScaledSign, Sign, StandardizedSign, Ternary
from onebit.quantizers.gradients import Clipped, Polynomial, Swish, Tanh
from onebit.schemes import SCHEMES, BinaryNet, DoReFa, Scheme


def lines(axes):
    """The drawn functions, but for the thin line under the steps and the axes themselves."""
    return [line for line in axes.get_lines() if len(line.get_xdata()) == POINTS and line.get_linewidth() >= 1]


@pytest.mark.parametrize("gradient", [Clipped(0.5), Polynomial(), Swish(3.0)])
def test_the_response_of_a_sign_is_its_formula(gradient):
    x, y, slope = response(lambda w, mode, p: Sign(gradient)(w, 0, mode, p))
    assert torch.equal(y, torch.where(x >= 0, 1.0, -1.0))
    torch.testing.assert_close(slope, gradient(x))


def test_scales_are_one_and_shared_statistics_do_not_blur_the_derivative():
    for quantizer, levels in ((ScaledSign("output"), 2), (ScaledSign("layer"), 2), (Ternary(), 3), (KBitWeights(2), 4)):
        _, y, slope = response(lambda w, mode, p, q=quantizer: q(w, 0, mode, p))
        assert len(y.unique()) == levels
        assert y.abs().max().item() == pytest.approx(1, abs=0.01)
        assert slope[POINTS // 2].item() == pytest.approx(1, abs=0.05)
    # The derivative of the sum of standardised weights is 0, that of each is not.
    _, y, slope = response(lambda w, mode, p: StandardizedSign()(w, 0, mode, p))
    assert (slope / y.abs().max()).min() > 0.9


def test_a_derivative_is_that_of_numbers_with_more_than_one_path():
    def square(x, training, progress):
        return Codes(x * x + x.mean())

    x, _, slope = response(square)
    torch.testing.assert_close(slope, 2 * x + 1 / POINTS)


def test_a_schemes_picture_has_its_steps_and_derivatives():
    figure = scheme_figure(Scheme(weights=Sign(Tanh()), activations=Sign(Polynomial())))
    above, inputs, below, slopes = figure.axes
    (drawn,) = lines(above)
    assert {v for v in drawn.get_ydata() if not math.isnan(v)} == {-1, 1}
    # A gradient that changes is drawn at three times of training.
    assert [line.get_label() for line in lines(below)] == ["first step", "half way", "last step"]
    for line, progress in zip(lines(below), (0, 0.5, 1), strict=True):
        torch.testing.assert_close(
            torch.as_tensor(line.get_ydata()), Tanh()(torch.linspace(-2, 2, POINTS), progress), atol=1e-5, rtol=1e-4
        )
    assert len(lines(slopes)) == 1
    assert "Sign(gradient=Polynomial()" in inputs.get_title().replace("\n", " ")
    for axes in (below, slopes):
        low, high = axes.get_ylim()
        assert all(low <= v <= high for line in lines(axes) for v in line.get_ydata())


def test_the_gallery_shows_every_scheme():
    figure = gallery_figure()
    assert [half.get_suptitle() for half in figure.subfigs if half.axes] == list(SCHEMES)
    assert all(len(half.axes) == 2 for half in figure.subfigs if half.axes)
    alone = gallery_figure([BinaryNet(), DoReFa(activations=32), Scheme(MeanThreshold("pm1"), AbsMax())])
    titles = [axes.get_title() for half in alone.subfigs for axes in half.axes]
    assert titles == [
        "Sign",
        "Sign",
        "KBitWeights(bits=1)",
        "float",
        "MeanThreshold(values='bipolar')",
        "AbsMax(bits=8)",
    ]


def test_drawing_draws_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    scheme_figure(Scheme(weights=Sign(stochastic=True)))
    assert torch.equal(torch.rand(3), expected)


CURVES = "epoch,step,train_loss,train_accuracy,val_loss,val_accuracy,learning_rate,seconds\n"
LAYERS = "epoch,layer,ones,flipped,clipped,weight_gradient,input_gradient\n"


def folder(path, curves="1,10,2,0.5,2.5,0.25,1e-3,1\n2,20,1,0.75,1.5,0.5,0,1\n", layers=None):
    (path / "curves.csv").write_text(CURVES + curves)
    if layers is not None:
        (path / "layers.csv").write_text(LAYERS + layers)
    return path


def test_a_runs_picture_has_its_curves(tmp_path):
    loss, accuracy, rate = run_figure(folder(tmp_path)).axes
    assert [list(line.get_ydata()) for line in loss.get_lines()] == [[2, 1], [2.5, 1.5]]
    assert [list(line.get_ydata()) for line in accuracy.get_lines()] == [[50, 75], [25, 50]]
    assert list(rate.get_lines()[0].get_xdata()) == [1, 2]


def test_a_runs_picture_has_its_layers(tmp_path):
    figure = run_figure(folder(tmp_path, layers="1,a,.5,.1,,1,.5\n1,b,.5,.2,,1,\n2,a,.5,.05,,1,.25\n2,b,.5,0,,1,\n"))
    drawn = {axes.get_title(): axes for axes in figure.axes[3:]}
    # No scheme with limits, and a line at 100 % says nothing.
    assert list(drawn) == [
        "bits that flipped, % of each layer's",
        "bits that are one, % of each layer's",
        "inputs that pass a gradient, % of each layer's",
    ]
    flipped, ones, inputs = drawn.values()
    assert [list(line.get_ydata()) for line in flipped.get_lines()] == [[10, 5], [20, 0]]
    assert (flipped.get_yscale(), ones.get_yscale()) == ("log", "linear")
    assert [list(line.get_ydata()) for line in inputs.get_lines()] == [[50, 25]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_many_layers_with_long_names_fit_into_the_legend(tmp_path):
    rows = "".join(f"1,blocks.{i}.attention.projection.query,.5,.1,,1,\n" for i in range(60))
    figure = run_figure(folder(tmp_path, layers=rows))
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == 8
    assert names[0].startswith("blocks.0.") and names[-1].startswith("blocks.59.")
    figure.draw_without_rendering()
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1
    assert all(axes.get_tightbbox().y0 >= box.y1 for axes in figure.axes)


@pytest.mark.parametrize(
    ("curves", "layers", "message"),
    [
        ("1,10,no,0.5,2.5,0.25,1e-3,1\n", None, "curves.csv] damaged: could not convert"),
        ("", None, "curves.csv] has no epochs"),
        ("1,10,2,0.5,2.5,0.25,1e-3,1\n", "1,a,?,.1,,1,.5\n", "layers.csv] damaged"),
    ],
)
def test_damaged_runs_are_named(tmp_path, curves, layers, message):
    with pytest.raises(OnebitError) as caught:
        run_figure(folder(tmp_path, curves, layers))
    assert message in str(caught.value)


def test_pictures_are_written_whole_and_by_their_name(tmp_path):
    figure = run_figure(folder(tmp_path))
    for name, start in (("a.png", b"\x89PNG"), ("a.PDF", b"%PDF"), ("a.svg", b"<?xml")):
        save(figure, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(OnebitError, match="use a name that ends in png, pdf, svg"):
        save(figure, tmp_path / "a.jpg")


def test_several_runs_beside_each_other(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    folder(tmp_path / "a")
    folder(tmp_path / "b", "1,10,3,0.5,2.5,0.25,1e-3,1\n2,20,2,0.75,1.5,0.5,0,1\n3,30,1,0.75,1,0.5,0,1\n")
    figure = compare_figure({"first": tmp_path / "a", "second": tmp_path / "b"}, "Two")
    loss, accuracy = figure.axes
    assert [list(line.get_ydata()) for line in loss.get_lines()] == [[2, 1], [2.5, 1.5], [3, 2, 1], [2.5, 1.5, 1]]
    assert [list(line.get_ydata()) for line in accuracy.get_lines()][:2] == [[50, 75], [25, 50]]
    colours = [line.get_color() for line in loss.get_lines()]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first", "second"]
    with pytest.raises(OnebitError, match="has no curves.csv"):
        compare_figure({"first": tmp_path}, "One")
