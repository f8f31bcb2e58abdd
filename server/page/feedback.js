// What an answer shows in truth: right, somebody else, or nobody we know.

import * as api from "./api.js";
import { busy, button, changed, count, h, may, nameField } from "./elements.js";

/** Return the controls that settle an answer. `send(truth)` tells the service; `done(text)` shows what became of it. */
export function feedback(identity, send, reopened = () => {}) {
  if (!may("enroll")) return null;
  const place = h("div", { class: "feedback" });
  const open = () => {
    const [field, list] = nameField({ placeholder: "Name", "aria-label": identity ? "Who it is in truth" : "Who it is", required: true });
    const form = h("form", { class: "row" }, identity ? "No, it is" : "It is", field, list, h("button", {}, "Save"), button("Nobody we know", () => settle({ stranger: true })));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      busy(form.querySelector("button"), () => settle({ identity: field.value.trim() }));
    });
    place.replaceChildren(identity ? h("div", { class: "row" }, button(`Right, it is ${identity}`, () => settle({ identity }), "main")) : "", form);
  };
  const settle = async (truth) => {
    const told = said(await send(truth));
    place.replaceChildren(h("p", {}, h("strong", {}, told)));
    await changed(told, async () => {
      open();
      await reopened();
    });
  };
  open();
  return place;
}

/** Say what became of an answer, or of a group of them. */
export function said(correction) {
  const { truth, name, samples, named } = correction;
  if (truth === "stranger") return "Noted as a stranger: the threshold learns from it.";
  if (truth === "ignored") return "Ignored.";
  const also = named ? ` ${count(named, "other answer")} on record would name ${name} now.` : "";
  const kept = samples ? `${count(samples, "new sample")} of ${name}.` : `${name} had this picture already.`;
  return `${correction.new ? `${name} is enrolled: ` : ""}${kept}${also}`;
}

/** Tell the service of an answer on record, or of a picture where answers are not kept. */
export function teller(answer, file) {
  if (answer !== null) return (truth) => api.post(`answers/${answer}/feedback`, { json: truth });
  return (truth) => api.post("corrections", { query: truth, form: api.formOf([file]) });
}
