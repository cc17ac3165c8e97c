"""The presenter's renderer: a person, controls and head pose to RGB frames, with the exact landmarks of every frame.

A mesh (face, skull, ears, neck, shoulders, hair: tools/build_head.py) follows the face; a z-buffer keeps the nearest
triangle of each sample (2 × 2 a pixel) and every sample is shaded once: interpolated normals, a key and a fill light
whose edge reddens on skin, sky and ground, a highlight. Eyes and the inside of the mouth are no meshes: what is seen
between the lids and lips is worked out from the eyeball and the rows of teeth that the line of sight meets.
"""

# T frames  V vertices  F triangles  S samples a side (2)
from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numba import njit
from scipy.spatial.transform import Rotation

from thlib.errors import FaceError
from thlib.landmarks import EYES, IRIS, LIPS_INNER, LIPS_OUTER, Head
from thlib.mesh import ids
from thlib.presenter.face import EYEBALL, displacement, eyeball, gaze, model, shape

MONK = (
    ["f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420"]  # Monk 2019, skin tone scale
)
HAIRS = {
    "black": "0e0c0d",
    "dark": "1f1613",
    "brown": "3f2a1d",
    "auburn": "5a2e1c",
    "blond": "a37c48",
    "grey": "8f8c88",
}
IRISES = {"brown": "4a2c16", "dark": "2a1810", "hazel": "6a5528", "green": "4f6b40", "blue": "4c7298", "grey": "6d7a80"}
CLOTHES = ["20304a", "7b2d33", "2f5a4c", "e8e4da", "33333a", "8a6a3c", "5a4a78", "c9cdd2", "b5533c", "3a6f8f"]
PIVOT = np.array([0.0, 1.35, 0.8], np.float32)  # where neck and shoulders meet: the head turns about it
PATCH = 512  # pixels a side of the texture's left half, which is the face
FACE_HEIGHT = 2.03  # of the neutral, forehead to chin
BROW_TOP, BROW_LOW = (
    (ids("70 63 105 66 107"), ids("300 293 334 296 336")),
    (ids("46 53 52 65 55"), ids("276 283 282 295 285")),
)
CREASE = ids("247 30 29 27 28 56 190"), ids("467 260 259 257 258 286 414")
SKIN, HAIR, CLOTH, EYE, MOUTH, SHEET, LASH = 0, 1, 2, 3, 5, 6, 7
SAMPLES = 2


@dataclass(frozen=True)
class Person:
    """Who is drawn, and in which light. Colours are linear RGB.

    identity: coefficients of face.shape; tone: 1 to 10 on Monk's scale; hair: a style of the head model; brow: thickness
    and density; beard, freckles: 0 to 1; clothes: two colours and the neckline's depth; backdrop: colours at the top and
    bottom; light: direction to it (x right, y down, z away); power: of key, ambient, fill; warmth: of the key.
    """

    identity: tuple[float, ...]
    tone: int
    skin: tuple[float, ...]
    hair: str
    hair_colour: tuple[float, ...]
    iris: tuple[float, ...]
    lips: tuple[float, ...]
    brow: tuple[float, float]
    beard: float
    freckles: float
    clothes: tuple
    backdrop: tuple
    light: tuple[float, ...]
    power: tuple[float, float, float]
    warmth: float
    seed: int


@dataclass(frozen=True)
class Rendered:
    """frames uint8 (T, H, W, 3); points float32 (T, 478, 3) as in FaceTrack; visible bool (T, 478): not hidden by the
    head, hair or a lid, and inside the frame; pose float32 (T, 4, 4), head-fixed points to pixels."""

    frames: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    pose: np.ndarray


def linear(colour: str) -> np.ndarray:
    """Linear RGB (3,) of a hexadecimal sRGB colour."""
    return (np.array([int(colour[k : k + 2], 16) for k in (0, 2, 4)]) / 255.0) ** 2.0


