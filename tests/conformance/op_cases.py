"""Right and wrong programs for each op: its inputs, attributes and tensors, and what every checker says of a wrong one."""

import copy

AXIS = 1 << 24
NO_TOKENS = ("add_constant", "avg_pool2d", "bit_conv2d", "bit_conv3d", "bit_conv_transpose2d", "conv2d", "conv3d", "conv_transpose2d",
             "exit", "flatten", "full_attention", "last", "max_pool2d", "mean_pool", "prepend", "reshape", "resize", "rows",
             "transpose")  # fmt: skip


def integer():
    return [None, True, "1", 1.5, [1], 0, -1, AXIS + 1], [f"needs an integer from 1 to {AXIS}"]


def index(most):
    return [None, True, "1", 1.5, [1], -1, most + 1], [f"needs an integer from 0 to {most}"]


def per_axis(least, most):
    wrong = [None, 1, "1", {}, [], [1] * 5, [least - 1], [1, most + 1], [True], [1.5], ["1"], [None]]
    return wrong, [f"needs a list of 1 to 4 integers from {least} to {most}"]


def integers(count, least):
    right = [max(least, 1)] * count
    wrong = [1, "1", {}, right[1:], [*right, 1], [*right[1:], least - 1], [*right[1:], AXIS + 1]]
    wrong += [[*right[1:], other] for other in (True, 1.5, "1", None)]
    return wrong, [f"needs a list of {count} integers from {least} to {AXIS}"]


def positive():
    return [None, True, "1", [1], 0, -1, 1e-60, 3.5e38], ["needs a finite number above 0"]


def finite():
    return [None, True, "1", 3.5e38, -3.5e38, 340282346638528880000000000000000000000.0 * 1.0000001], [
        "needs a finite number"
    ]


def boolean():
    return [None, 0, "true", []], ["use true or false"]


def choice(first, second):
    return [None, 1, "other", [first]], [f"use '{first}' or '{second}'"]


PLANES = (
    [None, 3, {}, [], [1] * 9, [1, 0], [1, True], [1, 2.0], [1, "1"], [256], [128, 128]],
    ["needs 1 to 8 integers from 1 whose sum is at most 255"],
)
QUANTIZER = (
    [None, "sign", [], {}, {"quantizer": ["sign"]}, {"quantizer": "ternary"}, {"bits": 8}],
    ["needs a quantizer, one of 'sign', 'unit', 'absmax'"],
)
SIGN = [{"quantizer": "sign", "bits": 1}], ["'sign' takes quantizer"]
UNIT = [{"quantizer": "unit"}, {"quantizer": "unit", "bits": 8, "scale": 1}], ["'unit' takes bits and quantizer"]
UNIT_BITS = (
    [{"quantizer": "unit", "bits": bits} for bits in (0, 9, True, 8.0, "8", None)],
    ["its bits are one of 1, 2, 3, 4, 5, 6, 7, 8"],
)
ABSMAX = [{"quantizer": "absmax", "bits": bits} for bits in (0, 4, 12, 17, 16.0)], ["its bits are one of 8, 16"]
LINEAR = {"kind": "linear", "factor": 4}
YARN = {"kind": "yarn", "factor": 4, "original_context": 8192, "beta_fast": 32, "beta_slow": 1}
LLAMA3 = {"kind": "llama3", "factor": 8, "original_context": 8192, "high_freq_factor": 4, "low_freq_factor": 1}
SCALING = [
    ([None, "yarn", [], {}, {"kind": ["yarn"]}, {"kind": "ntk"}, {"factor": 2}], ["needs a kind, one of 'linear', 'yarn', 'llama3'"]),
    ([{"kind": "linear"}, {**LINEAR, "attention_factor": 1}, {**LINEAR, "original_context": 4}], ["'linear' takes kind, factor"]),
    ([{**YARN, "later": 1}, {name: value for name, value in YARN.items() if name != "beta_slow"}],
     ["'yarn' takes kind, factor, original_context, beta_fast, beta_slow, and perhaps attention_factor"]),
    ([{**LLAMA3, "attention_factor": 1}, {name: value for name, value in LLAMA3.items() if name != "original_context"}],
     ["'llama3' takes kind, factor, original_context, high_freq_factor, low_freq_factor"]),
    ([{**LINEAR, "factor": value} for value in (None, True, "1", 0, 0.5, -1, 3.5e38)], ["its factor needs a finite number from 1"]),
    ([{**YARN, "original_context": value} for value in (None, True, 0, 1.5, AXIS + 1)],
     [f"its original_context needs an integer from 1 to {AXIS}"]),
    ([{**YARN, "beta_fast": value} for value in (None, True, 0, -1, 3.5e38)], ["its beta_fast needs a finite number above 0"]),
    ([{**YARN, "beta_slow": value} for value in (32, 33, 31.9999999999)], ["its beta_fast is not above its beta_slow"]),
    ([{**YARN, "attention_factor": value} for value in (None, 0, -1, "1")], ["its attention_factor needs a finite number above 0"]),
    ([{**LLAMA3, "low_freq_factor": value} for value in (4, 5)], ["its high_freq_factor is not above its low_freq_factor"]),
]  # fmt: skip
VALUES = choice("01", "pm1")
BINARY = {"values": [VALUES]}
GROUP = [None, True, "64", 16, 48, 256, 32.0, [64]], ["use 32, 64 or 128"]
OPTIONAL = {"planes": [PLANES], "input": [QUANTIZER, SIGN, UNIT, UNIT_BITS, ABSMAX]}
WINDOW = {"kernel_size": [integers(2, 1)], "stride": [integers(2, 1)], "padding": [integers(4, 0)]}
DILATION = {"dilation": [integers(2, 1)]}
CHANNELS = {name: [integer()] for name in ("in_channels", "out_channels", "groups")}
FEATURES = {name: [integer()] for name in ("in_features", "out_features")}

