"use strict";
// Geometry and drawing: packed clips in, the picture of one moment out. Metres, Y up. Knows nothing of controls.

const NEAR = 0.05; // metres before the lens; what is nearer is not drawn
const LENS = 2.2; // focal length in picture heights: about 26 degrees, little distortion
const SIDES = ["left", "right", "middle"];

const mix = (a, b, share) => a.map((value, i) => value + (b[i] - value) * share);
const rgb = (colour, alpha = 1) => `rgba(${colour.map(Math.round).join()},${alpha})`;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Strokes lines between projected points as one path, so that they do not darken each other; none that comes too near. */
function strokeLines(pen, lines) {
  pen.beginPath();
  let last = null;
  for (const [from, to] of lines) {
    if (from[2] < NEAR || to[2] < NEAR) continue;
    if (from !== last) pen.moveTo(from[0], from[1]); // else the corner is joined
    pen.lineTo(to[0], to[1]);
    last = to;
  }
  pen.stroke();
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;
}

/** The number 1, 2 or 5 times a power of ten nearest below, so that grid squares mean something. */
function roundLength(length) {
  const power = 10 ** Math.floor(Math.log10(length));
  return Math.max(...[1, 2, 5].filter((step) => step * power <= length * 1.0001)) * power;
}

/** One person: roots as int32 and the other joints as int16 relative to it, both in steps of `step` metres. */
class Person {
  constructor(packed, body, palette, mesh) {
    Object.assign(this, { body, palette, fps: packed.fps, frames: packed.frames });
    this.skin = packed.skin && new Skin(packed.skin, mesh);
    this.margin = (this.skin ? 1.8 : 1) * body.headRadius; // hands reach farther than wrists
    const count = (this.count = body.radii.length);
    const data = bytes(packed.data);
    const roots = new Int32Array(data, 0, 3 * this.frames);
    const others = new Int16Array(data, 12 * this.frames);
    this.joints = new Float64Array(this.frames * count * 3);
    for (let t = 0, from = 0, to = 0; t < this.frames; t++) {
      for (let j = 0; j < count; j++) {
        for (let axis = 0; axis < 3; axis++) {
          this.joints[to++] = (roots[3 * t + axis] + (j ? others[from++] : 0)) * packed.step;
        }
      }
    }
  }

  /** The frame at a time, and the share of the way to the next when `smooth`. The ends are held. */
  moment(seconds, smooth) {
    const at = clamp(seconds * this.fps, 0, this.frames - 1);
    const first = Math.floor(at + 1e-3);
    return [first, smooth && first < this.frames - 1 ? Math.max(at - first, 0) : 0];
  }

  /** Joints [[x, y, z], ...] at a time; between frames straight lines when `smooth`. */
  pose(seconds, smooth) {
    const [first, share] = this.moment(seconds, smooth);
    const size = 3 * this.count;
    const here = first * size;
    const there = share ? here + size : here;
    const value = (i) => this.joints[here + i] * (1 - share) + this.joints[there + i] * share;
    return Array.from({ length: this.count }, (_, j) => [value(3 * j), value(3 * j + 1), value(3 * j + 2)]);
  }

  /** Centre of the head: its joint lies at the base of the skull. */
  skull(pose) {
    const { head, neck, size } = this.body;
    const up = pose[head].map((value, axis) => value - pose[neck][axis] + (axis === 1 ? 0.08 * size : 0));
    const length = Math.max(Math.hypot(...up), 1e-6);
    return pose[head].map((value, axis) => value + (0.085 * size * up[axis]) / length);
  }

  /** Level unit vector in which the body faces. */
  facing(pose) {
    const [rightHip, leftHip, rightShoulder, leftShoulder] = this.body.face.map((joint) => pose[joint]);
    const x = rightHip[0] - leftHip[0] + rightShoulder[0] - leftShoulder[0];
    const z = rightHip[2] - leftHip[2] + rightShoulder[2] - leftShoulder[2];
    const length = Math.hypot(x, z);
    return length > 1e-6 ? [z / length, 0, -x / length] : [0, 0, 1];
  }
}

