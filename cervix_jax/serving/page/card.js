// The card of one photograph: picture, what may be said of it, probabilities, evidence.

import { element } from "./dom.js";
import { typeName, verdict } from "./verdict.js";
import { hasWord, percent, word } from "./words.js";

const KNOWN_ERRORS = ["unreadable", "too_large", "slow", "busy", "network", "token"];

export function errorText(code) {
  return word(KNOWN_ERRORS.includes(code) ? `error_${code}` : "error_other");
}

/** The picture with the cervix outlined; the map lies over it. */
export function picture(photograph, name) {
  const box = photograph.answer?.box;
  const alt = box ? word("alt_outlined", { name }) : name;
  const image = element("img", { src: photograph.url, alt, className: "photograph" });
  const frame = element("div", { className: "picture" }, image);
  image.addEventListener("error", () => frame.replaceChildren(element("p", { textContent: word("no_preview") })));
  if (box) {
    const [left, top, right, bottom] = box.corners;
    const outline = element("div", { className: "outline", attributes: { "aria-hidden": "true" } });
    const sides = { left, top, width: right - left, height: bottom - top };
    for (const [side, fraction] of Object.entries(sides)) outline.style[side] = `${100 * fraction}%`;
    frame.append(outline);
  }
  return frame;
}

/** The content of a card, by the state of its photograph: 'waiting', 'done' or 'failed'. */
export function cardContent(photograph, name, about, actions) {
  const content = [element("h3", { textContent: name })];
  const frame = picture(photograph, name);
  content.push(frame);
  if (photograph.state === "waiting") {
    content.push(element("p", { className: "verdict waiting", textContent: word("waiting") }));
  } else if (photograph.state === "failed") {
    content.push(element("p", { className: "verdict failed", textContent: errorText(photograph.error) }));
    if (photograph.error !== "unreadable" && photograph.error !== "too_large") {
      content.push(button("again", word("again"), actions.again));
    }
  } else {
    const { kind, text, advice } = verdict(photograph.answer);
    content.push(
      element("p", { className: `verdict ${kind}`, textContent: text }),
      element("p", { textContent: advice }),
      bars(photograph.answer, about),
      evidence(photograph, frame, name, about, actions),
    );
  }
  content.push(tools(photograph, actions));
  return content;
}

/** Probabilities as bars, with the set that holds the type. */
export function bars(answer, about) {
  const rows = Object.entries(answer.probabilities).map(([type, probability]) => {
    const isPossible = answer.set.includes(type);
    const fill = element("span", { className: "fill" });
    fill.style.width = `${100 * probability}%`;
    return element(
      "li",
      { className: isPossible ? "possible" : "" },
      element("span", { className: "type", textContent: typeName(type) }),
      element("span", { className: "mark", textContent: isPossible ? word("possible") : "" }),
      element("span", { className: "percent", textContent: percent(probability) }),
      element("span", { className: "track", attributes: { "aria-hidden": "true" } }, fill),
    );
  });
  const help = about ? word("set_help", { coverage: percent(about.coverage) }) : "";
  return element(
    "div",
    {},
    element("ul", { className: "bars", attributes: { "aria-label": word("probabilities") } }, ...rows),
    element("p", { className: "small", textContent: help }),
  );
}

/** A switch that lays the map over the picture, and the choice of its method. */
function evidence(photograph, frame, name, about, actions) {
  const says = element("p", { className: "small", attributes: { "aria-live": "polite" } });
  const toggle = element("input", { type: "checkbox", checked: photograph.showsMap, dataset: { focus: "map" } });
  toggle.setAttribute("role", "switch");
  const methods = Object.entries(about?.methods ?? {}).map(([method, title]) => {
    const text = hasWord(`method_${method}`) ? word(`method_${method}`) : title;
    return element("option", { value: method, textContent: text, selected: method === photograph.method });
  });
  const select = element("select", { dataset: { focus: "method" } }, ...methods);

  async function show() {
    frame.querySelector(".map")?.remove();
    says.textContent = "";
    if (!photograph.showsMap) return;
    const { method } = photograph;
    if (!photograph.maps.has(method)) says.textContent = word("map_waiting");
    const map = await actions.map(method);
    if (!photograph.showsMap || photograph.method !== method) return; // changed while it was computed
    if (map.url) {
      const alt = word("alt_map", { name, type: typeName(photograph.answer.type) });
      frame.append(element("img", { src: map.url, alt, className: "map" }));
    }
    says.textContent = map.url ? word("map_help") : map.error ? errorText(map.error) : word("map_none");
  }

  toggle.addEventListener("change", () => {
    photograph.showsMap = toggle.checked;
    show();
  });
  select.addEventListener("change", () => {
    photograph.method = select.value;
    photograph.showsMap = toggle.checked = true;
    show();
  });
  show();
  return element(
    "div",
    { className: "evidence" },
    element("label", {}, toggle, element("span", { textContent: word("map_show") })),
    element("label", {}, element("span", { textContent: word("map_method") }), select),
    says,
  );
}

/** Which woman it is of, and removing it. */
function tools(photograph, actions) {
  const women = actions.women().map((woman) =>
    element("option", { value: woman.number, textContent: word("woman", { number: woman.number }), selected: woman === photograph.woman }),
  );
  women.push(element("option", { value: "new", textContent: word("woman_new") }));
  const select = element("select", { dataset: { focus: "woman" } }, ...women);
  select.addEventListener("change", () => actions.move(select.value));
  return element(
    "div",
    { className: "tools" },
    element("label", {}, element("span", { textContent: word("belongs") }), select),
    button("remove", word("remove"), actions.remove),
  );
}

export function button(focus, text, onClick, className = "") {
  const made = element("button", { type: "button", textContent: text, className, dataset: { focus } });
  made.addEventListener("click", onClick);
  return made;
}
