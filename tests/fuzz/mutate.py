"""Sound inputs made unsound: bytes, and values of JSON."""

import json
import random
from typing import Any

NUMBERS = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 64, 2**31, -(2**31), 2**64, 10**30, 0.5, -0.0, 1e-300, 1e300, 1e39, ""),
    *("a", "../../a", "/etc/passwd", "a\0b", "C:\\a", "é\u0301", "\ud800", "9" * 5000, "x" * 20000, [], {}, [[]]),
    *(
        [0],
        [None],
        {"": 0},
        {"a": {}},
        ["a"] * 50,
        [1e308] * 3,
        "float16",
        "F64",
        "Infinity",
        "-1",
        "model.safetensors",
    ),
]


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change a few places."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, size = rng.randrange(len(out) + 1), min(rng.choice((1, 2, 4, 8, 64)), 64)
        match rng.randrange(7):
            case 0 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + rng.choice((1, 4, 100, 10**9))]
            case 2:
                out[at:at] = rng.randbytes(size)
            case 3:
                out[at : at + size] = rng.randbytes(size)
            case 4:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice(NUMBERS) & (256**width - 1)
                out[at : at + width] = number.to_bytes(width, "little")
            case 5:
                other = rng.randrange(len(out) + 1)
                out[at:at] = out[other : other + size * rng.choice((1, 1, 50))]
            case _:
                text = rng.choice(('"', "{", "}", "[", "]", ",", ":", "null", "NaN", "1e999", "-", "\\u0000", "\n"))
                out[at:at] = text.encode()
    return bytes(out)


def mutated_value(value: Any, rng: random.Random) -> Any:
    """Change one part, at any depth."""
    if isinstance(value, dict | list) and value and rng.random() < 0.95:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key, other = rng.choice(keys), rng.choice(keys)
        out = value.copy()
        match rng.randrange(9):
            case 0:
                del out[key]
            case 1:
                out[key] = value[other]
            case 2 if isinstance(out, dict):
                out[str(rng.choice(ODD))[:99]] = out.pop(key)
            case 2:
                out.extend(out[:50])
            case _:
                out[key] = mutated_value(value[key], rng)
        return out
    if rng.random() < 0.03:
        for _ in range(rng.choice((20, 200, 3000))):
            value = rng.choice(([value], {"a": value}))
        return value
    if isinstance(value, int | float) and rng.random() < 0.3:
        return rng.choice((value + 1, value - 1, -value, value * 2, float(value), str(value)))
    return rng.choice(ODD)


def mutated_json(text: bytes, rng: random.Random) -> bytes:
    """Change parts of a JSON text, or its bytes."""
    if rng.random() < 0.25:
        return mutated_bytes(text, rng)
    value = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = mutated_value(value, rng)
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b'{"a":' * 5000 + b"1" + b"}" * 5000