pool = {"kernel_size": [2, 2], "stride": [1, 1], "padding": [0, 0, 0, 0]}
transposed = {"in_channels": 2, "out_channels": 3, **pool, "stride": [2, 2], "output_padding": [0, 1], "groups": 1}
TRANSPOSED_FAULTS = [
    ({"groups": 2}, "groups=2 does not divide in_channels=2 and out_channels=3"),
    ({"in_channels": 3}, "in_channels=3 but its input has shape (4, 4, 2): needs (height, width, 3)"),
    ({"output_padding": [2, 0]}, ["output_padding", "must be smaller than stride"]),
    ({"output_padding": [0, 2]}, ["output_padding", "must be smaller than stride"]),
    ({"stride": [65, 2]}, ["stride", "is too large for a transposed convolution: needs at most 64"]),
    ({"padding": [4, 4, 0, 0]}, ["padding", "leaves nothing of its output: use less"]),
    ({"padding": [0, 0, AXIS, AXIS]}, ["padding", "leaves nothing of its output: use less"]),
    ({"kernel_size": [AXIS, AXIS]}, "its padded input has more than 2147483648 elements"),
    ({"dilation": [1, 1]}, "does not take: 'dilation'"),
]
VOLUME = {
    "kernel_size": [integers(3, 1)],
    "stride": [integers(3, 1)],
    "padding": [integers(6, 0)],
    "dilation": [integers(3, 1)],
}
VOLUME_FAULTS = [
    ({"groups": 2}, "groups=2 does not divide in_channels=2 and out_channels=3"),
    ({"in_channels": 3}, "in_channels=3 but its input has shape (3, 4, 4, 2): needs (depth, height, width, 3)"),
    ({"kernel_size": [5, 1, 1]}, "does not fit its padded input"),
    ({"kernel_size": [1, 5, 1]}, "does not fit its padded input"),
    ({"dilation": [1, 1, 5]}, "does not fit its padded input"),
    ({"padding": [AXIS] * 6}, "its padded input has more than 2147483648 elements"),
]
volume = {"in_channels": 2, "out_channels": 3, "kernel_size": [2, 2, 2], "stride": [1, 2, 1], "padding": [0, 1, 0, 0, 1, 0],
          "dilation": [1, 1, 1], "groups": 1}  # fmt: skip
conv = {"in_channels": 2, "out_channels": 3, **pool, "dilation": [1, 1], "groups": 1}
table = {"rows": 5, "features": 6, "of": "token"}


def u8(*shape):
    return {"dtype": "U8", "shape": list(shape)}


def f16(*shape):
    return {"dtype": "F16", "shape": list(shape)}


def i8(*shape):
    return {"dtype": "I8", "shape": list(shape)}


def f32(*shape):
    return {"dtype": "F32", "shape": list(shape)}


def op(
    shape, attributes=None, tensors=None, needs=None, optional=None, more=(), tokens=False, inputs=1, optional_roles=()
):
    return locals()


