"""Finds photographs that show the same scene: copies, re-encodings, crops, blurred copies, second shots.

A network memorises its training pictures, so a validation accuracy means something only if near-duplicates lie in one
fold:

    signatures = np.stack([signature(image) for image in images])  # np.save and np.load keep them
    groups(signatures)  # pictures with the same number belong in the same fold

1. Candidates. The band-passed centres of tiny thumbnails are correlated with slightly moved and zoomed windows of all
   others: a few matrix products for all pairs. Hashes of signs (pHash, dHash, wavelet) do well for re-encodings, but
   lose crops and second shots: of corner crops to 95 % a 63 bit pHash finds 79 %, these windows 100 %.
2. Agreement. A candidate pair is aligned (zoom, shift) by the correlation of thumbnails whose local contrast is
   normalised, then must agree in three of four cells of a grid. A correlation over the whole picture instead takes
   all pictures through the same round lens tube for one: its rim outweighs what lies within.
3. Groups. Average linkage within connected pairs, so that chains of weak matches do not grow together.

Measured on Kaggle's photographs and an atlas of colposcopy; the former were also used to choose thresholds. Not
recognised: pictures rotated, mirrored, moved or zoomed by more than some 10 %, seen from another place, or stained in
between. A picture with next to no contrast has no information, so it only matches a picture with the same pixels.
10,000 photographs take 45 s on two busy cores and 0.6 GB; thousands of re-encodings of one picture take longer, because
all pairs of them are compared (about 1,000 a second).

Sources: C. Zauner, Implementation and benchmarking of perceptual image hash functions (2010), for the hashes compared;
J. P. Lewis, Fast normalized cross-correlation (1995), for shifts by Fourier transforms.
"""

import hashlib

import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from PIL import Image
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.fft import irfft2, rfft2
from scipy.ndimage import gaussian_filter, minimum_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_HEIGHT, _WIDTH = 64, 48  # 96 x 72 agreed no better on second shots and takes more than twice the time

SIGNATURE = np.dtype([("luma", np.uint8, (_HEIGHT, _WIDTH)), ("digest", np.uint64)])

# Of the 2.4 million pairs of 2,198 real photographs the 15,786 nearest were compared. Unrelated ones agree by at most
# 0.51, the two shots of one scene that Kaggle's training photographs hold by 0.58, re-encodings by 0.89 or more.
SAME_SCENE = 0.55

# 8 of 10,000 pairs of real photographs correlate better, as do re-encodings (0.87 or more) and those second shots that
# then agree (0.825 or more) but for one at 0.744; to have it, eight times as many pairs would have to be compared.
_CANDIDATE = 0.82
_CENTRE = 0.84  # side of the centre relative to the picture: leaves room to move windows by 8 %, a second shot's shift
# Windows (side, centre's offset down and right, all relative to the picture) that the centre of another may match:
# moved ones, and zoomed ones because crops zoom: without these half of the crops to 90 % are lost.
_WINDOWS = (
    *((_CENTRE, down, right) for down in (-0.08, 0.0, 0.08) for right in (-0.08, 0.0, 0.08)),
    *((0.78, down, right) for down in (-0.03, 0.03) for right in (-0.03, 0.03)),
    (0.76, 0.0, 0.0),
)
_TINY = (16, 12)  # height and width of a window in pixels
_BLOCK = 1024  # rows of products at a time; 40 MB for 10,000 photographs

_ZOOMS = (1.0, 0.95, 0.90, 0.83)  # local structure of a few pixels bears 5 % of zoom between two neighbours
_REACH = 7  # largest shift in pixels, 11 to 15 % of a side; padding by as much makes 71 x 55, rounded up to fast sizes
_PADDED = (72, 56)
_SMOOTH, _SURROUND = 0.7, 2.0  # pixels; with surrounds of 3 and 4 unrelated round pictures agree by 0.09 and 0.18 more
_FLOOR = 4.0  # grey levels; leaves JPEG's noise in flat pictures a mean square of 0.011 per cell at most (quality 30)
# Beside the dark (relative to the picture's white) lies the rim of the lens tube. Without leaving out what is within
# 2 pixels of it, two unrelated pairs of round pictures agree by 0.60 and 0.70, above real second shots. A wider rim
# (7 pixels) or more dark (0.13) leaves too little of these: 0.50 and 0.51 instead of 0.58.
_DARK, _RIM = 0.1, 5
_GRID = 4  # cells along a side, each of about 16 x 12 pixels
_INFORMATIVE = 0.05  # a cell's mean square of normalised contrast: about 0.9 grey levels, five times JPEG's noise above
_MIN_CELLS = 4  # of 16, less is no evidence: real photographs have 9 or more, flat ones none; 6 changed no agreement
# Three cells of four must agree; drawn marks, glare and instruments may spoil the rest. The median does not tell
# second shots (0.77) from unrelated round pictures (0.86).
_QUARTILE = 0.25
_FLAT = 0.5  # grey levels of contrast in tiny windows: real photographs have 6.5 or more, noise and JPEG 0.25 at most


