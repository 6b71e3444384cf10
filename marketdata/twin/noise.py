"""
Random numbers by position: each is a function of (stream, position) alone, so any day can be asked for first. Pure.

Source: the finaliser of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014); Box and Muller, 1958.
"""

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Streams = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def streams(seed: int, *names: str) -> Streams:
    """Return one stream a name, shape (len(names),); equal names of equal seeds are equal streams."""
    digests = (blake2b(f"{seed}/{name}".encode(), digest_size=8).digest() for name in names)
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)


def uniforms(keys: Streams, positions: Integers) -> Floats:
    """Return numbers strictly between 0 and 1, shape (streams, *positions.shape)."""
    mixed = keys.reshape((-1,) + (1,) * positions.ndim) + positions.astype(np.uint64) * _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    mixed ^= mixed >> np.uint64(31)
    # 52 bits and a half: neither end can be reached, so logarithms stay finite
    return np.asarray(((mixed >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def normals(keys: Streams, positions: Integers) -> Floats:
    """Return standard normal numbers, shape (streams, *positions.shape)."""
    radius = np.sqrt(-2 * np.log(uniforms(keys, 2 * positions)))
    return np.asarray(radius * np.cos(2 * np.pi * uniforms(keys, 2 * positions + 1)))
