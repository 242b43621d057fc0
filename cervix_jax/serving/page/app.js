// The page: photographs come in, are asked about one after the other, and are shown by woman. All is in memory, and gone with the page.

import { setUpCamera } from "./camera.js";
import { button, cardContent, errorText } from "./card.js";
import { about as askAbout, explain, predict, setToken } from "./client.js";
import { element, replaceContent } from "./dom.js";
import { writeLetter } from "./letter.js";
import { summary } from "./verdict.js";
import { language, languages, setLanguage, translate, word } from "./words.js";

const AT_ONCE = 2; // photographs that are being asked about
const women = []; // {number, photographs, section}, the last is the one that new photographs are of
const waiting = []; // photographs to be asked about
let about = null, asking = 0, asked = 0, numbers = 0;

const byId = (id) => document.getElementById(id);

function newWoman() {
  const woman = { number: ++numbers, photographs: [], section: element("section", { className: "woman" }) };
  women.push(woman);
  byId("women").prepend(woman.section);
  return woman;
}

function addFiles(files) {
  if (!files.length) return;
  const woman = women.at(-1) ?? newWoman();
  const added = [...files].map((file) => ({
    file, woman, url: URL.createObjectURL(file), state: "waiting", answer: null, error: null,
    card: element("li", { className: "card" }), maps: new Map(), method: about?.default_method, showsMap: false,
  }));
  woman.photographs.push(...added);
  waiting.push(...added);
  show();
  added[0].card.scrollIntoView({ block: "nearest" });
  askNext();
}

/** Asks about what waits, a few photographs at once. */
function askNext() {
  while (asking < AT_ONCE && waiting.length) {
    asking++;
    answer(waiting.shift()).finally(() => {
      asking--;
      askNext();
    });
  }
  const left = asking + waiting.length;
  if (left) say(word("status_working", { number: left }));
  else if (asked) say(word("status_done"));
}

async function answer(photograph) {
  try {
    if (!about) await learn();
    const said = await predict(photograph.file, (seconds) => say(word("status_busy", { seconds })));
    photograph.method ??= about.default_method;
    Object.assign(photograph, said.error ? { state: "failed", error: said.error.code } : { state: "done", answer: said });
  } catch (refusal) {
    Object.assign(photograph, { state: "failed", error: refusal.code ?? "other" });
    if (refusal.code === "token") askForToken();
  }
  asked++;
  show(photograph.woman);
}

/** A map by a method, asked for once: {url}, {} where nothing speaks for the type, or {error}. */
async function mapOf(photograph, method) {
  if (!photograph.maps.has(method)) {
    const asking = explain(photograph.file, method, photograph.answer.type).then(
      (blob) => (blob ? { url: URL.createObjectURL(blob) } : {}),
      (refusal) => {
        photograph.maps.delete(method);
        return { error: refusal.code };
      },
    );
    photograph.maps.set(method, asking);
  }
  return photograph.maps.get(method);
}

function remove(photograph) {
  const { woman } = photograph;
  woman.photographs.splice(woman.photographs.indexOf(photograph), 1);
  URL.revokeObjectURL(photograph.url);
  for (const map of photograph.maps.values()) map.then(({ url }) => url && URL.revokeObjectURL(url));
  if (waiting.includes(photograph)) waiting.splice(waiting.indexOf(photograph), 1);
  show();
  byId("take").focus();
  say(word("removed"));
}

function move(photograph, number) {
  const from = photograph.woman.photographs;
  from.splice(from.indexOf(photograph), 1);
  photograph.woman = number === "new" ? newWoman() : women.find((woman) => woman.number === Number(number));
  photograph.woman.photographs.push(photograph);
  show();
  photograph.card.querySelector("[data-focus=woman]").focus();
}

function again(photograph) {
  photograph.state = "waiting";
  waiting.push(photograph);
  show(photograph.woman);
  askNext();
}

/** Draws one woman, or all. */
function show(only = null) {
  for (const woman of [...women]) {
    if (!woman.photographs.length && woman !== women.at(-1)) {
      woman.section.remove();
      women.splice(women.indexOf(woman), 1);
    } else if (!only || woman === only) {
      showWoman(woman);
    }
  }
}

function showWoman(woman) {
  const { photographs, section, number } = woman;
  photographs.forEach((photograph, i) => {
    const actions = {
      again: () => again(photograph), remove: () => remove(photograph), move: (to) => move(photograph, to),
      map: (method) => mapOf(photograph, method), women: () => women,
    };
    replaceContent(photograph.card, ...cardContent(photograph, word("photograph", { number: i + 1 }), about, actions));
  });
  const done = photographs.filter((photograph) => photograph.state === "done");
  const said = done.length > 1 ? summary(done.map((photograph) => photograph.answer)) : null;
  const title = element("h2", { textContent: word("woman", { number }) });
  replaceContent(
    section,
    title,
    photographs.length ? null : element("p", { textContent: word("woman_empty") }),
    said && element("p", { className: `verdict ${said.kind}`, textContent: `${word("together")} ${said.text}` }),
    said && element("p", { textContent: word("together_help") }),
    element("ul", { className: "cards" }, ...photographs.map((photograph) => photograph.card)),
    element(
      "div",
      { className: "buttons" },
      done.length ? button("print", word("print"), () => print(woman), "primary") : null,
      photographs.length && woman === women.at(-1) ? button("next", word("woman_next"), () => (newWoman(), show(), byId("take").focus())) : null,
    ),
  );
}

function print(woman) {
  writeLetter(byId("letter"), woman.photographs, about);
  Promise.all([...byId("letter").querySelectorAll("img")].map((image) => image.decode().catch(() => {}))).then(() => window.print());
}

async function learn() {
  about = await askAbout();
  showAbout();
}

function showAbout() {
  if (!about) return;
  byId("about").hidden = false;
  byId("about-model").textContent = word("about_model", { model: about.model });
  const values = { number: about.reference, site: about.site };
  byId("about-calibration").textContent = word(about.site ? "about_site" : "about_no_site", values);
}

function askForToken() {
  byId("token-form").hidden = false;
  byId("token").focus();
}

function say(text) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
}

byId("language").append(
  ...Object.entries(languages).map(([code, name]) => element("option", { value: code, lang: code, textContent: name, selected: code === language })),
);
byId("language").addEventListener("change", (event) => {
  setLanguage(event.target.value);
  show();
  showAbout();
  say("");
});
byId("choose").addEventListener("click", () => byId("files").click());
for (const id of ["files", "phone-camera"]) {
  byId(id).addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = ""; // the same file may be chosen again
  });
}
setUpCamera(byId("take"), byId("phone-camera"), (file) => addFiles([file]), () => say(word("no_camera")));
for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop") addFiles(event.dataTransfer.files);
  });
}
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
byId("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  try {
    await learn();
    byId("token-form").hidden = true;
    say("");
    for (const photograph of women.flatMap((woman) => woman.photographs)) if (photograph.error === "token") again(photograph);
  } catch (refusal) {
    say(errorText(refusal.code));
  }
});

translate();
for (const id of ["take", "choose"]) byId(id).disabled = false; // from here on a click is heard
learn().catch((refusal) => {
  if (refusal.code === "token") askForToken();
  say(errorText(refusal.code));
});
