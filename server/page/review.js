// Review: unknown answers in groups that look like one, to be named or noted as strangers; and the last answers.

import * as api from "./api.js";
import { busy, button, changed, count, distance, h, may, nameField, picture, put, state, when } from "./elements.js";
import { feedback, said, teller } from "./feedback.js";

const SHOWN = 10; // pictures of a group

export async function review(place, signal) {
  const waiting = h("p", { class: "soft" }, "Unknown answers are being grouped …");
  const fresh = h("div", {});
  put(place, waiting);
  await fill(fresh, () => state.show());
  if (!signal.aborted) place.replaceChildren(...fresh.childNodes);
}

async function fill(place, again) {
  put(place, h("h1", {}, "Review"));
  if (!may("enroll")) {
    put(place, h("p", { class: "notice" }, "Seeing what others asked needs a key of the role enroll, and a service that may write."));
    return;
  }
  const log = await api.get("log");
  if (!log.on) {
    put(place,
      h(
        "div",
        { class: "notice" },
        h("p", {}, "Answers are not kept: there is nothing to review. While they are, each answer is stored with its picture until you delete it."),
        may("admin") ? button("Keep answers from now on", async () => {
          await api.put("log", { query: { on: true } });
          await changed("Answers are kept from now on.");
          await again();
        }) : null,
      ),
    );
  }
  const [found, last] = await Promise.all([
    api.get("review").catch((error) => ({ clusters: [], answers: 0, left_out: 0, error })),
    api.get("answers", { query: { limit: 20 } }),
  ]);
  if (found.error) put(place, h("p", { class: "notice" }, `${found.error.message} ${found.error.remedy}`));
  else put(place, h("p", { class: "lead" }, `${count(found.answers, "unknown answer")} in ${count(found.clusters.length, "group")}.${found.left_out ? ` ${count(found.left_out, "older one")}, or of another tower, left out.` : ""}`));
  put(place, h("div", { id: "groups" }, found.clusters.map((cluster) => group(cluster, again))));
  if (last.length) put(place, h("h2", {}, "Last answers"), h("ul", { class: "grid", id: "last" }, last.map(answered)));
}

function group(cluster, again) {
  const { answers, first, last, nearest } = cluster;
  const [field, list] = nameField({ placeholder: "Name", "aria-label": "Who this group shows", required: true });
  const form = h("form", { class: "row" }, "They are", field, list, h("button", { class: "main" }, "Save"), button("Nobody we know", () => settle({ groups: [answers] })));
  const settle = async (json) => {
    try {
      await changed(said(await api.post("review", { json })));
    } finally {
      await again(); // also where another tab was faster
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(form.querySelector(".main"), () => settle({ groups: [answers], identity: field.value.trim() }));
  });
  return h(
    "article",
    { class: "card group" },
    h("h2", {}, count(answers.length, "answer")),
    h("p", { class: "soft" }, first === last ? when(first) : `${when(first)} to ${when(last)}`, nearest ? `. Nearest on average: ${nearest}, at distance ${distance(cluster.distance)}.` : "."),
    h("ul", { class: "pictures" }, answers.slice(0, SHOWN).map((id) => h("li", {}, picture(`answers/${id}/picture`, `Picture of answer ${id}`)))),
    answers.length > SHOWN ? h("p", { class: "soft" }, `and ${count(answers.length - SHOWN, "more", "more")}`) : null,
    form,
  );
}

function answered(row) {
  const verdict = row.verdict === "match" ? row.identity : row.verdict;
  const controls = h("div", {});
  const truth = row.corrected && (row.corrected === "identity" ? `corrected: ${row.truth}` : `corrected: ${row.corrected}`);
  if (!truth) controls.append(button("Correct …", () => controls.replaceChildren(feedback(row.identity, teller(row.id)))));
  return h(
    "li",
    {},
    h("div", { class: "tile" }, picture(`answers/${row.id}/picture`, `Picture of answer ${row.id}`), h("span", { class: `badge ${row.verdict}` }, verdict), h("span", { class: "soft" }, `${when(row.at)}, distance ${distance(row.distance)}`), truth ? h("strong", {}, truth) : controls),
  );
}
