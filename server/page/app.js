// The page: which view is shown, and the key that the service may ask for.

import * as api from "./api.js";
import { button, fail, h, put, question, refresh, state } from "./elements.js";
import { health } from "./health.js";
import { identify } from "./identify.js";
import { people, person } from "./people.js";
import { review } from "./review.js";
import { threshold } from "./threshold.js";
import { training } from "./training.js";

const VIEWS = new Map(Object.entries({ identify, people, review, threshold, health, training }));
const view = document.getElementById("view");
let leave = new AbortController();

/** Return which view the address names, and whom of the people. */
function addressed() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  try {
    if (name === "people" && rest.length) return ["people", decodeURIComponent(rest.join("/"))];
  } catch {
    return ["people", null]; // no address of ours
  }
  return [VIEWS.has(name) ? name : "identify", null];
}

/** Show the view that the address names. What an older one still waits for is not shown any more. */
async function route() {
  const [name, whom] = addressed();
  for (const dialog of document.querySelectorAll("dialog:not(.stays)")) dialog.close("no");
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = h("div", {});
  view.replaceChildren(place);
  const shown = await fill(place, name, whom);
  const title = place.querySelector("h1");
  if (shown && title && moved) title.focus();
  moved = true;
}
let moved = false; // the first view leaves the focus where the browser puts it

/** Show the same view as it is now; what is shown stays until the new one is whole. */
state.show = async () => {
  const place = h("div", {});
  const [name, whom] = addressed();
  if (await fill(place, name, whom, () => view.replaceChildren(place))) {
    if (!document.activeElement || document.activeElement === document.body) place.querySelector("h1")?.focus();
  }
};

/** Fill a place; return whether it is still wanted. `ready` is called when it is whole. */
async function fill(place, name, whom, ready = () => {}) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  try {
    await refresh();
    if (signal.aborted) return false;
    await (whom === null ? VIEWS.get(name)(place, signal) : person(place, signal, whom));
  } catch (error) {
    if (signal.aborted) return false;
    put(place, h("div", { class: "error", role: "alert" }, h("p", {}, error.message), error.remedy ? h("p", {}, error.remedy) : null, h("div", { class: "row" }, button("Try again", route))));
    if (!(error instanceof api.Problem)) fail(error);
  }
  if (signal.aborted) return false;
  ready();
  for (const title of place.querySelectorAll("h1")) title.tabIndex = -1;
  return true;
}

let asked = null;
api.onKeyNeeded((refused) => {
  asked ??= question({
    title: refused ? "This key is not known" : "A key is needed",
    text: "Keys are made where the service runs: sidx keys add NAME. It is kept in this tab only, until you close it.",
    fields: [{ label: "Key", name: "key", type: "password", autocomplete: "off", required: true, pattern: "[!-~]+", title: "The key as sidx keys add printed it" }],
    action: "Use it",
    stays: true,
  }).then((given) => {
    asked = null;
    if (given && state.gallery) setTimeout(() => state.show()); // it may do other things than the one before
    return given?.key || null;
  });
  return asked;
});

window.addEventListener("hashchange", route);
// A picture that is dropped beside its place must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
route();
