"""Export a network of signs to Verilog: weights as constants of expressions, a register after each layer, no memory and no loops over modules."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onebit.errors import OnebitError
from onebit.exports import Check
from onebit.exports.signs.check import checked_pixels, compare
from onebit.exports.signs.lower import sign_network
from onebit.exports.signs.network import SignLayer, SignNetwork, after_pool
from onebit.fileformat import PackedModel, write_atomically
from onebit.printable import printable

# Every product of signs becomes gates of its own; yosys takes minutes for so many.
MOST_PRODUCTS = 1 << 20
SIMULATORS = ("iverilog", "verilator")


@dataclass(frozen=True)
class VerilogFile:
    """The result of writing Verilog.

    Args:
        module: the name of the module.
        inputs, outputs: bits of its input, and sums that it gives.
        sum_bits: bits of a sum.
        latency: clocks from an input to its sums.
        products: products of signs for an input, each with gates of its own.
        bytes: the size of the file.
        check: the comparison; None if it was not requested.
    """

    module: str
    inputs: int
    outputs: int
    sum_bits: int
    latency: int
    products: int
    bytes: int
    check: Check | None

    def __str__(self) -> str:
        return (
            f"module {self.module}: {self.inputs} bits in, {self.outputs} sums of {self.sum_bits} bits out after {self.latency} clocks, "
            f"{self.products:,} products of signs, {self.bytes:,} bytes"
        )


def write(model: PackedModel, out: Path, *, source: Path, check: bool = False) -> VerilogFile:
    """Write a packed network of signs as a Verilog module.

    The input `x` has a bit for each pixel, channels last, 1 for +1; a comment says which pixels that are. `y` is the last layer's sums as signed
    numbers. A new input may come with each clock.

    Args:
        model: the model.
        out: the file; its name without its end, in letters, digits and underscores, is that of the module.
        source: the model's file.
        check: simulate the module with iverilog and with verilator, whichever there are, on random pixels, and compare it with the engine.

    Raises:
        OnebitError: the program is not a network of signs, it is too large, the file's name is no name of a module, or no simulator is there.
        OSError: the file cannot be written.
    """
    name = out.stem
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise OnebitError(f"[export] {printable(name)} is no name of a module: use letters, digits and underscores")
    simulators = [simulator for simulator in SIMULATORS if shutil.which(simulator)]
    if check and not simulators:
        raise OnebitError("[export] --check needs a simulator: install iverilog, verilator, or both")
    network = sign_network(model, source, "verilog")
    if network.products > MOST_PRODUCTS:
        raise OnebitError(
            f"[export] {printable(str(source))} has {network.products:,} products of signs: verilog takes at most {MOST_PRODUCTS:,}, each with "
            "gates of its own; use qonnx, whose tools share them"
        )
    text = "".join(module(network, name))
    found = None
    if check:

        def compute(signs: NDArray[Any]) -> NDArray[Any]:
            results = [simulated(network, name, text, signs, simulator) for simulator in simulators]
            wrong = [not np.array_equal(result, results[0]) for result in results]
            # What two simulators do not agree about is wrong.
            return results[0] if not any(wrong) else np.full_like(results[0], -network.layers[-1].largest - 1)

        found = compare(model, network, checked_pixels(network), compute)
    write_atomically(out, text.encode("ascii"))
    bits, outputs = _sum_bits(network), network.layers[-1].shape[-1]
    return VerilogFile(
        name, int(np.prod(network.shape)), outputs, bits, len(network.layers), network.products, len(text), found
    )


def _sum_bits(network: SignNetwork) -> int:
    return network.layers[-1].largest.bit_length() + 1


def module(network: SignNetwork, name: str) -> Iterator[str]:
    """The text of a module, in pieces."""
    bits, outputs = _sum_bits(network), network.layers[-1].shape[-1]
    inputs = int(np.prod(network.shape))
    channels = len(network.entry)
    levels = ", ".join(f"pixel >= {at}" for at in network.entry)
    yield (
        f"// A network of {len(network.layers)} layers of bits, written by onebit. Of the input, bit i is 1 where (i mod {channels}: "
        f"{levels}).\n// Sum i is y[{bits} * i +: {bits}], signed, {len(network.layers)} clocks after its input.\n"
        f"module {name} (\n    input wire clk,\n    input wire [{inputs - 1}:0] x,\n    output reg [{bits * outputs - 1}:0] y\n);\n"
    )
    for size in sorted({int(n) for layer in network.layers for n in _terms(layer)}):
        yield from _popcount(size)
    value, shape, order = "x", network.shape, network.flatten
    for number, layer in enumerate(network.layers):
        places = np.arange(int(np.prod(shape))).reshape(shape)
        if order == "chw":
            places = places.transpose(2, 0, 1)
        if order:
            places = places.reshape(-1)
        last = layer.at is None
        result = "y" if last else f"s{number}"
        if not last:
            yield f"    reg [{int(np.prod(after_pool(layer))) - 1}:0] {result};\n"
        yield from _wires(layer, number, value, places)
        yield "    always @(posedge clk) begin\n"
        yield from _last(layer, number, bits) if last else _registers(layer, number)
        yield "    end\n"
        value, shape, order = result, after_pool(layer), layer.flatten
    yield "endmodule\n"


def _terms(layer: SignLayer) -> NDArray[Any]:
    """The number of weights of each output that are not 0, at least 1."""
    return np.maximum((layer.weight != 0).reshape(len(layer.weight), -1).sum(1), 1)


def _popcount(size: int) -> Iterator[str]:
    """A function that counts the ones of a vector."""
    width = size.bit_length()
    yield f"    function [{width - 1}:0] ones{size}(input [{size - 1}:0] v);\n        ones{size} = "
    yield " + ".join(f"v[{i}]" for i in range(size))
    yield ";\n    endfunction\n"


def _windows(layer: SignLayer, places: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """A name for each position of a layer, and the places of the input that its outputs read, in the order of a row of the weight."""
    if not layer.is_convolution:
        yield "", places
        return
    _, kh, kw, _ = layer.weight.shape
    (sh, sw), (height, width) = layer.stride, layer.shape[:2]
    for r in range(height):
        for c in range(width):
            yield f"_{r}_{c}", places[r * sh : r * sh + kh, c * sw : c * sw + kw].reshape(-1)


def _wires(layer: SignLayer, number: int, value: str, places: NDArray[Any]) -> Iterator[str]:
    """For each position and output the number of agreeing signs."""
    weight = layer.weight.reshape(len(layer.weight), -1)
    size = weight.shape[1]
    for name, window in _windows(layer, places):
        taken = ", ".join(f"{value}[{i}]" for i in reversed(window))
        yield f"    wire [{size - 1}:0] w{number}{name} = {{{taken}}};\n"
        for o, row in enumerate(weight):
            kept = np.flatnonzero(row)
            width = max(len(kept), 1).bit_length()
            yield f"    wire [{width - 1}:0] n{number}{name}_{o} = "
            if not len(kept):
                yield "1'b0;\n"
                continue
            # A sign agrees with a weight where their bits are equal.
            flips = sum(1 << i for i, place in enumerate(kept) if row[place] < 0)
            source = f"w{number}{name}"
            if len(kept) < size:
                source = "{" + ", ".join(f"{source}[{i}]" for i in reversed(kept)) + "}"
            yield f"ones{len(kept)}({source} ^ {len(kept)}'h{flips:x});\n"


def _registers(layer: SignLayer, number: int) -> Iterator[str]:
    """The signs of a layer, and of a pool the `or` of those that it takes."""
    assert layer.at is not None
    terms = (layer.weight != 0).reshape(len(layer.weight), -1).sum(1)
    # The sum is 2 * agreeing - terms.
    least = -((-(layer.at + terms)) // 2)
    outputs = len(layer.weight)

    def sign(name: str, o: int) -> str:
        if least[o] <= 0:
            return "1'b1"
        if least[o] > terms[o]:
            return "1'b0"
        return f"(n{number}{name}_{o} >= {int(terms[o]).bit_length()}'d{least[o]})"

    if not layer.is_convolution:
        for o in range(outputs):
            yield f"        s{number}[{o}] <= {sign('', o)};\n"
        return
    (kh, kw), (sh, sw) = layer.pool or ((1, 1), (1, 1))
    height, width, _ = after_pool(layer)
    for index, (r, c, o) in enumerate(np.ndindex(height, width, outputs)):
        parts = [sign(f"_{r * sh + i}_{c * sw + j}", o) for i in range(kh) for j in range(kw)]
        yield f"        s{number}[{index}] <= {' | '.join(dict.fromkeys(parts))};\n"


def _last(layer: SignLayer, number: int, bits: int) -> Iterator[str]:
    terms = (layer.weight != 0).reshape(len(layer.weight), -1).sum(1)
    for o, count in enumerate(terms):
        yield f"        y[{bits * o} +: {bits}] <= {{n{number}_{o}, 1'b0}} - {bits}'d{count};\n"


# Simulation


def bits_of(signs: NDArray[Any]) -> Iterable[str]:
    """Each example's signs as hexadecimal digits, the first in the lowest bit."""
    for row in (signs.reshape(len(signs), -1) > 0).astype(np.uint8):
        yield f"{int.from_bytes(np.packbits(row, bitorder='little').tobytes(), 'little'):x}"