/** A pin-hole camera that looks at `target` from `azimuth` (0: from +Z, 90 degrees: from +X) and `elevation`. */
class Eye {
  constructor(azimuth, elevation, target, distance, focal, middle) {
    const [sinA, cosA, sinE, cosE] = [Math.sin(azimuth), Math.cos(azimuth), Math.sin(elevation), Math.cos(elevation)];
    Object.assign(this, { target, distance, focal, middle, elevation });
    this.right = [cosA, 0, -sinA];
    this.up = [-sinE * sinA, cosE, -sinE * cosA];
    this.back = [cosE * sinA, sinE, cosE * cosA];
  }

  /** Metres to the right of, above and towards the camera from the target. */
  local(point) {
    const x = point[0] - this.target[0], y = point[1] - this.target[1], z = point[2] - this.target[2];
    return [this.right, this.up, this.back].map((axis) => axis[0] * x + axis[1] * y + axis[2] * z);
  }

  /** Pixels from the upper left corner, and depth in metres. */
  project(point) {
    const [x, y, z] = this.local(point);
    const depth = this.distance - z;
    const scale = this.focal / Math.max(depth, NEAR);
    return [this.middle[0] + x * scale, this.middle[1] - y * scale, depth];
  }
}

/** One clip: its people, its floor, and what the camera follows. */
class Scene {
  constructor(clip, palettes, fps, light, haze, packedMesh) {
    Object.assign(this, { floor: clip.floor, size: clip.size, fps, light, haze });
    this.angles = { default: clip.azimuth, front: clip.heading };
    const mesh = packedMesh && new Mesh(packedMesh, clip.bodies[0].sides);
    this.people = clip.people.map((packed, i) => new Person(packed, clip.bodies[packed.body], palettes[i % palettes.length], mesh));
    this.path = new Float32Array(bytes(clip.path));
    this.seconds = Math.max(...this.people.map((person) => person.frames / person.fps));
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (const { joints } of this.people) {
      joints.forEach((value, i) => {
        low[i % 3] = Math.min(low[i % 3], value);
        high[i % 3] = Math.max(high[i % 3], value);
      });
    }
    high[1] = Math.max(high[1], low[1] + 0.3 * this.size); // somebody on the floor is still looked at from above it
    this.middle = low.map((value, axis) => (value + high[axis]) / 2);
  }

  target(seconds, follow) {
    if (!follow) return this.middle;
    const last = this.path.length / 2 - 1;
    const at = clamp(seconds * this.fps, 0, last);
    const first = Math.min(Math.floor(at), Math.max(last - 1, 0)), next = Math.min(first + 1, last);
    const along = (axis) => this.path[2 * first + axis] * (1 - at + first) + this.path[2 * next + axis] * (at - first);
    return [along(0), this.middle[1], along(1)];
  }

  /** Metres from which the whole clip, seen from there, lies within a picture of that many pixels. */
  fit(azimuth, elevation, follow, width, height, focal) {
    const half = [Math.max(0.46 * width, 20), Math.max(0.46 * height, 20)];
    let distance = 0.5 * this.size;
    for (const person of this.people) {
      const margin = person.margin;
      const stride = Math.max(1, Math.floor(person.frames / 120));
      for (let t = 0; t < person.frames; t += stride) {
        const pose = person.pose(t / person.fps, false);
        const eye = new Eye(azimuth, elevation, this.target(t / person.fps, follow), 0, 0, [0, 0]);
        for (const point of [...pose, person.skull(pose)]) {
          const [x, y, z] = eye.local(point);
          const needed = [x, y].map((value, axis) => ((Math.abs(value) + margin) * focal) / half[axis]);
          distance = Math.max(distance, z + Math.max(...needed));
        }
      }
    }
    return distance;
  }

