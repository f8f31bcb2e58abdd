// By @exadel/compreface-js-sdk 1.0.0: node sdk.mjs PORT PICTURE(base64 file) SAME OTHER
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { CompreFace } from "@exadel/compreface-js-sdk";

const [port, ...files] = process.argv.slice(2);
const [picture, same, other] = files.map((file) => readFileSync(file).toString("base64"));
const fresh = () => new CompreFace("http://127.0.0.1", port).initFaceRecognitionService("any"); // URLs leak between calls

assert.deepEqual(await fresh().getSubjects().add("ada"), { subject: "ada" });
const added = await fresh().getFaceCollection().add(picture, "ada", {});
assert.equal(added.subject, "ada");
assert.ok((await fresh().getFaceCollection().list({})).faces.length >= 1);
const found = await fresh().recognize(same, { limit: 0, prediction_count: 1, status: true });
assert.equal(found.result[0].subjects[0].subject, "ada");
assert.ok(found.result[0].subjects[0].similarity >= 0.5);
assert.ok((await fresh().recognize(other, {})).result[0].subjects[0].similarity < 0.5);
assert.ok((await fresh().getFaceCollection().verify(picture, added.image_id, {})).result[0].similarity > 0.9);
assert.deepEqual(await fresh().getSubjects().rename("ada", "ada byron"), { updated: true });
assert.ok((await fresh().getSubjects().list()).subjects.includes("ada byron"));
const service = new CompreFace("http://127.0.0.1", port);
assert.ok((await service.initFaceVerificationService("any").verify(picture, picture, {})).result[0].face_matches.length);
assert.equal((await service.initFaceDetectionService("any").detect(picture, {})).result.length, 1);
assert.equal((await fresh().getFaceCollection().delete(added.image_id)).image_id, added.image_id);
assert.ok("deleted" in (await fresh().getSubjects().deleteAll()));
