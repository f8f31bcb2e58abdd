// People: who is enrolled, found by name and tag; each with its samples, and everything that mends it.

import * as api from "./api.js";
import { button, changed, count, distance, fail, h, may, put, question, state, thumbnail, when } from "./elements.js";
import { findings } from "./health.js";

const LARGE = 3000; // samples above which marks are made only when Health was looked at

export async function people(place, signal) {
  const list = h("ul", { class: "grid", id: "identities" });
  const found = h("p", { class: "soft", role: "status" });
  const more = h("div", { class: "row" });
  const search = h("input", { type: "search", placeholder: "Search by name", "aria-label": "Search by name" });
  const tag = h("input", { type: "text", placeholder: "Tag: key=value", "aria-label": "Only with this tag, as key=value" });
  let marks = new Map();
  let asked = 0;
  const look = async (after = null) => {
    const mine = (asked += 1);
    const wanted = tag.value.includes("=") ? tag.value.trim() : null;
    const page = await api.get("identities", { query: { q: search.value.trim() || null, tag: wanted, after, limit: 60 } });
    if (mine !== asked || signal.aborted) return;
    if (after === null) list.replaceChildren();
    list.append(...page.identities.map((each) => tile(each, marks)));
    const ignored = tag.value.trim() && !wanted ? " The tag is not looked for: write key=value." : "";
    found.textContent = `${count(list.children.length, "identity", "identities")} shown${page.next === null ? "." : ", there are more."}${ignored}`;
    more.replaceChildren(page.next === null ? "" : button("Show more", () => look(page.next)));
  };
  let waiting;
  for (const field of [search, tag]) {
    field.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => look().catch(fail), 200);
    });
  }
  put(place,
    h("h1", {}, "People"),
    h("p", { class: "lead" }, `${count(state.gallery.identities, "identity", "identities")}, ${count(state.gallery.samples, "sample")}.`),
    h("div", { class: "row" }, search, tag, may("enroll") ? button("Enroll somebody", () => enroll("").then((name) => name && (location.hash = `#people/${encodeURIComponent(name)}`)), "main") : null),
    found,
    list,
    more,
    may("enroll") ? removed() : null,
  );
  await look();
  if (may("enroll") && state.gallery.identities > 1) {
    marks = await findings(state.gallery.samples <= LARGE);
    if (!signal.aborted) for (const each of list.children) mark(each, marks);
  }
}

function tile({ name, samples, tags, sample }, marks) {
  const made = h(
    "li",
    { "data-name": name },
    h(
      "div",
      { class: "tile" },
      thumbnail(sample, ""),
      h("a", { href: `#people/${encodeURIComponent(name)}` }, name),
      h("span", { class: "soft" }, count(samples, "sample")),
      tagList(tags),
    ),
  );
  mark(made, marks);
  return made;
}

/** Mark an identity about which the audit has found something. */
function mark(item, marks) {
  const found = marks.get(item.dataset.name) ?? [];
  item.querySelector(".badge.wrong")?.remove();
  if (found.length) item.firstChild.append(h("span", { class: "badge wrong", title: found.map((each) => each.what).join("\n") }, count(found.length, "finding")));
}

const tagList = (tags) => Object.entries(tags).map(([key, value]) => h("span", { class: "badge" }, `${key}=${value}`));

/** Enroll pictures under a name; return it, or null. */
async function enroll(name) {
  const fields = [
    ...(name ? [] : [{ label: "Name", name: "name", names: true, required: true }]),
    { label: "Pictures", name: "files", type: "file", accept: state.gallery.takes === "pictures" ? "image/*" : null, multiple: true, required: true },
    { label: "Also what looks like somebody else", name: "conflict", type: "checkbox" },
  ];
  const given = await question({ title: name ? `Add pictures of ${name}` : "Enroll somebody", text: "One clear picture is enough; several by different light are better.", fields, action: "Enroll" });
  if (!given || !given.files.length) return null;
  const whose = name || given.name;
  const done = await api.post("samples", { query: { identity: whose, conflict: given.conflict }, form: api.formOf(given.files) });
  const refused = done.refused.map((each) => each.detail).join(" ");
  const already = done.already.length ? ` ${count(done.already.length, "picture")} enrolled already.` : "";
  await changed(`${count(done.enrolled.length, "new sample")} of ${whose}.${already} ${refused}`.trim());
  return done.enrolled.length || done.already.length ? whose : null;
}

