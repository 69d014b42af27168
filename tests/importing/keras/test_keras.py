"""Networks of larq and Keras against larq's formulas in PyTorch, and every error. Files are made by h5py as Keras 2 and 3 make them."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import onebit
from onebit.cli.main import main
from onebit.errors import ForeignModelError
from onebit.importing.keras import import_keras

h5py = pytest.importorskip("h5py")
SIGN = {"class_name": "SteSign", "config": {"clip_value": 1.0}}
TERN = {"class_name": "SteTern", "config": {"threshold_value": 0.3, "ternary_weight_networks": False}}


def layer(kind, name, weights=(), **config):
    return {"class_name": kind, "config": {"name": name, **config}}, [np.asarray(w, np.float32) for w in weights]


def network(rng):
    """A network of larq's, as its examples are: float pixels, then signs; and ternary weights."""

    def norm(name, channels):
        parts = [
            rng.normal(size=channels),
            rng.normal(size=channels),
            rng.normal(size=channels),
            rng.uniform(0.5, 2, channels),
        ]
        return layer("BatchNormalization", name, parts, axis=[3], epsilon=1e-3, scale=True, center=True)

    conv = {
        "padding": "same",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "groups": 1,
        "activation": "linear",
    }
    return [
        layer("InputLayer", "pixels", batch_input_shape=[None, 9, 8, 3]),
        layer(
            "QuantConv2D",
            "a",
            [rng.normal(size=(3, 3, 3, 5))],
            strides=[1, 1],
            kernel_quantizer=SIGN,
            input_quantizer=None,
            use_bias=False,
            **conv,
        ),
        layer("MaxPooling2D", "pool", pool_size=[2, 2], strides=[2, 2], padding="same", data_format="channels_last"),
        norm("n1", 5),
        layer(
            "QuantConv2D",
            "b",
            [rng.normal(size=(3, 3, 5, 6)), rng.normal(size=6)],
            strides=[2, 2],
            kernel_quantizer="ste_sign",
            input_quantizer="ste_sign",
            use_bias=True,
            **{**conv, "activation": "relu"},
        ),
        layer("Flatten", "flat", data_format="channels_last"),
        layer("Dropout", "drop", rate=0.5),
        layer(
            "QuantDense",
            "c",
            [rng.normal(size=(3 * 2 * 6, 7))],
            kernel_quantizer=TERN,
            input_quantizer={"class_name": "DoReFa", "config": {"k_bit": 2, "mode": "activations"}},
            activation="linear",
        ),
        layer(
            "QuantDense",
            "d",
            [rng.normal(size=(7, 4))],
            kernel_quantizer="magnitude_aware_sign",
            input_quantizer="approx_sign",
            activation="linear",
        ),
        layer("Activation", "answer", activation="softmax"),
    ]


