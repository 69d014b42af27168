"""Writes the files of this folder, of ops from the tables of op_cases.py: `python tests/conformance/generate.py`.

Each file has a base and cases. The base is a document of a program, the tensors that it names (type, shape, and the byte that fills them) and,
for whole files, a task; or the texts of some of them, in which "@" stands for what a case inserts. A case changes or removes what stands at a path
of the document, and says in `words` what every checker says of the result; a case without words is right.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

from op_cases import AXIS, OPS, case, embed, f32, op_file, u8  # noqa: E402


def relu(**changes):
    return {"op": "relu", "inputs": ["x"], "output": "y", "attributes": {}, "tensors": {}} | changes


def program_file():
    document = {"program": {"input": {"name": "x", "shape": [4]}, "steps": [relu()], "output": "y"}, "tensors": {}}
    cases = [case("as it is"), case("no step", change={"program/steps": [], "program/output": "x"})]
    cases += [case("without attributes and tensors", remove=["program/steps/0/attributes", "program/steps/0/tensors"])]
    of_type = {
        "program/input": ("input needs an object", [None, [], "x"]),
        "program/input/name": ("input.name needs a text", [None, 1]),
        "program/steps": ("steps needs a list", [None, {}]),
        "program/output": ("output needs a text", [None, 1]),
        "program/steps/0": ("steps[0] needs an object", [None, [], 3]),
        "program/steps/0/op": ("steps[0].op needs a text", [None, 1]),
        "program/steps/0/inputs": ("steps[0].inputs needs a list", [None, "x", {}]),
        "program/steps/0/inputs/0": ("steps[0].inputs[0] needs a text", [None, 1]),
        "program/steps/0/output": ("steps[0].output needs a text", [None, 1]),
        "program/steps/0/attributes": ("steps[0].attributes needs an object", [None, "v4", []]),
        "program/steps/0/tensors": ("steps[0].tensors needs an object", [None, [8, 2]]),
        "program/steps/0/tensors/kind": ("steps[0].tensors.kind needs a text", [None, 5]),
    }
    for path, (words, values) in of_type.items():
        cases += [case("a wrong type", ["[program]", words], {path: value}) for value in values]
    for path in (
        "program/input",
        "program/input/name",
        "program/steps",
        "program/output",
        "program/steps/0/op",
        "program/steps/0/inputs",
    ):
        cases.append(case("missing", ["[program]", of_type[path][0]], remove=[path]))
    words = ["[program] input.shape", f"needs 1 to 4 integers from 1 to {AXIS}"]
    shapes = (None, 4, [], [1] * 5, [0], [-1], [2.5], [4.0], [True], ["4"], [AXIS + 1])
    cases += [case("a wrong input.shape", words, {"program/input/shape": shape}) for shape in shapes]
    cases.append(case("no input.shape", words, remove=["program/input/shape"]))
    words = ["[program] input.kind", "only 'tokens' and 'integers', with one axis, are known"]
    cases += [case("a wrong input.kind", words, {"program/input/kind": kind}) for kind in (None, 1, "letters")]
    cases.append(case("tokens of two axes", words, {"program/input/kind": "tokens", "program/input/shape": [4, 2]}))
    cases.append(case("integers of two axes", words, {"program/input/kind": "integers", "program/input/shape": [4, 2]}))
    several(cases)
    unknown = "has what this version does not know: 'later'"
    cases += [
        case("unknown", ["[program] its JSON", unknown], {"program/later": 1}),
        case("unknown", ["[program] input", unknown], {"program/input/later": 1}),
        case("unknown", ["[program] steps[0]", unknown], {"program/steps/0/later": 1}),
        case("an unknown op", ["[step 0] unknown op 'bit_magic'", "use a newer onebit"], {"program/steps/0/op": "bit_magic"}),
        case("not made yet", "[step 0 (relu)] uses the value 'z' before any step makes it", {"program/steps/0/inputs": ["z"]}),
        case("its own value", "[step 0 (relu)] uses the value 'y' before any step makes it", {"program/steps/0/inputs": ["y"]}),
        case("made twice", "[step 0 (relu)] makes the value 'x' a second time", {"program/steps/0/output": "x"}),
        case("no output", "[program] its output 'z' is made by no step", {"program/output": "z"}),
        case("tokens alone", "[program] its output 'x' is made by no step",
             {"program/input/kind": "tokens", "program/output": "x", "program/steps": []}),
        case("many tokens",
             change={"program/input/kind": "tokens", "program/input/shape": [AXIS], "tensors/w": f32(1, 256),
              "program/steps/0": relu(op="embedding", attributes={"rows": 1, "features": 256, "of": "token"}, tensors={"weight": "w"})}),
        case("a large value", ["[input] a value of shape (65536, 65537)", "has more than 2147483648 elements"],
             {"program/input/shape": [65536, 65537]}),
        case("a large result", ["[step 0 (linear)] a value of shape (32769, 65536)", "has more than 2147483648 elements"],
             {"program/input/shape": [32769, 1], "tensors/w": f32(65536, 1),
              "program/steps/0": relu(op="linear", attributes={"in_features": 1, "out_features": 65536}, tensors={"weight": "w"})}),
    ]  # fmt: skip
    return {"base": document, "cases": cases}


def several(cases):
    """Programs of several inputs and outputs, and of integers."""
    two = [{"name": "x", "shape": [4]}, {"name": "i", "shape": [2], "kind": "integers"}]
    look = relu(op="embedding", inputs=["i"], output="e", attributes={"rows": 5, "features": 6, "of": "token"},
                tensors={"weight": "w"})  # fmt: skip
    both = {
        "program/inputs": two,
        "program/steps": [relu(), look],
        "program/outputs": ["y", "e"],
        "tensors/w": f32(5, 6),
    }
    one = ["program/input", "program/output"]
    cases.append(case("two inputs and outputs", change=both, remove=one))
    cases.append(case("an input as an output", change=both | {"program/outputs": ["x", "e"]}, remove=one))
    cases.append(case("integers alone", change={
        "program/input": two[1], "program/steps": [look], "program/output": "e", "tensors/w": f32(5, 6)}))  # fmt: skip
    for name in ("input", "output"):
        words = f"[program] its JSON has both '{name}' and '{name}s': keep one"
        cases.append(case("both forms", words, both, [other for other in one if not other.endswith(name)]))
    for name in ("inputs", "outputs"):
        words = f"[program] {name} needs a list of 2 to 16"
        right = both[f"program/{name}"]
        for wrong in (None, "x", {}, [], right[:1], right * 9):
            cases.append(case(f"wrong {name}", words, both | {f"program/{name}": wrong}, one))
        cases.append(case(f"{name} twice", f"[program] {name} name '{'x' if name == 'inputs' else 'y'}' twice",
                          both | {f"program/{name}": [right[0], right[0]]}, one))  # fmt: skip
    for wrong, words in (
        (3, "[program] inputs[1] needs an object"),
        ({"shape": [4]}, "[program] inputs[1].name needs a text"),
        ({"name": "i", "shape": [0]}, "[program] inputs[1].shape"),
        ({"name": "i", "shape": [4], "kind": "tokens"}, "[program] inputs[1].kind"),
        ({"name": "i", "shape": [4, 2], "kind": "integers"}, "only 'integers', with one axis, is known"),
        ({"name": "i", "shape": [4], "later": 1}, "[program] inputs[1] has what this version does not know: 'later'"),
        ({"name": "i", "shape": [65536, 65537]}, "[input] a value of shape (65536, 65537)"),
    ):
        cases.append(case("a wrong input", words, both | {"program/inputs": [two[0], wrong]}, one))
    cases.append(case("a wrong output", "[program] outputs[1] needs a text", both | {"program/outputs": ["y", 1]}, one))
    cases.append(
        case(
            "no such output", "[program] its output 'z' is made by no step", both | {"program/outputs": ["y", "z"]}, one
        )
    )
    cases.append(
        case(
            "integers as an output",
            "[program] its output 'i' is made by no step",
            both | {"program/outputs": ["y", "i"]},
            one,
        )
    )
    cases.append(case("an input that nothing reads", "[program] nothing reads its input 'i': leave it out",
                      {"program/inputs": two}, ["program/input"]))  # fmt: skip
    words = "[step 0 (relu)] its input is integers: embed them first"
    cases.append(
        case("integers without an embedding", words, both | {"program/steps": [relu(inputs=["i"]), look]}, one)
    )
    words = "[step 1 (embedding)] its input is not the program's tokens or integers"
    cases.append(
        case("an embedding of numbers", words, both | {"program/steps": [relu(), look | {"inputs": ["x"]}]}, one)
    )
    tokens = {"program/input": {"name": "t", "shape": [4], "kind": "tokens"}, "program/outputs": ["y", "e"]}
    cases.append(
        case("two outputs over tokens", "[program] outputs: a program over tokens has one output", tokens, one[1:])
    )


def syntax_file():
    text = '{"input":{"name":"x","shape":[2]},"steps":[{"op":"clip","inputs":["x"],"output":"y","attributes":{"low":@,"high":1}}],"output":"y"}'
    right = [
        "0",
        "-0",
        "-1",
        "0.5",
        "-5e-1",
        "1E-3",
        "0.5e+0 ",
        "1e-300",
        "-3.4e38",
        " \n\t\r0",
        "0.0",
        "0e9",
        "-0.0e-400",
    ]
    cases = [case(f"low {value!r}", insert=value) for value in right]
    numbers = [
        "01",
        "-01",
        "00",
        "1.",
        ".5",
        "-.5",
        "-",
        "+1",
        "1e",
        "1e+",
        "0x1",
        "1_0",
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "inf",
    ]
    others = [
        "",
        "tru",
        "nul",
        "'a'",
        '"a',
        '"\t"',
        r'"\x"',
        r'"\u12"',
        r'"\u+123"',
        "[1,]",
        '{"a":1,}',
        '{"a"}',
        "{1:2}",
        "{,}",
        "1 1",
        "[1",
        "}",
    ]
    cases += [case(f"low {value!r}", "[program] not JSON", insert=value) for value in numbers + others]
    far = ["1e309", "-1e400", "1e-400", "-1e-324", "0.0000001e-330", [["1", 400]]]
    cases += [case("beyond float64", ["[program] not JSON", "does not fit float64"], insert=value) for value in far]
    half = [r'"\ud800"', r'"\udc00"', r'"\ud800A"', r'"\ud800\ud800"', r'{"\udfff":1}']
    cases += [
        case("half a surrogate pair", ["[program] not JSON", "half a surrogate pair"], insert=value) for value in half
    ]
    cases.append(case("a whole pair", "low", insert=r'"\ud83d\ude00"'))
    twice = ["the name 'a' stands twice"]
    cases += [
        case("a name twice", twice, insert=value)
        for value in ('{"a":1,"a":1}', '[{"b":{"a":1,"b":2,"a":3}}]', r'{"a":1,"\u0061":2}')
    ]
    cases += [
        case("an attribute twice", "the name 'low' stands twice", insert='0,"low":0'),
        case("32 deep", "low", insert=[["[", 28], ["]", 28]]),
        case("32 deep with a number", "low", insert=[["[", 28], ["0", 1], ["]", 28]]),
        case("33 deep", ["[program] not JSON", "nested too deep: more than 32"], insert=[["[", 29], ["]", 29]]),
        case("33 deep in objects", ["[program] not JSON", "nested too deep"], insert=[['{"a":', 29], ["0", 1], ["}", 29]]),
        case("without an end", "[program] not JSON", insert=[["[", 100_000]]),
        case("a million values", "low", insert=[["[", 1], ["0,", 999_984], ["0]", 1]]),
        case("one value more", ["[program] not JSON", "too many values: more than 1000000"], insert=[["[", 1], ["0,", 999_985], ["0]", 1]]),
        case("signs in texts are not values", "low", insert=[['"', 1], [",[{", 400_000], ['"', 1]]),
    ]  # fmt: skip
    cases += [
        case("not a program", ["[program]", "needs an object"], program_text=text)
        for text in ("[]", "3", '"a"', "null")
    ]
    cases.append(case("more after the end", "[program] not JSON", program_text="{} {}"))
    cases.append(case("nothing", "[program] not JSON", program_text=""))
    return {"base": {"program_text": text, "tensors": {}}, "cases": cases}


PLAIN = {"program": {"input": {"name": "x", "shape": [2]}, "steps": [relu(op="linear", attributes={"in_features": 2, "out_features": 3},
         tensors={"weight": "w"})], "output": "y"}, "tensors": {"w": f32(3, 2)}, "task": {"kind": "other"}}  # fmt: skip


def frame_file():
    relu_text = json.dumps(json.dumps({"input": {"name": "x", "shape": [4]}, "steps": [relu()], "output": "y"}))
    metadata = '"onebit_format":"1","program":' + relu_text + ',"task":"{\\"kind\\":\\"other\\"}"'
    text = '{"__metadata__":{' + metadata + '},"w":@}'
    entry = '{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}'
    cases = [case("as it is", insert=entry), case("more that safetensors allows", insert=entry[:-1] + ',"more":[]}')]

    def wrong(name, words, insert=entry, **more):
        cases.append(case(name, words, insert=insert, **more))

    for value in ("5", "null", "{}", '{"dtype":1,"shape":[],"data_offsets":[0,8]}'):
        wrong("an entry without a type", "lacks its dtype", value)
    for kind in ("F64", "I16", "u8"):
        wrong("another type", f"is of type '{kind}': a packed model holds F32, F16, I8, U8", entry.replace("F32", kind))
    wrong("no place", "lacks its data_offsets", '{"dtype":"F32","shape":[2,1]}')
    wrong("no shape", "lacks its shape", '{"dtype":"F32","data_offsets":[0,8]}')
    for place in ("[0]", "[0,8,8]", "[-1,8]", "[0,8.0]", '["0",8]', "[0,true]", "[0,9007199254740992]"):
        wrong("a wrong place", "two integers from 0 to 9007199254740991", entry.replace("[0,8]", place))
    for shape in ("[2,-1]", "[2,1.0]", '["2"]', "[true,2]", "[0]", "[2,1,1,1,1]", "[9007199254740992]"):
        wrong("a wrong shape", "needs at most 4 integers from 1", entry.replace("[2,1]", shape))
    for shape in ("[3,1]", "[1]", "[9007199254740990,9007199254740990]"):
        wrong("a shape of another size", ["tensor 'w'", "damaged"], entry.replace("[2,1]", shape))
    wrong("the end before the beginning", "ends before it begins", entry.replace("[0,8]", "[8,0]"))
    wrong("too few data", "is truncated: tensor 'w' needs 8 bytes of data, the file has 7", data=7)
    wrong("too many data", "1 bytes that belong to no tensor", data=9)
    wrong("a gap", "its tensors overlap, or leave a gap", entry.replace("[0,8]", "[1,9]"), data=9)
    wrong("an overlap", "its tensors overlap", entry + ',"v":' + entry)
    wrong("a tensor twice", "the name 'w' stands twice", entry + ',"w":' + entry)
    wrong("an offset twice", "the name 'shape' stands twice", entry[:-1] + ',"shape":[2,1]}')
    wrong("not JSON", "[header] not JSON", entry + ",")
    wrong("deep", ["[header] not JSON", "nested too deep"], [["[", 40], ["]", 40]])
    wrong("many", ["[header] not JSON", "too many values"], [["[", 1], ["0,", 1_000_000], ["0]", 1]])
    with_meta = '{"__metadata__":@,"w":' + entry + "}"

    def meta(name, words, insert):
        cases.append(case(name, words, header_text=with_meta, insert=insert))

    for value in ("[]", "null", '"a"', "5"):
        meta("metadata of another type", "__metadata__ is not an object", value)
    meta("no version", "a safetensors file, but not a packed model", "{}")
    cases.append(case("no metadata", "a safetensors file, but not a packed model", header_text='{"w":' + entry + "}"))
    meta("another version", "format version '2': this onebit reads '1'", '{"onebit_format":"2"}')
    meta("no program", "[program] missing from the metadata", '{"onebit_format":"1","task":"{}"}')
    meta(
        "no task",
        "[task] missing from the metadata, or without a kind",
        "{" + metadata[: metadata.index(',"task"')] + "}",
    )
    for value in ("5", "null", "{}", "[]", "true"):
        meta("a value that is not a text", "the metadata's 'n' is not a text", "{" + metadata + ',"n":' + value + "}")
    for key in ("onebit_format", "program", "task"):
        meta(
            "a key that is not a text",
            f"the metadata's '{key}' is not a text",
            "{" + metadata.replace(f'"{key}":', f'"{key}":5,"x":') + "}",
        )
        meta("a key twice", f"the name '{key}' stands twice", "{" + metadata + f',"{key}":"1"' + "}")
    meta("half a surrogate pair", ["[header] not JSON", "half a surrogate pair"], "{" + metadata + r',"n":"\ud800"}')
    meta("other texts are welcome", None, "{" + metadata + ',"n":"\\ud83d\\ude00"}')
    return {"base": {"header_text": text, "data": 8}, "cases": cases}


def planes_file():
    """Files with a model for each number of planes."""
    first = {"in_features": 6, "out_features": 3, "values": "pm1"}
    step = relu(op="bit_linear", attributes={**first, "planes": [2, 1]}, tensors={"weight": "w"})
    program = {"input": {"name": "x", "shape": [6]}, "steps": [step], "output": "y"}
    smaller = {**program, "steps": [relu(op="bit_linear", attributes=first, tensors={"weight": "w.1"})]}
    planes = {"planes": 2, "joined": {"w": ["w.1", "w.2"]}, "smaller": [{"planes": 1, "end": 24}]}
    tensors = {"w.1": u8(3, 8), "w.2": u8(3, 8)}
    base = {
        "program": program,
        "tensors": tensors,
        "task": {"kind": "other"},
        "more": {"planes": planes, "program:1": smaller},
    }
    cases = [case("as it is"), case("an end of the whole", change={"more/planes/smaller/0/end": 48})]

    def wrong(name, words, change=None, remove=None):
        cases.append(
            case(
                name,
                ["[planes]" if isinstance(words, str) else words[0], words if isinstance(words, str) else words[1]],
                change,
                remove,
            )
        )

    for text in ("", "{", "nonsense"):
        wrong("not JSON", ["[planes] not JSON", "damaged"], {"more/planes": text})
    for value in ("5", "[]", "{}", {**planes, "later": 1}):
        wrong("not the object", "needs an object of planes, joined and smaller", {"more/planes": value})
    for value in (None, "2", 1, 9, 2.5, True):
        wrong("planes wrong", "planes: needs an integer from 2 to 8", {"more/planes/planes": value})
    for value in (None, [], "w"):
        wrong("joined wrong", "joined needs an object", {"more/planes/joined": value})
    for value in (None, {}, []):
        wrong("smaller wrong", "smaller a list of at least one model", {"more/planes/smaller": value})
    for value in (None, "w.1", [], ["w.1"], ["w.1"] * 9, ["w.1", 2]):
        wrong("parts wrong", "joined 'w': needs 2 to 8 names of tensors", {"more/planes/joined/w": value})
    for value in (None, {}, {"planes": 1}, {"planes": 1, "end": 24, "later": 1}):
        wrong("a model wrong", "smaller[0] needs an object of planes and end", {"more/planes/smaller/0": value})
    for value in (0, 2, 1.5, "1", True):
        wrong(
            "a number wrong", "smaller[0].planes: needs an integer from 1 to 1", {"more/planes/smaller/0/planes": value}
        )
    for value in (-1, 49, 0.5, "24", None):
        wrong("an end wrong", "smaller[0].end: needs an integer from 0 to 48", {"more/planes/smaller/0/end": value})
    wrong("a part not there", "joined 'w': its part 'v' is not in the file", {"more/planes/joined/w": ["w.1", "v"]})
    wrong("a name twice", "joined 'w.2' is a tensor of the file too", {"more/planes/joined/w.2": ["w.1", "w.2"]})
    wrong("another type", "needs parts of uint8 with two axes and rows of one length", {"tensors/w.2": f32(3, 2)})
    wrong("another length", "needs parts of uint8 with two axes and rows of one length", {"tensors/w.2": u8(3, 16)})
    copies = {f"w{i}": ["w.1", "w.2"] * 2 for i in range(5)}
    wrong(
        "many copies",
        "take more than 8 times the data of the file",
        {"more/planes/joined": {**planes["joined"], **copies}},
    )
    wrong("no program", "the metadata lacks 'program:1'", remove=["more/program:1"])
    wrong("a damaged program", ["[program] not JSON", "[program]"], {"more/program:1": "{"})
    lacks = ["[planes=1] [step 0 (bit_linear)]", "its tensor 'w.1' is not in the file"]
    wrong("an end too early", lacks, {"more/planes/smaller/0/end": 23})
    other = ["[planes=1]", "its input and output are not those of the whole model"]
    wrong("another output", other, {"more/program:1/output": "x"})
    wrong(
        "no such tensor",
        ["[step 0 (bit_linear)]", "its tensor 'v' is not in the file"],
        {"program/steps/0/tensors/weight": "v"},
    )
    return {"base": base, "cases": cases}


def kind_file():
    cases = [case("as it is"), case("more fields", change={"task/more": [1, 2]})]
    no_kind = ("[]", "null", "5", '"a"', "{}", '{"kind":5}', '{"kind":null}')
    words = "[task] missing from the metadata, or without a kind"
    cases += [case("without a kind", words, task_text=value) for value in no_kind]
    no_json = ("", "{", "nonsense", '{"kind":01}', '{"kind":NaN}')
    cases += [case("not JSON", "[task] not JSON", task_text=value) for value in no_json]
    cases += [
        case("a name twice", ["[task] not JSON", "the name 'kind' stands twice"], task_text='{"kind":"a","kind":"b"}'),
        case("half a surrogate pair", ["[task] not JSON", "half a surrogate pair"], task_text=r'{"kind":"\ud800"}'),
        case("beyond float64", ["[task] not JSON", "does not fit float64"], task_text='{"kind":"a","b":1e400}'),
        case("deep", ["[task] not JSON", "nested too deep"], task_text='{"kind":"a","b":@}', insert=[["[", 32], ["]", 32]]),
        case("deep enough", task_text='{"kind":"a","b":@}', insert=[["[", 31], ["]", 31]]),
        case("a damaged program", "[program] not JSON", program_text="{"),
        case("a program that does not fit", "[step 0 (linear)] in_features=3", {"program/steps/0/attributes/in_features": 3}),
    ]  # fmt: skip
    return {"base": PLAIN, "cases": cases}


def images_file():
    flat = {"op": "flatten", "inputs": ["x"], "output": "f", "attributes": {"order": "hwc"}, "tensors": {}}
    dense = relu(op="linear", inputs=["f"], attributes={"in_features": 6, "out_features": 2}, tensors={"weight": "w"})
    program = {"input": {"name": "x", "shape": [2, 3, 1]}, "steps": [flat, dense], "output": "y"}
    task = {
        "kind": "image-classification",
        "labels": ["a", "b"],
        "image_size": [2, 3],
        "channels": 1,
        "mean": [0.5],
        "std": [0.5],
    }
    cases = [case("as it is"), case("whole numbers", change={"task/mean": [0], "task/std": [1]}),
             case("an empty label", change={"task/labels": ["", "größer \U0001f600"]})]  # fmt: skip

    def wrong(field, values, *words):
        cases.extend(case(f"{field} wrong", ["[task]", *words], {f"task/{field}": value}) for value in values)

    fields = {
        "labels": "lacks its labels",
        "image_size": "image_size",
        "channels": "channels",
        "mean": "mean",
        "std": "std",
    }
    cases += [case(f"{field} missing", ["[task]", words], remove=[f"task/{field}"]) for field, words in fields.items()]
    wrong("labels", [None, 5, "ab", {"a": 0}], "lacks its labels: needs a list of texts")
    wrong("labels", [[]], "has no labels: name at least one class")
    wrong("labels", [[5, {"a": 1}], ["a", None]], "a label is not a text")
    wrong(
        "labels",
        [["a", "a"], ["", ""]],
        "the list of labels names",
        "more than once (labels 0 and 1): keep one of them",
    )
    wrong("labels", [["a\0b", "b"], ["a", "\0"]], "with a character of the code 0: leave it out")
    sizes = [None, 2, "2,3", [2], [2, 3, 1], ["2", 3], [2.0, 3], [0, 3], [2, -3], [True, 3], [2, AXIS + 1], [[2], 3]]
    wrong("image_size", sizes, "image_size", f"needs (height, width), two integers from 1 to {AXIS}")
    wrong("channels", [None, "1", True, 2, 1.0, 0, [1]], "channels", "use 1 (grey) or 3 (RGB)")
    for name, more in (("mean", ""), ("std", " above 0")):
        wrong(
            name,
            [None, {}, 0.5, [], [0.5, 0.5], ["0.5"], [True], [None]],
            name,
            f"needs finite numbers{more}, one for each of 1 channels",
        )
    wrong("std", [[0], [-0.5]], "std", "needs finite numbers above 0")
    cases += [
        case("too few labels", "[task] names 1 labels and images of [2, 3, 1], but the program takes [2, 3, 1] and gives [2]",
             {"task/labels": ["a"]}),
        case("another size", "[task] names 2 labels and images of [3, 2, 1], but", {"task/image_size": [3, 2]}),
        case("other channels", "[task] names 2 labels and images of [2, 3, 3], but",
             {"task/channels": 3, "task/mean": [0, 0, 0], "task/std": [1, 1, 1]}),
        case("half a surrogate pair", ["[task] not JSON", "half a surrogate pair"],
             task_text=json.dumps(task).replace('"a"', r'"\ud800"')),
        case("infinite", ["[task] not JSON", "does not fit float64"], task_text=json.dumps(task).replace("[2, 3]", "[1e400, 4]")),
        case("infinite", "[task] not JSON", task_text=json.dumps(task).replace("[0.5]", "[Infinity]")),
    ]  # fmt: skip
    return {"base": {"program": program, "tensors": {"w": f32(2, 6)}, "task": task}, "cases": cases}


def byte_characters():
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(n) for n in [*itself, *range(0x100, 0x100 + 256 - len(itself))]]


def texts_file():
    needed = ["[PAD]", "[UNK]", "[SEP]"]
    step = embed(4) | {"output": "y"}
    step["attributes"]["rows"] = 4
    program = {"input": {"name": "x", "shape": [3], "kind": "tokens"}, "steps": [step], "output": "y"}
    task = {"kind": "text-generation", "alphabet": "words", "lowercase": False, "vocabulary": "\n".join([*needed, "a"])}
    cases = [case("as it is"), case("an empty token", change={"task/vocabulary": "\n".join([*needed, ""])})]
    in_bytes = "\n".join(needed + byte_characters())
    wide = {
        "program/steps/0/attributes/rows": 259,
        "program/steps/0/attributes/features": 259,
        "tensors/table/shape": [259, 259],
    }
    cases.append(case("bytes", change={"task/vocabulary": in_bytes, "task/alphabet": "bytes", **wide}))
    fields = ("vocabulary", "alphabet", "lowercase")
    cases += [case(f"{field} missing", ["[task]", field], remove=[f"task/{field}"]) for field in fields]

    def wrong(field, values, *words):
        cases.extend(case(f"{field} wrong", ["[task]", *words], {f"task/{field}": value}) for value in values)

    wrong("vocabulary", [None, needed, 5], "has no vocabulary: needs a text with a token in each line")
    wrong("alphabet", [None, ["words"], 1, "letters"], "alphabet", "use 'bytes' or 'words'")
    wrong("lowercase", [None, 0, "no", []], "lowercase", "use true or false")
    for token in needed:
        others = "\n".join("b" if other == token else other for other in [*needed, "a"])
        wrong("vocabulary", [others], f"the vocabulary has no {token}: add a line {token} to it")
    wrong(
        "vocabulary",
        ["\n".join([*needed, "[SEP]"])],
        "the vocabulary names '[SEP]' more than once (tokens 2 and 3): keep one of them",
    )
    wrong("vocabulary", ["\n".join([*needed, "a\0"])], "the vocabulary names", "with a character of the code 0")
    wrong(
        "vocabulary",
        ["\n".join(needed), "\n".join([*needed, "a", "b"])],
        "tokens, but the program gives [3, 4]: pack the model again",
    )
    wrong("alphabet", ["bytes"], "the vocabulary lacks 255 of the 256 bytes: use alphabet='words' with it")
    text = json.dumps(task).replace('"[PAD]', '"@[PAD]')
    at = {"task_text": text.replace("@", "").replace("\\na", "\\n@")}
    cases += [
        case("a token of 1024 bytes", **at, insert=[["a", 1024]]),
        case("a token of 1025 bytes", ["[task] the token 'aaa", "has 1025 bytes: needs at most 1024"], **at, insert=[["a", 1025]]),
        case("a token of 1026 bytes", "has 1026 bytes: needs at most 1024", **at, insert=[["\\u00e9", 513]]),
        case("too many tokens", "[task] the vocabulary has 1048577 tokens: needs at most 1048576", **at, insert=[["\\n", 1048573]]),
        case("an image", "[task] names 1 labels and images of [1, 1, 1], but the program takes [3] and gives [3, 4]",
             {"task": {"kind": "image-classification", "labels": ["a"], "image_size": [1, 1], "channels": 1, "mean": [0], "std": [1]}}),
    ]  # fmt: skip
    base_tensors = {"table": f32(4, 4)}
    return {"base": {"program": program, "tensors": base_tensors, "task": task}, "cases": cases}


def files():
    """Each file's name with its text: one line for the base and for each case."""
    made = {f"op_{name}": op_file(name, spec) for name, spec in OPS.items()}
    made |= {"program": program_file(), "json": syntax_file(), "frame": frame_file(), "planes": planes_file()}
    made |= {"task": kind_file(), "task_images": images_file(), "task_texts": texts_file()}
    texts = {}
    for name, content in made.items():
        lines = ",\n".join(json.dumps(item, separators=(",", ":")) for item in content["cases"])
        texts[f"{name}.json"] = (
            '{"base":' + json.dumps(content["base"], separators=(",", ":")) + ',\n"cases":[\n' + lines + "\n]}\n"
        )
    return texts


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text)
