// node read.mjs FRAMES FPS FILE...: what Khronos's validator says of each file, and where three.js, and of .vrma files
// @pixiv/three-vrm-animation, has its bones in each frame, as JSON: {FILE: {issues, people: {PERSON: {BONE: [[x, y, z], ...]}}}}
import { readFileSync } from 'node:fs';
import validator from 'gltf-validator';
import { bonesOf } from './bones.mjs';

const [frames, fps, ...files] = process.argv.slice(2);
const found = {};
for (const file of files) {
  const bytes = readFileSync(file);
  const { issues } = await validator.validateBytes(new Uint8Array(bytes));
  const worst = issues.messages.filter(({ severity }) => severity < 2);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const bones = await bonesOf(buffer, file.endsWith('.vrma'), { frames, fps });
  found[file] = { issues: worst, infos: issues.messages.map(({ code }) => code), ...bones };
}
console.log(JSON.stringify(found));
