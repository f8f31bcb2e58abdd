// Identify: a picture comes in by drop, paste, choice or camera; the answer in words and colour.

import * as api from "./api.js";
import { button, count, distance, fail, h, percent, put, say, show, state, svg, thumbnail } from "./elements.js";
import { feedback, teller } from "./feedback.js";

const WORDS = { match: "Match", unknown: "Unknown", ambiguous: "Ambiguous", no_subject: "Nobody in the picture" };

// They stay while other views are looked at, and those that still come join them.
const answers = h("section", { "aria-label": "Answers", "aria-live": "polite", id: "answers" });

export async function identify(place, signal) {
  const take = (files) => answer([...files].filter(Boolean));
  const pick = h("input", { type: "file", accept: "image/*", multiple: true, class: "hidden-input", id: "pictures" });
  pick.addEventListener("change", () => {
    take(pick.files);
    pick.value = "";
  });
  const drop = h("label", { class: "drop", for: "pictures" }, h("strong", {}, state.gallery.takes === "vectors" ? "Drop arrays here" : "Drop pictures here"), "or paste them, or click to choose files", pick);
  drop.addEventListener("dragover", () => drop.classList.add("over"));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files), { signal });
  const facts = h("div", {});
  const tell = () => {
    const { identities, says } = state.gallery;
    facts.replaceChildren(h("p", { class: "lead" }, `${count(identities, "identity", "identities")} enrolled. ${says}`));
    if (!identities) put(facts, h("p", { class: "notice" }, "Nobody is enrolled yet: every answer is unknown. ", h("a", { href: "#people" }, "Enroll somebody")));
  };
  tell();
  document.addEventListener("gallery", tell, { signal });
  const vectors = state.gallery.takes === "vectors";
  put(place,
    h("h1", {}, "Who or what is this?"),
    facts,
    vectors ? h("p", { class: "notice" }, "This gallery takes vectors of an embedder outside, no pictures: a file here is an array (.npy).") : null,
    drop,
    vectors ? null : h("div", { class: "row" }, camera(take, signal)),
    answers,
  );
  if (vectors) pick.removeAttribute("accept");
}

/** Return what takes a picture: the camera here where the browser allows it, else the phone's own camera. */
function camera(take, signal) {
  if (!window.isSecureContext || !navigator.mediaDevices?.getUserMedia) {
    const pick = h("input", { type: "file", accept: "image/*", capture: "environment", class: "hidden-input", id: "camera" });
    pick.addEventListener("change", () => {
      take(pick.files);
      pick.value = "";
    });
    return h("label", { class: "button", for: "camera" }, "Take a picture", pick);
  }
  const place = h("div", {});
  const closed = () => {
    place.replaceChildren(
      button("Use the camera", async () => {
        const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).catch((error) => {
          throw new api.Problem(0, { detail: `The camera cannot be used: ${error.message}` });
        });
        const stop = () => {
          stream.getTracks().forEach((track) => track.stop());
          closed();
        };
        if (signal.aborted) {
          stop();
          return;
        }
        signal.addEventListener("abort", stop, { once: true });
        const video = h("video", { autoplay: true, playsinline: true, "aria-label": "What the camera sees" });
        video.muted = true;
        video.srcObject = stream;
        place.replaceChildren(video, h("div", { class: "row" }, button("Take a picture", () => take1(video)), button("Close the camera", stop)));
      }),
    );
  };
  const take1 = async (video) => {
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    take([new File([await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 })], "camera.jpg")]);
  };
  closed();
  return place;
}

/** Ask about pictures one by one, and put each answer above the ones before. */
async function answer(files) {
  for (const [number, file] of files.entries()) {
    const waiting = h("article", { class: "card" }, h("p", { class: "soft" }, `${file.name}: it is being searched …`));
    answers.prepend(waiting);
    try {
      await file.slice(0, 1).arrayBuffer();
    } catch {
      waiting.replaceWith(h("article", { class: "card" }, h("p", { class: "error" }, `${file.name} cannot be read.`)));
      continue;
    }
    try {
      const found = await api.post("identifications", { query: { k: 5 }, form: api.formOf([file]) });
      waiting.replaceWith(...found.answers.map((each) => card(each, file, found.answers.length > 1)), ...found.refused.map((each) => problem(file, each.detail, each.remedy)));
    } catch (error) {
      if (error instanceof api.Problem) waiting.replaceWith(problem(file, error.message, error.remedy));
      else {
        waiting.remove();
        fail(error);
      }
      if (error.status === 401 || error.status === 0) {
        if (number + 1 < files.length) say(`${count(files.length - number - 1, "picture")} not asked about.`);
        return;
      }
    }
  }
}