  /** Draws the moment `seconds` as `eye` sees it. `show`: trail, ghosts, smooth; `ink`: the theme's colours. */
  draw(pen, eye, seconds, show, ink, width, height) {
    pen.lineJoin = "round";
    pen.fillStyle = rgb(ink.backdrop);
    pen.fillRect(0, 0, width, height);
    this.drawFloor(pen, eye, ink, width, height);
    const poses = this.people.map((person) => person.pose(seconds, show.smooth));
    if (show.trail) this.people.forEach((person, i) => this.drawTrail(pen, eye, person, poses[i], seconds, ink, height));
    this.people.forEach((person, i) => this.drawShadow(pen, eye, person, poses[i], ink));
    if (show.ghosts) this.people.forEach((person) => this.drawGhosts(pen, eye, person, seconds, ink));
    const shapes = this.people.flatMap((person, i) => person.skin
      ? this.skinned(eye, person, poses[i], seconds, show, ink) : this.shapes(eye, person, poses[i], ink, 0.005 * height));
    shapes.sort((a, b) => b.depth - a.depth);
    for (const shape of shapes) fillShape(pen, shape);
    if (this.people.length > 1) this.drawNumbers(pen, eye, poses, ink, height);
  }

  drawFloor(pen, eye, ink, width, height) {
    const { elevation, distance, focal } = eye;
    const reach = (1.7 * width * distance) / (2 * focal) + 0.5 * this.size; // metres from the target to the end of the grid
    const [x, y] = eye.project([eye.target[0], this.floor, eye.target[2]]);
    if (elevation > 0) { // a lit floor; the disc is drawn without perspective, which its soft edge hides
      pen.save();
      pen.translate(x, y);
      pen.scale(1, Math.max(Math.sin(elevation), 0.02));
      const radius = (reach * focal) / distance;
      const light = pen.createRadialGradient(0, 0, 0, 0, 0, radius);
      light.addColorStop(0, rgb(ink.floor));
      light.addColorStop(0.45, rgb(ink.floor, 0.8));
      light.addColorStop(1, rgb(ink.floor, 0));
      pen.fillStyle = light;
      pen.fillRect(-radius, -radius, 2 * radius, 2 * radius);
      pen.restore();
    }
    this.spacing = roundLength((width * distance) / (2 * focal) / 2.4);
    const count = Math.ceil(reach / this.spacing), pieces = 16;
    const fades = Array.from({ length: 6 }, () => []);
    for (const axis of [0, 2]) {
      const start = Math.round(eye.target[axis] / this.spacing);
      for (let i = start - count; i <= start + count; i++) {
        const across = i * this.spacing - eye.target[axis];
        const half = Math.sqrt(Math.max(reach ** 2 - across ** 2, 0));
        for (let k = 0; k < pieces && half; k++) {
          const [from, to] = [(2 * k) / pieces - 1, (2 * k + 2) / pieces - 1].map((share) => share * half);
          const away = Math.hypot(across, (from + to) / 2) / reach;
          fades[clamp(Math.floor((1 - away) * fades.length), 0, fades.length - 1)].push([from, to].map((along) => {
            const point = [0, this.floor, 0];
            point[axis] = i * this.spacing;
            point[2 - axis] = eye.target[2 - axis] + along;
            return eye.project(point);
          }));
        }
      }
    }
    pen.lineWidth = Math.max(0.002 * height, 1);
    fades.forEach((lines, fade) => {
      pen.strokeStyle = rgb(ink.line, (0.75 * (fade + 0.5)) / fades.length + 0.1);
      strokeLines(pen, lines);
    });
  }

