// Everything that this page asks of the service. The key, where there is one, is sent in a header and kept in this tab.

const BASE = new URL("../api/v1/", document.baseURI);

/** What the service refused, as it says it (RFC 9457). */
export class Problem extends Error {
  constructor(status, told) {
    super(told.detail || told.title || `The service answered ${status}.`);
    this.status = status;
    this.remedy = told.remedy || "";
  }
}

/** The revision that the last request of this tab has made, or null. */
export let made = null;

let askForKey = async () => null;

/** Set what asks the user for a key: an async function that is told whether one was refused, and returns another or null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

function headers() {
  const key = sessionStorage.getItem("siamese-index key");
  return isKey(key) ? { "x-api-key": key } : {};
}

/** Whether a text can be a key: a header holds no other characters. */
export const isKey = (text) => /^[!-~]+$/.test(text ?? "");

async function refusal(answer) {
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // a proxy may answer with something else
  }
  return new Problem(answer.status, told);
}

/** Ask the service; return the Response. Asks for a key where one is needed. Throws Problem. */
export async function ask(method, path, { query = {}, json, text, form } = {}) {
  made = method === "GET" ? made : null;
  const url = new URL(path, BASE);
  for (const [key, value] of Object.entries(query)) {
    for (const each of [value].flat()) if (each !== null && each !== undefined) url.searchParams.append(key, each);
  }
  for (;;) {
    let answer;
    try {
      answer = await fetch(url, {
        method,
        headers: { ...headers(), ...(form ? {} : { "content-type": "application/json" }) },
        body: form ?? text ?? (json === undefined ? undefined : JSON.stringify(json)),
      });
    } catch {
      throw new Problem(0, { detail: "The service does not answer.", remedy: "Is it still running?" });
    }
    if (answer.status === 401) {
      const key = await askForKey("x-api-key" in headers());
      if (key) {
        sessionStorage.setItem("siamese-index key", key);
        continue;
      }
    }
    if (!answer.ok) throw await refusal(answer);
    if (method !== "GET") made = Number(answer.headers.get("x-revision")) || null;
    return answer;
  }
}

const object = (method) => async (path, options) => (await ask(method, path, options)).json();
export const get = object("GET");
export const post = object("POST");
export const put = object("PUT");
export const patch = object("PATCH");
export const remove = object("DELETE");

/** Return the path of something that has a name, whatever is in the name. */
export function named(kind, name) {
  return `${kind}/${encodeURIComponent(name)}`;
}

/** Return the files as a form. */
export function formOf(files) {
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name || "picture.png");
  return form;
}

/** Call `told(event, data)` for each event of a training until it ends, or `signal` is aborted. */
export async function listen(path, signal, told) {
  const answer = await fetch(new URL(path, BASE), { headers: headers(), signal });
  if (!answer.ok) throw await refusal(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const each of events) {
      const lines = each.split("\n");
      const of = (field) => lines.find((line) => line.startsWith(`${field}: `))?.slice(field.length + 2);
      if (of("data")) told(of("event"), JSON.parse(of("data")));
    }
  }
}