/** List who was removed, once it is opened. */
function removed() {
  const list = h("div", {});
  const shown = h("details", {}, h("summary", {}, "Removed: can be restored"), list);
  const fillIn = async () => {
    const { identities, samples } = await api.get("removed");
    const restore = (json, text) => button("Restore", async () => {
      await api.post("restorations", { json });
      await changed(text);
      await state.show();
    });
    list.replaceChildren(
      identities.length + samples.length ? "" : h("p", {}, "Nobody was removed."),
      ...identities.map((each) => h("div", { class: "row" }, each.name, restore({ identity: each.name }, `${each.name} is enrolled again.`))),
      ...samples.map((each) => h("div", { class: "row" }, `sample ${each.id} of ${each.identity}`, restore({ samples: [each.id] }, `Sample ${each.id} is in use again.`))),
    );
  };
  shown.addEventListener("toggle", () => shown.open && fillIn().catch(fail));
  return shown;
}

// -- one identity --------------------------------------------------------------------------------

export async function person(place, signal, name) {
  const found = await api.get(api.named("identities", name), { query: { quality: true } }).catch((error) => {
    if (error.status !== 404) throw error;
    return null; // it was renamed, merged, removed: nothing to look at any more
  });
  if (signal.aborted) return;
  if (!found) {
    put(place, h("p", {}, h("a", { href: "#people" }, "← People")), h("h1", {}, name), h("p", { class: "notice" }, "Nobody of this name is enrolled."));
    return;
  }
  const picked = new Set();
  const again = () => state.show();
  const go = (to) => {
    location.hash = to === null ? "#people" : `#people/${encodeURIComponent(to)}`;
  };
  const samples = found.sample_rows.map((each) => sampleTile(each, picked, () => shownFor()));
  const actions = h("div", { class: "row" });
  const shownFor = () => {
    const ids = [...picked];
    const what = count(ids.length, "sample");
    actions.replaceChildren(
      ...(ids.length
        ? [
            h("span", {}, `${what} chosen:`),
            button("Move to …", async () => {
              const given = await question({ title: `Move ${what}`, fields: [{ label: "Whose are they?", name: "name", names: true, required: true }], action: "Move" });
              if (!given) return;
              const { identities } = await api.get("identities", { query: { q: given.name, limit: 1000 } });
              await api.post("moves", { json: { samples: ids, identity: given.name, new: !identities.some((each) => each.name === given.name) } });
              await changed(`${what} moved to ${given.name}.`);
              await (ids.length === samples.length ? go(given.name) : again());
            }),
            ids.length < samples.length
              ? button("Split off as …", async () => {
                  const given = await question({ title: `Split off ${what}`, fields: [{ label: "Name of the new identity", name: "name", required: true }], action: "Split off" });
                  if (!given) return;
                  await api.post("splits", { json: { identity: name, new: given.name, samples: ids } });
                  await changed(`${what} split off as ${given.name}.`);
                  await again();
                })
              : null,
            button("Remove", async () => {
              await api.post("removals", { json: { samples: ids } });
              await changed(`${what} removed.`);
              await (ids.length === samples.length ? go(null) : again());
            }),
          ].filter(Boolean)
        : [h("span", { class: "soft" }, "Choose samples to move, split off or remove them.")]),
    );
  };
  shownFor();
  put(place,
    h("p", {}, h("a", { href: "#people" }, "← People")),
    h("h1", {}, name),
    h("p", { class: "lead" }, count(found.samples, "sample"), " ", tagList(found.tags)),
    may("enroll")
      ? h(
          "div",
          { class: "row" },
          button("Add pictures", async () => (await enroll(name)) && again(), "main"),
          button("Rename …", async () => {
            const given = await question({ title: `Rename ${name}`, fields: [{ label: "New name", name: "name", value: name, required: true }], action: "Rename" });
            if (!given || given.name === name) return;
            await api.patch(api.named("identities", name), { json: { name: given.name } });
            await changed(`${name} is called ${given.name} now.`, () => go(name));
            go(given.name);
          }),
          button("Merge with …", async () => {
            const given = await question({ title: `Merge ${name} with another`, text: `The samples of ${name} become those of the other.`, fields: [{ label: "With whom", name: "name", names: true, required: true }], action: "Merge" });
            if (!given) return;
            await api.post("merges", { json: { identity: name, into: given.name } });
            await changed(`${name} was merged with ${given.name}.`, () => go(name));
            go(given.name);
          }),
          button("Tags …", () => tags(name, found.tags, again)),
          button("Remove", async () => {
            await api.remove(api.named("identities", name));
            await changed(`${name} was removed.`, () => go(name));
            go(null);
          }),
          may("admin")
            ? button("Delete for good …", async () => {
                const given = await question({
                  title: `Delete ${name} for good`,
                  text: ["Pictures, vectors, the name and its answers are deleted. This cannot be undone, nor can any change before it.", `Type the name to go on: ${name}`],
                  fields: [{ label: "Name", name: "name", required: true, autocomplete: "off" }],
                  action: "Delete for good",
                  grave: true,
                });
                if (!given) return;
                if (given.name !== name) throw new api.Problem(0, { detail: "Nothing was deleted: another name was typed." });
                await api.post("purges", { json: { identities: [name] } });
                await changed(`${name} was deleted for good.`);
                go(null);
              }, "grave")
            : null,
        )
      : null,
    h("h2", {}, "Samples"),
    may("enroll") ? actions : null,
    h("ul", { class: "grid", id: "samples" }, samples),
  );
}

