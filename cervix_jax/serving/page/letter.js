// The referral note: one page of A4 for one woman, for the browser's print. Names are written by hand, on paper.

import { bars, picture } from "./card.js";
import { element } from "./dom.js";
import { summary, verdict } from "./verdict.js";
import { language, percent, word } from "./words.js";

const SHOWN = 4; // photographs that fit

/** Fills the note; `about` says what model answered. */
export function writeLetter(parent, photographs, about) {
  const done = photographs.filter((photograph) => photograph.state === "done");
  const { text, advice } = summary(done.map((photograph) => photograph.answer));
  const date = new Intl.DateTimeFormat(language, { dateStyle: "long" }).format(new Date());
  const figures = done.slice(0, SHOWN).map((photograph, i) => {
    const name = word("photograph", { number: i + 1 });
    const said = element("figcaption", {}, element("strong", { textContent: verdict(photograph.answer).text }));
    return element("figure", {}, picture(photograph, name), said, bars(photograph.answer, about));
  });
  const more = done.length - SHOWN;
  parent.replaceChildren(
    element("h1", { textContent: word("letter_title") }),
    element("p", { className: "warning", textContent: word("note") }),
    element(
      "dl",
      {},
      ...["letter_name", "letter_from", "letter_to"].flatMap((key) => [
        element("dt", { textContent: word(key) }),
        element("dd", { className: "by-hand" }),
      ]),
      element("dt", { textContent: word("letter_date") }),
      element("dd", { textContent: date }),
    ),
    element("p", { className: "verdict", textContent: text }),
    element("p", { textContent: advice }),
    element("div", { className: "figures" }, ...figures),
    more > 0 ? element("p", { textContent: word("letter_more", { number: more }) }) : "",
    element("p", { className: "small", textContent: word("set_help", { coverage: percent(about.coverage) }) }),
    element("p", { className: "small", textContent: word("letter_model", { model: about.model }) }),
  );
}