def person(seed: int) -> Person:
    """Somebody drawn at random, the same for the same seed."""
    rng = np.random.default_rng([7, seed])
    tone = int(rng.integers(1, 11))
    skin = (0.72 * linear(MONK[tone - 1]) + [0.035, 0.024, 0.02]) * rng.uniform(0.93, 1.0)
    skin = skin * np.array([1.0, 0.91, 0.86]) ** (1.2 - 0.1 * tone)
    hues = ["black", "dark", "brown", "auburn", "blond", "grey"][: 6 if tone < 5 else 3]
    hue = rng.choice([*hues, "black", "dark"] if tone >= 5 else hues)
    style = str(rng.choice(_head()["styles"]))
    angle, height = rng.uniform(-1.0, 1.0), rng.uniform(0.15, 0.8)
    light = np.array([np.sin(angle), -height, -np.cos(angle)])
    wall = linear(CLOTHES[rng.integers(len(CLOTHES))]) * 0.5 + rng.uniform(0.05, 0.4)
    red = np.array([1.0, 0.5, 0.5]) * rng.uniform(0.85, 1.05) + rng.uniform(0, 0.1)
    return Person(
        identity=tuple(rng.normal(size=len(model().deviations)).clip(-2, 2)),
        tone=tone, skin=tuple(skin), hair=style, hair_colour=tuple(linear(HAIRS[hue]) * rng.uniform(0.8, 1.2)),
        iris=tuple(linear(IRISES[rng.choice([*IRISES][: 6 if tone < 6 else 2])]) * rng.uniform(0.9, 1.3)),
        lips=tuple(red), brow=(rng.uniform(0.75, 1.2), rng.uniform(0.65, 1.0)),
        beard=float(rng.choice([0, 0, 0, rng.uniform(0.2, 0.8)]) * (style not in ("bob", "long", "wavy", "bun"))),
        freckles=float(rng.choice([0, 0, rng.uniform(0.2, 0.8)]) * (tone < 5)),
        clothes=(*map(tuple, map(linear, rng.choice(CLOTHES, 2, replace=False))), float(rng.uniform(0, 1))),
        backdrop=(tuple(wall * 1.15), tuple(wall * 0.7)), light=tuple(light / np.linalg.norm(light)),
        power=(rng.uniform(0.75, 1.05), rng.uniform(0.42, 0.6), rng.uniform(0.05, 0.25)),
        warmth=float(rng.uniform(-0.08, 0.12)), seed=seed,
    )  # fmt: skip


def place(angles: np.ndarray, size: tuple[int, int], *, height: float = 0.55, shift: np.ndarray | None = None) -> Head:
    """Heads at yaw, pitch, roll (T, 3) in degrees, as `landmarks.head_angles` has them, turned about the neck.

    height: of the face, over the frame's; shift (T, 2): of the neck, in eye-corner units. The frontal face is centred.
    """
    yaw, pitch, roll = np.asarray(angles, float).T * [[-1], [1], [1]]
    rotation = Rotation.from_euler("ZXY", np.stack([roll, pitch, yaw], 1), degrees=True).as_matrix()
    scale = np.full(len(rotation), height * size[0] / FACE_HEIGHT)
    centre = np.array([size[1] / 2, size[0] * 0.49, 0]) - scale[0] * np.array([0, 0.37, 0])
    moved = np.pad(np.zeros((len(rotation), 2)) if shift is None else shift, ((0, 0), (0, 1)))
    return Head(rotation, scale, centre + scale[:, None] * (PIVOT + moved - rotation @ PIVOT))


def render(who: Person, controls: np.ndarray, head: Head | None = None, *, size: tuple = (256, 256)) -> Rendered:
    """Draw `who` with controls (T, 52) and the head's place in each frame (default: centred, frontal), size (H, W).

    FaceError where the head has another number of frames. `FaceTrack(r.points, r.visible.any(1), size, fps, controls,
    r.pose)` is the track.
    """
    controls = np.asarray(controls, np.float32)
    head = place(np.zeros((len(controls), 3)), size) if head is None else head
    if len(head.scale) != len(controls):
        raise FaceError(f"{len(controls)} frames of controls came with {len(head.scale)} of the head: give as many.")
    rest = shape(np.array(who.identity))
    fixed = (rest + displacement(controls, shape=rest)).astype(np.float32)
    points, mesh = head.unfix(fixed), _head()
    frames = np.empty((len(controls), *size, 3), np.uint8)
    visible = np.empty((len(controls), 478), bool)
    grid = [SAMPLES * n for n in size]
    buffers = np.empty(grid, np.float32), np.empty(grid, np.int32), np.empty((*grid, 2), np.float32)
    looks = _texture(who, int(SAMPLES * head.scale.mean() < 100)), _colours(who), mesh["uv"], _lights(who)
    moves = _moves(head)
    for t in range(len(controls)):
        xyz, normals = _pose(fixed[t], _vertices(who), _topology(), moves[t])
        _rasterise(xyz, mesh["triangles"], mesh["materials"], buffers)
        fills = _eyes(who, rest, controls[t : t + 1], moves[t]), _mouth(rest, fixed[t], moves[t])
        _shade(frames[t], buffers, (mesh["triangles"], mesh["materials"], normals), looks, fills)
        _see(visible[t], points[t], buffers, mesh["materials"], np.float32(0.09 * head.scale[t]))
    return Rendered(frames, points, visible, head.matrix)


