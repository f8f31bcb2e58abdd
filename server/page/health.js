// Health: what is enrolled wrongly, with mends; what has drifted; what is wrong with the files.

import * as api from "./api.js";
import { button, changed, count, h, may, number, percent, put, state, thumbnail } from "./elements.js";

let last = { revision: null, found: null }; // the audit takes long in a large gallery: once for each revision

async function audit() {
  const { revision } = state.gallery;
  if (last.revision !== revision) last = { revision, found: await api.get("audit") };
  return last.found;
}

/** Return identity -> findings about it; without a new audit only what is known already. */
export async function findings(fresh) {
  const of = new Map();
  if (!fresh && last.revision !== state.gallery.revision) return of;
  for (const each of (await audit().catch(() => ({ findings: [] }))).findings) {
    if (each.can_be_applied) of.set(each.identity, [...(of.get(each.identity) ?? []), each]);
  }
  return of;
}

export async function health(place, signal) {
  put(place, h("h1", {}, "Health"));
  const files = h("section", { id: "files" });
  const content = h("section", { id: "content" });
  const waiting = h("p", { class: "soft", role: "status" }, "What is enrolled is being examined …");
  put(place, waiting, content, files);
  const found = await api.get("health");
  put(files,
    h("h2", {}, "Those who ask"),
    h("p", { class: found.drift.alarm ? "error" : null }, found.drift.says),
    h("h2", {}, "Files"),
    found.problems.length ? found.problems.map((each) => h("p", { class: "error" }, each.what, each.fixable ? " Mend it: sidx doctor --fix" : "")) : h("p", {}, "Nothing is wrong with them."),
    h("ul", { class: "soft" }, Object.entries(found.facts).map(([key, value]) => h("li", {}, `${key}: ${value}`))),
    may("admin") ? h("div", { class: "row" }, button("Write a backup beside the gallery", async () => {
      const made = await api.post("backups");
      await changed(`Written: ${made.file}, ${count(made.bytes, "byte")}.`);
    })) : null,
  );
  if (!may("enroll")) {
    waiting.textContent = "Examining what is enrolled needs a key of the role enroll, and a service that may write.";
    return;
  }
  const examined = state.gallery.identities ? await audit() : { findings: [], mated: 0, strangers: 0 };
  if (signal.aborted) return;
  waiting.remove();
  const open = examined.findings.filter((each) => each.can_be_applied);
  const others = examined.findings.filter((each) => !each.can_be_applied);
  const probable = open.filter((each) => each.probability === null || each.probability >= 0.5);
  const apply = async (which) => {
    try {
      const done = await api.post("audit", { json: { findings: which.map((each) => each.id) } });
      await changed([...done.done, done.change].filter(Boolean).join(" "));
    } finally {
      await state.show(); // also where it does not stand any more
    }
  };
  put(content,
    h("h2", {}, "What is enrolled"),
    h("p", {}, examined.mated ? `Searched among all others, ${percent(examined.fnir)} of ${count(examined.mated, "mated search", "mated searches")} miss` : "Nobody has two samples to search with", examined.strangers ? `, and ${percent(examined.fpir)} of ${count(examined.strangers, "stranger")} are let in.` : "."),
    open.length ? h("p", { class: "lead" }, `${count(open.length, "finding")} to look at.`) : h("p", {}, "Nothing looks wrong."),
    probable.length > 1 ? h("div", { class: "row" }, button(`Carry out the ${number(probable.length)} probable ones`, () => apply(probable))) : null,
    open.map((each) => finding(each, () => apply([each]))),
    others.length ? [h("h2", {}, "Hard to tell apart"), h("ul", {}, others.map((each) => h("li", {}, each.what)))] : null,
  );
}

const MENDS = {
  "stranger enrolled": "Remove the stranger",
  mistaken: "Move it",
  "one of two": "Merge them",
  outlier: "Remove the sample",
  duplicate: "Remove the double",
};

function finding(each, apply) {
  const moves = [["FNIR", each.fnir_change], ["FPIR", each.fpir_change]].filter(([, by]) => by).map(([name, by]) => `${name} ${by < 0 ? "falls" : "rises"} by ${percent(Math.abs(by))}`);
  return h(
    "article",
    { class: "card answer finding" },
    h("figure", {}, thumbnail(each.sample, `Sample ${each.sample} of ${each.identity}`)),
    h(
      "div",
      {},
      h("h3", {}, each.what),
      each.probability === null ? null : h("p", {}, `Probability that this is so: ${percent(each.probability)}.`),
      h("p", { class: "soft" }, moves.length ? `If it is mended, ${moves.join(", ")}.` : "Mending it moves neither error rate."),
      h("div", { class: "row" }, button(MENDS[each.kind] ?? "Carry it out", apply), h("a", { href: `#people/${encodeURIComponent(each.identity)}` }, `Look at ${each.identity}`), each.other ? h("a", { href: `#people/${encodeURIComponent(each.other)}` }, `Look at ${each.other}`) : null),
    ),
  );
}
