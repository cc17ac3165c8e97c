"""The presenter's renderer: a person, controls and the head's place to RGB frames, with the exact landmarks of each.

A mesh (face, skull, ears, eyes, teeth, neck, shoulders, hair: tools/build_head.py) follows the face; a z-buffer keeps
the nearest triangle of each sample (2 × 2 a pixel) and every sample is shaded once: interpolated normals, a key light
whose edge reddens on skin, a fill light, sky and ground."""

# T frames  V vertices  F triangles
import functools
from collections import namedtuple

import cv2
import numpy as np
from numba import njit
from scipy.spatial.transform import Rotation

from thlib import data
from thlib.errors import FaceError
from thlib.landmarks import IRIS, Head
from thlib.presenter.face import displacement, model, shape

_LOOKS = data.shipped("looks.yaml")
MONK, HAIRS, IRISES, CLOTHES = ((np.array(_LOOKS[n]) / 255) ** 2 for n in ("skins", "hairs", "irises", "clothes"))
SOFT, HAIRY, GLOSS = (np.array(amounts, np.float32) for amounts in zip(*_LOOKS["materials"].values()))
EYE, SHEET = ([*_LOOKS["materials"]].index(name) for name in ("eye", "sheet"))
PIVOT = np.array([0.0, 1.35, 0.8], np.float32)  # where the neck meets the shoulders: the head turns about it
SAMPLES = 2  # a side of a pixel
ONE, HALF, NONE = np.float32(1), np.float32(0.5), np.float32(0)

Rendered = namedtuple("Rendered", "frames points visible pose")  # see `render`, and for the next `person`
_PARTS = "identity tone skin hair hair_colour iris lips brow beard freckles clothes backdrop light power warmth seed"
Person = namedtuple("Person", _PARTS)


def person(seed: int) -> Person:
    """Somebody drawn at random, the same for the same seed, and in which light; colours are linear RGB.
    identity: coefficients of face.shape; tone: 1 to 10 on Monk's scale; hair: a style of the head model; brow:
    thickness (0 to 2) and density; beard, freckles: 0 to 1; clothes: colour and neckline (0 to 2); backdrop: colours at
    the top and bottom; light: direction to it (x right, y down, z away); power: of key, surroundings, fill; warmth."""
    rng = np.random.default_rng([7, seed])
    pick = lambda colours, spread: rng.choice(colours) * rng.uniform(1 - spread, 1 + spread)  # noqa: E731
    tone, pale = int(rng.integers(1, 11)), np.array([1.0, 0.91, 0.86])
    skin = (0.72 * MONK[tone - 1] + [0.035, 0.024, 0.02]) * rng.uniform(0.93, 1.0) * pale ** (1.2 - 0.1 * tone)
    style, n = str(rng.choice(_mesh()["styles"])), len(model().deviations)
    angle, height = rng.uniform(-1.0, 1.0), rng.uniform(0.15, 0.8)
    light = np.array([np.sin(angle), -height, -np.cos(angle)])
    wall, beard = 0.5 * pick(CLOTHES, 0) + rng.uniform(0.05, 0.4), rng.choice([0, 0, 0, rng.uniform(0.15, 0.5)])
    return Person(
        identity=tuple(rng.uniform(1.1, 1.7, n) * rng.choice([-1, 1], n)),  # the middle is where real people are
        tone=tone, skin=tuple(skin), hair=style,
        hair_colour=tuple(pick(HAIRS if tone < 5 else [*HAIRS[:3], *HAIRS[:2]], 0.2)),
        iris=tuple(pick(IRISES if tone < 6 else IRISES[:2], 0.2)),
        lips=tuple([0.85, 0.42, 0.42] * rng.uniform(0.85, 1.1, 3)),
        brow=(int(rng.integers(3)), rng.uniform(0.65, 1.0)),
        beard=float(beard * (style not in ("bob", "long", "wavy", "bun"))),
        freckles=float(rng.choice([0, 0, rng.uniform(0.3, 0.9)]) * (tone < 5)),
        clothes=(*pick(CLOTHES, 0.1), int(rng.integers(3))), backdrop=(*(wall * 1.15), *(wall * 0.7)),
        light=tuple(light / np.linalg.norm(light)),
        power=(rng.uniform(0.75, 1.05), rng.uniform(0.42, 0.6), rng.uniform(0.05, 0.25)),
        warmth=float(rng.uniform(-0.08, 0.12)), seed=seed,
    )  # fmt: skip