  drawTrail(pen, eye, person, pose, seconds, ink, height) {
    const size = 3 * person.count, stride = Math.max(1, Math.floor(person.frames / 1500));
    const ground = (t) => eye.project([person.joints[t * size], this.floor, person.joints[t * size + 2]]);
    const now = Math.min(seconds * person.fps, person.frames - 1);
    const colour = this.people.length > 1 ? mix(person.palette[0], ink.trail, 0.35) : ink.trail;
    const here = eye.project([pose[0][0], this.floor, pose[0][2]]);
    const past = [], coming = [here];
    for (let t = 0; t < person.frames; t += stride) (t <= now ? past : coming).push(ground(t));
    past.push(here);
    const thin = Math.max(0.0035 * height, 1.3);
    for (const [way, alpha] of [[coming, 0.35], [past, 0.9]]) {
      pen.strokeStyle = rgb(colour, alpha);
      pen.lineWidth = thin;
      strokeLines(pen, way.slice(1).map((point, i) => [way[i], point]));
    }
    for (let second = 0; second * person.fps <= person.frames - 1; second++) {
      const [x, y, depth] = ground(Math.round(second * person.fps));
      if (depth < NEAR) continue;
      pen.fillStyle = rgb(colour, second <= seconds ? 0.9 : 0.4);
      pen.beginPath();
      pen.ellipse(x, y, 1.9 * thin, 1.9 * thin * Math.max(Math.abs(Math.sin(eye.elevation)), 0.6), 0, 0, 7);
      pen.fill();
    }
  }

  drawShadow(pen, eye, person, pose, ink) {
    const ground = pose.map(([x, y, z]) => {
      const height = Math.max(y - this.floor, 0);
      return eye.project([x - height * this.light[0], this.floor, z - height * this.light[1]]);
    });
    pen.strokeStyle = rgb(ink.shadow, 0.17);
    pen.lineWidth = ((person.skin ? 3.2 : 2.2) * person.body.radii[0] * eye.focal) / Math.max(ground[0][2], NEAR);
    pen.lineCap = "round";
    strokeLines(pen, person.body.bones.map(([a, b]) => [ground[a], ground[b]]));
    pen.lineCap = "butt";
  }

  drawGhosts(pen, eye, person, seconds, ink) {
    const last = (person.frames - 1) / person.fps;
    for (const beat of [-3, 3, -2, 2, -1, 1]) {
      const moment = Math.min(seconds, last) + 0.15 * beat;
      if (moment < 0 || moment > last) continue;
      const points = person.pose(moment, true).map((point) => eye.project(point));
      pen.lineCap = "round";
      pen.lineWidth = (0.7 * person.body.radii[0] * eye.focal) / Math.max(points[0][2], NEAR);
      person.palette.forEach((colour, side) => {
        pen.strokeStyle = rgb(ink.raised(colour), 0.5 - 0.12 * Math.abs(beat));
        const bones = person.body.bones.filter(([, b]) => person.body.sides[b] === side);
        strokeLines(pen, bones.map(([a, b]) => [points[a], points[b]]));
      });
      pen.lineCap = "butt";
    }
  }

  drawNumbers(pen, eye, poses, ink, height) {
    pen.font = `600 ${Math.max(0.028 * height, 11)}px system-ui, sans-serif`;
    pen.textAlign = "center";
    this.people.forEach((person, i) => {
      const top = person.skull(poses[i]);
      top[1] += 1.5 * person.body.headRadius;
      const [x, y, depth] = eye.project(top);
      if (depth < NEAR) return;
      pen.lineWidth = 3;
      pen.strokeStyle = rgb(ink.backdrop);
      pen.strokeText(i + 1, x, y);
      pen.fillStyle = rgb(ink.raised(person.palette[0]));
      pen.fillText(i + 1, x, y);
    });
  }

  skinned(eye, person, pose, seconds, show, ink) {
    const { skin, palette } = person;
    const colours = palette.map((colour, side) => mix(ink.raised(colour), ink.backdrop, skin.mesh.pale[side]));
    const sun = [this.light[0], 1, this.light[1]], length = Math.hypot(...sun);
    return skin.shapes(eye, pose, ...person.moment(seconds, show.smooth), colours, sun.map((value) => value / length));
  }

