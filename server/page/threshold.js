// Threshold: how far mated and non-mated searches lie apart, and what another target would cost.

import * as api from "./api.js";
import { button, changed, count, distance, h, interval, may, number, percent, put, question, state, svg } from "./elements.js";

const WIDTH = 720;
const HEIGHT = 240;
const BINS = 48;

export async function threshold(place, signal) {
  const found = await api.get("operating-point");
  if (signal.aborted) return;
  put(place, h("h1", {}, "Threshold"), h("p", { class: "lead" }, found.says));
  const again = () => state.show();
  if (may("enroll") && state.gallery.takes === "pictures") put(place, h("div", { class: "row" }, button("Add pictures of strangers …", () => addStrangers(again))));
  for (const suspect of found.suspects) put(place, h("p", { class: "notice" }, suspect));
  const points = found.others.filter((each) => each.threshold !== null);
  if (!points.length) {
    put(place, h("p", { class: "notice" }, "There is no threshold yet: too little is known of strangers, who are not enrolled."));
    return;
  }
  const at = nearest(points, found.target_fpir);
  const limit = svg("line", { class: "limit", y1: 8, y2: HEIGHT - 24 });
  const label = svg("text", { y: 16 });
  const drawing = histogram(found, limit, label);
  const slider = h("input", { type: "range", min: 0, max: points.length - 1, step: 1, value: at, id: "target" });
  const figures = h("div", { class: "figures" });
  const apply = h("div", { class: "row" });
  const move = () => {
    const point = points[slider.value];
    const { target_fpir: target, promised } = point;
    slider.setAttribute("aria-valuetext", `${percent(target)} of strangers let in`);
    drawing.place(point.threshold);
    figures.replaceChildren(
      figure("Target: strangers let in", percent(target), promised ? `supported by ${count(point.non_mated, "search", "searches")} of strangers` : "too few strangers are known to support this target"),
      figure("Threshold", distance(point.threshold), "a match is at this distance or nearer"),
      figure("Strangers let in (FPIR)", percent(share(point.false_alarms, point.non_mated)), `${number(point.false_alarms)} of ${number(point.non_mated)} searches; 95 % interval ${interval(point.fpir_interval)}`),
      figure("Enrolled missed (FNIR)", percent(share(point.misses, point.mated)), point.mated ? `${number(point.misses)} of ${number(point.mated)} searches; 95 % interval ${interval(point.fnir_interval)}` : "nobody has two samples to count with"),
    );
    const same = Math.abs(target - found.target_fpir) < 1e-9;
    apply.replaceChildren(
      same ? h("span", {}, "This target is set.") : "",
      !same && may("admin")
        ? button(`Set the target to ${percent(target)}`, async () => {
            await api.put("operating-point", { json: { target_fpir: target } });
            await changed(`The target is ${percent(target)} of strangers now.`);
            await again();
          }, "main")
        : "",
    );
  };
  slider.addEventListener("input", move);
  put(place,
    h("div", { class: "card" }, drawing.element, h("p", { class: "soft" }, h("span", { class: "key mated" }), `mated searches: somebody enrolled, to their own other samples (${number(found.mated.count)}) `, h("span", { class: "key non-mated" }), `non-mated searches: a stranger, to the nearest identity (${number(found.non_mated.count)})`)),
    h("label", { for: "target" }, "How many strangers may be let in"),
    slider,
    h("div", { class: "row soft" }, h("span", {}, `stricter: ${percent(points[0].target_fpir)}`), h("span", { class: "push" }, `looser: ${percent(points[points.length - 1].target_fpir)}`)),
    figures,
    apply,
    found.strict ? h("p", { class: "soft" }, "Strict: without enough strangers to support the target nobody is named.") : null,
  );
  if (Math.abs(points[at].target_fpir - found.target_fpir) > 1e-9) put(place, h("p", { class: "soft" }, `The target that is set, ${percent(found.target_fpir)}, lies between two places of the slider; its threshold is ${distance(found.threshold)}.`));
  move();
}

/** Let the threshold learn from pictures of those who are not enrolled. */
async function addStrangers(again) {
  const given = await question({
    title: "Add pictures of strangers",
    text: "Pictures of those who are not enrolled, and are like those who will ask: the threshold is learned from them.",
    fields: [
      { label: "Pictures", name: "files", type: "file", accept: "image/*", multiple: true, required: true },
      { label: "Name, if all show the same one; else each is called after its file", name: "name" },
    ],
    action: "Add",
  });
  if (!given || !given.files.length) return;
  const groups = given.name ? [[given.name, given.files]] : given.files.map((file) => [file.name, [file]]);
  let taken = 0;
  const refused = [];
  for (const [name, files] of groups) {
    const done = await api.post("strangers", { query: { name: name.slice(0, 255) }, form: api.formOf(files) });
    taken += done.count;
    refused.push(...done.refused.map((each) => each.detail));
  }
  await changed([`${count(taken, "picture")} of strangers added.`, ...refused].join(" "));
  await again();
}

const share = (some, all) => (all ? some / all : null);
const figure = (title, value, text) => h("div", { class: "card" }, h("p", { class: "soft" }, title), h("p", { class: "large" }, value), h("p", { class: "soft" }, text));

function nearest(points, target) {
  const away = points.map((each) => Math.abs(Math.log(each.target_fpir / target)));
  return away.indexOf(Math.min(...away));
}

/** Draw both kinds of distances as shares of their number; mated ones above the line, non-mated ones below. */
function histogram(found, limit, label) {
  const all = [...found.mated.distances, ...found.non_mated.distances];
  const end = Math.max(0.2, ...all, found.threshold ?? 0) * 1.05;
  const x = (value) => 8 + (value / end) * (WIDTH - 16);
  const middle = HEIGHT / 2 - 8;
  const bars = (distances, kind, up) => {
    const counts = new Array(BINS).fill(0);
    for (const each of distances) counts[Math.min(BINS - 1, Math.floor((each / end) * BINS))] += 1;
    const most = Math.max(1, ...counts);
    const width = (WIDTH - 16) / BINS;
    return counts.map((value, i) => {
      const height = (value / most) * (middle - 22);
      return value ? svg("rect", { class: kind, x: 8 + i * width + 0.5, width: width - 1, y: up ? middle - height : middle, height }) : null;
    });
  };
  const ticks = [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2].filter((tick) => tick <= end);
  const element = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Histogram of the distances of mated and non-mated searches, with the threshold. The figures are below." },
    bars(found.mated.distances, "mated", true),
    bars(found.non_mated.distances, "non-mated", false),
    svg("line", { class: "axis", x1: 8, x2: WIDTH - 8, y1: middle, y2: middle }),
    ticks.map((tick) => svg("text", { x: x(tick), y: HEIGHT - 6, "text-anchor": tick ? "middle" : "start" }, tick.toString())),
    limit,
    label,
  );
  const place = (value) => {
    limit.setAttribute("x1", x(value));
    limit.setAttribute("x2", x(value));
    label.textContent = `threshold ${distance(value)}`;
    const right = x(value) > WIDTH - 120;
    label.setAttribute("x", x(value) + (right ? -6 : 6));
    label.setAttribute("text-anchor", right ? "end" : "start");
  };
  return { element, place };
}
