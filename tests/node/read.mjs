// node read.mjs FRAMES FPS FILE...: what Khronos's validator says of each file, and where three.js, and of .vrma files
// @pixiv/three-vrm-animation, has its bones in each frame, as JSON: {FILE: {issues, people: {PERSON: {BONE: [[x, y, z], ...]}}}}
import { readFileSync } from 'node:fs';
import { AnimationMixer, LoopOnce, Vector3 } from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { createVRMAnimationClip, VRMAnimationLoaderPlugin } from '@pixiv/three-vrm-animation';
import { VRMHumanoid } from '@pixiv/three-vrm-core';
import validator from 'gltf-validator';

const [frames, fps, ...files] = process.argv.slice(2);

function play(root, clip, update, bones) {
  const mixer = new AnimationMixer(root);
  const action = mixer.clipAction(clip);
  action.setLoop(LoopOnce);
  action.clampWhenFinished = true;
  action.play();
  const places = Object.fromEntries(Object.keys(bones).map((name) => [name, []]));
  for (let frame = 0; frame < frames; frame++) {
    mixer.setTime(frame / fps);
    update();
    for (const [name, bone] of Object.entries(bones)) places[name].push(bone.getWorldPosition(new Vector3()).toArray());
  }
  return places;
}

function descendants(gltf, above) {
  const bones = {};
  above.traverse((object) => {
    const node = gltf.parser.associations.get(object)?.nodes;
    if (node !== undefined && object !== above) bones[gltf.parser.json.nodes[node].name] = object;
  });
  return bones;
}

// How far vertices are from where the mesh has them, when the bones are at rest, in metres.
function unbound(gltf) {
  let worst = 0;
  gltf.scene.updateMatrixWorld(true);
  gltf.scene.traverse((mesh) => {
    if (!mesh.isSkinnedMesh) return;
    mesh.skeleton.update();
    const place = mesh.geometry.attributes.position;
    for (let i = 0; i < place.count; i++) {
      const rest = new Vector3().fromBufferAttribute(place, i);
      worst = Math.max(worst, mesh.applyBoneTransform(i, rest.clone()).distanceTo(rest));
    }
  });
  return worst;
}

async function readScene(gltf) {
  const scene = gltf.scene;
  const rest = unbound(gltf);
  const people = {};
  for (const above of scene.children.filter((child) => /^person\d+$/.test(child.name))) {
    people[above.name] = play(scene, gltf.animations[0], () => scene.updateMatrixWorld(true), descendants(gltf, above));
  }
  return { rest, people };
}

async function readAvatar(gltf) {
  const told = gltf.parser.json.extensions.VRMC_vrm_animation;
  const bones = {};
  for (const [name, { node }] of Object.entries(told.humanoid.humanBones)) {
    bones[name] = await gltf.parser.getDependency('node', node);
  }
  gltf.scene.updateMatrixWorld(true);
  const humanoid = new VRMHumanoid(Object.fromEntries(Object.entries(bones).map(([name, node]) => [name, { node }])));
  const clip = createVRMAnimationClip(gltf.userData.vrmAnimations[0], { humanoid, meta: { metaVersion: '1' } });
  gltf.scene.add(humanoid.normalizedHumanBonesRoot);
  const update = () => {
    humanoid.update();
    gltf.scene.updateMatrixWorld(true);
  };
  return { version: told.specVersion, people: { avatar: play(humanoid.normalizedHumanBonesRoot, clip, update, bones) } };
}

const found = {};
for (const file of files) {
  const bytes = readFileSync(file);
  const { issues } = await validator.validateBytes(new Uint8Array(bytes));
  const loader = new GLTFLoader();
  loader.register((parser) => new VRMAnimationLoaderPlugin(parser));
  const gltf = await loader.parseAsync(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), '');
  const worst = issues.messages.filter(({ severity }) => severity < 2);
  const read = file.endsWith('.vrma') ? await readAvatar(gltf) : await readScene(gltf);
  found[file] = { issues: worst, infos: issues.messages.map(({ code }) => code), ...read };
}
console.log(JSON.stringify(found));
