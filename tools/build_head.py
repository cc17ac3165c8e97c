"""Write thlib/weights/head_model.npz: the mesh of the presenter around its face, and how it follows the face.

    python tools/build_head.py

The face mesh is divided once (the 468 points stay vertices, OVAL's edges bend). Around it, drawn by formula: skull,
ears, neck, shoulders, eye and mouth fillings, and hair, whose styles are offsets of one shell, a curtain and a bun.
Every vertex beyond the face's lies at `rest` and follows one face vertex, its `anchor`, by a `weight`.
"""

# F triangles  E edges  V vertices  N columns of the head's rings (72)
from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from paint_head import PATCH, masks

from thlib import landmarks
from thlib.landmarks import EYES, LIPS_INNER, OVAL
from thlib.presenter.face import LIDS, LIP_PAIRS, model

OUT = Path(landmarks.__file__).parent / "weights" / "head_model.npz"
CORNERS = np.array([33, 133]), np.array([263, 362])  # of both eyes
SKIN, HAIR, CLOTH, EYE, IRIS, TOOTH, TONGUE, DARK, LASH = range(9)  # kinds of vertices, each of a colour
MOUTH, SHEET = 4, 5  # kinds of triangles, with skin, hair, cloth and eye; a sheet is seen from both sides
SKULL, RADII = np.array([0, -0.15, 0.72]), np.array([0.86, 1.0, 1.05])
RINGS = np.array([0.0, 0.06, 0.14, 0.24, 0.36, 0.5, 0.64, 0.78, 0.9, 1.0])
STYLES = {  # thickness on top, at the sides, at the back; curls; the curtain's end (y); bun; front lift; part
    "bald": (-0.06, -0.06, -0.06, 0, -1, 0, 0, 0),
    "buzz": (0.02, 0.012, 0.015, 0, -1, 0, 0, 0),
    "short": (0.17, 0.05, 0.07, 0.01, -1, 0, 0.04, 0.4),
    "quiff": (0.24, 0.04, 0.06, 0.015, -1, 0, 0.1, 0),
    "curly": (0.26, 0.16, 0.17, 0.05, -1, 0, 0.03, 0),
    "afro": (0.42, 0.34, 0.36, 0.035, -1, 0, 0.02, 0),
    "bob": (0.17, 0.12, 0.16, 0.008, 1.25, 0, 0.02, 0.35),
    "long": (0.16, 0.11, 0.16, 0.008, 2.35, 0, 0.02, 0.3),
    "wavy": (0.2, 0.15, 0.19, 0.03, 1.9, 0, 0.03, -0.3),
    "bun": (0.08, 0.05, 0.07, 0.004, -1, 1, 0.0, 0),
}


