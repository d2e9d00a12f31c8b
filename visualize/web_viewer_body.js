"use strict";
// Bodies: a mesh that all people of a page share, skinned to one person's joints by linear blending, lit per triangle.

const ACROSS = 1 / 32767; // of a packed quaternion

/** Which joints the vertices follow, and how much; which triangles they are the corners of. */
class Mesh {
  constructor(packed, sides) {
    Object.assign(this, { bases: packed.bases, lights: packed.lights, pale: packed.pale });
    this.faces = new Uint16Array(bytes(packed.faces));
    this.joints = new Uint8Array(bytes(packed.joints));
    this.weights = new Uint8Array(bytes(packed.weights));
    this.shares = new Float32Array(this.faces.length); // of each triangle: left, right, middle
    this.faces.forEach((vertex, corner) => {
      for (let k = 4 * vertex; k < 4 * vertex + 4; k++) {
        this.shares[3 * Math.floor(corner / 3) + sides[packed.bases[this.joints[k]]]] += this.weights[k] / 765;
      }
    });
  }
}

/** One person's vertices and normals in T-pose, and how joints turn from it in every frame: x, y, z of quaternions with w >= 0. */
class Skin {
  constructor(packed, mesh) {
    Object.assign(this, { mesh, rest: packed.rest });
    this.vertices = Float32Array.from(new Int16Array(bytes(packed.vertices)), (count) => count * packed.step);
    this.turns = new Int16Array(bytes(packed.turns));
    this.normals = normalsOf(this.vertices, mesh.faces);
  }

  quaternion(at) {
    const [x, y, z] = [0, 1, 2].map((k) => this.turns[at + k] * ACROSS);
    return [x, y, z, Math.sqrt(Math.max(1 - x * x - y * y - z * z, 0))];
  }

  /** Rotation and shift of each joint, 12 numbers, in rows; `share` of the way from frame `first` to the next. */
  moves(pose, first, share) {
    return this.mesh.bases.map((base, joint) => {
      const at = 3 * (this.rest.length * first + joint), here = this.quaternion(at);
      const next = share ? this.quaternion(at + 3 * this.rest.length) : here;
      const near = here.reduce((sum, value, k) => sum + value * next[k], 0);
      const r = rotation(...mix(here, near < 0 ? next.map((value) => -value) : next, share)); // q and -q are one turn
      const rest = this.rest[joint], place = pose[base];
      return [0, 1, 2].flatMap((row) => {
        const [a, b, c] = r.slice(3 * row, 3 * row + 3);
        return [a, b, c, place[row] - a * rest[0] - b * rest[1] - c * rest[2]];
      });
    });
  }

  /** Places of the vertices, three numbers each, and how bright they are to the eye; `sun` is the direction of its light. */
  posed(moves, eye, sun) {
    const { joints, weights, lights: [ambient, fromSun, fromEye] } = this.mesh, { vertices, normals } = this;
    const count = vertices.length / 3, places = new Float32Array(3 * count), light = new Float32Array(count);
    const m = new Float64Array(12), n = [0, 0, 0];
    for (let v = 0; v < count; v++) {
      m.fill(0);
      for (let k = 4 * v; k < 4 * v + 4; k++) {
        if (!weights[k]) continue;
        const move = moves[joints[k]], weight = weights[k] / 255;
        for (let i = 0; i < 12; i++) m[i] += weight * move[i];
      }
      const at = 3 * v, x = vertices[at], y = vertices[at + 1], z = vertices[at + 2];
      for (let row = 0, i = 0; row < 3; row++, i += 4) {
        places[at + row] = m[i] * x + m[i + 1] * y + m[i + 2] * z + m[i + 3];
        n[row] = m[i] * normals[at] + m[i + 1] * normals[at + 1] + m[i + 2] * normals[at + 2];
      }
      const length = Math.max(Math.hypot(n[0], n[1], n[2]), 1e-6);
      const facing = (way) => Math.max((n[0] * way[0] + n[1] * way[1] + n[2] * way[2]) / length, 0);
      light[v] = ambient + fromSun * facing(sun) + fromEye * facing(eye.back);
    }
    return [places, light];
  }

  /** Triangles that face the eye, each with its depth and colour; `colours` are those of left, right and middle. */
  shapes(eye, pose, first, share, colours, sun) {
    const { faces, shares } = this.mesh, shapes = [];
    const [places, light] = this.posed(this.moves(pose, first, share), eye, sun);
    const points = Array.from(light, (_, v) => eye.project(places.subarray(3 * v, 3 * v + 3)));
    for (let face = 0; face < faces.length; face += 3) {
      const [i, j, k] = faces.subarray(face, face + 3), corners = [points[i], points[j], points[k]];
      const [[ax, ay, az], [bx, by, bz], [cx, cy, cz]] = corners;
      if ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax) >= 0 || Math.min(az, bz, cz) < NEAR) continue; // y points down
      const bright = (light[i] + light[j] + light[k]) / 3;
      const colour = colours[0].map((left, channel) => Math.min(bright * (shares[face] * left
        + shares[face + 1] * colours[1][channel] + shares[face + 2] * colours[2][channel]), 255));
      shapes.push({ depth: (az + bz + cz) / 3, colour: rgb(colour), corners, joined: true });
    }
    return shapes;
  }
}

function rotation(x, y, z, w) {
  const n = 2 / (x * x + y * y + z * z + w * w);
  return [
    1 - n * (y * y + z * z), n * (x * y - z * w), n * (x * z + y * w),
    n * (x * y + z * w), 1 - n * (x * x + z * z), n * (y * z - x * w),
    n * (x * z - y * w), n * (y * z + x * w), 1 - n * (x * x + y * y),
  ];
}

/** Unit normals of vertices, the means of their triangles by area. */
function normalsOf(vertices, faces) {
  const normals = new Float32Array(vertices.length);
  for (let face = 0; face < faces.length; face += 3) {
    const [a, b, c] = [0, 1, 2].map((corner) => vertices.subarray(3 * faces[face + corner], 3 * faces[face + corner] + 3));
    const [u, v] = [b, c].map((other) => [other[0] - a[0], other[1] - a[1], other[2] - a[2]]);
    const across = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (let corner = 0; corner < 3; corner++) across.forEach((value, k) => (normals[3 * faces[face + corner] + k] += value));
  }
  for (let at = 0; at < normals.length; at += 3) {
    const length = Math.max(Math.hypot(normals[at], normals[at + 1], normals[at + 2]), 1e-12);
    for (let k = 0; k < 3; k++) normals[at + k] /= length;
  }
  return normals;
}