# For each op: the input's shape, its attributes and tensors, what each attribute needs, and single changes of the step with what is said of them.
OPS = {
    "add": op([4], inputs=2),
    "add_constant": op([4, 3], {}, {"constant": f32(4, 3)}),
    "attention": op([4], {"heads": 2}, needs={"heads": [integer()]}, optional={"kv_heads": [integer()], "window": [integer()]},
                    tokens=True, inputs=3, more=[
        ({"heads": 4}, "heads=4 does not divide its 6 features"),
        ({"heads": 3, "kv_heads": 2}, "kv_heads=2 does not divide heads=3"),
        ({"kv_heads": 3}, "kv_heads=3 does not divide heads=2"),
        ({"kv_heads": 1}, "its inputs have shapes (4, 6), (4, 6) and (4, 6): needs (4, 3) of the last two"),
    ]),
    "avg_pool2d": op([4, 4, 2], {**pool, "count_include_pad": True}, needs={**WINDOW, "count_include_pad": [boolean()]}, more=[
        ({"padding": [2, 0, 0, 0]}, "must be smaller than kernel_size"),
        ({"kernel_size": [5, 1]}, "does not fit its padded input"),
    ]),
    "bit_conv2d": op([4, 4, 2], {**conv, "values": "pm1"}, {"weight": u8(3, 8), "bias": u8(1, 8)},
                     {**CHANNELS, **WINDOW, **DILATION, **BINARY}, OPTIONAL, optional_roles=("bias",), more=[
        ({"groups": 2}, "groups=2 does not divide in_channels=2 and out_channels=3"),
        ({"in_channels": 3}, "in_channels=3 but its input has shape (4, 4, 2): needs (height, width, 3)"),
        ({"kernel_size": [5, 1]}, "does not fit its padded input"),
        ({"dilation": [4, 1]}, "does not fit its padded input"),
        ({"padding": [AXIS, AXIS, AXIS, AXIS]}, "its padded input has more than 2147483648 elements"),
        ({"kernel_size": [2050, 2050], "padding": [2050, 2050, 2050, 2050]}, "weights: needs at most 4194304"),
        ({"planes": [1, 1]}, "has shape (3, 8): needs (6, 8)"),
    ]),
    "bit_conv3d": op([3, 4, 4, 2], {**volume, "values": "pm1"}, {"weight": u8(3, 8), "bias": u8(1, 8)},
                     {**CHANNELS, **VOLUME, **BINARY}, OPTIONAL, optional_roles=("bias",), more=[
        *VOLUME_FAULTS,
        ({"kernel_size": [130, 130, 260], "padding": [130] * 6}, "weights: needs at most 4194304"),
        ({"planes": [1, 1]}, "has shape (3, 8): needs (6, 8)"),
    ]),
    "bit_conv_transpose2d": op([4, 4, 2], {**transposed, "values": "pm1"}, {"weight": u8(3, 8), "bias": u8(1, 8)},
                     {**CHANNELS, **WINDOW, "output_padding": [integers(2, 0)], **BINARY}, OPTIONAL, optional_roles=("bias",), more=[
        *TRANSPOSED_FAULTS,
        ({"kernel_size": [2050, 2050]}, "weights: needs at most 4194304"),
        ({"planes": [1, 1]}, "has shape (3, 8): needs (6, 8)"),
    ]),
    "bit_embedding": op([4], {**table, "values": "01"}, {"weight": u8(5, 8), "bias": u8(1, 8)},
                        {"rows": [integer()], "features": [integer()], "of": [choice("token", "position")], **BINARY},
                        {"planes": [PLANES], "group": [GROUP]}, tokens=True, optional_roles=("bias",), more=[
        ({"planes": [1, 1]}, "has shape (5, 8): needs (10, 8)"),
        ({"group": 32}, "group=32 does not divide its 6 inputs"),
        ({"zero": 1}, "takes zero with group and values='01' only"),
        ({"input": {"quantizer": "sign"}}, "does not take: 'input'"),
        ({"of": "position", "rows": 3}, "has 3 rows for 4 positions: needs one for each"),
    ]),
    "bit_gru": op([4, 18], {"hidden": 6, "values": "01"}, {"weight": u8(18, 8), "scale": f32(18), "shift": f32(18)},
                  {"hidden": [integer()], **BINARY}, {**OPTIONAL, "reverse": [boolean()], "eps": [positive()]}, more=[
        ({"hidden": 7}, "hidden=7 but its input has shape (4, 18): needs (time, 21)"),
    ]),
    "bit_linear": op([6], {"in_features": 6, "out_features": 3, "values": "pm1"}, {"weight": u8(3, 8), "bias": u8(1, 8)},
                     {**FEATURES, **BINARY}, {**OPTIONAL, "group": [GROUP]}, optional_roles=("bias",), more=[
        ({"in_features": 7}, "in_features=7 but its input has shape (6,)"),
        ({"planes": [1, 1]}, "has shape (3, 8): needs (6, 8)"),
        ({"group": 32}, "group=32 does not divide its 6 inputs"),
        ({"zero": 1}, "takes zero with group and values='01' only"),
    ]),
    "bit_lstm": op([4, 24], {"hidden": 6, "values": "pm1"}, {"weight": u8(24, 8), "scale": f32(24), "shift": f32(24)},
                   {"hidden": [integer()], **BINARY}, {**OPTIONAL, "reverse": [boolean()], "eps": [positive()]}, more=[
        ({"hidden": 7}, "hidden=7 but its input has shape (4, 24): needs (time, 28)"),
    ]),
    "clip": op([4], {"low": -1, "high": 0.5}, needs={"low": [finite()], "high": [finite()]}, more=[
        ({"low": 0.5}, "is not below high="), ({"low": 1}, "is not below high="),
        ({"low": 0.5, "high": 0.50000000001}, "is not below high="),
    ]),
    "concatenate": op([4, 3], {"axis": 1}, needs={"axis": [index(3)]}, inputs=2, more=[
        ({"axis": 2}, "axis=2 but its input has shape (4, 3): needs one of its axes, counted from 0"),
    ]),
    "conv_transpose2d": op([4, 4, 2], transposed, {"weight": f32(3, 2, 2, 2), "bias": f32(3)},
                           {**CHANNELS, **WINDOW, "output_padding": [integers(2, 0)]}, optional_roles=("bias",), more=TRANSPOSED_FAULTS),
    "conv2d": op([4, 4, 2], conv, {"weight": f32(3, 2, 2, 2), "bias": f32(3)}, {**CHANNELS, **WINDOW, **DILATION},
                 optional_roles=("bias",), more=[
        ({"groups": 2}, "groups=2 does not divide in_channels=2 and out_channels=3"),
        ({"in_channels": 3}, "in_channels=3 but its input has shape (4, 4, 2): needs (height, width, 3)"),
        ({"kernel_size": [5, 1]}, "does not fit its padded input"),
        ({"planes": [1, 2]}, "does not take: 'planes'"),
    ]),
    "conv3d": op([3, 4, 4, 2], volume, {"weight": f32(3, 4, 2, 2), "bias": f32(3)}, {**CHANNELS, **VOLUME}, optional_roles=("bias",), more=[
        *VOLUME_FAULTS,
        ({"planes": [1, 2]}, "does not take: 'planes'"),
    ]),
    "embedding": op([4], table, {"weight": f32(5, 6)},
                    {"rows": [integer()], "features": [integer()], "of": [choice("token", "position")]}, tokens=True, more=[
        ({"of": "position", "rows": 3}, "has 3 rows for 4 positions: needs one for each"),
        ({"values": "01"}, "does not take: 'values'"),
    ]),
    "exit": op([4], {"threshold": 0.75}, needs={"threshold": [positive()]}, more=[({"order": "hwc"}, "does not take: 'order'")]),
    "flatten": op([4, 3], {"order": "hwc"}, needs={"order": [choice("hwc", "chw")]}, more=[
        ({"order": "chw"}, "order='chw' but its input has shape (4, 3): needs (height, width, channels)"),
    ]),
    "full_attention": op([4, 6], {"heads": 2}, {"bias": f32(2, 4, 4)}, {"heads": [integer()]},
                         {"kv_heads": [integer()], "causal": [boolean()]}, inputs=3, optional_roles=("bias",), more=[
        ({"heads": 4}, "heads=4 does not divide its 6 features"),
        ({"heads": 3, "kv_heads": 2}, "kv_heads=2 does not divide heads=3"),
        ({"kv_heads": 1}, "its inputs have shapes (4, 6), (4, 6) and (4, 6): needs (source, 3) of the second and third"),
        ({"window": 1}, "does not take: 'window'"),
    ]),
    "gelu": op([4]),
    "group_normalize": op([4, 6], {"groups": 2, "eps": 0.1}, needs={"groups": [integer()], "eps": [positive()]}, more=[
        ({"groups": 4}, "groups=4 does not divide its 6 channels"),
        ({"padding": 4194305}, "does not take: 'padding'"),
    ]),
    "gru": op([4, 18], {"hidden": 6}, {"weight": f32(18, 6), "shift": f32(18)}, {"hidden": [integer()]},
              {"reverse": [boolean()]}, more=[
        ({"hidden": 7}, "hidden=7 but its input has shape (4, 18): needs (time, 21)"),
        ({"eps": 0.1}, "does not take: 'eps'"),
    ]),
    "hard_sigmoid": op([4]),
    "hard_swish": op([4]),
    "int8_embedding": op([4], table, {"weight": i8(5, 6), "scale": f16(5, 1)},
                         {"rows": [integer()], "features": [integer()], "of": [choice("token", "position")]}, {"group": [GROUP]},
                         tokens=True, more=[
        ({"of": "position", "rows": 3}, "has 3 rows for 4 positions: needs one for each"),
        ({"group": 64}, "group=64 does not divide its 6 inputs"),
        ({"values": "01"}, "does not take: 'values'"),
    ]),
    "int8_linear": op([6], {"in_features": 6, "out_features": 3}, {"weight": i8(3, 6), "scale": f16(3, 1)}, FEATURES,
                      {"group": [GROUP]}, more=[
        ({"in_features": 7}, "in_features=7 but its input has shape (6,)"),
        ({"group": 128}, "group=128 does not divide its 6 inputs"),
        ({"zero": 1}, "does not take: 'zero'"),
    ]),
    "last": op([4, 3]),
    "linear": op([6], {"in_features": 6, "out_features": 3}, {"weight": f32(3, 6), "bias": f32(3)}, FEATURES,
                 optional_roles=("bias",), more=[
        ({"in_features": 7}, "in_features=7 but its input has shape (6,)"),
        ({"planes": [1, 2]}, "does not take: 'planes'"),
        ({"planes": [1, 2], "input": {"quantizer": "sign"}}, "does not take: 'input', 'planes'"),
    ]),
    "lstm": op([4, 24], {"hidden": 6}, {"weight": f32(24, 6)}, {"hidden": [integer()]}, {"reverse": [boolean()]}, more=[
        ({"hidden": 7}, "hidden=7 but its input has shape (4, 24): needs (time, 28)"),
    ]),
    "max_pool2d": op([4, 4, 2], pool, needs=WINDOW, more=[
        ({"padding": [0, 0, 0, 2]}, "must be smaller than kernel_size"),
        ({"kernel_size": [1, 5]}, "does not fit its padded input"),
        ({"dilation": [1, 1]}, "does not take: 'dilation'"),
    ]),
    "mean_magnitude": op([4, 4, 2], {**pool, "dilation": [1, 1]}, needs={**WINDOW, **DILATION}, more=[
        ({"dilation": [4, 1]}, "does not fit its padded input"),
    ]),
    "mean_pool": op([4, 3]),
    "argmax": op([4, 3]),
    "multiply": op([4], inputs=2),
    "normalize": op([4, 3], {"over": "channel", "eps": 0.1}, needs={"over": [choice("channel", "example")], "eps": [positive()]}),
    "prelu": op([4], {}, {"slope": f32(4)}),
    "prepend": op([4, 3], {"rows": 2}, {"constant": f32(2, 3)}, needs={"rows": [integer()]}),
    "relu": op([4]),
    "relu_squared": op([4]),
    "reshape": op([4, 3], {"shape": [2, 1, 6]}, needs={"shape": [per_axis(1, AXIS)]}, more=[
        ({"shape": [13]}, "its input has shape (4, 3): needs as many elements as (13,)"),
        ({"shape": [AXIS] * 4}, "needs as many elements as"),
    ]),
    "resize": op([4, 3, 2], {"size": [7, 2], "mode": "bilinear"}, needs={"size": [integers(2, 1)], "mode": [choice("nearest", "bilinear")]},
                 optional={"align_corners": [boolean()]}, more=[
        ({"mode": "nearest", "align_corners": False}, "takes align_corners with mode='bilinear' only"),
    ]),
    "rms_normalize": op([4, 6], {"eps": 0.1}, needs={"eps": [positive()]}, optional={"groups": [integer()]}, more=[
        ({"groups": 4}, "groups=4 does not divide its 6 channels"),
        ({"over": "channel"}, "does not take: 'over'"),
    ]),
    "rotary": op([4], {"heads": 1, "base": 10000}, needs={"heads": [integer()], "base": [positive()]},
                 optional={"rotated": [integer()], "scaling": SCALING}, tokens=True, more=[
        ({"heads": 4}, "heads=4 does not divide its 6 features"),
        ({"heads": 2}, "rotated=3: needs an even number of the 3 features of a head"),
        ({"rotated": 3}, "rotated=3: needs an even number of the 6 features of a head"),
        ({"rotated": 8}, "rotated=8: needs an even number of the 6 features of a head"),
        ({"base": 1}, ["base=1", "needs a number above 1"]),
        ({"base": 0.5}, ["base=0.5", "needs a number above 1"]),
        ({"base": 1.00000000001}, ["base=1.0", "needs a number above 1"]),
    ]),
    "rows": op([4, 3, 2]),
    "scale": op([4], {"factor": 2}, needs={"factor": [positive()]}),
    "scale_shift": op([4], {}, {"scale": f32(4), "shift": f32(4)}, optional_roles=("shift",)),
    "sigmoid": op([4]),
    "silu": op([4]),
    "slice": op([4, 3], {"axis": 0, "start": 1, "stop": 3}, needs={"axis": [index(3)], "start": [index(AXIS)], "stop": [integer()]}, more=[
        ({"axis": 2}, "axis=2 but its input has shape (4, 3): needs one of its axes, counted from 0"),
        ({"start": 3}, "start=3 and stop=3 do not fit an axis of 4"),
        ({"stop": 5}, "start=1 and stop=5 do not fit an axis of 4"),
    ]),
    "softmax": op([4]),
    "sparse_linear": op([60], {"in_features": 60, "out_features": 3, "kept": 24},
                        {"mask": {**u8(3, 8), "fill": 1}, "weight": f32(24), "bias": f32(3)}, {**FEATURES, "kept": [integer()]},
                        optional_roles=("bias",), more=[
        ({"in_features": 61}, "in_features=61 but its input has shape (60,)"),
        ({"kept": 23}, "has shape (24,): needs (23,)"),
        ({"values": "01"}, "does not take: 'values'"),
    ]),
    "tanh": op([4]),
    "transpose": op([4, 3], {"axes": [1, 0]}, needs={"axes": [per_axis(0, 3)]}, more=[
        ({"axes": axes}, "its input of shape (4, 3): needs each of its axes once, counted from 0")
        for axes in ([0], [0, 0], [0, 2], [0, 1, 2])
    ]),
}  # fmt: skip
# Inputs that an op cannot take, with what it needs.
WRONG_INPUTS = {
    "avg_pool2d": ([4, 4], "needs (height, width, channels)"),
    "bit_conv2d": ([4, 2], "needs (height, width, 2)"),
    "bit_conv3d": ([4, 4, 2], "needs (depth, height, width, 2)"),
    "conv3d": ([4, 4, 2], "needs (depth, height, width, 2)"),
    "bit_gru": ([18], "needs (time, 18)"),
    "bit_lstm": ([2, 4, 24], "needs (time, 24)"),
    "add_constant": ([3, 4], "has shape (4, 3): needs (3, 4)"),
    "bit_conv_transpose2d": ([4, 2], "needs (height, width, 2)"),
    "concatenate": ([4], "axis=1 but its input has shape (4,): needs one of its axes, counted from 0"),
    "conv_transpose2d": ([2, 4, 4, 2], "needs (height, width, 2)"),
    "exit": ([4, 3], "its input has shape (4, 3): needs (classes,)"),
    "full_attention": ([6], "needs (time, features)"),
    "prepend": ([3], "needs (time, channels)"),
    "reshape": ([4], "needs as many elements as (2, 1, 6)"),
    "resize": ([4, 3], "needs (height, width, channels)"),
    "transpose": ([4, 3, 2], "its input of shape (4, 3, 2): needs each of its axes once, counted from 0"),
    "conv2d": ([2, 4, 4, 2], "needs (height, width, 2)"),
    "group_normalize": ([1, 1, 1, 6], "needs (height, width, channels), (rows, features) or (features)"),
    "gru": ([18], "needs (time, 18)"),
    "last": ([4], "needs (time, channels)"),
    "lstm": ([24], "needs (time, 24)"),
    "max_pool2d": ([4], "needs (height, width, channels)"),
    "mean_magnitude": ([4, 4], "needs (height, width, channels)"),
    "mean_pool": ([4], "needs (height, width, channels) or (time, channels)"),
    "prelu": ([5], "has shape (4,): needs (5,)"),
    "rows": ([4, 3], "needs (height, width, channels)"),
    "scale_shift": ([4, 3], "has shape (4,): needs (3,)"),
}