def simulated(network: SignNetwork, name: str, text: str, signs: NDArray[Any], simulator: str) -> NDArray[np.int64]:
    """The sums that a simulator gives for signs (n, *shape)."""
    bits, outputs = _sum_bits(network), network.layers[-1].shape[-1]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / f"{name}.v").write_text(text)
        (root / "bench.v").write_text("".join(_bench(network, name, list(bits_of(signs)))))
        if simulator == "iverilog":
            _run(["iverilog", "-g2005", "-o", "run", "bench.v", f"{name}.v"], root)
            printed = _run(["vvp", "run"], root)
        else:
            _run(["verilator", "--binary", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-O1", "--top-module", "bench",
                  "-CFLAGS", "-O0", "bench.v", f"{name}.v"], root)  # fmt: skip
            printed = _run([str(root / "obj_dir" / "Vbench")], root)
    lines = [line for line in printed.splitlines() if re.fullmatch(r"[01]+", line)]
    found = np.array(
        [[int(line[len(line) - bits * (o + 1) : len(line) - bits * o], 2) for o in range(outputs)] for line in lines]
    )
    return np.where(found >= 1 << (bits - 1), found - (1 << bits), found).astype(np.int64)


def _bench(network: SignNetwork, name: str, inputs: list[str]) -> Iterator[str]:
    """A test bench that gives an input at each clock and prints the sums from the first one's on."""
    size, latency = int(np.prod(network.shape)), len(network.layers)
    wide = _sum_bits(network) * network.layers[-1].shape[-1]
    yield (
        f"module bench;\n    reg clk = 0;\n    reg [{size - 1}:0] x = 0;\n    wire [{wide - 1}:0] y;\n"
        f"    {name} network (.clk(clk), .x(x), .y(y));\n    initial begin\n"
    )
    for clock in range(len(inputs) + latency - 1):
        value = inputs[min(clock, len(inputs) - 1)]
        shown = ' $display("%b", y);' if clock >= latency - 1 else ""
        yield f"        x = {size}'h{value}; #1 clk = 1; #1{shown} clk = 0;\n"
    yield "        $finish;\n    end\nendmodule\n"


def _run(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise OnebitError(
            f"[export] {words[0]} ends with {done.returncode}: {printable(said[0] if said else 'no message')}"
        )
    return done.stdout
