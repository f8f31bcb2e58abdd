// Training: a better tower from what is enrolled, how far it is, before and after; which tower is active.

import * as api from "./api.js";
import { busy, button, changed, count, h, interval, may, number, percent, put, question, state, when } from "./elements.js";

const VERDICTS = { better: "proved better", worse: "proved worse", "no proof": "not proved better: it is not promoted by itself" };
const STATES = { done: "done", failed: "failed", cancelled: "cancelled", running: "running" };

export async function training(place, signal) {
  const again = () => state.show();
  const [towers, jobs] = await Promise.all([
    api.get("towers"),
    api.get("trainings").catch((error) => ({ error })), // a service of several processes has none
  ]);
  if (signal.aborted) return;
  put(place, h("h1", {}, "Training"), h("p", { class: "lead" }, "A retraining learns a better tower from what is enrolled. It is a candidate until it is promoted; then every sample is embedded anew, and the threshold is learned anew."));
  const ended = jobs.error ? [] : jobs.filter((job) => job.state !== "running");
  const running = jobs.error ? null : jobs.find((job) => job.state === "running");
  if (jobs.error) put(place, h("p", { class: "notice" }, `${jobs.error.message} ${jobs.error.remedy}`));
  else if (running) put(place, progress(running, signal, again));
  else if (may("admin") && state.gallery.takes === "pictures") put(place, start(again));
  if (ended.length) {
    put(place, h("h2", {}, "Trainings since the service was started"), ...ended.map((job) => h("p", { class: job.state === "failed" ? "error" : null }, `${when(job.began)}: ${STATES[job.state]}.`, job.problem ? ` ${job.problem.detail} ${job.problem.remedy ?? ""}` : "", job.tower ? ` Candidate ${job.tower.slice(0, 12)}.` : "")));
  }
  const active = towers.findIndex((each) => each.active);
  put(place,
    h("h2", {}, "Towers"),
    may("admin") && active > 0
      ? h("div", { class: "row" }, button("Go back to the tower before", async () => {
          await api.post("towers/rollback");
          await changed("The tower before is active again.");
          await again();
        }))
      : null,
    h("div", { id: "towers" }, towers.map((each, i) => tower(each, i > active, again)).reverse()),
  );
}

function start(again) {
  const steps = h("input", { type: "number", min: 1, max: 1000000, placeholder: "chosen from the data", id: "steps" });
  const minutes = h("input", { type: "number", min: 0.1, step: 0.1, placeholder: "no limit", id: "minutes" });
  const scratch = h("input", { type: "checkbox", id: "scratch" });
  const form = h("form", { class: "card" }, h("h2", {}, "Start a retraining"), h("div", { class: "row" }, h("label", { for: "steps" }, "Steps"), steps, h("label", { for: "minutes" }, "Minutes at most"), minutes), h("div", { class: "row" }, scratch, h("label", { for: "scratch" }, "from scratch, not from the active tower")), h("button", { class: "main" }, "Start"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(form.querySelector("button"), async () => {
      await api.post("trainings", { json: { steps: steps.value ? Number(steps.value) : null, time_budget: minutes.value ? Number(minutes.value) * 60 : null, scratch: scratch.checked } });
      await again();
    });
  });
  return form;
}

/** Show a training that runs; its events move the bar. */
function progress(job, signal, again) {
  const bar = h("progress", { "aria-label": "Training", max: 1 });
  const text = h("p", { role: "status" }, "It is being prepared …");
  const tell = (kind, said) => {
    if (kind !== "progress") return;
    if (said.step && said.of) {
      bar.value = said.step / said.of;
      const left = said.seconds ? ` About ${count(Math.ceil((said.seconds / said.step) * (said.of - said.step)), "second")} left.` : "";
      text.textContent = `Step ${number(said.step)} of ${number(said.of)}.${left}`;
    } else if (said.stage === "fit") text.textContent = "TensorFlow is starting …";
    else if (said.stage === "data") text.textContent = `${count(said.identities, "identity", "identities")} with ${count(said.samples, "sample")} to learn from.`;
    else if (said.stage === "export") text.textContent = "The best weights are exported, then both towers are compared …";
    else if (said.done && said.of) bar.value = said.done / said.of;
  };
  api.listen(`trainings/${job.id}/events`, signal, tell).then(
    () => !signal.aborted && again(),
    () => !signal.aborted && setTimeout(() => !signal.aborted && again(), 2000),
  );
  return h("section", { class: "card", id: "running" }, h("h2", {}, "A training runs"), bar, text, may("admin") ? button("Cancel it", () => api.remove(`trainings/${job.id}`)) : null);
}

function tower(each, candidate, again) {
  const { report, held_out: held } = each;
  const compared = report && "fnir_change" in report;
  return h(
    "article",
    { class: "card" },
    h("h3", {}, `${each.tower.slice(0, 12)} `, each.active ? h("span", { class: "badge match" }, "active") : candidate ? h("span", { class: "badge" }, "candidate") : null),
    h("p", { class: "soft" }, `${count(each.dimension, "dimension")}; learned from ${count(each.learned_from, "identity", "identities")}.`),
    compared
      ? [
          h("p", {}, `Compared with the tower before on ${count(report.champion.identities, "identity", "identities")} that it never saw: ${VERDICTS[report.verdict] ?? report.verdict}.`),
          h(
            "div",
            { class: "scroll", tabindex: 0, role: "region", "aria-label": "Comparison with the tower before" },
            h(
              "table",
              {},
              h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Figure"), h("th", { scope: "col" }, "before"), h("th", { scope: "col" }, "after"), h("th", { scope: "col" }, "95 % interval of the change"))),
              h("tbody", {}, [["rank1", "Rank-1"], ["fnir", `FNIR at ${percent(report.champion.target_fpir)} FPIR`], ["eer", "EER"]].map(([key, title]) => h("tr", {}, h("th", { scope: "row" }, title), h("td", {}, percent(report.champion[key])), h("td", {}, percent(report.challenger[key])), h("td", {}, report[`${key}_interval`] ? interval(report[`${key}_interval`]) : "–")))),
            ),
          ),
        ]
      : held?.searches
        ? h("p", { class: "soft" }, `On ${count(held.identities, "identity", "identities")} that it never saw: rank-1 ${percent(held.rank1)}, FNIR ${percent(held.fnir)} at ${percent(held.target_fpir)} FPIR (${count(held.searches, "search", "searches")}).`)
        : null,
    may("admin") && !each.active
      ? button("Promote", async () => {
          const given = await question({ title: `Make ${each.tower.slice(0, 12)} active`, text: ["Every sample is embedded anew, and the threshold is learned anew.", compared && report.verdict !== "better" ? "It is not proved that this tower is better." : ""], action: "Promote" });
          if (!given) return;
          const done = await api.post(`towers/${each.tower}/promotion`);
          await changed(`Active now: ${each.tower.slice(0, 12)}. ${count(done.count, "sample")} embedded.`);
          await again();
        })
      : null,
  );
}