def case(name, words=None, change=None, remove=None, **more):
    made = {"name": name}
    if change:
        made["change"] = change
    if remove:
        made["remove"] = remove
    made |= more
    return made | ({"words": [words] if isinstance(words, str) else list(words)} if words else {})


def embed(features=6):
    return {
        "op": "embedding",
        "inputs": ["x"],
        "output": "e",
        "attributes": {**table, "features": features},
        "tensors": {"weight": "table"},
    }


def base(name, spec):
    """The document of one step, after an embedding where it takes what tokens have become."""
    steps, tensors, source = [], {}, "x"
    if spec["tokens"] and "embedding" not in name:
        steps, tensors, source = [embed()], {"table": f32(5, 6)}, "e"
    step = {"op": name, "inputs": [source] * spec["inputs"], "output": "y"}
    step["attributes"] = spec["attributes"] or {}
    step["tensors"] = {role: f"t.{role}" for role in spec["tensors"] or {}}
    tensors |= {f"t.{role}": tensor for role, tensor in (spec["tensors"] or {}).items()}
    kind = {"kind": "tokens"} if spec["tokens"] else {}
    program = {"input": {"name": "x", "shape": spec["shape"], **kind}, "steps": [*steps, step], "output": "y"}
    return {"program": program, "tensors": tensors}


