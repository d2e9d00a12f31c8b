// Where three.js, and of VRM animations @pixiv/three-vrm-animation, has the bones of a file in each frame, in node and in browsers:
// {rest, people: {PERSON: {BONE: [[x, y, z], ...]}}} of a scene, {version, people: {avatar: ...}} of an animation
import { AnimationMixer, LoopOnce, Vector3 } from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { createVRMAnimationClip, VRMAnimationLoaderPlugin } from '@pixiv/three-vrm-animation';
import { VRMHumanoid } from '@pixiv/three-vrm-core';

function play(root, clip, update, bones, { frames, fps }) {
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

async function readScene(gltf, time) {
  const scene = gltf.scene;
  const rest = unbound(gltf);
  const people = {};
  for (const above of scene.children.filter((child) => /^person\d+$/.test(child.name))) {
    people[above.name] = play(scene, gltf.animations[0], () => scene.updateMatrixWorld(true), descendants(gltf, above), time);
  }
  return { rest, people };
}

async function readAvatar(gltf, time) {
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
  return { version: told.specVersion, people: { avatar: play(humanoid.normalizedHumanBonesRoot, clip, update, bones, time) } };
}

// Of the bytes of a file, an ArrayBuffer; time: how many frames are looked at, and how many a second has.
export async function bonesOf(buffer, isAnimation, time) {
  const loader = new GLTFLoader();
  loader.register((parser) => new VRMAnimationLoaderPlugin(parser));
  const gltf = await loader.parseAsync(buffer, '');
  return isAnimation ? readAvatar(gltf, time) : readScene(gltf, time);
}
