"""Make the model files of the competitors in benchmarks/peers.py from random weights, because speed does not depend on them.

Each file is made in its own process, before all measurements, from files that were made before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from image_network import CLASSES, SIZE
from image_network import pack_random as pack_image_network
from language_decoder import pack_random as pack_decoder
from peer_workloads import DECODER, DENSE_FEATURES, DENSE_ROWS, KERNEL_SIZES, LlamaSizes

LLAMA_TYPES = ("F32", "Q4_0", "TQ2_0", "TQ1_0", "Q1_0")
IMAGE_SHAPE = (1, 3, SIZE, SIZE)
# Enough for a range of activations; more would not change the speed.
CALIBRATION_BATCHES = 4


def export_cnn(kernel_size: int, path: Path) -> None:
    import torch

    from onebit.models import conv_classifier

    twin = conv_classifier(kernel_size, CLASSES, binary=False).eval()
    torch.onnx.export(twin, (torch.zeros(IMAGE_SHAPE),), str(path), dynamo=False, input_names=["x"])


def export_dense(path: Path) -> None:
    import torch

    layer = torch.nn.Linear(DENSE_FEATURES, DENSE_FEATURES, bias=False)
    x = torch.zeros(1, DENSE_FEATURES)
    torch.onnx.export(layer, (x,), str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "rows"}})


def _calibration(shape: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(1)
    return [rng.uniform(-1, 1, shape).astype(np.float32) for _ in range(CALIBRATION_BATCHES)]


def quantize_onnx_cnn(source: str, path: Path) -> None:
    """Static, weights by channel, ranges from random images."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"x": x} for x in _calibration(IMAGE_SHAPE)])

        def get_next(self) -> Any:
            return next(self.batches, None)

    quantize_static(
        str(path.parent / source),
        str(path),
        Images(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def quantize_onnx_dense(source: str, path: Path) -> None:
    """Dynamic: the range of the activations is taken in each run."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(path.parent / source), str(path), weight_type=QuantType.QInt8, per_channel=True)


def quantize_openvino(source: str, shape: tuple[int, ...], path: Path) -> None:
    """Static, as nncf's post-training quantisation makes it from random data."""
    import nncf
    import openvino

    model = openvino.Core().read_model(path.parent / source)
    data = nncf.Dataset(_calibration(shape))
    openvino.save_model(nncf.quantize(model, data, subset_size=CALIBRATION_BATCHES), path)


def write_llama(path: Path) -> None:
    """A llama of random float32 weights."""
    import gguf

    sizes, rng = LlamaSizes(), np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.features)
    writer.add_block_count(sizes.blocks)
    writer.add_feed_forward_length(sizes.hidden)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(sizes.features // sizes.heads)
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_file_type(0)
    writer.add_tokenizer_model("no_vocab")

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{name}.weight", (rng.standard_normal((rows, columns)) * 0.02).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(sizes.features, np.float32))

    matrix("token_embd", sizes.vocabulary, sizes.features)
    norm("output_norm")
    matrix("output", sizes.vocabulary, sizes.features)
    for block in range(sizes.blocks):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{block}.{name}", sizes.features, sizes.features)
        matrix(f"blk.{block}.ffn_gate", sizes.hidden, sizes.features)
        matrix(f"blk.{block}.ffn_up", sizes.hidden, sizes.features)
        matrix(f"blk.{block}.ffn_down", sizes.features, sizes.hidden)
        norm(f"blk.{block}.attn_norm")
        norm(f"blk.{block}.ffn_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantize_llama(source: str, kind: str, path: Path) -> None:
    """All matrices, the vocabulary's too, to one type."""
    import ctypes

    import llama_cpp as library

    library.llama_backend_init()
    number = getattr(library, f"LLAMA_FTYPE_MOSTLY_{kind}", None)
    if number is None:
        raise RuntimeError(f"llama-cpp-python {library.__version__} knows no type {kind}")
    options = library.llama_model_quantize_default_params()
    options.ftype, options.pure, options.nthread = number, True, 1
    if status := library.llama_model_quantize(
        str(path.parent / source).encode(), str(path).encode(), ctypes.byref(options)
    ):
        raise RuntimeError(f"llama_model_quantize gives {status} for {kind}")


FILES: dict[str, Callable[[Path], object]] = {
    "decoder.onebit": partial(pack_decoder, DECODER),
    "dense.onnx": export_dense,
    "dense-int8.onnx": partial(quantize_onnx_dense, "dense.onnx"),
    "dense-int8.xml": partial(quantize_openvino, "dense.onnx", (max(DENSE_ROWS), DENSE_FEATURES)),
    "llama-F32.gguf": write_llama,
}
for _kernel in KERNEL_SIZES:
    FILES[f"cnn{_kernel}.onebit"] = partial(pack_image_network, _kernel)
    FILES[f"cnn{_kernel}.onnx"] = partial(export_cnn, _kernel)
    FILES[f"cnn{_kernel}-int8.onnx"] = partial(quantize_onnx_cnn, f"cnn{_kernel}.onnx")
    FILES[f"cnn{_kernel}-int8.xml"] = partial(quantize_openvino, f"cnn{_kernel}.onnx", IMAGE_SHAPE)
for _kind in LLAMA_TYPES[1:]:
    FILES[f"llama-{_kind}.gguf"] = partial(quantize_llama, "llama-F32.gguf", _kind)
