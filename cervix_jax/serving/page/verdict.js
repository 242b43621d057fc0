// What may be said, in words: of a photograph, and of a woman by all of her photographs.

import { hasWord, list, word } from "./words.js";

export function typeName(type) {
  return word(type.toLowerCase());
}

/** Why a photograph should be taken again, in words; empty if it need not. */
function reasons(answer) {
  if (!answer.retake || answer.retake === "not assessed") return [];
  return answer.retake.split(" | ").map((reason) => {
    const key = `retake_${reason.replaceAll(" ", "_")}`;
    return hasWord(key) ? word(key) : reason;
  });
}

/** {kind, text, advice}; kind is 'type', 'refer' or 'retake'. */
export function verdict(answer) {
  const again = reasons(answer);
  if (again.length) {
    return { kind: "retake", text: word("verdict_retake", { reasons: list(again) }), advice: word("advice_retake") };
  }
  const said = ofTypes(possible(answer), answer.decision !== "refer");
  if (answer.retake === "not assessed") said.advice += ` ${word("not_assessed")}`;
  return said;
}

/** Of one woman: the types that any of her usable photographs leaves possible, so that more never make it surer than one. */
export function summary(answers) {
  const usable = answers.filter((answer) => verdict(answer).kind !== "retake");
  if (!usable.length) return { kind: "retake", text: word("summary_none"), advice: word("summary_none_advice") };
  const types = [...new Set(usable.flatMap(possible))].sort();
  return ofTypes(types, types.length === 1 && usable.every((answer) => answer.decision !== "refer"));
}

/** Types of the set; with the called type, which a threshold may leave outside. */
function possible(answer) {
  return [...new Set([...answer.set, answer.type])].sort();
}

function ofTypes(types, isCalled) {
  if (isCalled) return { kind: "type", text: word("verdict_type", { type: typeName(types[0]) }), advice: word("advice_type") };
  const isOpen = types.length === 3;
  const text = isOpen ? word("verdict_unknown") : word("verdict_between", { types: list(types.map(typeName)) });
  return { kind: "refer", text, advice: word("advice_refer") };
}