def place(angles: np.ndarray, size: tuple[int, int], *, height: float = 0.55, shift: np.ndarray | None = None) -> Head:
    """Heads at yaw, pitch, roll (T, 3) in degrees, as `landmarks.head_angles` has them, turned about the neck.
    height: of the face, over the frame's; shift (T, 2): of the neck, in eye-corner units. A frontal face is centred."""
    rotation = Rotation.from_euler("YXZ", np.asarray(angles, float) * [-1, 1, 1], degrees=True).as_matrix()
    scale = np.full(len(rotation), height * size[0] / 2.03)  # the neutral's height, forehead to chin
    centre = np.array([size[1] / 2, size[0] * 0.49, 0]) - scale[0] * np.array([0, 0.37, 0])
    moved = np.pad(np.zeros((len(rotation), 2)) if shift is None else shift, ((0, 0), (0, 1)))
    return Head(rotation, scale, centre + scale[:, None] * (PIVOT + moved - rotation @ PIVOT))


def render(who: Person, controls: np.ndarray, *, head: Head | None = None, size: tuple = (256, 256)) -> Rendered:
    """Draw `who` with controls (T, 52) and the head in as many places, else FaceError (default: centred, frontal), size
    (H, W). Returns frames uint8 (T, H, W, 3); points float32 (T, 478, 3) as in FaceTrack; visible bool (T, 478): not
    hidden by head, hair or a lid, and inside the frame; pose float32 (T, 4, 4), head-fixed points to pixels.
    `FaceTrack(r.points, r.visible.any(1), size, fps, controls, r.pose)` is the track."""
    controls = np.asarray(controls, np.float32)
    head = place(np.zeros((len(controls), 3)), size) if head is None else head
    if len(head.scale) != len(controls):
        raise FaceError(f"{len(controls)} frames of controls came with {len(head.scale)} of the head: give as many.")
    rest, mesh, moves = shape(np.array(who.identity)), _mesh(), _moves(head)
    fixed = (rest + displacement(controls, shape=rest)).astype(np.float32)
    points, grid = head.unfix(fixed), [SAMPLES * n for n in size]
    frames, visible = np.empty((len(controls), *size, 3), np.uint8), np.empty((len(controls), 478), bool)
    buffers = np.empty(grid, np.float32), np.empty(grid, np.int32), np.empty((*grid, 2), np.float32)
    vertices, looks = _looks(who, int(SAMPLES * head.scale.mean() < 100))
    for t in range(len(controls)):
        xyz = _pose(fixed[t], vertices, moves[t])
        normals = _normals(xyz, mesh["triangles"])
        _rasterise(xyz, mesh["triangles"], mesh["materials"], buffers)
        _shade(frames[t], buffers, (mesh["triangles"], mesh["materials"], normals), looks)
        visible[t] = _seen(points[t], buffers, 0.09 * head.scale[t])
    return Rendered(frames, points, visible, head.matrix)


@functools.cache
def _mesh() -> dict[str, np.ndarray]:
    kinds = {"f": lambda v: v.astype(np.float32), "i": lambda v: v.astype(np.int32), "u": lambda v: v / np.float32(255)}
    return {name: kinds.get(v.dtype.kind, np.asarray)(v) for name, v in data.shipped("head_model.npz").items()}