def step_of(document):
    """A copy of the first step of a document."""
    return copy.deepcopy(document["program"]["steps"][0])


def op_file(name, spec):
    document = base(name, spec)
    index = len(document["program"]["steps"]) - 1
    step, where = f"program/steps/{index}", f"[step {index} ({name})]"
    cases = [case("as it is")]

    def wrong(label, words, change=None, remove=None):
        cases.append(case(label, [where, words] if isinstance(words, str) else [where, *words], change, remove))

    for attribute in spec["needs"] or {}:
        wrong(f"{attribute} missing", f"lacks the attribute '{attribute}'", remove=[f"{step}/attributes/{attribute}"])
    for attribute, needs in {**(spec["needs"] or {}), **(spec["optional"] or {})}.items():
        for values, words in needs:
            for value in values:
                wrong(f"{attribute} wrong", [attribute, *words], {f"{step}/attributes/{attribute}": value})
    for change, words in spec["more"]:
        wrong("does not fit", words, {f"{step}/attributes/{key}": value for key, value in change.items()})
    wrong("an unknown attribute", "has what this op does not take: 'later'", {f"{step}/attributes/later": 1})
    wrong("an unknown tensor", "has what this op does not take: 'tensor later'", {f"{step}/tensors/later": "t.later"})
    wrong("no input", f"has 0 inputs: needs {spec['inputs']}", {f"{step}/inputs": []})
    source = document["program"]["steps"][index]["inputs"][0]
    more = spec["inputs"] + (2 if name == "full_attention" else 1)
    wrong("one input more", f"has {more} inputs: needs", {f"{step}/inputs": [source] * more})
    for role, tensor in (spec["tensors"] or {}).items():
        if role in spec["optional_roles"]:
            cases.append(case(f"without {role}", remove=[f"{step}/tensors/{role}"]))
        else:
            wrong(f"{role} missing", f"lacks its tensor '{role}'", remove=[f"{step}/tensors/{role}"])
        wrong(f"{role} not there", f"its tensor 't.{role}' is not in the file", remove=[f"tensors/t.{role}"])
        names = {"U8": "uint8", "I8": "int8", "F16": "float16", "F32": "float32"}
        for other in sorted(set(names) - {tensor["dtype"]}):
            words = f"is {names[other]}: needs {names[tensor['dtype']]}"
            wrong(f"{role} of another type", words, {f"tensors/t.{role}/dtype": other})
        shape = tensor["shape"]
        for changed in ([*shape[:-1], shape[-1] + 1], [shape[0] + 1, *shape[1:]], [*shape, 1], shape[1:]):
            spelled = str(tuple(changed))
            wrong(
                f"{role} of another shape",
                f"has shape {spelled}: needs {tuple(shape)}",
                {f"tensors/t.{role}/shape": changed},
            )
        if tensor["dtype"] == "F16":
            wrong(f"{role} not finite", "holds NaN or infinity; the file is damaged", {f"tensors/t.{role}/fill": 124})
        if tensor["dtype"] == "U8":
            wrong(f"{role} with stray bits", "has bits set beyond its", {f"tensors/t.{role}/fill": 255})
    if name in WRONG_INPUTS:
        shape, words = WRONG_INPUTS[name]
        wrong("an input of another shape", words, {"program/input/shape": shape})
    if name == "exit":
        wider = {"op": "concatenate", "inputs": ["x", "x"], "output": "z", "attributes": {"axis": 0}}
        wrong(
            "another shape than the output",
            "its input has shape (4,): needs that of the program's output, (8,)",
            {"program/steps": [step_of(document), wider], "program/output": "z"},
        )
        cases.append(case("an exit after the output", change={"program/output": "x"}))
    if name in ("add", "multiply", "attention"):
        pooled = {"op": "scale", "inputs": [source], "output": "s", "attributes": {"factor": 1}, "tensors": {}}
        if name == "attention":
            pooled |= {"op": "mean_magnitude", "attributes": {}}
            steps = [
                document["program"]["steps"][0],
                pooled,
                document["program"]["steps"][1] | {"inputs": ["e", "e", "s"]},
            ]
        else:
            pooled |= {"op": "flatten", "inputs": ["x"], "attributes": {"order": "hwc"}}
            steps = [pooled, document["program"]["steps"][0] | {"inputs": ["x", "s"]}]
        shape = [4] if name == "attention" else [2, 2]
        cases.append(case("inputs of different shapes", ["its inputs have shapes", "needs equal ones"],
                          {"program/steps": steps, "program/input/shape": shape}))  # fmt: skip
        if name == "multiply":
            pooled = pooled | {"op": "mean_pool", "attributes": {}}
            steps = [pooled, document["program"]["steps"][0] | {"inputs": ["x", "s"]}]
            change = {"program/steps": steps, "program/input/shape": [2, 5, 3]}
            cases.append(case("a number for each channel", change=change))
            steps = [pooled, document["program"]["steps"][0] | {"inputs": ["s", "x"]}]
            cases.append(case("the channels first", "needs equal ones", {**change, "program/steps": steps}))
    more_of_op(name, cases, document, step, where)
    if name in ("bit_linear", "bit_embedding", "int8_linear", "int8_embedding"):
        of_groups(cases, step, where, name)
    return {"base": document, "cases": cases}