def smooth(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between (also downwards, where low > high)."""
    u = np.clip((value - low) / (high - low), 0, 1)
    return u * u * (3 - 2 * u)


class Mesh:
    """Vertices and triangles as they are added, with all that is known of each."""

    def __init__(self):
        self.columns = {n: [] for n in ("rest", "anchor", "weight", "uv", "kind", "tint", "follow", "scalp", "bias")}
        self.triangles, self.materials, self.count = [], [], 0

    def add(self, rest: np.ndarray, anchor: np.ndarray | int, weight: float, uv=(0.02, 0.02), **more):
        """Add vertices (n, 3) and return their numbers; more: kind, tint, follow (the head, not the shoulders), scalp
        (where hair grows), bias (how much farther away than they are they count as)."""
        n = len(rest)
        values = {"kind": SKIN, "tint": 1.0, "follow": 1.0, "scalp": 0.0, "bias": 0.0} | more
        for name, value in (values | {"anchor": anchor, "weight": weight}).items():
            self.columns[name].append(np.broadcast_to(np.asarray(value), n))
        self.columns["rest"].append(np.asarray(rest, float))
        self.columns["uv"].append(np.broadcast_to(np.asarray(uv, float), (n, 2)))
        self.count += n
        return np.arange(self.count - n, self.count)

    def grid(self, numbers: np.ndarray, material: int, *, closed: bool = True, towards: int = 1) -> None:
        """Triangles between the rows of vertex numbers (rows, columns), facing away from their middle (or into it)."""
        right = np.roll(numbers, -1, axis=1)
        a, b, c, d = numbers[:-1], right[:-1], numbers[1:], right[1:]
        quads = np.stack([a, b, c, d], -1)[:, : None if closed else -1].reshape(-1, 4)
        cells, rest = np.concatenate([quads[:, [0, 1, 2]], quads[:, [2, 1, 3]]]), np.concatenate(self.columns["rest"])
        a, b, c = np.moveaxis(rest[cells], 1, 0)
        out = (np.cross(c - a, b - a) * (a - rest[numbers].mean((0, 1)))).sum() * towards
        self.faces(cells if out > 0 else cells[:, ::-1], material)

    def disc(self, rows: list[np.ndarray]) -> None:
        """Triangles between rings of vertex numbers, which face the viewer if they run from the right to the bottom."""
        for inner, outer in itertools.pairwise(rows):
            after, beyond = np.roll(inner, -1), np.roll(outer, -1)
            self.faces(np.concatenate([np.stack([inner, outer, after], 1), np.stack([after, outer, beyond], 1)]), EYE)

    def faces(self, triangles: np.ndarray, material: int) -> None:
        """Add triangles (n, 3)."""
        self.triangles.append(triangles)
        self.materials.append(np.full(len(triangles), material))


def divided() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (E, 2) of the face mesh, its triangles divided into four, and which edges stay straight (E,)."""
    tri = model().triangles
    edges = np.sort(np.concatenate([tri[:, [0, 1]], tri[:, [1, 2]], tri[:, [2, 0]]]), axis=1)
    edges, number = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = 468 + number.reshape(3, -1)
    a, b, c = tri.T
    four = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    holes = np.concatenate([*EYES, LIPS_INNER])
    return edges, np.concatenate([np.stack(t, 1) for t in four]), np.isin(edges, holes).all(1)


def chain(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """A line of face points with the middles of its edges between."""
    out = [points[0]]
    for a, b in itertools.pairwise(points):
        out += [468 + np.flatnonzero((edges == np.sort([a, b])).all(1))[0], b]
    return np.array(out)


def skull(base: np.ndarray, t: float) -> np.ndarray:
    """Points (N, 3) at `t` of the way from the face's edge `base` (N, 3) over an ellipsoid to the back of the head."""
    way = (base - SKULL) / RADII
    start, radius = way / np.linalg.norm(way, axis=1, keepdims=True), np.linalg.norm(way, 2.2, 1, keepdims=True)
    pole = np.array([0, 0.12, 1.0]) / np.hypot(0.12, 1)
    angle = np.arccos(start @ pole)[:, None]
    turned = (np.sin((1 - t) * angle) * start + np.sin(t * angle) * pole) / np.sin(angle)
    turned /= np.linalg.norm(turned, 2.2, axis=1, keepdims=True)  # a head is a little square
    fade = smooth(np.array(t), 0.0, 0.45)
    out = SKULL + RADII * turned * (radius + (1 - radius) * fade)
    jaw = smooth(base[:, 1], 0.1, 0.6)  # what is behind the jaw is not seen beside it
    out[:, 0] *= 1 - jaw * (1 - np.minimum(1, abs(base[:, 0]) * (1 - 0.5 * t) / abs(out[:, 0]).clip(1e-6)))
    return out


def hair_thickness(rest: np.ndarray, t: np.ndarray, style: tuple) -> np.ndarray:
    """Thickness (n,) of the hair at points of the skull (n, 3) at `t` of their column."""
    top, sides, back, curls, _, _, lift, part = style
    x, y, z = ((rest - SKULL) / RADII).T
    up = smooth(-y, 0.1, 0.75)
    low = sides + (back - sides) * smooth(z, 0.1, 0.8)
    thick = low + (top - low) * up + lift * smooth(z, -0.2, -0.75) * up
    wave = np.sin(7 * x + 4 * y + 1) * np.sin(6 * z + 3 * x) + 0.5 * np.sin(11 * x - 8 * z) * np.sin(10 * y + 7 * z)
    thick = thick + curls * wave
    if part:
        thick = thick - 0.07 * np.exp(-0.5 * ((x - part) / 0.07) ** 2) * up * smooth(t, 0.5, 0.3)
    start = 0.012 + 0.055 * up + 0.008 * np.sin(23 * x) * up + 0.005 * np.sin(41 * x + 1)
    edge = smooth(t - start, 0, 0.15)
    limit = 0.12 + 0.62 * smooth(z, 0.05, 0.6)  # where the hair ends below
    inside = smooth(rest[:, 1], limit + 0.12, limit - 0.1) * edge
    return -0.05 + (thick + 0.05) * inside


def hair_mask(rest: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Where hair grows on the skull, (n,) in [0, 1]."""
    return smooth(hair_thickness(rest, t, STYLES["buzz"]), -0.03, 0.012)


def face_part(mesh: Mesh, edges: np.ndarray, four: np.ndarray, straight: np.ndarray) -> np.ndarray:
    """Add the face; the texture coordinates of its vertices, in the left half of the texture."""
    flat = model().layout[:468]
    flat = np.concatenate([flat, flat[edges].mean(1)])
    uv = np.stack([0.25 + flat[:, 0] * 0.155, 0.5 + (flat[:, 1] - 0.55) * 0.34], 1)
    points, tri = model().neutral[:468], model().triangles
    a, b, c = np.moveaxis(points[tri], 1, 0)
    normals = np.stack([np.bincount(tri.ravel(), np.repeat(n, 3), 468) for n in np.cross(c - a, b - a).T], 1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    (a, b), (m, n) = np.moveaxis(points[edges], 1, 0), np.moveaxis(normals[edges], 1, 0)
    bend = ((b - a) * n).sum(1, keepdims=True) * n - ((b - a) * m).sum(1, keepdims=True) * m
    middles = (a + b) / 2 + np.where(straight[:, None], 0, bend / 8)  # PN triangles, Vlachos et al. 2001
    neutral = np.concatenate([points, middles])
    mesh.add(neutral, np.arange(len(flat)), 1.0, uv)
    mesh.faces(four, SKIN)
    return uv


def shell(mesh: Mesh, ring: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add the skull behind the ring (N,) of face vertices; its points (rings, N, 3) and the hair's rows of numbers."""
    base = np.concatenate(mesh.columns["rest"])[ring]
    out = uv[ring] - [0.25, 0.5]
    out = out / np.linalg.norm(out, axis=1, keepdims=True)
    points, rows = np.stack([skull(base, t) for t in RINGS]), [ring]
    points[0] = base
    for k, t in enumerate(RINGS[1:], 1):
        edge = (uv[ring] + out * 0.012 * min(k, 3)).clip(0.005, [0.495, 0.995])
        fade = 1 - 0.75 * smooth(np.array(t), 0, 0.7)
        under = 1 - 0.45 * smooth(points[k][:, 1], 0.7, 1.15) * smooth(np.array(t), 0.0, 0.2)
        scalp = hair_mask(points[k], np.full(len(ring), t))
        rows.append(mesh.add(points[k], ring, fade, edge, tint=under, scalp=scalp))
    mesh.grid(np.stack(rows), SKIN)
    return points, np.stack(rows)


def ears(mesh: Mesh) -> None:
    """Add both ears: a bowl with a rim, and a skirt that reaches into the head."""
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    profile = [  # radius, height above the ear's plane, shade
        (0.0, 0.0, 0.62), (0.3, -0.005, 0.66), (0.55, 0.045, 0.9), (0.7, 0.03, 0.8), (0.84, 0.075, 1.0),
        (0.96, 0.08, 1.02), (1.02, 0.045, 1.0), (0.95, 0.0, 0.85), (0.6, -0.13, 0.7),
    ]  # fmt: skip
    for side, anchor in ((-1, 234), (1, 454)):
        out, back = np.array([side * 0.86, 0, -0.5]), np.array([side * 0.5, -0.05, 0.86])
        down, rows = np.array([side * -0.06, 0.98, -0.16]), []
        for radius, height, shade in profile:
            a, b = radius * np.cos(angle), radius * np.sin(angle)
            narrow = 1 - 0.42 * b.clip(0) ** 1.5 - 0.1 * b.clip(max=0) ** 2
            place = np.outer(a * 0.2 * narrow - 0.02 * b, back) + np.outer(b * 0.33, down)
            rest = np.array([side * 0.86, 0.14, 0.8]) + 0.92 * place + height * out
            rows.append(mesh.add(rest, anchor, 1.0, tint=shade))
        rows = np.stack(rows)
        mesh.grid(rows, SKIN)


def tube(rows: list, columns: int) -> np.ndarray:
    """Points (rows, columns, 3) of a tube: (y, half width, half depth, z of the axis) a row; column 0 is the front."""
    angle = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    return np.stack([np.stack([a * np.sin(angle), 0 * angle + y, z - b * np.cos(angle)], 1) for y, a, b, z in rows])


def neck(mesh: Mesh) -> None:
    """Add the neck: its upper end turns with the head."""
    rows = [(0.95, 0.48, 0.45, 0.83), (1.05, 0.49, 0.47, 0.83), (1.28, 0.48, 0.47, 0.85)]
    rows += [(1.42, 0.5, 0.48, 0.87), (1.54, 0.54, 0.51, 0.89), (1.66, 0.64, 0.55, 0.9), (1.85, 0.8, 0.57, 0.9)]
    points, numbers = tube(rows, 36), []
    points[0, :, 1] -= 0.5 * smooth(points[0, :, 2], 0.6, 1.2)  # under the back of the skull
    for row in points:
        follow = smooth(row[:, 1], 1.7, 0.8)
        tint = 1 - 0.4 * smooth(row[:, 1], 1.65, 1.1)
        numbers.append(mesh.add(row, 152, 0.0, tint=tint, follow=follow))
    mesh.grid(np.stack(numbers), SKIN)


def torso(mesh: Mesh) -> None:
    """Add the shoulders, coloured by the texture's lower right quarter: neckline and cloth are drawn there."""
    rows = [(1.42, 0.42, 0.4, 0.88), (1.52, 0.52, 0.5, 0.88), (1.6, 0.66, 0.56, 0.89), (1.68, 0.9, 0.6, 0.9)]
    rows += [(1.78, 1.25, 0.64, 0.9), (1.9, 1.6, 0.68, 0.9), (2.06, 1.87, 0.74, 0.9), (2.3, 2.03, 0.8, 0.9)]
    rows += [(2.65, 2.12, 0.86, 0.9), (3.2, 2.2, 0.9, 0.9), (4.0, 2.25, 0.92, 0.9), (6.0, 2.3, 0.92, 0.9)]
    angle = np.linspace(-1, 1, 49)
    numbers = []
    for k, row in enumerate(tube(rows, 48)):
        row = np.roll(row, 24, axis=0)[np.r_[0:48, 0]]
        drop = 0.1 * (row[:, 2] < 0.9) * smooth(abs(row[:, 0]), 0.9, 0.2) * smooth(row[:, 1], 2.2, 1.6)
        row = row + np.stack([0 * drop, drop, 0 * drop], 1)
        uv = np.stack([0.75 + 0.24 * angle, np.full(49, 0.515 + 0.47 * k / (len(rows) - 1))], 1)
        numbers.append(mesh.add(row, 152, 0.0, uv, kind=CLOTH, follow=0.0))
    mesh.grid(np.stack(numbers), CLOTH, closed=False)


def fillings(mesh: Mesh, edges: np.ndarray) -> None:
    """Add what fills the gap between the lids (white, in the upper lid's shadow) and between the lips (dark)."""
    base = np.concatenate(mesh.columns["rest"])
    shade = 0.55 + 0.45 * np.sin(np.pi * np.linspace(0, 1, 17))
    for k, (lines, (a, b)) in enumerate(zip([*LIDS, LIP_PAIRS], [*CORNERS, LIPS_INNER[[0, 10]]])):
        rows, look = [], ({"kind": EYE, "bias": 0.3}, {"kind": DARK, "bias": 0.5})[k == 2]
        for line, tint in zip(lines, (0.5, 1.0)):
            numbers = chain(np.r_[a, line, b], edges)
            rows.append(mesh.add(base[numbers], numbers, 1.0, tint=tint * shade if k < 2 else tint, **look))
        cells = np.stack(rows if k != 1 else [row[::-1] for row in rows])
        first = cells[:-1, :-1], cells[:-1, 1:], cells[1:, :-1]
        second = cells[1:, :-1], cells[:-1, 1:], cells[1:, 1:]
        flat = np.concatenate([np.stack([c.ravel() for c in t], 1) for t in (first, second)])
        mesh.faces(flat, MOUTH if k == 2 else EYE)


def irises(mesh: Mesh) -> np.ndarray:
    """Add both irises as flat discs with a catchlight; their vertices' places on the disc (2 eyes, n, 2), rim at 1."""
    angle, places = np.linspace(0, 2 * np.pi, 24, endpoint=False), []
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    for _ in (0, 1):
        rows, where = [], []
        for radius, dark in ((0, 0.02), (0.36, 0.02), (0.43, 0.8), (0.72, 1.05), (0.86, 0.7), (0.94, 0.3), (1, 0.25)):
            glow = 1 + 0.45 * radius * np.sin(angle)
            rows.append(mesh.add(0 * ring @ np.zeros((2, 3)), 468, 0.0, kind=IRIS, tint=dark * glow, bias=0.09))
            where.append(radius * ring)
        mesh.disc(rows)
        spot = [mesh.add(np.zeros((24, 3)), 468, 0.0, kind=EYE, tint=1.5, bias=0.085) for _ in (0, 1)]
        mesh.disc(spot)
        places.append(np.concatenate([*where, 0 * ring + [-0.27, -0.33], 0.19 * ring + [-0.27, -0.33]]))
    return np.stack(places)


def mouth(mesh: Mesh) -> None:
    """Add teeth, which keep to the skull and to the jaw, and a tongue."""
    lip, half = model().neutral[13], 0.27
    edges = np.arange(-3, 4) * 0.082
    x = np.sort(np.concatenate([[-half, half], edges - 0.007, edges, edges + 0.007, (edges[1:] + edges[:-1]) / 2]))
    gap = np.isclose(x[:, None], edges).any(1)
    z = lip[2] + 0.05 + 2.0 * x**2
    round_ = 1 - 0.65 * (x / half) ** 2
    for anchor, rows in ((2, (-0.16, -0.02, 0.03)), (200, (0.03, 0.07, 0.13))):
        numbers = []
        for down in rows:
            bend = (-0.3 if anchor == 2 else 0.15) * x**2
            places = np.stack([x, lip[1] + down + bend, z + (0.02 if anchor == 200 else 0)], 1)
            tint = round_ * np.where(gap, 0.72, 1) * (0.95 if anchor == 2 else 0.75)
            numbers.append(mesh.add(places, anchor, 1.0, kind=TOOTH, tint=tint, bias=0.1))
        mesh.grid(np.stack(numbers), SHEET, closed=False)
    u, v = np.meshgrid(np.linspace(-1, 1, 11), np.linspace(0, 1, 7))
    hump = np.sqrt(np.maximum(0, 1 - u**2))
    tongue = np.stack([0.2 * u, lip[1] - 0.02 + 0.16 * v - 0.05 * hump, lip[2] + 0.24 - 0.14 * v - 0.04 * hump], 2)
    shade = (0.25 + 0.75 * v) * (0.6 + 0.4 * hump)
    rows = [mesh.add(p, 200, 0.9, kind=TONGUE, tint=s, bias=0.1) for p, s in zip(tongue, shade)]
    mesh.grid(np.stack(rows), SHEET, closed=False)


def lashes(mesh: Mesh, edges: np.ndarray) -> None:
    """Add a strip along each upper lid's edge, as thick whether the eye is open or closed."""
    base = np.concatenate(mesh.columns["rest"])
    thick = np.interp(np.linspace(0, 1, 17), [0, 0.15, 0.5, 0.85, 1], [0.45, 1.0, 1.0, 0.6, 0.1])[:, None]
    for k, ((line, _), (a, b)) in enumerate(zip(LIDS, CORNERS)):
        numbers = chain(np.r_[a, line, b], edges)
        out = np.linspace(1, 0, 17)[:, None] ** 3 * [(-1, 1)[k] * 0.03, -0.012, 0.01]
        rows = [base[numbers] + out + thick * [0, y, 0] + [0, 0, -0.012] for y in (-0.017, 0.006)]
        cells = np.stack([mesh.add(row, numbers, 1.0, kind=LASH) for row in rows])
        mesh.grid(cells, SHEET, closed=False)


def hair(mesh: Mesh, ring: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """Add the hair, hidden, and give its offsets (styles, vertices, 3)."""
    n, start = points.shape[1], mesh.count
    columns = np.linspace(0, 1, n, endpoint=False)
    rows = []
    dense = np.r_[np.linspace(0, 0.16, 9), np.linspace(0.2, 1, 17)]
    shells = np.stack([skull(points[0], t) for t in dense])
    for t, row in zip(dense, shells):
        uv = np.stack([0.52 + 0.46 * abs(2 * columns - 1), np.full(n, 0.02 + 0.45 * t)], 1)
        rows.append(mesh.add(row, ring, 1 - 0.75 * smooth(np.array(t), 0, 0.7), uv, kind=HAIR))
    mesh.grid(np.stack(rows), HAIR)
    normal = (shells - SKULL) / RADII**2
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    t = np.repeat(dense, n)
    shell_offsets = [
        (normal.reshape(-1, 3) * hair_thickness(shells.reshape(-1, 3), t, style)[:, None]) for style in STYLES.values()
    ]
    offsets = [np.concatenate(parts) for parts in zip(shell_offsets, curtain(mesh), bun(mesh))]
    return {"hair_start": np.array(start), "hair": np.stack(offsets)}


def curtain(mesh: Mesh) -> list[np.ndarray]:
    """Add a sheet around the back of the head from temple to temple, and its offsets by style."""
    angle = np.radians(np.linspace(-104, 104, 40))
    down = np.linspace(0, 1, 14)
    home = np.stack([0.6 * np.sin(angle), np.full(40, -0.35), 0.75 + 0.6 * np.cos(angle)], 1)
    rows = []
    for v in down:
        uv = np.stack([0.52 + 0.46 * np.linspace(0, 1, 40), np.full(40, 0.02 + 0.45 * v)], 1)
        follow = 1 - 0.85 * smooth(np.array(v), 0.45, 1)
        rows.append(mesh.add(home, 168, 0.0, uv, kind=HAIR, follow=follow, tint=0.9))
    mesh.grid(np.stack(rows), SHEET, closed=False)
    out = []
    for _, side, _, curls, end, _, _, _ in STYLES.values():
        if end < 0:
            out.append(np.zeros((14 * 40, 3)))
            continue
        y = -0.35 + (end + 0.35) * down[:, None] + 0 * angle
        wide = 0.86 + side * 0.9 * smooth(y, -0.4, 0.1) + 0.12 * smooth(y, 0.6, 1.8)
        wide = wide - 0.12 * smooth(down[:, None] + 0 * angle, 0.8, 1.0)
        wave = curls * np.sin(9 * y + 3 * np.sin(4 * angle))
        sheet = np.stack([(wide + wave) * np.sin(angle), y, 0.78 + (wide * 1.12 + wave) * np.cos(angle)], 2)
        out.append((sheet - home).reshape(-1, 3))
    return out


def bun(mesh: Mesh) -> list[np.ndarray]:
    """Add a ball on the crown, and its offsets by style."""
    lat, lon = np.linspace(0, np.pi, 9), np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ball = np.stack(
        [np.outer(np.sin(lat), np.sin(lon)), np.outer(np.cos(lat), np.ones(16)), np.outer(np.sin(lat), np.cos(lon))], 2
    )
    home = np.array([0, -0.3, 0.75])
    numbers = []
    for k, row in enumerate(ball):
        uv = np.stack([0.52 + 0.46 * abs(np.linspace(-1, 1, 16)), np.full(16, 0.02 + 0.4 * k / 9)], 1)
        numbers.append(mesh.add(home + 0 * row, 168, 0.0, uv, kind=HAIR))
    mesh.grid(np.stack(numbers), SHEET)
    big = (ball * [0.36, 0.3, 0.34] + [0, -1.05, 0.35]).reshape(-1, 3)
    return [big * style[5] for style in STYLES.values()]


def main() -> None:
    """Build, write."""
    edges, four, straight = divided()
    mesh = Mesh()
    uv = face_part(mesh, edges, four, straight)
    ring = chain(np.r_[OVAL, OVAL[0]], edges)[:-1]
    points, _ = shell(mesh, ring, uv)
    ears(mesh)
    neck(mesh)
    torso(mesh)
    fillings(mesh, edges)
    lashes(mesh, edges)
    mouth(mesh)
    first = mesh.count
    places = irises(mesh)
    arrays = hair(mesh, ring, points)
    arrays |= {"iris_start": np.array(first), "iris": places}
    arrays |= {name: np.concatenate(column) for name, column in mesh.columns.items()}
    arrays |= {"triangles": np.concatenate(mesh.triangles), "materials": np.concatenate(mesh.materials)}
    small = {k: v.astype(np.float16 if v.dtype.kind == "f" else np.int16) for k, v in arrays.items()}
    small |= masks(uv[:468] * [2 * PATCH, PATCH])
    np.savez_compressed(OUT, **small, edges=edges.astype(np.int16), styles=np.array(list(STYLES)))


if __name__ == "__main__":
    main()
