"use strict";
// Bodies: a mesh that all people of a page share, skinned to one person's joints by linear blending, lit per triangle.

const ACROSS = 1 / 32767; // of a packed quaternion

/** Which joints the vertices follow, and how much; which triangles they are the corners of. */
class Mesh {
  constructor(packed, sides) {
    Object.assign(this, { turning: packed.turning, lights: packed.lights, pale: packed.pale });
    this.faces = new Uint16Array(bytes(packed.faces));
    this.joints = new Uint8Array(bytes(packed.joints));
    this.weights = new Uint8Array(bytes(packed.weights));
    this.shares = new Float32Array(this.faces.length); // of each triangle: left, right, middle
    this.faces.forEach((vertex, corner) => {
      for (let k = 4 * vertex; k < 4 * vertex + 4; k++) {
        this.shares[3 * Math.floor(corner / 3) + sides[this.joints[k]]] += this.weights[k] / 765;
      }
    });
  }
}

/** One person's vertices and normals in T-pose, and quaternions of the joints that turn, of every frame. */
class Skin {
  constructor(packed, mesh) {
    Object.assign(this, { mesh, rest: packed.rest });
    this.vertices = Float32Array.from(new Int16Array(bytes(packed.vertices)), (count) => count * packed.step);
    this.turns = new Int16Array(bytes(packed.turns));
    this.turning = 1 + Math.max(...mesh.turning);
    this.normals = normalsOf(this.vertices, mesh.faces);
  }

  /** Rotation and shift of each joint, 12 numbers, in rows; `share` of the way from frame `first` to the next. */
  moves(pose, first, share) {
    const turned = Array.from({ length: this.turning }, (_, i) => {
      const at = 4 * (this.turning * first + i), next = share ? at + 4 * this.turning : at;
      let near = 0;
      for (let k = 0; k < 4; k++) near += this.turns[at + k] * this.turns[next + k];
      const sign = near < 0 ? -share : share; // q and -q are one turn
      return rotation(...[0, 1, 2, 3].map((k) => (this.turns[at + k] * (1 - share) + this.turns[next + k] * sign) * ACROSS));
    });
    return pose.map((place, joint) => {
      const r = turned[this.mesh.turning[joint]], rest = this.rest[joint];
      return [0, 1, 2].flatMap((row) => {
        const [a, b, c] = r.slice(3 * row, 3 * row + 3);
        return [a, b, c, place[row] - a * rest[0] - b * rest[1] - c * rest[2]];
      });
    });
  }

  /** Places and normals of the vertices, three numbers each. */
  posed(moves) {
    const { joints, weights } = this.mesh, { vertices, normals } = this;
    const places = new Float32Array(vertices.length), outwards = new Float32Array(vertices.length), m = new Float64Array(12);
    for (let v = 0; v < vertices.length / 3; v++) {
      m.fill(0);
      for (let k = 4 * v; k < 4 * v + 4; k++) {
        if (!weights[k]) continue;
        const move = moves[joints[k]], weight = weights[k] / 255;
        for (let i = 0; i < 12; i++) m[i] += weight * move[i];
      }
      const at = 3 * v, x = vertices[at], y = vertices[at + 1], z = vertices[at + 2];
      for (let row = 0; row < 3; row++) {
        const [a, b, c] = [m[4 * row], m[4 * row + 1], m[4 * row + 2]];
        places[at + row] = a * x + b * y + c * z + m[4 * row + 3];
        outwards[at + row] = a * normals[at] + b * normals[at + 1] + c * normals[at + 2];
      }
    }
    return [places, outwards];
  }

  /** Triangles that face the eye, each with its depth and colour; `colours` of left, right and middle, `sun` its direction. */
  shapes(eye, pose, first, share, colours, sun) {
    const { faces, shares, lights: [ambient, fromSun, fromEye] } = this.mesh;
    const [places, outwards] = this.posed(this.moves(pose, first, share));
    const points = Array.from({ length: places.length / 3 }, (_, v) => eye.project(places.subarray(3 * v, 3 * v + 3)));
    const shapes = [];
    for (let face = 0; face < faces.length; face += 3) {
      const corners = [points[faces[face]], points[faces[face + 1]], points[faces[face + 2]]];
      const [[ax, ay, az], [bx, by, bz], [cx, cy, cz]] = corners;
      if ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax) >= 0 || Math.min(az, bz, cz) < NEAR) continue; // y points down
      const normal = [0, 1, 2].map((k) => [0, 1, 2].reduce((sum, corner) => sum + outwards[3 * faces[face + corner] + k], 0));
      const length = Math.max(Math.hypot(...normal), 1e-6);
      const facing = (way) => Math.max((normal[0] * way[0] + normal[1] * way[1] + normal[2] * way[2]) / length, 0);
      const light = ambient + fromSun * facing(sun) + fromEye * facing(eye.back);
      const colour = [0, 1, 2].map((k) => {
        const mixed = shares[face] * colours[0][k] + shares[face + 1] * colours[1][k] + shares[face + 2] * colours[2][k];
        return Math.min(mixed * light, 255);
      });
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