@functools.lru_cache(8)
def _looks(who: Person, halvings: int) -> tuple[np.ndarray, tuple]:
    """What of a person stays: where vertices rest (V, 3), and (texture, their colours, their places in it, lights)."""
    mesh, skin, hair = _mesh(), np.array(who.skin), np.array(who.hair_colour)
    rest, offsets = mesh["rest"].copy(), mesh["hair"][list(mesh["styles"]).index(who.hair)]
    rest[mesh["hair_start"] : mesh["hair_start"] + len(offsets)] += offsets
    stubble = {"bald": 0.12, "buzz": 0.8}.get(who.hair, 0.9) * mesh["scalp"][:, None]
    white, tooth, tongue, dark = _LOOKS["alike"].values()
    palette = np.array([skin, hair, np.ones(3), white, who.iris, tooth, tongue, dark, dark])
    colours = palette[mesh["kind"]] * (1 - stubble) + stubble * hair
    key, around, fill = who.power
    sky, warm = around * np.array([0.97, 1.0, 1.04]), np.array([1 + who.warmth, 1, 1 - who.warmth])
    lights = [who.light, key * warm, sky, 0.55 * sky, fill * np.array([0.9, 1, 1.1])]
    lights += [who.backdrop[:3], who.backdrop[3:]]
    texture = _texture(who)
    for _ in range(halvings):
        texture = cv2.resize(texture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return rest, (texture, np.float32(colours * mesh["tint"][:, None]), mesh["uv"], np.array(lights, np.float32))


def _texture(who: Person) -> np.ndarray:
    """Face at the left, hair at the upper right, shoulders below: tinted masks of tools/paint_head.py, (H, 2 H, 3)."""
    mesh, skin, ones = _mesh(), np.array(who.skin), np.ones(3)
    hairy = np.clip(np.array(who.hair_colour) * 0.7 / skin, 0.02, 0.9)
    tints = _LOOKS["tints"] | {"lips": who.lips, f"brow{who.brow[0]}": ones - who.brow[1] * (1 - hairy)}
    tints |= {"beard": ones - who.beard * (1 - hairy), "freckle": ones - who.freckles * np.array([0.3, 0.45, 0.55])}
    face = 1 + 0.16 * (mesh["grain"][..., None] - 0.5)
    for name, tint in tints.items():
        face = face * (1 - mesh[name][..., None] * (1 - np.asarray(tint)))
    strands = mesh["curly" if who.hair in ("curly", "afro") else "straight"][..., None]
    *colour, cut = who.clothes
    bare, cloth = mesh[f"bare{cut}"][..., None], colour * (1 - 0.3 * mesh[f"hem{cut}"][..., None])
    right = np.concatenate([(1 + 2 * (strands - 0.5)).clip(0.4, 1.8) * ones, cloth + bare * (skin - cloth)])
    return np.concatenate([face, right], axis=1).astype(np.float32)


def _moves(head: Head) -> np.ndarray:
    """Affine maps (T, 2, 3, 4) to samples: of the head, and of the shoulders, which turn a little with it."""
    body = Rotation.from_rotvec(0.15 * Rotation.from_matrix(head.rotation).as_rotvec()).as_matrix()
    linear = head.scale[:, None, None, None] * np.stack([head.rotation, body], 1)
    shift = head.shift[:, None] + (linear[:, :1] - linear) @ PIVOT
    return (SAMPLES * np.concatenate([linear, shift[..., None]], axis=3)).astype(np.float32)


def _seen(points: np.ndarray, buffers: tuple, slack: float) -> np.ndarray:
    """Which points (478, 3) are seen: in the frame, at most `slack` pixels behind what is drawn; irises in eyes."""
    depth, number, _ = buffers
    x, y = np.floor(SAMPLES * points[:, :2]).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < depth.shape[1]) & (y < depth.shape[0])
    at = y.clip(0, depth.shape[0] - 1), x.clip(0, depth.shape[1] - 1)
    eyes = (number[at] >= 0) & (_mesh()["materials"][number[at]] == EYE)
    return inside & np.where(np.arange(478) < 468, SAMPLES * (points[:, 2] - slack) <= depth[at], eyes)


