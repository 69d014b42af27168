"""What programs of large language models need: tables shared by the embedding and the head, long contexts, and the default of the KV cache."""

import numpy as np
import pytest

from onebit._engine import Decoder, isas
from onebit.program import Program, Step, pack_rows

ISAS = [isa["name"] for isa in isas() if isa["supported"]]
ROWS, FEATURES = 131, 256
CHANCE = np.random.default_rng(3)


def bit_table(planes, values, group, zero=0):
    """The attributes and tensors of a table of bits."""
    bits = np.concatenate([pack_rows(CHANCE.integers(0, 2, (ROWS, FEATURES)).astype(bool)) for _ in planes])
    attributes = {"values": values, "planes": list(planes), "group": group} | ({"zero": zero} if zero else {})
    return "bit", attributes, {"weight": bits, "scale": scales(FEATURES // group)}


def byte_table(group=None):
    weight = CHANCE.integers(-128, 128, (ROWS, FEATURES)).astype(np.int8)
    attributes = {} if group is None else {"group": group}
    return "int8", attributes, {"weight": weight, "scale": scales(1 if group is None else FEATURES // group)}


def scales(groups):
    return (CHANCE.standard_normal((ROWS, groups)) * 0.02).astype(np.float16)


def network(kind, attributes, tensors, copied=False, context=9, out=ROWS):
    """An embedding and a head of one table, or of two alike."""
    names = {role: role for role in tensors}
    of_head = {role: f"{role}2" for role in tensors} if copied else names
    all_tensors = tensors | ({f"{role}2": tensor.copy() for role, tensor in tensors.items()} if copied else {})
    table = {"rows": ROWS, "features": FEATURES, "of": "token"}
    steps = (
        Step(f"{kind}_embedding", ("t",), "x", attributes | table, names),
        Step(f"{kind}_linear", ("x",), "y", attributes | {"in_features": FEATURES, "out_features": out}, of_head),
        Step("add", ("y", "y"), "z", {}, {}),
    )
    return Program("t", (context,), steps, "z", tokens=True), all_tensors


TABLES = {
    "signs": bit_table([1], "pm1", 128),
    "bits less 1": bit_table([1], "01", 32, 1),
    "two planes": bit_table([1, 2], "01", 64, 1),
    "ternary": bit_table([1, 1], "pm1", 128),
    "bytes in groups": byte_table(32),
    "bytes": byte_table(),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("precision", ["int8", "float32"])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_tied_table_is_in_memory_once_and_gives_the_same_bits(table, precision, isa):
    tokens = np.array([0, 130, 64, 7, 63, 31, 32, 100], np.int32)
    made = []
    for copied in (False, True):
        program, tensors = network(*table, copied=copied)
        decoder = Decoder(program.to_json(), tensors, precision, 2, isa)
        sizes = {line["step"].split(" ")[0]: line["weight_bytes"] for line in decoder.plan()}
        embedding = sizes[f"{table[0]}_embedding"]
        assert embedding >= table[2]["weight"].nbytes if copied else embedding == 0
        made.append(decoder.extend([decoder.open()], [len(tokens)], tokens, all=True))
    assert made[0].any() and np.array_equal(*made)


def test_tables_that_only_look_alike_are_not_shared():
    kind, attributes, tensors = TABLES["signs"]
    other = attributes | {"values": "01"}
    program, tensors = network(kind, attributes, tensors)
    program = Program("t", (9,), (program.steps[0], program.steps[1], program.steps[2]), "z", tokens=True)
    head = program.steps[1]
    mixed = Program(
        "t",
        (9,),
        (program.steps[0], Step(head.op, head.inputs, head.output, dict(head.attributes) | other, head.tensors)),
        "y",
        tokens=True,
    )
    plan = Decoder(mixed.to_json(), tensors, "int8", 1).plan()
    assert all(line["weight_bytes"] > 0 for line in plan)


def test_a_value_over_tokens_may_have_more_than_2_to_the_31_elements():
    context = 1 << 24
    program, tensors = network(*TABLES["signs"], context=context)
    assert program.shapes(tensors)["z"] == (context, ROWS)
    assert context * FEATURES > 1 << 31
    decoder = Decoder(program.to_json(), tensors, "int8", 1)
    assert decoder.context == context
    assert decoder.extend([decoder.open()], [2], np.array([1, 2], np.int32)).shape == (1, ROWS)


@pytest.mark.parametrize(("context", "cache"), [(2047, "bf16"), (2048, "int8"), (65536, "int8"), (65537, "bf16")])
def test_long_contexts_have_a_cache_of_int8_unless_asked(context, cache):
    program, tensors = network(*TABLES["signs"], context=context)
    assert Decoder(program.to_json(), tensors, "int8", 1).cache == cache
    assert Decoder(program.to_json(), tensors, "int8", 1, cache="bf16").cache == "bf16"
    assert Decoder(program.to_json(), tensors, "float32", 1).cache == "float32"