@functools.cache
def _head() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "weights" / "head_model.npz", allow_pickle=False) as file:
        small = {np.dtype(np.float16): np.float32, np.dtype(np.int16): np.int32}
        return {k: v.astype(small.get(v.dtype, v.dtype)) for k, v in file.items()}


@functools.cache
def _topology() -> tuple[np.ndarray, ...]:
    mesh = _head()
    return mesh["edges"], mesh["straight"], model().triangles, mesh["triangles"], mesh["materials"]


@functools.lru_cache(8)
def _vertices(who: Person) -> tuple[np.ndarray, ...]:
    """Where vertices rest, whom they follow and how far, and how they go with the head: (V, 3), (V,), (V,), (V,)."""
    mesh = _head()
    rest = mesh["rest"].copy()
    offsets = mesh["hair"][list(mesh["styles"]).index(who.hair)]
    rest[mesh["hair_start"] : mesh["hair_start"] + len(offsets)] += offsets
    return rest, mesh["anchor"], mesh["weight"], mesh["follow"]


@functools.lru_cache(8)
def _colours(who: Person) -> np.ndarray:
    """Albedo (V, 3) of the vertices, which the texture multiplies."""
    mesh = _head()
    skin, hair = np.array(who.skin, np.float32), np.array(who.hair_colour, np.float32)
    out = np.ones((len(mesh["kind"]), 3), np.float32)
    stubble = {"bald": 0.12, "buzz": 0.8}.get(who.hair, 0.9) * mesh["scalp"][:, None]
    out = np.where(mesh["kind"][:, None] == SKIN, skin + (hair - skin) * stubble, out)
    out = np.where(mesh["kind"][:, None] == HAIR, hair, out)
    out = np.where(mesh["kind"][:, None] == LASH, np.float32(0.012), out)
    return (out * mesh["tint"][:, None]).astype(np.float32)


@functools.lru_cache(8)
def _lights(who: Person) -> np.ndarray:
    """Rows: direction to the key, its colour, sky, ground, fill, backdrop at the top, at the bottom; (7, 3)."""
    key, ambient, fill = who.power
    warm = 1 + who.warmth * np.array([1, 0, -1])
    sky = ambient * np.array([0.97, 1.0, 1.04])
    rows = [who.light, key * warm, sky, 0.55 * sky, fill * np.array([0.9, 1.0, 1.1]), *who.backdrop]
    return np.array(rows, np.float32)


def _moves(head: Head) -> np.ndarray:
    """Affine maps (T, 2, 3, 4) to samples: of the head, and of the shoulders, which follow it a little."""
    turn = Rotation.from_matrix(head.rotation).as_rotvec()
    body = Rotation.from_rotvec(0.15 * turn).as_matrix()
    pivot = head.unfix(np.tile(PIVOT, (len(turn), 1, 1)))
    out = np.empty((len(turn), 2, 3, 4), np.float32)
    for k, rotation in enumerate((head.rotation, body)):
        out[:, k, :, :3] = head.scale[:, None, None] * rotation
    out[:, 0, :, 3] = head.shift
    out[:, 1, :, 3] = pivot[:, 0] - out[:, 1, :, :3] @ PIVOT
    return out * SAMPLES