def signature(image: UInt8[np.ndarray, "height width 3"]) -> Shaped[np.ndarray, ""]:
    """The record of a photograph that `groups` compares.

    Args:
      image: RGB of any size and aspect.

    Returns:
      A record of dtype SIGNATURE: `luma`, a thumbnail of grey levels (64 x 48, uint8), and `digest` (uint64), which is
      the same for the same pixels only.
    """
    thumbnail = Image.fromarray(image).convert("L").resize((_WIDTH, _HEIGHT), Image.Resampling.BOX)
    content = hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=8)
    record = np.empty((), SIGNATURE)
    record["luma"], record["digest"] = np.asarray(thumbnail), int.from_bytes(content.digest(), "little")
    return record


def groups(signatures: Shaped[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Groups photographs into near-duplicates.

    Args:
      signatures: records of dtype SIGNATURE in any order, which does not matter for who is grouped with whom.

    Returns:
      For each photograph the index of the first one of its group; its own index if it has no near-duplicate.
    """
    if not len(signatures):
        return np.zeros(0, np.int64)
    # From here on in the order of the digests, so that nothing depends on the order of the input.
    _, first, distinct_of = np.unique(signatures["digest"], return_index=True, return_inverse=True)
    pictures = signatures["luma"][first]
    pairs = _candidates(pictures)
    pairs = pairs[_agreements(pictures, pairs) >= SAME_SCENE]
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(pictures),) * 2)
    _, component = connected_components(graph, directed=False)
    group = np.array(component, np.int64)
    for number in np.flatnonzero(np.bincount(component) > 2):  # two are together because they agree
        members = np.flatnonzero(component == number)
        inside = members[np.stack(np.triu_indices(len(members), 1), axis=1)]
        tree = linkage(1 - _agreements(pictures, inside).astype(np.float64), "average")
        group[members] = np.max(group) + fcluster(tree, 1 - SAME_SCENE, "distance")
    _, smallest, position = np.unique(group[distinct_of], return_index=True, return_inverse=True)
    return smallest[position].astype(np.int64)


def _candidates(pictures: UInt8[np.ndarray, "n h w"]) -> Int[np.ndarray, "pairs 2"]:
    """Pairs i < j whose centre and any window of the other correlate, each pair once."""
    grey = [Image.fromarray(picture.astype(np.float32)) for picture in pictures]
    centres = _windows(grey, _CENTRE, 0.0, 0.0)
    windows = [_windows(grey, *place) for place in _WINDOWS]
    candidates = []
    for start in range(0, len(pictures), _BLOCK):
        block = centres[start : start + _BLOCK]
        best = np.full((len(block), len(pictures)), -1, np.float32)
        for window in windows:
            np.maximum(best, block @ window.T, out=best)
        candidates.append(np.argwhere(best >= _CANDIDATE) + np.array((start, 0)))
    pairs = np.sort(np.concatenate(candidates), axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def _windows(grey: list[Image.Image], side: float, down: float, right: float) -> Float[np.ndarray, "n pixels"]:
    """One window of each picture: tiny, band-passed, of mean 0 and length 1 (all 0 without contrast); float32."""
    tiny = np.stack([_zoomed(picture, side, _TINY, down, right) for picture in grey])
    # Less of the low frequencies, which tell only where it is bright, as in most photographs in the middle.
    flat = (tiny - gaussian_filter(tiny, (0, 3, 3))).reshape(len(grey), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > _FLAT * np.sqrt(flat.shape[1]), flat / np.maximum(length, 1e-6), 0)


def _zoomed(
    picture: Image.Image, side: float, size: tuple[int, int], down: float = 0.0, right: float = 0.0
) -> Float[np.ndarray, "h w"]:
    """The part of a thumbnail of a relative side around its (moved) centre, as (height, width) pixels; float32."""
    x, y = _WIDTH * ((1 - side) / 2 + right), _HEIGHT * ((1 - side) / 2 + down)
    box = (max(x, 0.0), max(y, 0.0), min(x + _WIDTH * side, _WIDTH), min(y + _HEIGHT * side, _HEIGHT))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR, box=box))


def _agreements(pictures: UInt8[np.ndarray, "n h w"], pairs: Int[np.ndarray, "pairs 2"]) -> Float[np.ndarray, "pairs"]:
    """How well the aligned pictures of each pair agree, -1 to 1; symmetric; float32."""
    if not len(pairs):
        return np.zeros(0, np.float32)
    used, position = np.unique(pairs, return_inverse=True)
    position = position.reshape(pairs.shape)
    structure = np.stack([_structure(pictures[used], zoom) for zoom in _ZOOMS], axis=1)
    # Either picture may be the one that shows more of the scene: zooms of the two, at least one of them whole.
    zooms = [(zoom, 0) for zoom in range(len(_ZOOMS))] + [(0, zoom) for zoom in range(1, len(_ZOOMS))]
    result = np.zeros(len(pairs), np.float32)
    for start in range(0, len(pairs), 256):
        chosen = position[start : start + 256]
        a, b = (structure[chosen[:, side]][:, [pair[side] for pair in zooms]].astype(np.float32) for side in (0, 1))
        spectra = [rfft2(np.nan_to_num(x), _PADDED) for x in (a, b)]
        shifted = irfft2(spectra[0] * np.conj(spectra[1]), _PADDED)
        shifted = np.roll(shifted, (_REACH, _REACH), (2, 3))[..., : 2 * _REACH + 1, : 2 * _REACH + 1]
        peaks = np.unravel_index(shifted.reshape(len(a), -1).argmax(axis=1), shifted.shape[1:])
        for row, (zoom, y, x) in enumerate(np.stack(peaks, axis=1).tolist()):
            result[start + row] = _agreement(a[row, zoom], b[row, zoom], y - _REACH, x - _REACH)
    return result


def _structure(pictures: UInt8[np.ndarray, "n h w"], zoom: float) -> Float[np.ndarray, "n h w"]:
    """Band-passed thumbnails, zoomed by 1 / `zoom`, divided by their local contrast; NaN beside the dark; float16."""
    grey = np.empty(pictures.shape, np.float32)
    for number, picture in enumerate(pictures):
        grey[number] = _zoomed(Image.fromarray(picture.astype(np.float32)), zoom, (_HEIGHT, _WIDTH))
    smooth = gaussian_filter(grey, (0, _SMOOTH, _SMOOTH))
    band = smooth - gaussian_filter(grey, (0, _SURROUND, _SURROUND))
    contrast = gaussian_filter(band * band, (0, _SURROUND, _SURROUND))
    structure = band / np.sqrt(contrast + _FLOOR**2)
    white = np.quantile(grey, 0.95, axis=(1, 2), keepdims=True)
    structure[minimum_filter(smooth, (1, _RIM, _RIM)) < _DARK * white] = np.nan
    return structure.astype(np.float16)  # half the memory: 250 MB for 10,000 photographs


def _agreement(a: Float[np.ndarray, "h w"], b: Float[np.ndarray, "h w"], down: int, right: int) -> float:
    """The lower quartile of the correlations in the cells of a grid, where `b` lies (down, right) pixels into `a`."""
    a = a[max(down, 0) : _HEIGHT + min(down, 0), max(right, 0) : _WIDTH + min(right, 0)]
    b = b[max(-down, 0) : _HEIGHT + min(-down, 0), max(-right, 0) : _WIDTH + min(-right, 0)]
    valid = ~np.isnan(a + b)
    height, width = (side // _GRID for side in a.shape)

    def cells(x: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "cells pixels"]:
        grid = x[: _GRID * height, : _GRID * width].reshape(_GRID, height, _GRID, width)
        return grid.swapaxes(1, 2).reshape(_GRID**2, -1)

    valid, a, b = cells(valid), cells(np.where(valid, a, 0)), cells(np.where(valid, b, 0))
    count = np.maximum(valid.sum(axis=1, keepdims=True), 1)
    a, b = (valid * (x - x.sum(axis=1, keepdims=True) / count) for x in (a, b))
    power_a, power_b = (a * a).mean(axis=1), (b * b).mean(axis=1)
    informative = np.maximum(power_a, power_b) > _INFORMATIVE
    if informative.sum() < _MIN_CELLS:
        return 0.0
    correlation = (a * b).mean(axis=1) / np.sqrt(power_a * power_b + 1e-9)
    return float(np.quantile(correlation[informative], _QUARTILE))