def expected(layers, pixels):
    """larq's formulas, by PyTorch in float64."""
    w = {item["config"]["name"]: [torch.tensor(x, dtype=torch.float64) for x in weights] for item, weights in layers}

    def sign(x):
        return torch.where(x >= 0, 1.0, -1.0).double()

    def same(x, k, s, value=0.0):
        pads = []
        for side, stride in zip(x.shape[2:], s, strict=True):
            total = max((-(-side // stride) - 1) * stride + k - side, 0)
            pads.insert(0, (total // 2, total - total // 2))
        return F.pad(x, (*pads[0], *pads[1]), value=value)

    x = torch.tensor(pixels / 127.5 - 1).permute(0, 3, 1, 2)
    x = F.conv2d(same(x, 3, (1, 1)), sign(w["a"][0]).permute(3, 2, 0, 1))
    x = F.max_pool2d(same(x, 2, (2, 2), -np.inf), 2)
    gamma, beta, mean, variance = (one[None, :, None, None] for one in w["n1"])
    x = (x - mean) / (variance + 1e-3).sqrt() * gamma + beta
    x = F.conv2d(same(sign(x), 3, (2, 2)), sign(w["b"][0]).permute(3, 2, 0, 1), w["b"][1], stride=2).relu()
    x = x.permute(0, 2, 3, 1).flatten(1)
    kernel = w["c"][0]
    ternary = torch.where(kernel > 0.3, 1.0, torch.where(kernel < -0.3, -1.0, 0.0)).double()
    x = (x.clamp(0, 1) * 3).round() / 3 @ ternary
    return (sign(x) @ (sign(w["d"][0]) * w["d"][0].abs().mean(0))).softmax(1).numpy()


def keras2(path, layers):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(
            {"class_name": "Sequential", "config": {"name": "m", "layers": [item for item, _ in layers]}}
        )
        root = file.create_group("model_weights")
        for item, weights in layers:
            own = root.create_group(item["config"]["name"])
            names = [f"{own.name.rpartition('/')[2]}/w{i}:0" for i in range(len(weights))]
            own.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, weights, strict=True):
                own[name] = weight
    return path


FOLDERS = {"QuantConv2D": "quant_conv2d", "QuantDense": "quant_dense", "BatchNormalization": "batch_normalization"}


def keras3(path, layers):
    stored, counts = io.BytesIO(), {}
    with h5py.File(stored, "w") as file:
        for item, weights in layers:
            if not weights:
                continue
            folder = FOLDERS[item["class_name"]]
            number = counts[folder] = counts.get(folder, -1) + 1
            for i, weight in enumerate(weights):
                file[f"layers/{folder}{f'_{number}' if number else ''}/vars/{i}"] = weight
    items = [{**item, "registered_name": f"Larq>{item['class_name']}"} for item, _ in layers]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "config.json", json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": items}})
        )
        archive.writestr("model.weights.h5", stored.getvalue())
    return path


@pytest.mark.parametrize(("write", "name"), [(keras2, "larq.h5"), (keras3, "larq.keras")])
def test_a_network_of_larq_gives_what_its_formulas_give(write, name, tmp_path):
    rng = np.random.default_rng(0)
    layers = network(rng)
    report = import_keras(write(tmp_path / name, layers), tmp_path / "a.onebit")
    pixels = rng.integers(0, 256, (20, 9, 8, 3), np.uint8)
    found = onebit.load(tmp_path / "a.onebit", precision="float32")(pixels)
    np.testing.assert_allclose(found, expected(layers, pixels), atol=1e-5)
    assert report.layers == 10 and report.bit_parameters > 1000 and "weights of bits" in str(report)
    # A kernel of bits takes no floats, and a ternary one two bits.
    assert report.bytes < 6_000


def test_shortcuts_are_added(tmp_path):
    rng = np.random.default_rng(1)
    kernels = [rng.normal(size=(64, 8)), rng.normal(size=(8, 8))]
    layers = [
        layer("InputLayer", "x", batch_input_shape=[None, 8, 8, 1]),
        layer("Flatten", "f"),
        layer("QuantDense", "a", [kernels[0]], kernel_quantizer="ste_sign", input_quantizer="ste_sign"),
        layer("QuantDense", "b", [kernels[1]], kernel_quantizer="ste_sign", input_quantizer="ste_sign"),
        layer("Add", "sum"),
    ]
    reads = {"f": ["x"], "a": ["f"], "b": ["a"], "sum": ["a", "b"]}
    for item, _ in layers[1:]:
        item["inbound_nodes"] = [[[name, 0, 0, {}] for name in reads[item["config"]["name"]]]]
    import_keras(keras2(tmp_path / "a.h5", layers), tmp_path / "a.onebit", pixels="symmetric")
    pixels = rng.integers(0, 256, (5, 8, 8, 1), np.uint8)
    first = np.where(pixels.reshape(5, -1) >= 128, 1, -1) @ np.where(kernels[0] >= 0, 1, -1)
    second = np.where(first >= 0, 1, -1) @ np.where(kernels[1] >= 0, 1, -1)
    np.testing.assert_array_equal(onebit.load(tmp_path / "a.onebit")(pixels), first + second)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keras2(tmp_path / "net.h5", network(np.random.default_rng(0)))
    assert main(["import", "net.h5", "--report"]) == 0
    assert "nothing written" in capsys.readouterr().out and not (tmp_path / "net.onebit").exists()
    assert main(["import", "net.h5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == "net.onebit"
    assert (tmp_path / "net.onebit").exists()


def test_all_unknown_layers_are_named(tmp_path):
    layers = network(np.random.default_rng(0))
    layers.insert(1, layer("QuantLocallyConnected2D", "odd"))
    layers[2][0]["config"]["pad_values"] = 1.0
    layers[5][0]["config"]["kernel_quantizer"] = "dorefa_quantizer"
    with pytest.raises(ForeignModelError) as error:
        import_keras(keras2(tmp_path / "a.h5", layers), tmp_path / "b.onebit")
    said = str(error.value)
    assert "QuantLocallyConnected2D 'odd'" in said and "padding=same with pad_values=1.0: only 0 is known" in said
    assert "QuantConv2D 'b': kernel_quantizer=dorefa_quantizer" in said and "\n" not in said
    assert not (tmp_path / "b.onebit").exists()


def test_errors(tmp_path):
    (tmp_path / "text.h5").write_text("no")
    (tmp_path / "text.keras").write_text("no")
    for name in ("text.h5", "text.keras", "missing.h5"):
        with pytest.raises(ForeignModelError, match="is not a model of Keras, or it is damaged"):
            import_keras(tmp_path / name)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(ForeignModelError, match="has weights and no layers: save the whole model"):
        import_keras(tmp_path / "weights.h5")
    with pytest.raises(ForeignModelError, match="does not say the shape of its input"):
        import_keras(keras2(tmp_path / "a.h5", network(np.random.default_rng(0))[1:]))
    odd = [layer("InputLayer", "x", batch_input_shape=[None, None, None, 3])]
    with pytest.raises(ForeignModelError, match="its input has shape"):
        import_keras(keras2(tmp_path / "b.h5", odd))
    with pytest.raises(ForeignModelError, match="pixels='bytes': use"):
        import_keras(tmp_path / "a.h5", pixels="bytes")


def test_without_h5py_its_extra_is_named(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ForeignModelError, match=r'need the package h5py: pip install "onebit\[keras\]"'):
        import_keras(tmp_path / "a.h5")