function problem(file, detail, remedy) {
  return h("article", { class: "card answer" }, probe(file, null), h("div", {}, h("h2", {}, "No answer"), h("p", { class: "error" }, detail), remedy ? h("p", {}, remedy) : null));
}

/** Return the picture that was asked about; of several faces in it, the one that the answer is about. */
function probe(file, box) {
  const image = h("img", { class: "picture", alt: "The picture you asked about" });
  const shown = h("figure", {}, image, h("figcaption", { class: "soft" }, file.name));
  if (!box) {
    show(image, file);
    return shown;
  }
  const [x, y, width, height] = box.map(Math.round);
  createImageBitmap(file, x, y, width, height).then(async (part) => {
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").drawImage(part, 0, 0);
    show(image, await canvas.convertToBlob());
  }, () => show(image, file));
  return shown;
}

function card(found, file, several) {
  const { verdict, identity } = found;
  const near = found.candidates.map((each) =>
    h("li", {}, thumbnail(each.sample, `Nearest sample of ${each.identity}`), h("a", { href: `#people/${encodeURIComponent(each.identity)}` }, each.identity), h("div", { class: "soft" }, `distance ${distance(each.distance)}`)),
  );
  const answered = h("article", { class: "card answer", "data-verdict": verdict });
  const open = found.answer !== null || !several; // of one face of several there is no picture to send again
  answered.append(
    probe(file, found.box),
    h(
      "div",
      {},
      h("h2", {}, h("span", { class: `badge ${verdict}` }, WORDS[verdict]), " ", identity ?? ""),
      h("p", {}, words(found)),
      found.distance === null ? null : bar(found),
      near.length ? [h("h3", {}, "Nearest"), h("ul", { class: "pictures" }, near)] : null,
      verdict !== "no_subject" && open ? feedback(identity, teller(found.answer, file)) : null,
    ),
  );
  return answered;
}

function words(found) {
  const { verdict, threshold, candidates, probability, evidence } = found;
  const sure = probability === null ? "" : ` Right with a probability of ${percent(probability)}, if half of all probes are of strangers.`;
  if (verdict === "no_subject") return "Nothing was found in this picture that could be identified.";
  if (!candidates.length) return "Nobody is enrolled to compare it with.";
  const nearest = `The nearest, ${candidates[0].identity}, is at distance ${distance(found.distance)}.`;
  if (threshold === null) return `${nearest} There is no threshold yet, so nobody is named: it needs strangers, or more identities.`;
  if (verdict === "match") return `Within the threshold: ${distance(found.distance)} of ${distance(threshold)}.${sure}`;
  if (verdict === "ambiguous") return `Two are as near: ${candidates[0].identity} and ${candidates[1].identity}. Another picture may tell them apart.`;
  if (found.distance <= threshold) return `${nearest} That is within the threshold, but too few strangers are known to support it (--strict): ${count(evidence.missing, "more stranger")} needed.`;
  return `${nearest} The threshold is ${distance(threshold)}.`;
}

/** Draw the distances of the candidates against the threshold. */
function bar({ threshold, candidates }) {
  const end = Math.max(...candidates.map((each) => each.distance), (threshold ?? 0) * 1.3, 0.1);
  const x = (value) => 6 + (value / end) * 388;
  return svg(
    "svg",
    { class: "bar", viewBox: "0 0 400 42", preserveAspectRatio: "xMinYMid", role: "img", "aria-label": `Distances of the nearest: ${candidates.map((each) => distance(each.distance)).join(", ")}. Threshold: ${threshold === null ? "none" : distance(threshold)}.` },
    svg("line", { class: "axis", x1: 6, x2: 394, y1: 20, y2: 20 }),
    threshold === null ? null : [svg("line", { class: "limit", x1: x(threshold), x2: x(threshold), y1: 6, y2: 34 }), svg("text", { x: Math.min(x(threshold) + 4, 330), y: 38 }, "threshold")],
    svg("text", { x: 6, y: 38 }, "0"),
    candidates.map((each, rank) => svg("circle", { class: rank ? "axis" : "mated", cx: x(each.distance), cy: 20, r: rank ? 4 : 7, fill: rank ? "currentColor" : null })),
  );
}