def more_of_op(name, cases, document, step, where):
    """The kinds of program that an op may stand in, and optional attributes that are right."""
    if "embedding" in name:
        cases.append(
            case(
                "without tokens",
                [where, "its input is not the program's tokens or integers"],
                remove=["program/input/kind"],
            )
        )
        cases.append(case("of integers", change={"program/input/kind": "integers"}))
        return
    tokens = {"name": "x", "shape": [4], "kind": "tokens"}
    if name in ("attention", "rotary"):
        alone = copy.deepcopy(document["program"]["steps"][1]) | {"inputs": ["x"] * OPS[name]["inputs"]}
        change = {"program/input": {"name": "x", "shape": [4, 6]}, "program/steps": [alone]}
        cases.append(case("without tokens", [f"[step 0 ({name})]", "the program's input is not tokens"], change))
    if name == "rotary":
        cases += [case("a part of a head", change={f"{step}/attributes/rotated": 4})]
        factor = {**YARN, "attention_factor": 1.5}
        cases += [
            case("scaled", change={f"{step}/attributes/scaling": scaling}) for scaling in (LINEAR, YARN, factor, LLAMA3)
        ]
        return
    if name == "attention":
        cases.append(case("a window", change={f"{step}/attributes/window": 1}))
        half = {
            "op": "linear",
            "inputs": ["e"],
            "output": "k",
            "attributes": {"in_features": 6, "out_features": 3},
            "tensors": {"weight": "half"},
        }
        shared = copy.deepcopy(document["program"]["steps"][1]) | {"inputs": ["e", "k", "k"]}
        shared["attributes"]["kv_heads"] = 1
        change = {"program/steps": [document["program"]["steps"][0], half, shared], "tensors/half": f32(3, 6)}
        cases.append(case("shared keys and values", change=change))
        return
    alone = copy.deepcopy(document["program"]["steps"][0])
    if name in NO_TOKENS:
        alone["inputs"] = ["e"] * OPS[name]["inputs"]
        change = {"program/input": tokens, "program/steps": [embed(), alone], "tensors/table": f32(5, 6)}
        cases.append(case("over tokens", [f"[step 1 ({name})]", "has no meaning for tokens"], change))
    else:
        cases.append(
            case(
                "of the tokens themselves", [where, "its input is tokens: embed them first"], {"program/input": tokens}
            )
        )
    if name in ("concatenate", "slice"):
        alone["inputs"], alone["attributes"]["axis"] = ["e"] * OPS[name]["inputs"], 0
        change = {"program/input": tokens, "program/steps": [embed(), alone], "tensors/table": f32(5, 6)}
        cases.append(case("of tokens", "axis=0 would mix tokens: use 1", change))
        cases.append(case("over tokens", change=change | {"program/steps/1/attributes/axis": 1}))
    if name == "concatenate":
        words = "its inputs have shapes (4, 3) and (2, 3): needs equal ones but for axis 1"
        part = {"op": "slice", "inputs": ["x"], "output": "s", "attributes": {"axis": 0, "start": 1, "stop": 3}}
        for second, axis in (("x", 1), ("s", 0), ("s", 1)):
            joined = {**step_of(document), "inputs": ["x", second], "attributes": {"axis": axis}}
            wrong = words if (second, axis) == ("s", 1) else None
            cases.append(case("other shapes", wrong, {"program/steps": [part, joined]}))
    if name == "full_attention":
        part = {"op": "slice", "inputs": ["x"], "output": "s", "attributes": {"axis": 0, "start": 0, "stop": 3}}
        crossed = {**step_of(document), "inputs": ["x", "s", "s"], "tensors": {}}
        cases.append(case("other rows", change={"program/steps": [part, crossed]}))
        causal = {**crossed, "attributes": {"heads": 2, "causal": True}}
        words = "takes causal with as many keys as queries: it has 3 and 4"
        cases.append(case("causal over other rows", words, {"program/steps": [part, causal]}))
        plain = {**crossed, "attributes": {"heads": 2, "causal": False}}
        cases.append(case("not causal", change={"program/steps": [part, plain]}))
        biased = {**crossed, "tensors": {"bias": "t.bias"}}
        words = "takes a bias with as many keys as queries: it has 3 and 4"
        cases.append(case("a bias of other rows", words, {"program/steps": [part, biased]}))
        wrong_pair = {**crossed, "inputs": ["x", "s", "x"]}
        words = "needs (source, 6) of the second and third"
        cases.append(case("keys without values", words, {"program/steps": [part, wrong_pair]}))
        column = {"op": "slice", "inputs": ["x"], "output": "c", "attributes": {"axis": 1, "start": 0, "stop": 1}}
        mask = {"op": "flatten", "inputs": ["c"], "output": "m", "attributes": {"order": "hwc"}}
        masked = {**step_of(document), "inputs": ["x", "x", "x", "m"], "attributes": {"heads": 2, "causal": True}}
        cases.append(case("masked, causal and biased", change={"program/steps": [column, mask, masked]}))
        masked = {**crossed, "inputs": ["x", "s", "s", "m"]}
        words = "its mask has shape (4,): needs (3,)"
        cases.append(case("a mask of other rows", words, {"program/steps": [column, mask, part, masked]}))
    if name == "resize":
        cases += [case("aligned", change={f"{step}/attributes/align_corners": aligned}) for aligned in (True, False)]
        cases.append(case("nearest", change={f"{step}/attributes/mode": "nearest"}))
    if name == "normalize":
        alone["inputs"], alone["attributes"]["over"] = ["e"], "example"
        change = {"program/input": tokens, "program/steps": [embed(), alone], "tensors/table": f32(5, 6)}
        cases.append(case("over tokens", "over='example' would mix tokens: use 'channel'", change))
    if "hidden" in alone["attributes"]:
        features = alone["attributes"]["hidden"] * (4 if "lstm" in name else 3)
        alone["inputs"], alone["attributes"]["reverse"] = ["e"], True
        change = {"program/input": tokens, "program/steps": [embed(features), alone], "tensors/table": f32(5, features)}
        cases.append(
            case("reverse over tokens", "reverse=true would read tokens that are still to come: leave it out", change)
        )
        cases.append(case("reverse", change={f"{step}/attributes/reverse": True}))
    if name == "mean_magnitude":
        cases.append(case("of rows", change={f"{step}/attributes": {}}))
    if "planes" in (OPS[name]["optional"] or {}):
        rows = document["tensors"]["t.weight"]["shape"][0]
        counts = [1, 2, 4, 8, 16, 32, 64, 128]
        cases.append(
            case("eight planes", change={f"{step}/attributes/planes": counts, "tensors/t.weight/shape": [8 * rows, 8]})
        )
        for levels in ({"quantizer": "sign"}, {"quantizer": "unit", "bits": 1}, {"quantizer": "absmax", "bits": 16}):
            cases.append(case("an input of its own", change={f"{step}/attributes/input": levels}))
    if name == "sparse_linear":
        for kept in (23, 25):
            change = {f"{step}/attributes/kept": kept, "tensors/t.weight/shape": [kept]}
            cases.append(case("another mask", f"its mask has 24 ones: needs kept={kept}; the file is damaged", change))
        cases.append(case("a mask without ones", "its mask has 0 ones: needs kept=24", {"tensors/t.mask/fill": 0}))
        alone["inputs"] = ["e"]
        change = {"program/input": tokens, "program/steps": [embed(60), alone], "tensors/table": f32(5, 60)}
        cases.append(case("over tokens", change=change))
    if name == "int8_linear":
        for count, words in ((1 << 17, None), ((1 << 17) + 1, "has rows of 131073 weights: needs at most 131072")):
            change = {
                "program/input/shape": [count],
                f"{step}/attributes/in_features": count,
                "tensors/t.weight/shape": [3, count],
            }
            cases.append(case("a long row", words, change))
    if name == "bit_linear":
        for count, words in ((1 << 22, None), ((1 << 22) + 1, "has rows of 4194305 weights: needs at most 4194304")):
            change = {"program/input/shape": [count], f"{step}/attributes/in_features": count, f"{step}/attributes/out_features": 1,
                      "tensors/t.weight/shape": [1, -(-count // 64) * 8]}  # fmt: skip
            cases.append(case("a long row", words, change))
        change = {"program/input/shape": [65539], f"{step}/attributes/in_features": 65539, f"{step}/attributes/out_features": 1,
                  f"{step}/attributes/input": {"quantizer": "absmax", "bits": 16}, "tensors/t.weight/shape": [1, 8200]}  # fmt: skip
        cases.append(case("sums too large", "its sums over 65539 inputs do not fit 32 bits", change))


def of_groups(cases, step, where, name):
    """Rows with scales of groups, of bits and of bytes: 256 inputs."""
    rows, embeds = (5, True) if "embedding" in name else (3, False)
    change = {f"{step}/attributes/features" if embeds else f"{step}/attributes/in_features": 256}
    if not embeds:
        change["program/input/shape"] = [256]
    bits = name.startswith("bit")
    change["tensors/t.weight/shape"] = [rows, 32 if bits else 256]
    if bits and embeds:
        change["tensors/t.bias/shape"] = [1, 32]
    if bits:
        change[f"{step}/tensors/scale"] = "t.scale"
        change[f"{step}/attributes/values"] = "01"
    for group in (32, 64, 128):
        grouped = change | {f"{step}/attributes/group": group, "tensors/t.scale": f16(rows, 256 // group)}
        cases.append(case("groups", change=grouped))
        wrong = grouped | {"tensors/t.scale": f16(rows, 1)}
        cases.append(
            case("scales of other groups", [where, f"has shape ({rows}, 1): needs ({rows}, {256 // group})"], wrong)
        )
    if not bits:
        return
    for zero in (1, 255):
        cases.append(case("a zero", change=grouped | {f"{step}/attributes/zero": zero}))
    for zero in (0, 256, None, True, 1.5):
        cases.append(
            case(
                "zero wrong",
                [where, "zero", "needs an integer from 1 to 255"],
                grouped | {f"{step}/attributes/zero": zero},
            )
        )
    signs = grouped | {f"{step}/attributes/values": "pm1"}
    cases.append(case("groups of signs", change=signs))
    words = [where, "takes zero with group and values='01' only"]
    cases.append(case("a zero of signs", words, signs | {f"{step}/attributes/zero": 1}))
    words = [where, "takes group and its tensor 'scale' together"]
    cases.append(case("no scale", words, {key: value for key, value in grouped.items() if "scale" not in key}))
    cases.append(case("no group", words, {key: value for key, value in grouped.items() if not key.endswith("/group")}))
    planes = grouped | {f"{step}/attributes/planes": [1, 2], "tensors/t.weight/shape": [2 * rows, 32]}
    cases.append(case("groups of two planes", change=planes))
    wide = {**grouped, "tensors/t.scale": {**f16(rows, 2), "fill": 252}}
    cases.append(case("scale not finite", [where, "holds NaN or infinity"], wide))
    if not embeds:
        words = [where, "takes no input with group: each group has a scale of its own"]
        cases.append(
            case("an input", words, grouped | {f"{step}/attributes/input": {"quantizer": "absmax", "bits": 8}})
        )