def _eyes(who: Person, rest: np.ndarray, controls: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Of each eye: centre (x, y) and radius in samples, gaze (x, y, z), cosine and sine of the iris's rim, its colour."""
    rows, scale = [], np.linalg.norm(move[0, :, 0])
    for side in (0, 1):
        centre = move[0, :, :3] @ eyeball(rest, side) + move[0, :, 3]
        look = move[0, :, :3] @ gaze(controls, side)[0] @ np.array([0, 0, -1], np.float32) / scale
        rim = np.linalg.norm(rest[IRIS[side][1:]] - rest[IRIS[side][0]], axis=1).mean() / EYEBALL
        rows.append([*centre[:2], EYEBALL * scale, *look, np.sqrt(1 - rim**2), rim, *who.iris])
    return np.array(rows, np.float32)


def _mouth(rest: np.ndarray, fixed: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Rows: the map from samples back to the resting head (3, 4), then where the teeth are and how the jaw has moved."""
    back = np.linalg.inv(move[0, :, :3])
    jaw = (fixed - rest)[[152, 175, 199, 200]].mean(0)
    teeth = [rest[13, 1] + 0.03, rest[13, 2] + 0.045, 0.9 * abs(rest[308, 0] - rest[78, 0]) / 2, 0]
    rows = [*np.concatenate([back, -(back @ move[0, :, 3:])], 1), teeth, [*jaw, 0]]
    return np.array(rows, np.float32)


@njit(cache=True)
def _pose(face, vertices, topology, move):
    """Vertices (V, 3) in samples and their unit normals, towards the viewer where z < 0."""
    rest, anchor, weight, follow = vertices
    edges, straight, coarse, triangles, materials = topology
    v, base = np.empty_like(rest), np.zeros((468, 3), np.float32)
    v[:468] = face[:468]
    _add_normals(v, coarse, base)
    for e in range(len(edges)):  # a middle bulges like a curved patch (Vlachos et al. 2001, PN triangles)
        a, b = edges[e]
        bulge = np.zeros(3, np.float32)
        if not straight[e]:
            way = v[b] - v[a]
            bulge = ((way * base[b]).sum() * base[b] - (way * base[a]).sum() * base[a]) / np.float32(8)
        v[468 + e] = (v[a] + v[b]) / np.float32(2) + bulge
    for i in range(468 + len(edges), len(v)):
        v[i] = rest[i] + weight[i] * (v[anchor[i]] - rest[anchor[i]])
    out, normals = np.empty_like(v), np.zeros_like(v)
    for i in range(len(v)):
        for c in range(3):
            head = move[0, c, 0] * v[i, 0] + move[0, c, 1] * v[i, 1] + move[0, c, 2] * v[i, 2] + move[0, c, 3]
            body = move[1, c, 0] * v[i, 0] + move[1, c, 1] * v[i, 1] + move[1, c, 2] * v[i, 2] + move[1, c, 3]
            out[i, c] = body + follow[i] * (head - body)
    _add_normals(out, triangles, normals)
    return out, normals


@njit(cache=True)
def _add_normals(v, triangles, normals):
    """Unit normals of vertices, the mean over their triangles weighted by area."""
    for f in range(len(triangles)):
        i, j, k = triangles[f]
        ax, ay, az = v[j, 0] - v[i, 0], v[j, 1] - v[i, 1], v[j, 2] - v[i, 2]
        bx, by, bz = v[k, 0] - v[i, 0], v[k, 1] - v[i, 1], v[k, 2] - v[i, 2]
        x, y, z = az * by - ay * bz, ax * bz - az * bx, ay * bx - ax * by
        for p in (i, j, k):
            normals[p, 0] += x
            normals[p, 1] += y
            normals[p, 2] += z
    for i in range(len(normals)):
        x, y, z = normals[i]
        length = max(np.sqrt(x * x + y * y + z * z), np.float32(1e-9))
        normals[i] /= length


@njit(cache=True)
def _rasterise(xyz, triangles, materials, buffers):
    """Keep the nearest triangle of each sample: depth, number (-1: none) and two barycentric weights."""
    depth, number, weights = buffers
    depth[:], number[:] = np.inf, -1
    height, width = depth.shape
    for f in range(len(triangles)):
        i, j, k = triangles[f]
        ax, ay, bx, by, cx, cy = xyz[i, 0], xyz[i, 1], xyz[j, 0], xyz[j, 1], xyz[k, 0], xyz[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area < 1e-6 and (materials[f] != SHEET or area > -1e-6):
            continue  # seen from behind
        x0, x1 = max(0, int(np.ceil(min(ax, bx, cx) - 0.5))), min(width - 1, int(np.floor(max(ax, bx, cx) - 0.5)))
        y0, y1 = max(0, int(np.ceil(min(ay, by, cy) - 0.5))), min(height - 1, int(np.floor(max(ay, by, cy) - 0.5)))
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                px, py = np.float32(x + 0.5), np.float32(y + 0.5)
                u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                w = 1 - u - v
                if u < -1e-4 or v < -1e-4 or w < -1e-4:
                    continue
                z = u * xyz[i, 2] + v * xyz[j, 2] + w * xyz[k, 2]
                if z < depth[y, x]:
                    depth[y, x], number[y, x], weights[y, x, 0], weights[y, x, 1] = z, f, u, v


@njit(cache=True)
def _shade(frame, buffers, mesh, looks, fills):
    """Colour a frame uint8 (H, W, 3): the mean of its samples, gamma 2."""
    depth, number, weights = buffers
    triangles, materials, normals = mesh
    texture, colours, uv, lights = looks
    height, width = depth.shape
    colour, n = np.empty(3, np.float32), np.empty(3, np.float32)
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            r = g = b = np.float32(0)
            for s in range(SAMPLES * SAMPLES):
                sy, sx = SAMPLES * y + s // SAMPLES, SAMPLES * x + s % SAMPLES
                f = number[sy, sx]
                if f < 0:
                    _backdrop(colour, lights, np.float32(sx / width - 0.5), np.float32(sy / height))
                else:
                    i, j, k = triangles[f]
                    u, v = weights[sy, sx]
                    w = 1 - u - v
                    for c in range(3):
                        n[c] = u * normals[i, c] + v * normals[j, c] + w * normals[k, c]
                        colour[c] = u * colours[i, c] + v * colours[j, c] + w * colours[k, c]
                    at = sx + np.float32(0.5), sy + np.float32(0.5), depth[sy, sx]
                    m = materials[f]
                    if m == MOUTH:
                        _inner_mouth(colour, at, fills[1])
                        n[:] = lights[0]
                    elif m == EYE or m == EYE + 1:
                        _eye(colour, n, at, (fills[0][m - EYE], lights[0]))
                    else:
                        tu = u * uv[i, 0] + v * uv[j, 0] + w * uv[k, 0]
                        tv = u * uv[i, 1] + v * uv[j, 1] + w * uv[k, 1]
                        _sample(colour, texture, tu, tv)
                    _light(colour, n, m, lights)
                r, g, b = r + colour[0], g + colour[1], b + colour[2]
            share = 1 / np.float32(SAMPLES * SAMPLES)
            frame[y, x, 0] = min(255, int(255 * np.sqrt(r * share) + 0.5))
            frame[y, x, 1] = min(255, int(255 * np.sqrt(g * share) + 0.5))
            frame[y, x, 2] = min(255, int(255 * np.sqrt(b * share) + 0.5))


@njit(cache=True)
def _backdrop(colour, lights, x, y):
    """A wall that darkens downwards and towards the edges."""
    vignette = 1 - 0.5 * (x * x + (y - 0.4) * (y - 0.4))
    for c in range(3):
        colour[c] = (lights[5, c] + (lights[6, c] - lights[5, c]) * y) * vignette


@njit(cache=True)
def _sample(colour, texture, u, v):
    """Multiply by the texture at (u, v) in [0, 1], bilinearly."""
    x, y = u * texture.shape[1] - 0.5, v * texture.shape[0] - 0.5
    i, j = min(max(int(x), 0), texture.shape[1] - 2), min(max(int(y), 0), texture.shape[0] - 2)
    p, q = np.float32(x - i), np.float32(y - j)
    for c in range(3):
        top = texture[j, i, c] + p * (texture[j, i + 1, c] - texture[j, i, c])
        low = texture[j + 1, i, c] + p * (texture[j + 1, i + 1, c] - texture[j + 1, i, c])
        colour[c] *= top + q * (low - top)


@njit(cache=True)
def _light(colour, n, m, lights):
    """Albedo to radiance: key with a soft edge that reddens on skin, fill from the other side, sky and ground."""
    length = np.sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]) + np.float32(1e-9)
    x, y, z = n[0] / length, n[1] / length, n[2] / length
    if z > 0:  # a sheet seen from behind
        x, y, z = -x, -y, -z
    key = x * lights[0, 0] + y * lights[0, 1] + z * lights[0, 2]
    fill = max(np.float32(0), -x * lights[0, 0] + z * lights[0, 2])
    hx, hy, hz = lights[0, 0], lights[0, 1], lights[0, 2] - 1
    shine = max(np.float32(0), (x * hx + y * hy + z * hz) / np.sqrt(hx * hx + hy * hy + hz * hz))
    shine = shine**8
    gloss = np.float32(0.05) * shine * shine if m == SKIN else np.float32(0)
    edge = (1 + z) ** 3 * np.float32(0.12)
    for c in range(3):
        wrap = np.float32(0.45 - 0.12 * c) if m == SKIN else np.float32(0.25)
        lit = lights[1, c] * max(np.float32(0), (key + wrap) / (1 + wrap)) + lights[4, c] * fill
        lit += lights[3, c] + (lights[2, c] - lights[3, c]) * (np.float32(0.5) - np.float32(0.5) * y)
        if m == HAIR or m == SHEET:
            lit += shine * lights[1, c] * np.float32(0.9)
        colour[c] = colour[c] * (lit + edge) + gloss * lights[1, c]


@njit(cache=True)
def _eye(colour, n, at, eye):
    """White, iris and pupil of an eyeball, as seen between the lids; `colour` comes as the lids' shadow."""
    ball, light = eye
    x, y = (at[0] - ball[0]) / ball[2], (at[1] - ball[1]) / ball[2]
    r2 = min(x * x + y * y, np.float32(0.98))
    z = -np.sqrt(1 - r2)
    cosine = x * ball[3] + y * ball[4] + z * ball[5]
    white = 1 - np.float32(0.35) * r2
    shade = colour[0]
    shine = np.float32(0)
    if cosine > ball[6]:  # the iris lies in the plane through its rim
        depth = (ball[6] - x * ball[3] - y * ball[4]) / ball[5]
        dx, dy, dz = x - ball[6] * ball[3], y - ball[6] * ball[4], depth - ball[6] * ball[5]
        rho = np.sqrt(dx * dx + dy * dy + dz * dz) / ball[7]
        ring = min(max((rho - np.float32(0.36)) * 12, np.float32(0)), np.float32(1))
        limb = 1 - np.float32(0.65) * min(max((rho - np.float32(0.72)) * 4, np.float32(0)), np.float32(1))
        glow = np.float32(0.75) + np.float32(0.9) * max(np.float32(0), dy / ball[7])
        for c in range(3):
            colour[c] = ball[8 + c] * glow * limb * ring * shade
        sx, sy = dx / ball[7] - np.float32(0.5) * light[0], dy / ball[7] - np.float32(0.5) * light[1]
        shine = np.float32(1.2) * min(
            max((np.float32(0.26) - np.sqrt(sx * sx + sy * sy)) * 10, np.float32(0)), np.float32(1)
        )
    else:
        colour[0], colour[1], colour[2] = white * shade * 0.86, white * shade * 0.82, white * shade * 0.8
    for c in range(3):
        colour[c] += shine
    n[0], n[1], n[2] = x * np.float32(0.6), y * np.float32(0.6), np.float32(-0.8)


@njit(cache=True)
def _inner_mouth(colour, at, mouth):
    """Teeth, tongue and darkness where the line of sight meets them behind the lips."""
    shade = colour[0]
    x = mouth[0, 0] * at[0] + mouth[0, 1] * at[1] + mouth[0, 2] * at[2] + mouth[0, 3]
    y = mouth[1, 0] * at[0] + mouth[1, 1] * at[1] + mouth[1, 2] * at[2] + mouth[1, 3]
    z = mouth[2, 0] * at[0] + mouth[2, 1] * at[1] + mouth[2, 2] * at[2] + mouth[2, 3]
    dx, dy, dz = mouth[0, 2] / mouth[2, 2], mouth[1, 2] / mouth[2, 2], np.float32(1)
    t = mouth[3, 1] + np.float32(2.0) * x * x - z
    tx = x + t * dx
    t = mouth[3, 1] + np.float32(2.0) * tx * tx - z
    tx, ty = x + t * dx, y + t * dy
    upper = ty - mouth[3, 0] + np.float32(0.25) * tx * tx  # from the upper teeth's edge down
    lower = ty - mouth[4, 1] - mouth[3, 0] - np.float32(0.2) * tx * tx  # from the lower's down
    side = 1 - np.float32(0.75) * min(np.float32(1), abs(tx) / mouth[3, 2])
    gap = abs(tx / np.float32(0.085) - np.rint(tx / np.float32(0.085)))
    tooth = shade * side * (np.float32(0.8) + np.float32(0.2) * min(np.float32(1), gap * 6))
    if upper < 0 and abs(tx) < mouth[3, 2]:
        colour[0], colour[1], colour[2] = 0.78 * tooth, 0.74 * tooth, 0.66 * tooth
    elif lower > 0 and abs(tx - mouth[4, 0]) < mouth[3, 2]:
        colour[0], colour[1], colour[2] = 0.6 * tooth, 0.56 * tooth, 0.5 * tooth
    else:
        deep = min(max((y - mouth[3, 0]) / max(mouth[4, 1], np.float32(0.05)), np.float32(0)), np.float32(1))
        deep = deep * deep * (1 - (tx / mouth[3, 2]) ** 2 * np.float32(0.7))
        colour[0], colour[1], colour[2] = 0.05 + 0.32 * deep, 0.012 + 0.09 * deep, 0.012 + 0.09 * deep


@njit(cache=True)
def _see(visible, points, buffers, materials, slack):
    """Which points (478, 3) are seen: in the frame, and nothing more than `slack` pixels before them."""
    depth, number, _ = buffers
    height, width = depth.shape
    for p in range(len(points)):
        x, y = int(np.floor(SAMPLES * points[p, 0])), int(np.floor(SAMPLES * points[p, 1]))
        visible[p] = 0 <= x < width and 0 <= y < height
        if visible[p] and p < 468:
            visible[p] = SAMPLES * points[p, 2] <= depth[y, x] + SAMPLES * slack
        elif visible[p]:
            visible[p] = number[y, x] >= 0 and (materials[number[y, x]] == EYE or materials[number[y, x]] == EYE + 1)


@functools.lru_cache(8)
def _texture(who: Person, halvings: int) -> np.ndarray:
    """What multiplies the vertices' colours, (PATCH, 2 PATCH, 3): face, hair, cloth; smaller by halves if asked."""
    whole = np.ones((PATCH, 2 * PATCH, 3), np.float32)
    rng = np.random.default_rng([8, who.seed])
    whole[:, :PATCH] = _face_patch(who, rng)
    whole[: PATCH // 2, PATCH:] = _hair_patch(who, rng)
    whole[PATCH // 2 :, PATCH:] = _cloth_patch(who, rng)
    for _ in range(halvings):
        whole = cv2.resize(whole, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(whole)


def _noise(rng: np.random.Generator, size: tuple[int, int], blur: tuple[float, float]) -> np.ndarray:
    """Smooth noise (H, W) of deviation 1; blur (x, y) in pixels."""
    out = cv2.GaussianBlur(rng.normal(size=size).astype(np.float32), (0, 0), blur[0], sigmaY=blur[1])
    return out / out.std()


def _mask(lines: list, width: int, blur: float, *, size: tuple[int, int] = (PATCH, PATCH)) -> np.ndarray:
    """Mask (H, W) in [0, 1]: polylines of a width in pixels, or, with width 0, filled polygons; blurred."""
    mask = np.zeros(size, np.uint8)
    for line in lines:
        xy = np.round(np.asarray(line) * 16).astype(np.int32)
        if width:
            cv2.polylines(mask, [xy], False, 255, width, cv2.LINE_AA, 4)
        else:
            cv2.fillPoly(mask, [xy], 255, cv2.LINE_AA, 4)
    out = mask.astype(np.float32) / 255
    return cv2.GaussianBlur(out, (0, 0), blur) if blur else out


def _blot(at: np.ndarray, radius: tuple[float, float]) -> np.ndarray:
    """A Gaussian (PATCH, PATCH) at a place, in pixels."""
    y, x = np.mgrid[:PATCH, :PATCH].astype(np.float32)
    return np.exp(-0.5 * (((x - at[0]) / radius[0]) ** 2 + ((y - at[1]) / radius[1]) ** 2))


def _face_patch(who: Person, rng: np.random.Generator) -> np.ndarray:
    xy = _head()["uv"][:468] * [2 * PATCH, PATCH]
    out = np.ones((PATCH, PATCH, 3), np.float32) * (1 + 0.02 * _noise(rng, (PATCH, PATCH), (9, 9))[..., None])

    def tint(mask: np.ndarray, colour: tuple | np.ndarray) -> None:
        out[:] *= 1 - mask[..., None] * (1 - np.asarray(colour, np.float32))

    skin, hair = np.array(who.skin), np.array(who.hair_colour) * 0.7
    for side in (0, 1):
        cheek = xy[[205, 425][side]] * 0.5 + xy[[117, 346][side]] * 0.5
        tint(_blot(cheek, (30, 26)), (1.0, 0.86, 0.86))
        tint(_blot(xy[[133, 362][side]], (16, 15)), (0.78, 0.7, 0.7))
        tint(_blot(xy[[159, 386][side]] - [0, 6], (30, 9)), (0.9, 0.84, 0.82))
        tint(_mask([xy[CREASE[side]]], 2, 1.6), (0.6, 0.5, 0.47))
        lid = xy[EYES[side]]
        tint(_mask([lid[:9]], 2, 1.2), (0.5, 0.4, 0.4))
        hole = xy[[[238, 20, 99, 60, 166, 79], [458, 250, 328, 290, 392, 309]][side]]
        tint(_mask([hole.mean(0) + 0.75 * (hole - hole.mean(0))], 0, 1.5), (0.12, 0.07, 0.07))
        tint(_mask([xy[[[129, 98, 97], [358, 327, 326]][side]]], 3, 2.5), (0.75, 0.66, 0.64))
        tint(_brow(who, rng, xy[BROW_TOP[side]], xy[BROW_LOW[side]]), np.clip(hair / skin, 0.02, 0.9))
    tint(_blot(xy[5], (14, 30)), (1.0, 0.95, 0.95))
    ring = _mask([xy[LIPS_OUTER]], 0, 2.2) * (1 - _mask([xy[LIPS_INNER]], 0, 0))
    tint(ring * 0.85, who.lips)
    tint(_mask([xy[LIPS_INNER[:11]], xy[LIPS_INNER[10:]], xy[LIPS_INNER[[19, 0]]]], 2, 1.2), (0.55, 0.4, 0.4))
    if who.beard:
        area = [xy[ids("132 58 172 136 150 149 176 148 152 377 400 378 379 365 397 288 361 323 410 269 0 39 186 93")]]
        grain = np.clip(0.5 + 0.5 * _noise(rng, (PATCH, PATCH), (0.8, 1.4)), 0, 1)
        tint(_mask(area, 0, 9) * (1 - ring) * who.beard * grain, np.clip(hair / skin, 0.05, 0.9))
    if who.freckles:
        for _ in range(int(60 * who.freckles)):
            tint(_blot(xy[5] + rng.normal(size=2) * [60, 22] + [0, 10], (1.2, 1.2)) * 0.5, (0.75, 0.6, 0.5))
    return out


def _brow(who: Person, rng: np.random.Generator, top: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Hairs between a brow's upper and lower edge (5, 2), from its outer end inwards."""
    middle, lines = (top + low) / 2, []
    top, low = (middle + (edge - middle) * who.brow[0] for edge in (top, low))
    at = np.linspace(0, 1, 5)

    def point(u: float, w: float) -> np.ndarray:
        return np.array([np.interp(u, at, low[:, c] * (1 - w) + top[:, c] * w) for c in (0, 1)])

    for u, w in rng.uniform(0, 1, (int(150 * who.brow[1]), 2)):
        start, reach = point(u, w * 0.8), rng.uniform(0.08, 0.16)
        lines.append([start, point(max(u - reach, 0), min(1, w * 0.7 + 0.45 * u))])
    whole = _mask([np.concatenate([top, low[::-1]])], 0, 2.0)
    return (0.55 * whole + 0.75 * _mask(lines, 1, 0.6)).clip(0, 1) * who.brow[1]


def _hair_patch(who: Person, rng: np.random.Generator) -> np.ndarray:
    blur = (4, 4) if who.hair in ("curly", "afro") else (1.6, 40)
    strands = _noise(rng, (PATCH // 2, PATCH), blur) + 0.6 * _noise(rng, (PATCH // 2, PATCH), (8, 60))
    return (1 + 0.2 * strands).clip(0.4, 1.8)[..., None]


def _cloth_patch(who: Person, rng: np.random.Generator) -> np.ndarray:
    """The shoulders unrolled, front in the middle, neck at the top: cloth, neckline, folds."""
    cloth, trim, depth = who.clothes
    size = (PATCH // 2, PATCH)
    u = np.linspace(0, PATCH, 65)
    front = np.exp(-0.5 * ((u - PATCH / 2) / (30 + 14 * depth)) ** 2)
    line = np.stack([u, 44 + (14 + 70 * depth) * front], 1)
    bare = _mask([np.concatenate([line, [[PATCH, 0], [0, 0]]])], 0, 0.7, size=size)[..., None]
    hem = 0.3 * _mask([line], 6, 1.0, size=size)[..., None]
    folds = 1 + 0.06 * _noise(rng, size, (14, 14))[..., None]
    out = np.array(cloth) * (1 - hem) * folds
    return (out + bare * (np.array(who.skin) - out)).astype(np.float32)