  /** Limbs, head, nose and back of a body, each with its depth; limbs clear `gap` pixels around themselves. */
  shapes(eye, person, pose, ink, gap) {
    const { body, palette } = person;
    const points = pose.map((point) => eye.project(point));
    const radius = (joint) => (body.radii[joint] * eye.focal) / points[joint][2];
    const shapes = [];
    const add = (depth, colour, shape) => {
      const far = clamp((depth - eye.distance) / body.size + 0.35, 0, 1) * this.haze;
      shapes.push({ depth, colour: rgb(mix(ink.raised(colour), ink.backdrop, far)), ...shape });
    };
    for (const [a, b] of body.bones) {
      if (points[a][2] < NEAR || points[b][2] < NEAR) continue;
      const depth = (points[a][2] + points[b][2]) / 2;
      const capsule = { a: points[a], b: points[b], ra: radius(a), rb: radius(b) };
      if (body.sides[a] === body.sides[b] && SIDES[body.sides[b]] !== "middle") {
        shapes.push({ ...capsule, depth: depth + 1e-6, colour: rgb(mix(ink.backdrop, ink.floor, 0.4)), gap });
      }
      add(depth, palette[body.sides[b]], capsule);
    }
    const skull = person.skull(pose);
    const spot = eye.project(skull), disc = (body.headRadius * eye.focal) / Math.max(spot[2], NEAR);
    if (spot[2] < NEAR) return shapes;
    add(spot[2], palette[2], { a: spot, b: spot, ra: disc, rb: disc });
    if (!body.face) return shapes;
    const ahead = person.facing(pose); // a nose, so that one sees where the head points
    ahead[1] = -0.1;
    const tip = eye.project(skull.map((value, axis) => value + 1.45 * body.headRadius * ahead[axis]));
    add(tip[2], palette[2], { a: spot, b: tip, ra: 0.5 * disc, rb: 0.16 * disc });
    const chest = [3, 2, 0, 1].map((i) => points[body.face[i]]); // shoulders and hips
    if (chest.some((point) => point[2] < NEAR)) return shapes;
    const depth = chest.reduce((sum, point) => sum + point[2], 0) / 4 + 0.1 * body.size;
    shapes.push({ depth, colour: rgb(mix(ink.raised(palette[2]), ink.backdrop, 0.62)), corners: chest });
    return shapes;
  }
}

/** A polygon, the strip that a limb clears (not at its ends), or a limb whose ends have radii of their own. */
function fillShape(pen, { colour, corners, joined, gap, a, b, ra, rb }) {
  pen.fillStyle = colour;
  pen.beginPath();
  const angle = corners ? 0 : Math.atan2(b[1] - a[1], b[0] - a[0]);
  if (corners) {
    corners.forEach(([x, y]) => pen.lineTo(x, y));
  } else if (gap) {
    const [cos, sin, half] = [Math.cos(angle), Math.sin(angle), Math.hypot(b[0] - a[0], b[1] - a[1]) / 2];
    const [from, to] = [Math.min(1.1 * ra, half), -Math.min(1.1 * rb, half)];
    for (const [end, along, wide] of [[a, from, ra + gap], [b, to, rb + gap], [b, to, -rb - gap], [a, from, -ra - gap]]) {
      pen.lineTo(end[0] + cos * along - sin * wide, end[1] + sin * along + cos * wide);
    }
  } else {
    pen.arc(b[0], b[1], rb, angle - Math.PI / 2, angle + Math.PI / 2);
    pen.arc(a[0], a[1], ra, angle + Math.PI / 2, angle + 1.5 * Math.PI);
  }
  pen.fill();
  if (joined) { // no light between neighbours
    pen.closePath();
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.stroke();
  }
}
