"""Small GGUF files for tests, written from the format's description, with any part of them wrong on purpose."""

import struct

import numpy as np

TYPES = {bool: 7, int: 4, float: 6, str: 8}
FORMS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}


def text(value):
    content = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(content)) + content


def value(item):
    """The type and the bytes of a metadata value; a list is of the type of its first element."""
    if isinstance(item, tuple):  # (type number, value)
        kind, plain = item
        return kind, struct.pack(FORMS[kind], plain)
    if isinstance(item, list):
        parts = [value(part) for part in item] or [(4, b"")]
        return 9, struct.pack("<IQ", parts[0][0], len(item)) + b"".join(content for _, content in parts)
    kind = TYPES[type(item)]
    return kind, text(item) if kind == 8 else struct.pack(FORMS[kind], item)


def pairs(metadata):
    found = ((key, *value(item)) for key, item in metadata.items())
    return b"".join(text(key) + struct.pack("<I", kind) + content for key, kind, content in found)


def tensor(name, shape, kind, offset):
    axes = shape[::-1]
    return text(name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, kind, offset)


def gguf(metadata=None, tensors=None, version=3, alignment=32, counts=None):
    """A file.

    Args:
        metadata: values by key.
        tensors: (shape, type, bytes) by name.
        counts: the numbers of tensors and of keys that it claims, where they are wrong.
    """
    metadata, tensors = metadata or {}, tensors or {}
    infos, data = b"", b""
    for name, (shape, kind, content) in tensors.items():
        infos += tensor(name, shape, kind, len(data))
        data += content + bytes(-len(content) % alignment)
    head = b"GGUF" + struct.pack("<IQQ", version, *(counts or (len(tensors), len(metadata))))
    head += pairs(metadata) + infos
    return head + bytes(-len(head) % alignment) + data


def floats(array):
    array = np.asarray(array, np.float32)
    return array.shape, 0, array.tobytes()
