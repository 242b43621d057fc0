// What is asked of the server: /v1/about, /v1/predict and /v1/explain. Nothing else is ever fetched.

const TRIES = 20; // while the server is busy
let token = location.hash.slice(1); // stays in the address, which browsers do not send

export class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export function setToken(value) {
  token = value;
}

export async function about() {
  return (await ask("v1/about")).json();
}

/** The answer for one photograph, or its {error}. `onBusy` is told for how many seconds the server asks to wait. */
export async function predict(file, onBusy) {
  const response = await ask("v1/predict", file, onBusy, [422]);
  return (await response.json()).photographs[0];
}

/** A picture with the evidence for a type; null where there is none. */
export async function explain(file, method, type, onBusy) {
  const response = await ask(`v1/explain?${new URLSearchParams({ method, type })}`, file, onBusy);
  return response.status === 204 ? null : response.blob();
}

async function ask(path, file, onBusy = () => {}, accepted = []) {
  const options = { headers: token ? { authorization: `Bearer ${token}` } : {}, cache: "no-store" };
  if (file) Object.assign(options, { method: "POST", body: file });
  for (let tries = 0; ; tries++) {
    let response;
    try {
      response = await fetch(path, options);
    } catch {
      throw new Refusal("network", "no answer");
    }
    if (response.ok || accepted.includes(response.status)) return response;
    const seconds = Number(response.headers.get("retry-after"));
    if (response.status !== 503 || tries === TRIES) {
      const { error } = await response.json().catch(() => ({ error: { code: "internal", message: "" } }));
      throw new Refusal(error.code, error.message);
    }
    onBusy(seconds || 1);
    await new Promise((resolve) => setTimeout(resolve, 1000 * (seconds || 1)));
  }
}
