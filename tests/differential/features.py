"""The features of random programs, so that a run knows which it has not tried."""

from __future__ import annotations

from random_programs import INPUTS, Case

from onebit.program import OPS

_GROUPED = ("bit_embedding", "bit_linear", "int8_embedding", "int8_linear")
_WITH_BIAS = (
    "bit_conv2d",
    "bit_conv3d",
    "bit_conv_transpose2d",
    "bit_embedding",
    "bit_linear",
    "conv2d",
    "conv3d",
    "conv_transpose2d",
    "linear",
    "sparse_linear",
)


def features_of(case: Case) -> set[str]:
    """What of all that programs may say this one says; `expected_features` lists it all."""
    found = {
        f"precision={case.precision}",
        f"cache={case.cache}",
        "tokens" if case.program.tokens else f"axes={len(case.program.input_shape)}",
    }
    found |= {f"input of {case.x.dtype}", "threads" if case.threads > 1 else "one thread"}
    for step in case.program.steps:
        found.add(step.op)
        a = step.attributes
        for name in ("values", "over", "of", "order", "reverse", "count_include_pad", "mode", "align_corners"):
            if name in a:
                found.add(f"{step.op} {name}={a[name]}")
        if step.op in _GROUPED:
            found.add(f"{step.op} group={a.get('group')}")
        if step.op in ("bit_linear", "bit_embedding") and "group" in a:
            found.add(f"{step.op} zero={'zero' in a}")
        elif "values" in a and "of" not in a:
            found.add(f"{step.op} input={a.get('input')}")
            found.add(f"{step.op} planes={len(a['planes']) if 'planes' in a else None}")
        if step.op in _WITH_BIAS:
            found.add(f"{step.op} bias={'bias' in step.tensors}")
        if step.op == "scale_shift":
            found.add(f"scale_shift shift={'shift' in step.tensors}")
        if step.op == "attention":
            share = a["heads"] // a.get("kv_heads", a["heads"])
            found.add(f"attention shares={min(share, 5)}")
            found.add(f"attention window={'window' in a}")
        if step.op == "rotary":
            found.add(f"rotary scaling={a['scaling']['kind'] if 'scaling' in a else None}")
            found.add(f"rotary rotated={'rotated' in a}")
        if step.op in ("bit_lstm", "bit_gru"):
            found.add(f"{step.op} eps={'eps' in a}")
        for name, least in (("padding", 0), ("dilation", 1), ("stride", 1)):
            if name in a:
                found.add(f"{step.op} {name}={'some' if max(a[name]) > least else 'none'}")
        if "groups" in a:
            found.add(f"{step.op} groups={'several' if a['groups'] > 1 else 1}")
    return found


def expected_features() -> set[str]:
    """All that some program of a long run must say."""
    yes_no = (False, True)
    all_of = {
        *OPS,
        "precision=int8",
        "precision=float32",
        "cache=None",
        "cache=int8",
        "tokens",
        "threads",
        "one thread",
    }
    all_of |= {f"axes={n}" for n in (1, 2, 3, 4)} | {f"input of {kind}" for kind in ("uint8", "float32", "int32")}
    all_of |= {f"{op} bias={with_bias}" for op in _WITH_BIAS for with_bias in yes_no}
    for op in (
        "bit_linear",
        "bit_conv2d",
        "bit_conv3d",
        "bit_conv_transpose2d",
        "bit_lstm",
        "bit_gru",
        "bit_embedding",
    ):
        all_of |= {f"{op} values={values}" for values in ("01", "pm1")}
    for op in ("bit_linear", "bit_conv2d", "bit_conv3d", "bit_conv_transpose2d", "bit_lstm", "bit_gru"):
        all_of |= {f"{op} input={kind}" for kind in INPUTS} | {f"{op} planes={n}" for n in (None, 1, 2, 3, 4, 8)}
    for op in ("lstm", "gru", "bit_lstm", "bit_gru"):
        all_of |= {f"{op} reverse={reverse}" for reverse in yes_no}
    all_of |= {f"{op} group={n}" for op in _GROUPED for n in (None, 32, 64, 128)}
    all_of |= {f"{op} zero={there}" for op in ("bit_linear", "bit_embedding") for there in yes_no}
    all_of |= {f"attention shares={n}" for n in (1, 2, 3, 4, 5)}
    all_of |= {f"rotary scaling={kind}" for kind in (None, "linear", "yarn", "llama3")}
    for feature in ("attention window", "rotary rotated", "scale_shift shift"):
        all_of |= {f"{feature}={there}" for there in yes_no}
    for op in ("bit_lstm", "bit_gru"):
        all_of |= {f"{op} eps={eps}" for eps in yes_no}
    for op in ("embedding", "bit_embedding", "int8_embedding"):
        all_of |= {f"{op} of={of}" for of in ("token", "position")}
    all_of |= {f"normalize over={over}" for over in ("channel", "example")} | {
        f"flatten order={order}" for order in ("hwc", "chw")
    }
    all_of |= {f"resize mode={mode}" for mode in ("nearest", "bilinear")} | {
        f"resize align_corners={a}" for a in yes_no
    }
    all_of |= {f"avg_pool2d count_include_pad={counts}" for counts in yes_no}
    for op, names in (
        ("max_pool2d", ("padding", "stride")), ("avg_pool2d", ("padding", "stride")), ("mean_magnitude", ("padding", "stride", "dilation")),
        ("conv_transpose2d", ("padding", "stride")), ("bit_conv_transpose2d", ("padding", "stride")),
        ("conv3d", ("padding", "stride", "dilation")), ("bit_conv3d", ("padding", "stride", "dilation")),
        ("conv2d", ("padding", "stride", "dilation")), ("bit_conv2d", ("padding", "stride", "dilation")),
    ):  # fmt: skip
        all_of |= {f"{op} {name}={size}" for name in names for size in ("some", "none")}
    return all_of | {
        f"{op} groups={n}"
        for op in (
            "conv2d",
            "bit_conv2d",
            "conv3d",
            "bit_conv3d",
            "conv_transpose2d",
            "bit_conv_transpose2d",
            "group_normalize",
            "rms_normalize",
        )
        for n in (1, "several")
    }