def _pose(face: np.ndarray, rest: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Vertices (V, 3) in samples of a face (478, 3), of vertices' resting places (V, 3) and of maps (2, 3, 4)."""
    mesh, first = _mesh(), _mesh()["iris_start"]
    pair, n = mesh["edges"], 468 + len(mesh["edges"])
    bulge = mesh["rest"][468:n] - mesh["rest"][pair].mean(1)
    base = np.concatenate([face[:468], face[pair].mean(1) + bulge])
    v = rest + mesh["weight"][:, None] * (base[mesh["anchor"]] - mesh["rest"][mesh["anchor"]])
    for points, places in zip(face[np.stack(IRIS)], mesh["iris"]):
        axes = np.stack([points[1] - points[3], points[4] - points[2]]) / 2
        v[first : first + len(places)] = points[0] + places @ (axes if axes[0, 0] > 0 else axes * [[-1], [1]])
        first = first + len(places)
    head, body = (v @ m[:, :3].T + m[:, 3] for m in move)
    out = body + mesh["follow"][:, None] * (head - body)
    out[:, 2] += mesh["bias"] * np.linalg.norm(move[0, :, 0])
    return out.astype(np.float32)


def _normals(v: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Normals (V, 3) of vertices (V, 3), the sum over their triangles by area; towards the viewer where z < 0."""
    a, b, c = (v[triangles[:, k]] for k in range(3))
    out = np.zeros_like(v)
    np.add.at(out, triangles.ravel(), np.cross(c - a, b - a).repeat(3, axis=0))
    return out / (np.sqrt((out**2).sum(1, keepdims=True)) + np.float32(1e-9))


@njit(cache=True)
def _rasterise(xyz, triangles, materials, buffers):
    """Keep the nearest triangle of each sample: depth, number (-1: none) and two barycentric weights."""
    depth, number, weights = buffers
    depth[:], number[:] = np.inf, -1
    for f in range(len(triangles)):
        i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay, bx, by, cx, cy = xyz[i, 0], xyz[i, 1], xyz[j, 0], xyz[j, 1], xyz[k, 0], xyz[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area < 1e-6 and (materials[f] != SHEET or area > -1e-6):
            continue  # seen from behind
        x0, x1 = max(0, int(np.ceil(min(ax, bx, cx) - 0.5))), min(depth.shape[1], int(max(ax, bx, cx) + 0.5))
        y0, y1 = max(0, int(np.ceil(min(ay, by, cy) - 0.5))), min(depth.shape[0], int(max(ay, by, cy) + 0.5))
        for y in range(y0, y1):
            for x in range(x0, x1):
                px, py = x + HALF, y + HALF
                u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
                v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
                z = u * xyz[i, 2] + v * xyz[j, 2] + (ONE - u - v) * xyz[k, 2]
                if u >= -1e-4 and v >= -1e-4 and u + v <= 1.0001 and z < depth[y, x]:
                    depth[y, x], number[y, x], weights[y, x, 0], weights[y, x, 1] = z, f, u, v


@njit(cache=True)
def _shade(frame, buffers, mesh, looks):
    """Colour a frame uint8 (H, W, 3): the mean of its samples, gamma 2."""
    depth, number, weights = buffers
    triangles, materials, normals = mesh
    texture, colours, uv, lights = looks
    colour, n = np.empty(3, np.float32), np.empty(3, np.float32)
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            r = g = b = NONE
            for s in range(SAMPLES * SAMPLES):
                sy, sx = SAMPLES * y + s // SAMPLES, SAMPLES * x + s % SAMPLES
                f = number[sy, sx]
                if f < 0:  # a wall that darkens downwards and towards the edges
                    px, py = np.float32(sx / depth.shape[1] - 0.5), np.float32(sy / depth.shape[0])
                    for c in range(3):
                        wall = lights[5, c] + (lights[6, c] - lights[5, c]) * py
                        colour[c] = wall * (ONE - HALF * (px * px + (py - HALF) ** 2))
                else:
                    i, j, k = triangles[f, 0], triangles[f, 1], triangles[f, 2]
                    u, v = weights[sy, sx, 0], weights[sy, sx, 1]
                    w = ONE - u - v
                    for c in range(3):
                        n[c] = u * normals[i, c] + v * normals[j, c] + w * normals[k, c]
                        colour[c] = u * colours[i, c] + v * colours[j, c] + w * colours[k, c]
                    tu = u * uv[i, 0] + v * uv[j, 0] + w * uv[k, 0]
                    tv = u * uv[i, 1] + v * uv[j, 1] + w * uv[k, 1]
                    _sample(colour, texture, tu * texture.shape[1] - HALF, tv * texture.shape[0] - HALF)
                    _light(colour, n, materials[f], lights)
                r, g, b = r + colour[0], g + colour[1], b + colour[2]
            for c, value in enumerate((r, g, b)):
                frame[y, x, c] = min(255, int(255 / SAMPLES * np.sqrt(value) + 0.5))


@njit(cache=True)
def _sample(colour, texture, x, y):
    """Multiply by the texture at x, y in its pixels, bilinearly."""
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
    if n[2] > 0:  # a sheet seen from behind
        length = -length
    x, y, z = n[0] / length, n[1] / length, n[2] / length
    key = x * lights[0, 0] + y * lights[0, 1] + z * lights[0, 2]
    fill = max(NONE, z * lights[0, 2] - x * lights[0, 0])
    half = lights[0, 0] ** 2 + lights[0, 1] ** 2 + (lights[0, 2] - ONE) ** 2
    shine = max(NONE, (key - z) / np.sqrt(half)) ** 8  # Blinn's highlight
    edge = (ONE + z) ** 3 * np.float32(0.12)
    for c in range(3):
        wrap = SOFT[m, c]
        lit = lights[1, c] * max(NONE, (key + wrap) / (ONE + wrap)) + lights[4, c] * fill + edge
        lit += lights[3, c] + (lights[2, c] - lights[3, c]) * (HALF - HALF * y)
        colour[c] = colour[c] * (lit + HAIRY[m] * shine * lights[1, c]) + GLOSS[m] * shine * shine * lights[1, c]
