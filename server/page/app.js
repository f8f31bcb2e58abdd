// The page: which view is shown, and the key that the service may ask for.

import * as api from "./api.js";
import { button, fail, h, put, question, refresh, state } from "./elements.js";
import { health } from "./health.js";
import { identify } from "./identify.js";
import { people, person } from "./people.js";
import { review } from "./review.js";
import { threshold } from "./threshold.js";
import { training } from "./training.js";

const VIEWS = { identify, people, review, threshold, health, training };
const view = document.getElementById("view");
let leave = new AbortController();

/** Show the view that the address names. What an older one still waits for is not shown any more. */
async function route() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const known = name in VIEWS ? name : "identify";
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${known}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const place = h("div", {});
  view.replaceChildren(place);
  try {
    if (!state.gallery) await refresh();
    await (known === "people" && rest.length ? person(place, signal, decodeURIComponent(rest.join("/"))) : VIEWS[known](place, signal));
  } catch (error) {
    if (signal.aborted) return;
    put(place, h("div", { class: "error", role: "alert" }, h("p", {}, error.message), error.remedy ? h("p", {}, error.remedy) : null, h("div", { class: "row" }, button("Try again", route))));
    if (!(error instanceof api.Problem)) fail(error);
  }
  const title = place.querySelector("h1");
  if (title && !signal.aborted && moved) {
    title.tabIndex = -1;
    title.focus();
  }
  moved = true;
}
let moved = false; // the first view leaves the focus where the browser puts it

let asked = null;
api.onKeyNeeded(() => {
  asked ??= question({
    title: "A key is needed",
    text: "Keys are made where the service runs: sidx keys add NAME. It is kept in this tab only, until you close it.",
    fields: [{ label: "Key", name: "key", type: "password", autocomplete: "off", required: true }],
    action: "Use it",
  }).then((given) => {
    asked = null;
    return given?.key || null;
  });
  return asked;
});

window.addEventListener("hashchange", route);
// A picture that is dropped beside its place must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
route();
