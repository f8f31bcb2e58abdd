// What the views are made of: elements, pictures, messages, questions. Text is always set as text, never as HTML.

import * as api from "./api.js";

/** Who may do what here, and what the gallery is; read again after each change. */
export const state = { gallery: null, show: async () => {} }; // `show` shows the view as it is now
const ROLES = ["ask", "enroll", "admin"];

export function may(role) {
  const { gallery } = state;
  if (!gallery) return false;
  return (role === "ask" || !gallery.read_only) && ROLES.indexOf(gallery.role) >= ROLES.indexOf(role);
}

/** Make an element: attributes that begin with "on" are listeners, false and null leave one out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** Append children; null and false are left out. */
export function put(element, ...children) {
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value === true ? "" : value);
  }
  return put(element, children);
}

export function button(text, onclick, kind = "") {
  const made = h("button", { type: "button", class: kind || null }, text);
  made.addEventListener("click", () => busy(made, onclick));
  return made;
}

/** Run what a button or a form does, once at a time; what is refused is said. The focus stays where it was. */
export async function busy(element, work) {
  if (element.ariaDisabled) return;
  element.ariaDisabled = "true"; // `disabled` would take the focus away
  try {
    await work();
  } catch (error) {
    fail(error);
  } finally {
    element.ariaDisabled = null;
    if (!document.activeElement || document.activeElement === document.body) {
      (element.isConnected ? element : document.querySelector("main h1"))?.focus();
    }
  }
}

// -- numbers and words ---------------------------------------------------------------------------

export const number = (value) => value.toLocaleString("en");
export const distance = (value) => (value === null ? "–" : value.toFixed(3));
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;
export const when = (time) => new Date(time).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });

export function percent(share) {
  if (share === null) return "–";
  const value = share * 100;
  return `${value !== 0 && value < 1 ? value.toPrecision(2).replace(/\.?0+$/, "") : Math.round(value * 10) / 10} %`;
}

export const interval = ([low, high]) => `${percent(low)} to ${percent(high)}`;

// -- pictures ------------------------------------------------------------------------------------

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (entry.isIntersecting) {
      seen.unobserve(entry.target);
      load(entry.target);
    }
  }
});

const WAY = Symbol("where the picture is");

/** Return a picture of the service, which is loaded once it is in sight. `path` null: nothing was kept. */
export function picture(path, alt) {
  if (!path) return h("div", { class: "picture" }, "no picture kept");
  const element = h("img", { class: "picture", alt, width: 160, height: 160 });
  element[WAY] = path;
  seen.observe(element);
  return element;
}

async function load(element) {
  try {
    show(element, await (await api.ask("GET", element[WAY])).blob());
  } catch (error) {
    if (error.status === 404) element.replaceWith(h("div", { class: "picture" }, "no picture kept"));
    else element.alt = `${element.alt} (not loaded)`;
  }
}

/** Show a file or a blob in an image. */
export function show(element, blob) {
  const url = URL.createObjectURL(blob);
  element.addEventListener("load", () => URL.revokeObjectURL(url), { once: true });
  element.addEventListener("error", () => element.replaceWith(h("div", { class: "picture" }, "cannot be shown here")), { once: true });
  element.src = url;
  return element;
}

export const thumbnail = (sample, alt) => picture(sample === null || sample === undefined ? null : `samples/${sample}/thumbnail`, alt);

// -- messages ------------------------------------------------------------------------------------

/** Say something at the foot of the page, with what can be done about it. What it makes pointless is not shown any more. */
export function say(text, action = null, all = false) {
  const close = () => shown.remove();
  const does = action && button(action.label, async () => {
    await action.run();
    close();
  });
  const shown = h("div", { class: action ? "message with-action" : "message" }, h("span", {}, text), does, h("button", { type: "button", "aria-label": "Close this message", onclick: close }, "✕"));
  const place = document.getElementById("messages");
  // What could be undone before can be no more; and two at most, so that they do not hide the page.
  place.querySelectorAll(action || all ? ".message" : ".message:not(.with-action)").forEach((older) => older.remove());
  place.append(shown);
  if (!action) setTimeout(close, 12000);
}