/** Return a sample with what speaks for and against it. */
function sampleTile(sample, picked, change) {
  const { id, own, other, other_distance: away, quality } = sample;
  const box = h("input", { type: "checkbox", "aria-label": `Choose sample ${id}` });
  const tile = h(
    "div",
    { class: "tile" },
    thumbnail(sample.kept ? id : null, `Sample ${id}`),
    h("div", {}, may("enroll") ? box : null, ` sample ${id}`),
    h("span", { class: "soft", title: sample.source }, `${sample.source.split(/[\\/]/).pop()}, ${when(sample.enrolled)}`),
    own !== null && away !== null && away < own ? h("span", { class: "badge wrong" }, `nearer to ${other}`) : null,
    quality?.small ? h("span", { class: "badge unknown" }, "small") : null,
    h("span", { class: "soft" }, own === null ? "the only sample" : `to its own ${distance(own)}`, away === null ? "" : `, to ${other} ${distance(away)}`),
    quality ? h("span", { class: "soft" }, `${quality.size} pixels, sharpness ${quality.sharpness.toFixed(2)}`) : null,
  );
  box.addEventListener("change", () => {
    if (box.checked) picked.add(id);
    else picked.delete(id);
    tile.classList.toggle("picked", box.checked);
    change();
  });
  return h("li", {}, tile);
}

async function tags(name, now, again) {
  const text = Object.entries(now).map(([key, value]) => `${key}=${value}`).join("\n");
  const given = await question({ title: `Tags of ${name}`, text: "One in each line, as key=value; what is not there any more is taken away.", fields: [{ label: "Tags", name: "tags", value: text, lines: 5 }], action: "Save" });
  if (!given) return;
  const wanted = new Map(Object.keys(now).map((key) => [key, null]));
  for (const line of given.tags.split("\n").filter((each) => each.trim())) {
    const at = line.indexOf("=");
    const key = line.slice(0, at).trim();
    if (at < 1 || !key) throw new api.Problem(0, { detail: `"${line}" is no tag.`, remedy: "Write key=value." });
    if (wanted.get(key)) throw new api.Problem(0, { detail: `The tag "${key}" is there twice.` });
    wanted.set(key, line.slice(at + 1).trim());
  }
  if (!wanted.size) return;
  // As JSON text: an object would take some names, as __proto__, for its own.
  const pairs = [...wanted].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  await api.patch(api.named("identities", name), { text: `{"tags":{${pairs.join(",")}}}` });
  await changed(`The tags of ${name} are set.`);
  await again();
}
