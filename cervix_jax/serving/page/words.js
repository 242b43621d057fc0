// The page's words in the reader's language, from words.json. The language is in the address (?lang=sw), and nowhere else.

const table = await (await fetch("words.json")).json();
export const languages = Object.fromEntries(Object.entries(table).map(([code, words]) => [code, words.this_language]));

const asked = [new URLSearchParams(location.search).get("lang"), ...navigator.languages.map((tag) => tag.slice(0, 2))];
export let language = asked.find((code) => code in table) ?? "en";

/** The words of a key, with {names} replaced. */
export function word(key, values = {}) {
  return table[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function hasWord(key) {
  return key in table[language];
}

/** 'a, b and c' in the language. */
export function list(items) {
  return new Intl.ListFormat(language, { type: "conjunction" }).format(items);
}

export function percent(fraction) {
  return new Intl.NumberFormat(language, { style: "percent" }).format(fraction);
}

export function setLanguage(code) {
  language = code;
  const address = new URL(location.href);
  address.searchParams.set("lang", code);
  history.replaceState(null, "", address);
  translate();
}

/** Fills every element of the page that names its words. */
export function translate() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = word(element.dataset.word);
}