export function fail(error) {
  if (!(error instanceof api.Problem)) console.error(error);
  say(error instanceof api.Problem ? [error.message, error.remedy].filter(Boolean).join(" ") : `Something is wrong in this page: ${error.message}`);
}

/** Say what the last request has changed, with a button that takes just that back; `undone` is called then. */
export async function changed(text, undone = () => state.show()) {
  const revision = api.made;
  let undo = null;
  try {
    await refresh();
    const [last] = await api.get("history", { query: { limit: 1 } });
    if (revision !== null && may("admin") && last?.revision === revision && last.can_be_undone) {
      undo = {
        label: "Undo",
        async run() {
          await api.post("undo", { query: { revision } });
          await refresh();
          say("Taken back.");
          await undone();
        },
      };
    }
  } catch {
    // it is changed, whether that can be undone is not known
  }
  say(text, undo, revision !== null);
}

/** Read the gallery's facts again. */
export async function refresh() {
  state.gallery = await api.get("gallery");
  document.getElementById("gallery").textContent = state.gallery.name;
  document.dispatchEvent(new Event("gallery"));
  document.title = `${state.gallery.name} – siamese-index`;
}

// -- questions -----------------------------------------------------------------------------------

const SEEN = { pattern: ".*\\S.*", title: "Something that can be seen" }; // blanks alone are no name

let lists = 0;

/** Return a field for a name, which proposes those who are enrolled. */
export function nameField(attributes = {}) {
  const id = `names-${(lists += 1)}`;
  const list = h("datalist", { id });
  const field = h("input", { type: "text", list: id, autocomplete: "off", ...SEEN, ...attributes });
  let waiting;
  const propose = async () => {
    try {
      const found = await api.get("identities", { query: { q: field.value, limit: 20 } });
      list.replaceChildren(...found.identities.map((each) => h("option", { value: each.name })));
    } catch {
      list.replaceChildren(); // the name can still be typed
    }
  };
  field.addEventListener("focus", propose, { once: true });
  field.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(propose, 200);
  });
  return [field, list];
}

/** Ask in a dialog; return the values of its fields by name, or null when it was closed. */
export function question({ title, text = [], fields = [], action, grave = false, stays = false }) {
  const before = document.activeElement;
  return new Promise((resolve) => {
    const inputs = fields.map(({ label, name, names, ...attributes }) => {
      if (attributes.required && !attributes.type) Object.assign(attributes, SEEN);
      const [field, list] = names ? nameField({ name, ...attributes }) : [h(attributes.lines ? "textarea" : "input", { name, type: attributes.lines ? null : "text", rows: attributes.lines, ...attributes }), null];
      if (attributes.lines) field.value = attributes.value;
      return { field, shown: h("label", {}, label, " ", field, list) };
    });
    const form = h(
      "form",
      { method: "dialog" },
      h("h2", { id: "question" }, title),
      [text].flat().map((line) => h("p", {}, line)),
      inputs.map((each) => each.shown),
      h("div", { class: "row" }, h("button", { class: grave ? "grave" : "main", value: "yes" }, action), h("button", { value: "no", formnovalidate: true }, "Cancel")),
    );
    const dialog = h("dialog", { "aria-labelledby": "question", class: stays ? "stays" : null }, form);
    dialog.addEventListener("close", () => {
      const given = Object.fromEntries(inputs.map(({ field }) => [field.name, field.type === "file" ? [...field.files] : field.type === "checkbox" ? field.checked : field.value.trim()]));
      dialog.remove();
      if (before?.isConnected) before.focus();
      resolve(dialog.returnValue === "yes" ? given : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
